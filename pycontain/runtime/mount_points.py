"""What is mounted into a container: its binds, and its volumes, those that its image declares among them."""

from __future__ import annotations

import os
import posixpath

from ..record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..request import Mount

__all__ = ["MountPoint", "mount_points"]


@record
class MountPoint:
    """``kind``: "bind" or "volume"; a volume has a ``name``. ``mode``: mount options beside read-only, with commas between.

    ``anonymous``: a volume that goes with its container; ``inherited``: not asked for itself (``--volumes-from``, the image).
    """

    kind: str
    source: str
    target: str
    name: str = ""
    mode: str = ""
    read_only: bool = False
    anonymous: bool = False
    inherited: bool = False


def mount_points(mounts: tuple[Mount, ...], data_root: str, container_id: str, own: str) -> tuple[MountPoint, ...]:
    """``own``: the directory of the volumes that go with the container. Every volume has its name."""
    return tuple([_mount_point(m, data_root, container_id, own) for m in mounts if m.type != "tmpfs"])


def _mount_point(m: Mount, data_root: str, container_id: str, own: str) -> MountPoint:
    target, mode = posixpath.normpath(m.target), ",".join(m.options)
    if m.type == "bind":
        return MountPoint(
            kind="bind",
            source=os.path.abspath(m.source),
            target=target,
            mode=mode,
            read_only=m.read_only,
            inherited=m.inherited,
        )
    if not m.anonymous:  # as Docker has it, for the label that its SELinux would give
        mode = "ro" if m.read_only and not mode else mode or "z"
    return MountPoint(
        kind="volume", source=_source(m, data_root, container_id, own), target=target, name=m.source, mode=mode,
        read_only=m.read_only, anonymous=m.anonymous, inherited=m.inherited,
    )  # fmt: skip


def _source(m: Mount, data_root: str, container_id: str, own: str) -> str:
    from .volume_store import data_of

    if m.anonymous and m.source[:62] == container_id[:1:-1]:
        path = f"{own}/{int(m.source[62:], 16)}"
        if os.path.isdir(path):
            return f"{os.path.realpath(path)}/_data"
    return data_of(data_root, m.source)
