"""``pycontain stop``: a signal that asks containers to end, some time, then SIGKILL. ``restart`` asks in the same words."""

from __future__ import annotations

from .. import parse
from .arguments import Command, Option, Values, converted, count, read
from .each_container import for_each
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "OPTIONS", "how", "main"]

OPTIONS = (
    Option("-h --help", "", "print this"),
    Option("-s --signal", "SIGNAL", "instead of the container's own, or its image's: TERM, SIGTERM or 15"),
    Option(
        "-t --timeout", "SECONDS", "how long to wait before SIGKILL; -1 for ever (the container's own: 10)",
        aliases=("--time",),
    ),
)  # fmt: skip
COMMAND = Command(
    "pycontain stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "End containers: their stop signal (SIGTERM), some time, then SIGKILL.",
    OPTIONS,
    interspersed=True,
)


def how(values: Values) -> tuple[str, float | None]:
    """The signal, "" for the container's own, and the seconds of grace, None for its own."""
    if values.signal:
        converted("signal", parse.signal_number, values.signal)
    if not values.timeout:
        return values.signal or "", None
    return values.signal or "", converted("timeout", lambda value: parse.integer(value, -1, 1 << 31), values.timeout)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, None)
    signal, grace = how(values)
    from ..engine import containers as engine

    return one_for_errors(lambda: for_each(words, lambda word: engine.stop(roots, word, signal=signal, grace_s=grace)))
