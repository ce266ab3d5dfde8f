"""``pycontain diff``: what a container has changed in its root."""

from __future__ import annotations

from .arguments import Command, Option, count, read
from .output import one_for_errors, write
from .table import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain diff",
    "CONTAINER",
    "List what a container has added (A), changed (C) and deleted (D) in its root, whether it runs or not.",
    (Option("-h --help", "", "print this"),),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    return one_for_errors(lambda: _diff(words, command, roots))


def _diff(words: list[str], command: Command, roots: Roots) -> int:
    count(command, words, 1, 1)
    from ..engine.container_details import changes

    for kind, path in changes(roots, words[0]):
        write(f"{kind} {printable([path])[0]}\n")
    return 0
