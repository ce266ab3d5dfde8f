"""Instants as documents write them: RFC 3339, with up to nine digits of a second."""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["parse_instant", "rfc3339_utc"]


def parse_instant(text: str) -> datetime | None:
    """With a time zone, cut to microseconds; None for what is no instant. Spec: RFC 3339, section 5.6."""
    head, point, tail = text.partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    if point:
        text = f"{head}.{tail[:digits][:6]:0<6}{tail[digits:]}" if digits else ""
    if text[-1:] in ("Z", "z"):
        text = text[:-1] + "+00:00"
    from datetime import datetime

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def rfc3339_utc(at: float) -> str:
    """Seconds since 1970, to the microsecond, without what is 0 at its end."""
    there = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{there}{f'{at % 1:.6f}'[1:].rstrip('0').rstrip('.')}Z"
