"""``pycontain top``: the processes of a container, by the host's ps(1)."""

from __future__ import annotations

from .arguments import Command, Option, count, read
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain top",
    "CONTAINER [PS OPTION...]",
    "Show the processes of a container, as the host's ps(1) does: `pycontain top web -o pid,etime,cmd` (-ef).",
    (Option("-h --help", "", "print this"),),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    count(command, words, 1, None)
    return one_for_errors(lambda: _top(words[0], words[1:], roots))


def _top(container: str, options: list[str], roots: Roots) -> int:
    from ..engine.processes import top
    from .table import printable

    found = top(roots, container, options)
    rows = [list(found.titles), *map(printable, map(list, found.processes))]
    widths = [max(len(row[at]) if at < len(row) else 0 for row in rows) for at in range(len(found.titles))]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        write("   ".join([*padded, row[-1]]).rstrip() + "\n")
    return 0
