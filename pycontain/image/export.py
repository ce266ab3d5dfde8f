"""``export``: all files of a container, its own and its image's, as one tar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from .commit import ENGINE_PATHS
from .pack import pack_merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pack import IdMap

__all__ = ["export_tree"]

_CHUNK = 1 << 18


def export_tree(upper: str, lower: Sequence[str], out: BinaryIO, *, uid_map: IdMap = (), gid_map: IdMap = ()) -> None:
    """Write the merged directories, ``lower`` topmost first, as overlayfs shows them. Owners as the container sees them.

    Raises: Conflict: a file was cut short while it was read; InvalidArgument, Unsupported, SetupFailed (step "pack").
    """
    fds: list[int] = []
    try:
        for path in (upper, *lower):
            fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        buffer = memoryview(bytearray(_CHUNK))
        with pack_merged(
            fds, uid_map=uid_map, gid_map=gid_map, mapped=1 if uid_map else 0, exclude=ENGINE_PATHS
        ) as packed:
            while size := packed.readinto(buffer):
                out.write(buffer[:size])
    finally:
        for fd in fds:
            os.close(fd)
