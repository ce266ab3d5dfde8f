"""``--health-*`` and ``--no-healthcheck`` of ``run -d`` and ``create``."""

from __future__ import annotations

from .. import parse
from ..durations import duration_ns
from ..errors import InvalidArgument
from ..healthcheck import NO_CHECK
from ..image.rootfs import Healthcheck
from .arguments import converted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .arguments import Values

__all__ = ["healthcheck_of"]

_TIMES = ("interval", "start_interval", "start_period", "timeout")


def healthcheck_of(values: Values) -> Healthcheck:
    """What is given; 0 and empty: the image's. Raises: InvalidArgument."""
    numbers: dict[str, int] = {}
    for name in _TIMES:
        text = getattr(values, f"health_{name}")
        if text is not None:
            numbers[f"{name}_ns"] = converted(f"health_{name}", _duration, text)
    if values.health_retries is not None:
        numbers["retries"] = converted(
            "health_retries", lambda value: parse.integer(value, 0, 1 << 31), values.health_retries
        )
    test = ("CMD-SHELL", values.health_cmd) if values.health_cmd else ()
    if values.no_healthcheck:
        if test or any(numbers.values()):
            raise InvalidArgument("--no-healthcheck conflicts with --health-* options: leave out one of them")
        return NO_CHECK
    return Healthcheck(test=test, **numbers)


def _duration(text: str) -> int:
    ns = duration_ns(text)
    if ns < 0:
        raise parse.invalid("duration", text, "it cannot be negative", "30s, 1m30s or 500ms")
    return ns
