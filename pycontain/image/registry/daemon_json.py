"""``/etc/docker/daemon.json``: mirrors of Docker Hub, and registries that may be spoken to without TLS. No I/O.

Spec: dockerd's ``registry-mirrors`` and ``insecure-registries``; its other keys are about the daemon.
"""

from __future__ import annotations

import ipaddress

from ...errors import InvalidArgument
from ...record import record
from ..documents import parse_json
from .urls import Url, parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DaemonSettings", "Network", "parse_daemon_json"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@record
class DaemonSettings:
    """``insecure_hosts`` are ``host[:port]`` in lower case."""

    mirrors: tuple[Url, ...] = ()
    insecure_hosts: tuple[str, ...] = ()
    insecure_networks: tuple[Network, ...] = ()


def parse_daemon_json(data: bytes, source: str) -> DaemonSettings:
    """Raises: InvalidArgument: names the file and the field."""
    if not data.strip():
        return DaemonSettings()  # dockerd takes an empty file, too
    document = parse_json(data, source)
    hosts: list[str] = []
    networks: list[Network] = []
    for index, text in enumerate(_texts(document, "insecure-registries", source)):
        entry = text.strip().lower().removeprefix("http://").removeprefix("https://").rstrip("/")
        try:
            if "/" in entry:
                networks.append(ipaddress.ip_network(entry, strict=False))
            else:
                parse_url(f"https://{entry}")
                hosts.append(entry)
        except ValueError:
            raise InvalidArgument(
                f"cannot use {source}: insecure-registries[{index}]: {text[:160]!r} is neither host[:port] nor a network "
                "like 10.0.0.0/8"
            ) from None
    mirrors = [_mirror(text, index, source) for index, text in enumerate(_texts(document, "registry-mirrors", source))]
    return DaemonSettings(mirrors=tuple(mirrors), insecure_hosts=tuple(hosts), insecure_networks=tuple(networks))


def _mirror(text: str, index: int, source: str) -> Url:
    try:
        url = parse_url(text)
        if "?" in url.target:
            raise ValueError("a URL with a query")
    except ValueError as error:
        raise InvalidArgument(
            f"cannot use {source}: registry-mirrors[{index}] is {error}: write https://host[:port]"
        ) from None
    return url


def _texts(document: dict[str, Any], key: str, source: str) -> list[str]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidArgument(f"cannot use {source}: {key} is not a list of texts")
    return value
