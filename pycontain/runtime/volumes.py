"""The volumes that an image declares: for each container a directory of its own, which begins as a copy of the image's.

They lie beside the container's directory and go with it; what is written there is no part of a commit, and can be written with a
read-only root, too. Spec: image-spec config.md, "Volumes".
"""

from __future__ import annotations

import os
import posixpath

from ..errors import InvalidArgument
from ..image.users import MergedDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..image.rootfs import RootFS
    from ..request import RunRequest

__all__ = ["declared", "directory_of", "make"]

_MOST = 128  # each is a directory to copy, and mounts in the Plan


def declared(request: RunRequest, volumes: tuple[str, ...]) -> tuple[str, ...]:
    """Where the image wants a volume and the request mounts nothing itself. Raises: InvalidArgument: at no possible place, or too many."""
    mounted = {posixpath.normpath(m.target) for m in request.mounts}
    found = []
    for path in volumes:
        target = posixpath.normpath(posixpath.join("/", path))
        if target in ("/", "//"):
            raise InvalidArgument(
                f"cannot use image {request.image}: it declares {path!r} as a volume: that is its whole root"
            )
        if target == "/proc" or target.startswith(
            "/proc/"
        ):  # CVE-2019-16884: what writes to /proc would write to the image's files
            raise InvalidArgument(
                f"cannot use image {request.image}: it declares {path[:200]!r} as a volume, in place of the kernel's own files"
            )
        if target not in mounted:
            found.append(target)
    wanted = tuple(dict.fromkeys(found))
    if len(wanted) > _MOST:
        raise InvalidArgument(
            f"cannot use image {request.image}: it declares {len(wanted)} volumes, the limit is {_MOST}"
        )
    return wanted


def directory_of(container_directory: str) -> str:
    """Beside the container's own directory, which overlay's upper directory is in."""
    return f"{container_directory}.volumes"


def make(directory: str, targets: tuple[str, ...], rootfs: RootFS) -> None:
    """Make ``directory`` with a volume for each target, by its number. Raises: OSError, and as pack and unpack."""
    os.mkdir(directory, 0o700)
    for number, target in enumerate(targets):
        path = f"{directory}/{number}"
        os.mkdir(path, 0o755)
        with MergedDirectory(rootfs.lower, target) as below:
            if below:
                _copy(below, path)


def _copy(below: list[int], path: str) -> None:
    """Owners, modes, times, attributes and links, as a layer would have them."""
    from ..image.pack import pack_merged
    from ..image.unpack import unpack_layer

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with pack_merged(below) as packed:
            stream: Any = packed  # a raw stream, of which it is only read
            unpack_layer(stream, fd)
    finally:
        os.close(fd)
