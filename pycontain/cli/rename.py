"""``pycontain rename``: another name for a container."""

from __future__ import annotations

from .arguments import Command, Option, count, read
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain rename",
    "CONTAINER NEW_NAME",
    "Give a container another name.",
    (Option("-h --help", "", "print this"),),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    count(command, words, 2, 2)
    return one_for_errors(lambda: _rename(words, roots))


def _rename(words: list[str], roots: Roots) -> int:
    from ..engine import containers as engine

    engine.rename(roots, words[0], words[1])
    return 0
