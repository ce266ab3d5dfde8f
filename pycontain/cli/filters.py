"""``--filter key=value`` of lists and prunes, as Docker's daemon understands it."""

from __future__ import annotations

from .. import parse
from ..engine.filters import check, labels_match
from ..errors import InvalidArgument
from .path_match import path_match
from .units import unix_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Filters", "check", "labels_match", "parse_filters", "reference_matches", "truth", "until"]

Filters = dict[str, list[str]]


def parse_filters(given: Sequence[str] | None) -> Filters:
    """Raises: InvalidArgument: one without "="."""
    found: Filters = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not text:
            continue
        if not equals:
            raise InvalidArgument(
                f"invalid argument {parse.quote(text)} for --filter: bad format of filter (expected name=value)"
            )
        name, value = name.strip().lower(), value.strip()
        if value not in found.get(name, ()):
            found.setdefault(name, []).append(value)
    return found


def truth(filters: Filters, name: str) -> bool | None:
    """The value of a filter that is true or false; None when it is not given."""
    values = set(filters.get(name, ()))
    if not values:
        return None
    if values <= {"1", "true"}:
        return True
    if values <= {"0", "false"}:
        return False
    given = parse.quote(" ".join(sorted(values)))[1:-1]
    raise InvalidArgument(f"invalid filter '{name}=[{given}]': write {name}=true or {name}=false")


def reference_matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a familiar name with its tag or digest ("debian:12") matches a pattern, with or without what follows the repository.

    The whole name (docker.io/library/debian) counts as well, as with Docker since 29.
    """
    if _matches(patterns, name):
        return True
    below = [pattern for pattern in patterns if "/" in pattern]
    if not below:  # * and ? match no slash, and every whole name has one
        return False
    from ..image.names import parse_reference

    return _matches(below, parse_reference(name).canonical)


def _matches(patterns: Sequence[str], name: str) -> bool:
    repository, at, _ = name.partition("@")
    if not at:
        head, colon, tag = name.rpartition(":")
        repository = head if colon and "/" not in tag else name
    return any(path_match(pattern, name) or path_match(pattern, repository) for pattern in patterns)


def until(text: str, now: float) -> float:
    """The instant of ``until=``: seconds since 1970 of a duration before now ("10m", "1h30m"), a Unix time or a date.

    Raises: InvalidArgument. Spec: `docker image prune --filter`, "until=<timestamp>".
    """
    duration = _duration_s(text)
    if duration is not None:
        return now - duration
    whole, dot, fraction = text.removeprefix("-").partition(".")
    if (
        whole.isascii()
        and whole.isdigit()
        and len(whole) < 18
        and (not dot or (fraction.isascii() and fraction.isdigit()))
    ):
        return float(text)
    return _date(text)


_DURATION = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "\u00b5s": 1e-6, "\u03bcs": 1e-6, "ns": 1e-9}


def _duration_s(text: str) -> float | None:
    """Go's ``time.ParseDuration``: ``1h30m``; None for what is none."""
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
    if not rest or len(rest) > 100:
        return None
    total = 0.0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        unit = rest[: len(rest) - len(rest.lstrip("hmsnu\u00b5\u03bc"))]
        rest = rest[len(unit) :]
        if unit not in _DURATION or number.count(".") > 1 or not number.strip(".") or not number.isascii():
            return None
        total += float(number) * _DURATION[unit]
    return sign * total


def _date(text: str) -> float:
    """A date, a date with hours, minutes or seconds, in the local zone unless it says another."""
    form = "2024-03-10T12:00:00, with Z or +01:00 behind it if that is meant, a Unix time, or a duration such as 24h"
    filled = text
    date, t, clock = text.partition("T")
    zone = clock.lstrip("0123456789:.") if t else ""
    if t and zone:
        clock = clock[: -len(zone)]
    if not t and len(date) > 10:  # 2024-03-10Z
        date, zone = date[:10], date[10:]
    clock = f"{clock}:00:00" if clock.count(":") == 0 and clock else f"{clock}:00" if clock.count(":") == 1 else clock
    filled = f"{date}T{clock or '00:00:00'}{zone or 'Z'}"
    from .units import UNSAID

    at = unix_time(filled)
    if at == UNSAID:
        raise InvalidArgument(f"invalid filter 'until={text[:100]}': it is no time and no duration; write {form}")
    if zone:
        return float(at)
    import time

    there = time.gmtime(at)
    return time.mktime((*there[:8], -1))
