"""``pycontain pull``: an image from a registry."""

from __future__ import annotations

import os

from .arguments import Command, Option, Values, count, read
from .output import one_for_errors, write
from .registry_name import DISABLE_CONTENT_TRUST, asked_name, whole_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from its registry; what is here already is not downloaded again.",
    (
        Option("-a --all-tags", "", "all tags of the repository"),
        Option("--disable-content-trust", "", DISABLE_CONTENT_TRUST, on=True),
        Option("-h --help", "", "print this"),
        Option("--platform", "OS/ARCH[/VARIANT]", "linux/arm64, ... ($DOCKER_DEFAULT_PLATFORM, or this machine's)"),
        Option("-q --quiet", "", "print only the whole name"),
    ),
    interspersed=True,
)  # fmt: skip


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _pull(values, words, command, roots.data_root))


def _pull(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 1, 1)
    platform = values.platform if values.platform is not None else os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    name = asked_name(words[0], all_tags=values.all_tags, quiet=values.quiet)
    from ..engine import images as engine
    from .progress import shown

    with shown(quiet=values.quiet) as progress:
        engine.pull(data_root, words[0], platform=platform, all_tags=values.all_tags, progress=progress)
    write(whole_name(name, all_tags=values.all_tags) + "\n")
    return 0
