"""The instruction HEALTHCHECK, in a Dockerfile's words: ``[OPTION...] CMD PROGRAM`` or ``NONE``."""

from __future__ import annotations

from collections.abc import Callable

from ..durations import duration_ns
from ..errors import InvalidArgument
from .rootfs import Healthcheck

__all__ = ["health_instruction"]

_TIMES = {
    "--interval": "interval_ns", "--timeout": "timeout_ns", "--start-period": "start_period_ns", "--start-interval": "start_interval_ns",
}  # fmt: skip


def health_instruction(text: str, listed: Callable[[str], tuple[str, ...] | None]) -> Healthcheck:
    """``text``: what follows HEALTHCHECK; ``listed``: reads the exec form. Raises: InvalidArgument."""
    numbers: dict[str, int] = {}
    rest = text
    while rest.startswith("--"):
        word, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        name, _, value = word.partition("=")
        if name in _TIMES:
            numbers[_TIMES[name]] = duration_ns(value)
            if 0 < numbers[_TIMES[name]] < 1_000_000 or numbers[_TIMES[name]] < 0:
                raise InvalidArgument(f"{name} cannot be less than 1ms")
        elif name == "--retries" and value.isascii() and value.isdigit() and 0 < len(value) < 6:
            numbers["retries"] = int(value)
        else:
            raise InvalidArgument(f"{word} is no option of HEALTHCHECK: it takes {', '.join(_TIMES)} and --retries=N")
    kind, _, words = rest.partition(" ")
    if kind.upper() == "NONE" and not words.strip() and not numbers:
        return Healthcheck(test=("NONE",))
    words = words.strip()
    if kind.upper() != "CMD" or not words:
        raise InvalidArgument("the form is [OPTION...] CMD PROGRAM, or NONE")
    found = listed(words)
    return Healthcheck(test=("CMD-SHELL", words) if found is None else ("CMD", *found), **numbers)
