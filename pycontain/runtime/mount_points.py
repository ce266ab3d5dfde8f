"""What is mounted into a container that stays: what was asked for, and the volumes that its image declares."""

from __future__ import annotations

import os
import posixpath

from ..errors import InvalidArgument
from ..record import record
from . import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .detached import Detached

__all__ = ["MountPoint", "mount_points"]


@record
class MountPoint:
    """``kind``: "bind" or "volume"; a volume has a ``name``. ``mode``: mount options beside read-only, with commas between."""

    kind: str
    source: str
    target: str
    name: str = ""
    mode: str = ""
    read_only: bool = False


def mount_points(kept: Detached, layer: str) -> tuple[MountPoint, ...]:
    """``layer``: the directory of its copy-on-write layer."""
    found = [
        MountPoint(
            kind="bind", source=os.path.abspath(m.source), target=posixpath.normpath(m.target), mode=",".join(m.options),
            read_only=m.read_only,
        )
        for m in kept.request.mounts
        if m.type == "bind"
    ]  # fmt: skip
    try:
        targets = volumes.declared(kept.request, kept.config.volumes)
    except InvalidArgument:
        targets = ()  # an image that cannot be started
    for number, target in enumerate(targets):
        source = f"{volumes.directory_of(layer)}/{number}"
        found.append(MountPoint(kind="volume", source=source, target=target, name=f"{kept.id}-{number}"))
    return tuple(found)
