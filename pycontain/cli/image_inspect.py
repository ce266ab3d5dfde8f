"""``pycontain image inspect``: everything about images."""

from __future__ import annotations

from ..errors import ImageNotFound
from .arguments import Command, Option, count, read
from .inspector import INSPECT_FORMAT_HELP, NotThere, inspect_all
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.roots import Roots

__all__ = ["COMMAND", "inspect_images", "main"]

COMMAND = Command(
    "pycontain image inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Print everything about images, as JSON.",
    (
        Option("-f --format", "FORMAT", INSPECT_FORMAT_HELP),
        Option("-h --help", "", "print this"),
    ),
    later={"--platform": "an image here is of one platform; pull the other one with `pycontain pull --platform`"},
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)

    def inspect() -> int:
        count(command, words, 1, None)
        return inspect_images(words, values.format or "", roots.data_root, "Error: No such image: ")

    return one_for_errors(inspect)


def inspect_images(words: list[str], form: str, data_root: str, missing: str) -> int:
    """``missing`` begins the line about a name that no image has."""
    from ..engine import images as engine
    from .image_document import as_typed, as_untyped, document_of

    def find(name: str) -> dict[str, Any]:
        try:
            return document_of(engine.inspect_image(data_root, name))
        except ImageNotFound:
            raise NotThere(f"{missing}{name}") from None

    return inspect_all(words, form, find, as_typed, as_untyped)
