"""Sizes and times in Docker's words: ``72.8MB``, ``3 weeks ago``. As its go-units has them, without loading datetime."""

from __future__ import annotations

import time

from ..image.instants import rfc3339_utc

__all__ = [
    "UNSAID",
    "ago",
    "binary_size",
    "human_duration",
    "human_size",
    "instant",
    "local_time",
    "rfc3339_local",
    "rfc3339_utc",
    "unix_time",
]

UNSAID = -62_135_596_800
"""The first second of the year 1, which is what Docker has for a time that nobody has said."""

_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")


def human_size(size: float, digits: int = 4) -> str:
    """Bytes in powers of 1000, to ``digits`` significant digits. 999999 with three is 1e+03kB, as it is in Docker."""
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size /= 1000
        unit += 1
    return f"{size:.{digits}g}{_UNITS[unit]}"


def binary_size(size: float) -> str:
    """Bytes in powers of 1024, to four significant digits: "1.5MiB"."""
    unit = 0
    while size >= 1024 and unit < len(_BINARY_UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.4g}{_BINARY_UNITS[unit]}"


def human_duration(seconds: float) -> str:
    """Seconds in one word or two: "About an hour", "3 weeks"."""
    whole = int(seconds)
    minutes, hours = int(seconds / 60), int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(at: int, now: float) -> str:
    return human_duration(now - at) + " ago"


def unix_time(text: str) -> int:
    """The second of an RFC 3339 time, fractions cut off; UNSAID for what is none, since images say what their makers wrote."""
    # 2024-03-10T12:34:56[.789](Z|+01:00)
    digits = text[0:4] + text[5:7] + text[8:10] + text[11:13] + text[14:16] + text[17:19]
    if len(digits) != 14 or not (digits.isascii() and digits.isdigit()):
        return UNSAID
    if text[4] != "-" or text[7] != "-" or text[10] not in "Tt " or text[13] != ":" or text[16] != ":":
        return UNSAID
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:8])
    hour, minute, second = int(digits[8:10]), int(digits[10:12]), int(digits[12:])
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return UNSAID
    offset = _offset_s(text[19:])
    if offset is None:
        return UNSAID
    return _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset


def _offset_s(rest: str) -> int | None:
    if rest.startswith("."):
        rest = rest[1:].lstrip("0123456789")
    if rest in ("Z", "z"):
        return 0
    if len(rest) != 6 or rest[0] not in "+-" or rest[3] != ":":
        return None
    digits = rest[1:3] + rest[4:6]
    if not (digits.isascii() and digits.isdigit()):
        return None
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if rest[0] == "-" else seconds


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of the Gregorian calendar, with the year beginning in March so that the leap day is its last."""
    year -= month < 3
    in_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + in_year - 719468


def local_time(at: int) -> str:
    """As Go prints a time: ``2024-03-10 13:34:56 +0100 CET``."""
    there = time.localtime(at)
    return f"{_date(there)} {_clock(there)} {_zone(there, '')} {there.tm_zone}"


def rfc3339_local(at: int) -> str:
    there = time.localtime(at)
    return f"{_date(there)}T{_clock(there)}{_zone(there, ':') if there.tm_gmtoff else 'Z'}"


def _date(there: time.struct_time) -> str:
    return f"{there.tm_year:04}-{there.tm_mon:02}-{there.tm_mday:02}"


def _clock(there: time.struct_time) -> str:
    return f"{there.tm_hour:02}:{there.tm_min:02}:{there.tm_sec:02}"


def _zone(there: time.struct_time, colon: str) -> str:
    minutes = abs(there.tm_gmtoff) // 60
    return f"{'-' if there.tm_gmtoff < 0 else '+'}{minutes // 60:02}{colon}{minutes % 60:02}"


def instant(text: str) -> tuple[int, str]:
    """An RFC 3339 time that can be compared: its second, and the digits behind it."""
    fraction = text[20:].rstrip("Zz") if text[19:20] == "." else ""
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    return unix_time(text), digits.ljust(9, "0")
