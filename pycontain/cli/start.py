"""``pycontain start``: starts containers that have been made, or have ended."""

from __future__ import annotations

from .arguments import Command, Option, count, read
from .each_container import for_each
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain start",
    "CONTAINER [CONTAINER...]",
    "Start containers that have been made, or have ended.",
    (Option("-h --help", "", "print this"),),
    later=dict.fromkeys(
        ("-a", "--attach", "-i", "--interactive"), "it comes with attach; `pycontain logs -f` shows the output"
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    count(command, words, 1, None)
    from ..engine import containers as engine

    return one_for_errors(lambda: for_each(words, lambda word: engine.start(roots, word)))
