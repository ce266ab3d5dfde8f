"""``pycontain tag``: one more name for an image."""

from __future__ import annotations

from .arguments import Command, Option, count, read
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Give an image one more name. An image that had the name loses it.",
    (Option("-h --help", "", "print this"),),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    return one_for_errors(lambda: _tag(words, command, roots.data_root))


def _tag(words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 2, 2)
    from ..engine import images as engine

    engine.tag_image(data_root, words[0], words[1])
    return 0
