"""``pycontain push``: an image to a registry."""

from __future__ import annotations

from .arguments import Command, Option, Values, count, read
from .output import one_for_errors, write
from .registry_name import DISABLE_CONTENT_TRUST, asked_name, whole_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain push",
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to the registry that its name says; what is there already is not uploaded again.",
    (
        Option("-a --all-tags", "", "all tags of the repository that are here"),
        Option("--disable-content-trust", "", DISABLE_CONTENT_TRUST, on=True),
        Option("-h --help", "", "print this"),
        Option("-q --quiet", "", "print only the whole name"),
    ),
    later={"--platform": "an image here is of one platform, and is pushed as it is"},
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _push(values, words, command, roots.data_root))


def _push(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 1, 1)
    name = asked_name(words[0], all_tags=values.all_tags, quiet=values.quiet)
    from ..engine import images as engine
    from .progress import shown

    with shown(quiet=values.quiet) as progress:
        engine.push(data_root, words[0], all_tags=values.all_tags, progress=progress)
    if values.quiet:
        write(whole_name(name, all_tags=values.all_tags) + "\n")
    return 0
