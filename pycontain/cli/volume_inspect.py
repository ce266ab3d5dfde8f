"""``pycontain volume inspect``: everything about volumes."""

from __future__ import annotations

from ..errors import VolumeNotFound
from .arguments import Command, Option, count, read
from .inspector import INSPECT_FORMAT_HELP, NotThere, inspect_all
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.roots import Roots
    from ..runtime.volume_store import Volume
    from .gotemplate import Struct

__all__ = ["COMMAND", "as_typed", "document_of", "inspect_volumes", "main"]

COMMAND = Command(
    "pycontain volume inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Print everything about volumes, as JSON.",
    (
        Option("-f --format", "FORMAT", INSPECT_FORMAT_HELP),
        Option("-h --help", "", "print this"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)

    def inspect() -> int:
        count(command, words, 1, None)
        return inspect_volumes(words, values.format or "", roots)

    return one_for_errors(inspect)


def inspect_volumes(words: list[str], form: str, roots: Roots) -> int:
    from ..engine import volumes as engine
    from .image_document import as_untyped

    def find(name: str) -> dict[str, Any]:
        try:
            return document_of(engine.find_volume(roots, name))
        except VolumeNotFound:
            raise NotThere(f"Error: No such volume: {name}") from None

    return inspect_all(words, form, find, as_typed, as_untyped)


def document_of(volume: Volume) -> dict[str, Any]:
    """Docker's document of a volume, ready for JSON."""
    return {
        "CreatedAt": _instant(volume.created),
        "Driver": "local",
        "Labels": dict(volume.labels) or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": dict(volume.options) or None,
        "Scope": "local",
    }


def _instant(at: float) -> str:
    """RFC 3339 in the local zone, to the second."""
    import time

    local = time.localtime(at)
    zone = time.strftime("%z", local)
    return time.strftime("%Y-%m-%dT%H:%M:%S", local) + ("Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}")


def as_typed(document: dict[str, Any]) -> Struct:
    """The document as Docker's own type has it."""
    from .gotemplate import NilMap, NilPointer, Struct

    fields = {name: NilMap() if value is None else value for name, value in document.items()}
    fields["ClusterVolume"], fields["Status"] = NilPointer("*volume.ClusterVolume"), NilMap()
    fields["UsageData"] = NilPointer("*volume.UsageData")
    return Struct("*volume.Volume", fields, optional=("ClusterVolume", "Status", "UsageData"))
