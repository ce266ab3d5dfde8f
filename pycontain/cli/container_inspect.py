"""``pycontain container inspect``: everything about containers."""

from __future__ import annotations

from ..errors import ContainerNotFound
from .arguments import Command, Option, count, read
from .inspector import INSPECT_FORMAT_HELP, NotThere, inspect_all
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.roots import Roots

__all__ = ["COMMAND", "container_document", "inspect_containers", "main"]

COMMAND = Command(
    "pycontain container inspect",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Print everything about containers, as JSON.",
    (
        Option("-f --format", "FORMAT", INSPECT_FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("-s --size", "", "how many bytes its own layer has, and its image with it"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)

    def inspect() -> int:
        count(command, words, 1, None)
        return inspect_containers(words, values.format or "", values.size, roots)

    return one_for_errors(inspect)


def inspect_containers(words: list[str], form: str, size: bool, roots: Roots) -> int:
    from .container_template import as_typed
    from .image_document import as_untyped

    def find(name: str) -> dict[str, Any]:
        try:
            return container_document(roots, name, size)
        except ContainerNotFound:
            raise NotThere(f"Error: No such container: {name}") from None

    return inspect_all(words, form, find, as_typed, as_untyped)


def container_document(roots: Roots, name: str, size: bool) -> dict[str, Any]:
    """Raises: ContainerNotFound."""
    from ..engine.container_details import details
    from ..engine.container_document import document_of

    if size:
        from .as_root import become_root

        become_root()
    return document_of(details(roots, name, with_sizes=size))
