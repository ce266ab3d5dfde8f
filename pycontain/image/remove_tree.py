"""Remove a file or a whole tree below a directory fd, following no link."""

from __future__ import annotations

import os
import stat

__all__ = ["remove_entry"]

_MAX_LEVELS = 64


def remove_entry(dirfd: int, name: bytes | str) -> None:
    """Remove ``name`` in the directory ``dirfd``, whatever it is and however deep: at most 64 descriptors are open.

    A layer can make a tree deeper than any path can say (links in its own names), so what lies deeper than 64 levels is
    first moved up beside ``name``. Raises: FileNotFoundError: it is not there; OSError as the kernel says.
    """
    pending: list[bytes | str] = [name]
    while pending:
        each = pending.pop()
        info = os.stat(each, dir_fd=dirfd, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            _remove_directory(dirfd, each, dirfd, pending, 1)
        else:
            os.unlink(each, dir_fd=dirfd)


def _remove_directory(parent: int, name: bytes | str, top: int, pending: list[bytes | str], level: int) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for each, is_dir in found:
            if not is_dir:
                os.unlink(each, dir_fd=fd)
            elif level < _MAX_LEVELS:
                _remove_directory(fd, each, top, pending, level + 1)
            else:
                moved = f".removing-{os.urandom(8).hex()}"
                os.rename(each, moved, src_dir_fd=fd, dst_dir_fd=top)
                pending.append(moved)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)
