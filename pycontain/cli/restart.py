"""``pycontain restart``: stops containers, and starts them again."""

from __future__ import annotations

from .arguments import Command, count, read
from .each_container import for_each
from .output import one_for_errors
from .stop import OPTIONS, how

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop containers, and start them again.",
    OPTIONS,
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, None)
    signal, grace = how(values)
    from ..engine import containers as engine

    return one_for_errors(
        lambda: for_each(words, lambda word: engine.restart(roots, word, signal=signal, grace_s=grace))
    )
