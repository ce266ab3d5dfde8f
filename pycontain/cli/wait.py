"""``pycontain wait``: until containers have ended."""

from __future__ import annotations

from ..errors import PycontainError
from .arguments import Command, Option, count, read
from .output import complain, flush, one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain wait",
    "CONTAINER [CONTAINER...]",
    "Wait until containers have ended, and print their exit codes.",
    (Option("-h --help", "", "print this"),),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    count(command, words, 1, None)
    return one_for_errors(lambda: _wait(words, roots))


def _wait(words: list[str], roots: Roots) -> int:
    from ..engine import containers as engine

    errors: list[PycontainError] = []
    for word in words:
        try:
            write(f"{engine.wait(roots, word, for_good=False)}\n")
            flush()
        except PycontainError as error:
            errors.append(error)
    for each in errors:
        complain(f"pycontain: {each}")
    return 1 if errors else 0
