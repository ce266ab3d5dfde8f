"""``pycontain inspect``: everything about an object of any kind: a container, or else an image, or else a volume."""

from __future__ import annotations

from .. import parse
from ..errors import ContainerNotFound, ImageNotFound, InvalidArgument, Unsupported, VolumeNotFound
from .arguments import Command, Option, Values, count, read
from .inspector import INSPECT_FORMAT_HELP, NotThere, inspect_all
from .output import complain, one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.roots import Roots
    from .gotemplate import Struct

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Print everything about containers, images or volumes, as JSON. Of those with one name it is the first of them.",
    (
        Option("-f --format", "FORMAT", INSPECT_FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("-s --size", "", "of containers: how many bytes its own layer has, and its image with it"),
        Option("--type", "TYPE", "only objects of this type: container, image or volume"),
    ),
    interspersed=True,
)

_LATER = ("config", "network", "node", "plugin", "secret", "service", "task")
_NO_SIZE = "WARNING: --size ignored for images"


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _inspect(values, words, command, roots))


def _inspect(values: Values, words: list[str], command: Command, roots: Roots) -> int:
    count(command, words, 1, None)
    if values.type in _LATER:
        raise Unsupported(
            f"--type: objects of type {values.type} cannot be inspected: there are container, image and volume"
        )
    if values.type not in (None, "container", "image", "volume"):
        raise InvalidArgument(f"--type: unknown type {parse.quote(values.type)}: write container, image or volume")
    form = values.format or ""
    if values.type == "container":
        from .container_inspect import inspect_containers

        return inspect_containers(words, form, values.size, roots)
    if values.type == "image":
        from .image_inspect import inspect_images

        if values.size:
            complain(_NO_SIZE)
        return inspect_images(words, form, roots.data_root, "Error: No such image: ")
    if values.type == "volume":
        from .volume_inspect import inspect_volumes

        return inspect_volumes(words, form, roots)
    return _inspect_any(words, form, values.size, roots)


def _inspect_any(words: list[str], form: str, size: bool, roots: Roots) -> int:
    from ..engine import images as engine
    from .container_inspect import container_document
    from .image_document import as_untyped, document_of

    def find(name: str) -> dict[str, Any]:
        try:
            return container_document(roots, name, size)
        except ContainerNotFound:
            pass
        try:
            document = document_of(engine.inspect_image(roots.data_root, name))
        except ImageNotFound:
            return _volume(roots, name)
        if size:
            complain(_NO_SIZE)
        return document

    return inspect_all(words, form, find, _typed, as_untyped)


def _volume(roots: Roots, name: str) -> dict[str, Any]:
    from ..engine import volumes as engine
    from .volume_inspect import document_of

    try:
        return document_of(engine.find_volume(roots, name))
    except VolumeNotFound:
        raise NotThere(f"Error: No such object: {name}") from None


def _typed(document: dict[str, Any]) -> Struct:
    from . import container_template, image_document, volume_inspect

    if "Mountpoint" in document:
        return volume_inspect.as_typed(document)
    return container_template.as_typed(document) if "State" in document else image_document.as_typed(document)
