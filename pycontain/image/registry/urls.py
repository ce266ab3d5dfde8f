"""URLs as far as a registry's client needs them: read, resolved against another, and shown without their secrets. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urljoin, urlsplit

from ...record import record

__all__ = ["Url", "host_and_port", "is_internal", "is_loopback", "parse_url", "resolve"]

_MAX_LENGTH = 8192  # signed storage URLs reach 4,000
_PORTS = {"http": 80, "https": 443}


@record
class Url:
    """``host`` in lower case, an IPv6 address without brackets; ``target`` is path and query. ``text`` is the whole."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return (self.scheme, self.host, self.port)

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def shown(self) -> str:
        """For messages: a query can hold a signature that opens what it points at."""
        return f"{self.scheme}://{self.netloc}{self.target.partition('?')[0]}"[:300]

    def with_query(self, query: str) -> Url:
        """With a query, already encoded, after what it has."""
        joint = "&" if "?" in self.target else "?"
        return Url(scheme=self.scheme, host=self.host, port=self.port, target=f"{self.target}{joint}{query}")

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"Url({self.shown!r})"


def parse_url(text: str) -> Url:
    """An absolute http or https URL. A fragment is dropped.

    Raises: ValueError, whose text says what is wrong and does not repeat the URL.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"a URL of {len(text)} characters")
    if not text.isascii() or any(char <= " " or char == "\x7f" or char in '\\"<>' for char in text):
        raise ValueError("a URL with a space, a control character or one that is not ASCII")
    parts = urlsplit(text)
    if parts.scheme not in _PORTS:
        raise ValueError("a URL that is neither http nor https")
    if "@" in parts.netloc:
        raise ValueError("a URL with a user name in it")
    host = (parts.hostname or "").rstrip(".")
    if not host or "%" in host:
        raise ValueError("a URL without a host")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("a URL with a port that is not a number up to 65535") from None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(scheme=parts.scheme, host=host, port=port or _PORTS[parts.scheme], target=target)


def resolve(base: Url, reference: str) -> Url:
    """A Location or Link, absolute or relative to ``base``. Raises: ValueError, as :func:`parse_url`."""
    if len(reference) > _MAX_LENGTH:
        raise ValueError(f"a URL of {len(reference)} characters")
    return parse_url(urljoin(base.text, reference))


def host_and_port(netloc: str, scheme: str) -> tuple[str, int]:
    """``host[:port]`` in its parts. Raises: ValueError."""
    url = parse_url(f"{scheme}://{netloc}")
    return url.host, url.port


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its very name: localhost, 127.0.0.0/8, ::1."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def is_internal(host: str) -> bool:
    """Whether a host is named by an address that no public server has: loopback, link-local (where clouds keep the
    machine's own credentials), private, unspecified. A name is not looked up."""
    address = _address(host)
    if address is None:
        # 127.1, 2130706433, 0x7f000001: what the C library still takes for an address
        last = host.rpartition(".")[2]
        return host == "localhost" or last.isdigit() or last.startswith("0x")
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_private
        or address.is_unspecified
        or address.is_multicast
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
