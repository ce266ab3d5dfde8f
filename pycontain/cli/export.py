"""``pycontain export``: the files of a container become a tar."""

from __future__ import annotations

from .arguments import Command, Option, Values, count, read
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain export",
    "[OPTIONS] CONTAINER",
    "Write the files of a container to a tar archive, to standard output by default. Mounts are not in it.",
    (
        Option("-h --help", "", "print this"),
        Option("-o --output", "FILE", "write to a file, which is there only when it is whole"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _export(values, words, command, roots))


def _export(values: Values, words: list[str], command: Command, roots: Roots) -> int:
    count(command, words, 1, 1)
    from ..engine import images as engine
    from .output_file import output_file

    with output_file(values.output, "cannot export") as out:
        engine.export(roots.data_root, roots.run_root, words[0], out)
    return 0
