"""Which proxy a request takes: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, in capitals or not. Pure.

As Go's programs read them, Docker's among them: NO_PROXY holds ``*``, host names (with what is below them), ``.name`` (only what
is below), addresses, networks (10.0.0.0/8), each with ``:port`` if it likes; this machine itself is never reached by a proxy.
"""

from __future__ import annotations

import ipaddress

from .urls import Url, is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["proxy_of"]


def proxy_of(url: Url, environ: Mapping[str, str]) -> str:
    """The proxy's URL, "" for none."""
    if is_loopback(url.host) or _is_exempt(url, _get(environ, "NO_PROXY")):
        return ""
    if url.scheme == "http" and environ.get("REQUEST_METHOD"):
        # CGI: HTTP_PROXY can come from a request's header (CVE-2016-5385)
        return environ.get("http_proxy", "") or _get(environ, "ALL_PROXY")
    found = _get(environ, f"{url.scheme.upper()}_PROXY") or _get(environ, "ALL_PROXY")
    return found if not found or "://" in found else f"http://{found}"


def _get(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.lower()) or "").strip()


def _is_exempt(url: Url, no_proxy: str) -> bool:
    return any(_covers(entry.strip().lower(), url) for entry in no_proxy.split(",") if entry.strip())


def _covers(entry: str, url: Url) -> bool:
    if entry == "*":
        return True
    try:
        address = ipaddress.ip_address(url.host)
    except ValueError:
        address = None
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    host, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.endswith("]")):
        if int(port) != url.port:
            return False
        entry = host
    entry = entry.strip("[]").removeprefix("*")
    if address is not None:
        return entry == url.host
    below = entry if entry.startswith(".") else f".{entry}"
    return url.host.endswith(below) or url.host == entry
