"""What a health check is: an image's and a caller's word on it together, and its limits, as Docker has them. Pure."""

from __future__ import annotations

from .errors import InvalidArgument
from .image.rootfs import Healthcheck

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .image.rootfs import ImageConfig

__all__ = ["INTERVAL_NS", "NO_CHECK", "RETRIES", "START_INTERVAL_NS", "TIMEOUT_NS", "check", "command_of", "merged"]

INTERVAL_NS, TIMEOUT_NS, START_INTERVAL_NS, RETRIES = 30_000_000_000, 30_000_000_000, 5_000_000_000, 3
_LEAST_NS = 1_000_000
NO_CHECK = Healthcheck(test=("NONE",))


def merged(asked: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    """What the caller leaves open is the image's."""
    if asked is None or image is None:
        return asked or image
    return Healthcheck(
        test=asked.test or image.test,
        interval_ns=asked.interval_ns or image.interval_ns,
        timeout_ns=asked.timeout_ns or image.timeout_ns,
        start_period_ns=asked.start_period_ns or image.start_period_ns,
        start_interval_ns=asked.start_interval_ns or image.start_interval_ns,
        retries=asked.retries or image.retries,
    )


def check(health: Healthcheck | None) -> None:
    """Raises: InvalidArgument, in Docker's words: a time below one millisecond."""
    if health is None:
        return
    for name, value in (
        ("Interval", health.interval_ns), ("Timeout", health.timeout_ns), ("StartPeriod", health.start_period_ns),
        ("StartInterval", health.start_interval_ns),
    ):  # fmt: skip
        if value != 0 and value < _LEAST_NS:
            raise InvalidArgument(
                f"{name} in Healthcheck cannot be less than 1ms: write a longer time, or 0 for the default"
            )
    if health.retries < 0:
        raise InvalidArgument(
            "Retries in Healthcheck cannot be negative: write a number from 0, which is the default, 3"
        )


def command_of(config: ImageConfig) -> tuple[str, ...]:
    """The words that are executed in the container; () when its health is not checked."""
    health = config.healthcheck
    if health is None or not health.test:
        return ()
    kind, *words = health.test
    if kind == "CMD-SHELL":
        return (*(config.shell or ("/bin/sh", "-c")), *words)
    return tuple(words) if kind == "CMD" else ()  # NONE, or a kind that nobody knows: as Docker, none
