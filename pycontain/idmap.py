"""``--userns``, ``--uidmap`` and ``--gidmap`` as people write them. Pure; ranges for ``auto`` are the runtime's to find."""

from __future__ import annotations

import itertools

from .errors import InvalidArgument
from .parse import invalid, nearest, quote
from .record import record
from .spec.runtime import IDMapping

__all__ = ["DEFAULT_SIZE", "UserNamespace", "keep_id", "mappings", "userns"]

DEFAULT_SIZE = 65536  # ids of a user namespace: what distributions and images count on
_MAX_ID = 2**32 - 1  # -1 stands for "unchanged"
_MAX_RANGES = 340  # of the kernel: user_namespaces(7)
_FORM = "CONTAINER:HOST:SIZE[,...], such as 0:100000:65536"
_MODES = ("host", "auto", "keep-id")


@record
class UserNamespace:
    """``mode``: host (none of its own), auto (an unused range), keep-id (the caller stays who he is), or map."""

    mode: str = "host"
    size: int = DEFAULT_SIZE
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()


def userns(text: str) -> UserNamespace:
    """``host``, ``auto``, ``auto:size=N``, ``keep-id``, or a map for users and groups alike. Raises InvalidArgument."""
    mode, colon, rest = text.partition(":")
    if text in _MODES:
        return UserNamespace(mode=text)
    if mode == "auto":
        key, _, value = rest.partition("=")
        if key != "size" or not (value.isascii() and value.isdigit() and len(value) < 11 and 1 <= int(value) <= 2**31):
            raise invalid("user namespace", text, "auto takes only size=NUMBER", "auto:size=65536")
        return UserNamespace(mode="auto", size=int(value))
    if colon or "," in text or text.isdigit():
        found = mappings(text)
        return UserNamespace(mode="map", uid_mappings=found, gid_mappings=found)
    hint = nearest(text, _MODES, f"write host, auto, keep-id or {_FORM}")
    raise InvalidArgument(f"invalid user namespace {quote(text)}: there is no such mode{hint}")


def mappings(text: str) -> tuple[IDMapping, ...]:
    """``CONTAINER:HOST:SIZE``, several with commas between. Raises InvalidArgument."""
    found = []
    for part in text.split(","):
        numbers = part.split(":")
        if len(numbers) != 3 or not all(n.isascii() and n.isdigit() and len(n) < 11 for n in numbers):
            raise invalid("id map", text, f"{quote(part)} is not three numbers", _FORM)
        inside, outside, size = map(int, numbers)
        if size == 0 or max(inside, outside) + size > _MAX_ID:
            raise invalid("id map", text, f"{quote(part)} leaves the range of ids (0 to {_MAX_ID - 1})", _FORM)
        found.append(IDMapping(container_id=inside, host_id=outside, size=size))
    _check(tuple(found), text)
    return tuple(found)


def _check(found: tuple[IDMapping, ...], text: str) -> None:
    if len(found) > _MAX_RANGES:
        raise invalid("id map", text, f"it has {len(found)} ranges, the kernel takes {_MAX_RANGES}", _FORM)
    for field in ("container_id", "host_id"):
        ranges = sorted((getattr(m, field), m.size) for m in found)
        for (start, size), (after, _) in itertools.pairwise(ranges):
            if start + size > after:
                side = "inside" if field == "container_id" else "outside"
                raise invalid("id map", text, f"two ranges overlap {side}, at {after}", _FORM)
    if not any(m.container_id == 0 for m in found):
        raise invalid("id map", text, "id 0 of the container is in none of the ranges", _FORM)


def keep_id(own: int, count: int) -> tuple[IDMapping, ...]:
    """The map in which id ``own`` inside is our 0 (the user who called), and all others are the subordinate ids 1 to
    ``count`` - 1."""
    below = min(own, count - 1)
    found = [IDMapping(container_id=0, host_id=1, size=below)] if below else []
    found.append(IDMapping(container_id=own, host_id=0, size=1))
    above = count - 1 - below
    if above > 0:
        found.append(IDMapping(container_id=own + 1, host_id=below + 1, size=above))
    return tuple(found)
