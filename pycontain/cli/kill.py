"""``pycontain kill``: a signal for the first process of containers."""

from __future__ import annotations

from .. import parse
from .arguments import Command, Option, converted, count, read
from .each_container import for_each
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Send a signal to the first process of containers: SIGKILL, which ends all that is in them.",
    (
        Option("-h --help", "", "print this"),
        Option("-s --signal", "SIGNAL", "another one: TERM, SIGTERM or 15"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, None)
    signal = values.signal or "KILL"
    return one_for_errors(lambda: _kill(roots, words, signal))


def _kill(roots: Roots, words: list[str], signal: str) -> int:
    from ..engine import containers as engine

    converted("signal", parse.signal_number, signal)
    return for_each(words, lambda word: engine.kill(roots, word, signal))
