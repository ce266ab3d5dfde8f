"""``pycontain import``: a tar becomes an image; prints the image's id."""

from __future__ import annotations

import os

from ..errors import Unsupported
from .arguments import Command, Option, Values, count, read
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain import",
    "[OPTIONS] FILE [NAME[:TAG]]",
    "Make an image of a tar of a root file system (plain, gzip, zstd or xz; -: standard input), and print its id.",
    (
        Option(
            "-c --change", "INSTRUCTION", 'set in the image: CMD ["sh"], ENV A=b, WORKDIR /srv, USER...', repeat=True
        ),
        Option("-h --help", "", "print this"),
        Option("-m --message", "TEXT", "why it is made"),
        Option("--platform", "OS/ARCH[/VARIANT]", "what the files are for: linux/arm64, ... (this machine)"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _import(values, words, command, roots.data_root))


def _import(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 1, 2)
    if words[0].startswith(("http://", "https://")):
        raise Unsupported(
            f"cannot import {words[0]}: an URL is not fetched: `curl -fL {words[0]} | {command.prog} - NAME`"
        )
    from ..image.importer import import_tar

    more: dict[str, Any] = {}
    if values.message is not None:
        more["message"] = values.message
    platform = values.platform or os.environ.get("DOCKER_DEFAULT_PLATFORM")
    if platform:
        from ..image.pull import parse_platform

        more["platform"] = parse_platform(platform)
    name = words[1] if len(words) > 1 else ""
    write(f"{import_tar(words[0], name, data_root=data_root, changes=values.change or (), **more)}\n")
    return 0
