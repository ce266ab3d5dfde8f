"""``pycontain import``: a tar becomes an image; prints the image's id."""

from __future__ import annotations

import sys

from ..errors import InvalidArgument
from .arguments import Command, Option, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain import",
    "[--change INSTRUCTION]... FILE NAME[:TAG]",
    "Make an image of a tar of a root file system (plain, gzip, zstd or xz; -: standard input), and print its id.",
    (
        Option(
            "-c --change", "INSTRUCTION", 'set in the image: CMD ["sh"], ENV A=b, WORKDIR /srv, USER...', repeat=True
        ),
        Option("-h --help", "", "print this"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots) -> int:
    values, words = read(COMMAND, argv)
    if len(words) != 2:
        found = "nothing" if not words else f"{len(words)} word{'s' if len(words) > 1 else ''}"
        raise InvalidArgument(f"import needs a file and a name, not {found}: `{COMMAND.prog} {COMMAND.usage}`")
    from ..image.importer import import_tar

    print(import_tar(words[0], words[1], data_root=roots.data_root, changes=values.change or ()), file=sys.stdout)
    return 0
