"""How many bytes the files of a tree have that belongs to a container: by descriptors, following no link."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["bytes_below"]

_DEEPEST = 400  # directories in each other, of which each takes a descriptor
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def bytes_below(path: str, but: Collection[str] = ()) -> int:
    """Of all files, those of several names once, as Docker counts; not of the paths ``but``, nor below _DEEPEST directories.

    What comes and goes meanwhile is there or not. Raises: OSError.
    """
    fd = os.open(path, _DIRECTORY)
    try:
        return _sum(fd, "", but, set(), 0)
    finally:
        os.close(fd)


def _sum(fd: int, path: str, but: Collection[str], links: set[int], depth: int) -> int:
    size = 0
    inner = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if f"{path}{entry.name}" in but:
                continue
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            if stat.S_ISDIR(info.st_mode):
                inner.append(entry.name)
            elif info.st_nlink == 1:
                size += info.st_size
            elif info.st_ino not in links:
                links.add(info.st_ino)
                size += info.st_size
    for each in inner if depth < _DEEPEST else ():
        try:
            below = os.open(each, _DIRECTORY, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed or replaced meanwhile
        except OSError as error:
            if error.errno == errno.ELOOP:
                continue  # by a link, just now
            raise
        try:
            size += _sum(below, f"{path}{each}/", but, links, depth + 1)
        finally:
            os.close(below)
    return size
