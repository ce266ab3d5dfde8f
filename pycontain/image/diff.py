"""What a container has changed in its root, as ``docker diff`` lists it.

    changes(upper_fd, lower_fds, ...) -> [(kind, path), ...]     kind: "A" added, "C" changed, "D" deleted

Every file in the upper directory was changed, or overlayfs would not have copied it there. A directory counts as changed
when its mode, owner or time differ from the one below, or something directly in it came or went; its extended attributes
do not count. A directory that was replaced (an opaque one) is listed as changed, and what it hides of the old one as
deleted: ``docker diff`` says so, too, wherever it compares trees, which is independent of how they are stored.
"""

from __future__ import annotations

import os

from .. import _native
from ..host import probe
from .pack import _excluded, pack_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .pack import IdMap

__all__ = ["changes"]

_CHUNK = 1 << 18


def changes(
    upper_fd: int,
    lower_fds: Sequence[int],
    *,
    userxattr: bool | None = None,
    uid_map: IdMap = (),
    gid_map: IdMap = (),
    exclude: Sequence[str | bytes] = (),
) -> list[tuple[str, str]]:
    """(kind, absolute path) for each change, sorted by path; a path that is no UTF-8 has surrogates, as in os.listdir.

    ``lower_fds``: topmost first, as the container's mount has them. The rest is as for :func:`.pack.pack_layer`: the maps
    are for the upper directory, and ``exclude`` is not looked at on any side.

    Raises: Unsupported, Conflict, SetupFailed, as :func:`.pack.pack_layer`.
    """
    packer = _native.Packer(
        (upper_fd, *lower_fds),
        _native.PACK_CHANGES,
        userxattr=probe().in_user_namespace if userxattr is None else userxattr,
        uid_map=uid_map,
        gid_map=gid_map,
        mapped=1 if uid_map or gid_map else 0,
        exclude=[_excluded(each, "list changes") for each in exclude],
    )
    data = bytearray()
    buffer = bytearray(_CHUNK)
    try:
        while got := packer.readinto(buffer):
            data += memoryview(buffer)[:got]
    except _native.PackFailure as failure:
        raise pack_error("list changes", failure) from None
    finally:
        packer.close()
    found = sorted(bytes(each) for each in data.split(b"\0") if each)
    found.sort(key=lambda each: each[1:])
    return [(chr(each[0]), os.fsdecode(each[1:])) for each in found]
