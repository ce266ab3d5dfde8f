"""``pycontain version``."""

from __future__ import annotations

import os
import sys

from .._version import __version__
from ..errors import InvalidArgument
from .arguments import Command, Option, read
from .output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain version",
    "[--format text|json]",
    "Print the versions of pycontain, Python and the kernel.",
    (Option("--format", "FORMAT", "text or json (text)"), Option("-h --help", "", "print this")),
)


def main(argv: list[str], roots: Roots) -> int:
    values, words = read(COMMAND, argv)
    if words or values.format not in (None, "text", "json"):
        raise InvalidArgument(f"the form is `{COMMAND.prog} {COMMAND.usage}`")
    kernel = os.uname()
    python = ".".join(str(part) for part in sys.version_info[:3])
    if values.format == "json":
        import json

        document = {"version": __version__, "python": python, "kernel": kernel.release, "machine": kernel.machine}
        write(json.dumps(document) + "\n")
    else:
        write(f"pycontain {__version__} (Python {python}, Linux {kernel.release} {kernel.machine})\n")
    return 0
