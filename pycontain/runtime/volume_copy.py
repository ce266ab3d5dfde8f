"""What a volume begins with: the files that the image has at its place, with owners, modes, times, attributes and links.

A volume of many is filled under a lock, and by way of ``_copy`` beside its ``_data``: a copy that is not whole never gets that
name, and what has it goes into ``_data`` entry by entry, which whoever comes next can finish. So a killed copy leaves an empty volume or
one that is finished by the next who uses it, and ``_data`` stays the directory that containers have mounted.

The image's files are looked up in its layers, each name by its parent's descriptor (:class:`~pycontain.image.users.MergedDirectory`):
a link of the image leads to the image's files, never to the host's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from .. import _native
from ..errors import SetupFailed, errno_name
from ..image.users import MergedDirectory
from ..image.workspace import release, storing, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .volume_store import Volume

__all__ = ["copy_image", "fill", "finish"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_image(lower: tuple[str, ...], target: str, path: str) -> bool:
    """Into the empty directory ``path`` what the layers have at ``target``; False: they have no directory there.

    Raises: OSError, and as pack and unpack.
    """
    with MergedDirectory(lower, target) as below:
        if not below:
            return False
        _copy(below, path)
    return True


def _copy(below: list[int], path: str) -> None:
    from ..image.pack import pack_merged
    from ..image.unpack import unpack_layer

    fd = os.open(path, _DIRECTORY)
    try:
        with pack_merged(below) as packed:
            stream: Any = packed  # a raw stream, of which it is only read
            unpack_layer(stream, fd)
    finally:
        os.close(fd)


def fill(data_root: str, volume: Volume, lower: tuple[str, ...], target: str) -> None:
    """If it is empty. Of several who want that at once, one does it and the others wait.

    Raises: SetupFailed, and as pack and unpack.
    """
    if volume.device:
        return  # a directory of the host is as it is
    with storing(f"fill volume {volume.name}"):
        lock = os.open(f"{volume.directory}/volume", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _finish(volume)
            if not _is_empty(volume):
                return
            with workspace(data_root) as (work, work_fd):
                os.mkdir(f"{work}/copy", 0o755)
                if not copy_image(lower, target, f"{work}/copy"):
                    return
                _native.syncfs(work_fd)  # after a power cut it is whole, or not there
                os.rename(f"{work}/copy", f"{volume.directory}/_copy")
            _finish(volume)
        finally:
            release(lock)


def finish(volume: Volume) -> None:
    """What a killed one has left to be done. Raises: SetupFailed."""
    if volume.device or not os.path.lexists(f"{volume.directory}/_copy"):
        return
    with storing(f"fill volume {volume.name}"):
        lock = os.open(f"{volume.directory}/volume", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _finish(volume)
        finally:
            release(lock)


def _data(volume: Volume) -> int:
    try:
        return os.open(volume.mountpoint, _DIRECTORY)
    except OSError as error:
        number = error.errno or 0
        raise SetupFailed(
            f"cannot use volume {volume.name}: {volume.mountpoint}: {error.strerror} ({errno_name(number)}): a directory has to be "
            "there, and no link to one is followed",
            step="volumes", errno=number,
        ) from None  # fmt: skip


def _is_empty(volume: Volume) -> bool:
    fd = _data(volume)
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is None
    finally:
        os.close(fd)


def _finish(volume: Volume) -> None:
    """The caller holds the lock. What a container has put there meanwhile under the same name is left alone."""
    try:
        copy = os.open(f"{volume.directory}/_copy", _DIRECTORY)
    except FileNotFoundError:
        return
    data = -1
    try:
        data = _data(volume)
        info = os.fstat(copy)
        times = info.st_atime_ns, info.st_mtime_ns
        _take_over(copy, data)
        for name in os.listdir(copy):
            _move(name, copy, data)
            os.utime(copy, ns=times)  # for whoever has to go on from here
        os.utime(data, ns=times)
    finally:
        os.close(copy)
        if data >= 0:
            os.close(data)
    _native.remove_tree(f"{volume.directory}/_copy")


def _move(name: str, copy: int, data: int) -> None:
    """Unless there is one of that name; also one that a container makes just now, which may be of another kind."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=copy, follow_symlinks=False).st_mode):
            os.link(name, name, src_dir_fd=copy, dst_dir_fd=data, follow_symlinks=False)
        elif not _is_there(name, data):
            os.rename(name, name, src_dir_fd=copy, dst_dir_fd=data)  # takes the place of an empty directory only
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
            raise


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _take_over(copy: int, data: int) -> None:
    """Owner, mode and attributes of the image's directory."""
    info = os.fstat(copy)
    os.fchown(data, info.st_uid, info.st_gid)
    os.fchmod(data, info.st_mode & 0o7777)
    for name in os.listxattr(copy):
        if name == "security.selinux":
            continue  # the policy's, for where it lies
        os.setxattr(data, name, os.getxattr(copy, name))
