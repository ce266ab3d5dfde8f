"""Durations as Go writes and reads them, in whole nanoseconds: ``1m30s``, ``500ms``. Docker's flags and documents have no others."""

from __future__ import annotations

from .parse import invalid

__all__ = ["duration_ns", "duration_text"]

_UNITS = {
    "h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "\u00b5s": 1_000,
    "\u03bcs": 1_000, "ns": 1,
}  # fmt: skip
_MOST = (1 << 63) - 1
_FORM = "numbers with units, such as 30s, 1m30s or 500ms"


def duration_ns(text: str) -> int:
    """Raises: InvalidArgument. Spec: Go's time.ParseDuration."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not rest or len(rest) > 100:
        raise invalid("duration", text, "it is no duration", _FORM)
    total = 0
    while rest:
        number = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(number) :]
        end = next((i for i, char in enumerate(rest) if char in "0123456789."), len(rest))
        unit, rest = rest[:end], rest[end:]
        whole, _, fraction = number.partition(".")
        digits = whole + fraction
        if not digits or "." in fraction or not digits.isascii():
            raise invalid("duration", text, "it is no duration", _FORM)
        if unit not in _UNITS:
            why = f"there is no unit {unit[:10]!r}" if unit else "a number in it has no unit"
            raise invalid("duration", text, why, _FORM)
        total += int(digits) * _UNITS[unit] // 10 ** len(fraction)
    if total > _MOST:
        raise invalid("duration", text, "it is longer than 292 years", _FORM)
    return sign * total


def duration_text(ns: int) -> str:
    """Spec: Go's Duration.String: ``1m30s``, ``1.5s``, ``500ms``, ``0s``."""
    if ns < 0:
        return "-" + duration_text(-ns)
    if ns < 1_000_000_000:
        if ns == 0:
            return "0s"
        unit = "ns" if ns < 1_000 else "\u00b5s" if ns < 1_000_000 else "ms"
        return _decimal(ns, _UNITS[unit]) + unit
    minutes, rest = divmod(ns, _UNITS["m"])
    seconds = _decimal(rest, _UNITS["s"]) + "s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"


def _decimal(ns: int, unit: int) -> str:
    whole, rest = divmod(ns, unit)
    fraction = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)
