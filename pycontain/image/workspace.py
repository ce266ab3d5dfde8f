"""Private, self-cleaning directories below ``<data-root>/tmp``, and the locks below ``<data-root>/locks``.

A workspace is held by an flock on its directory, which the kernel drops however its owner dies; the next one to make a
workspace removes those that nobody holds. So a kill -9 leaves one directory, for a while, and never a wrong name.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .remove_tree import remove_entry

__all__ = ["locked", "make_data_dir", "replace_file", "workspace"]


def make_data_dir(path: str) -> None:
    """Make a directory of the data root and what is above it, 0700: the trees below hold setuid programs."""
    os.makedirs(path, mode=0o700, exist_ok=True)


@contextmanager
def locked(data_root: str, name: str) -> Iterator[None]:
    """Hold ``<data-root>/locks/<name>``, waiting for it. The empty file stays: removing a lock file makes two locks."""
    make_data_dir(f"{data_root}/locks")
    fd = os.open(f"{data_root}/locks/{name}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def workspace(data_root: str) -> Iterator[tuple[str, int]]:
    """A new directory ``(path, dirfd)`` on the data root's file system, removed at the end with what is left in it."""
    parent = f"{data_root}/tmp"
    make_data_dir(parent)
    parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The lock closes the gap between making a directory and holding it; nothing long happens under it.
        with locked(data_root, "tmp"):
            stale = _unheld(parent_fd)
            name = f"{os.getpid()}-{os.urandom(8).hex()}"
            os.mkdir(name, 0o700, dir_fd=parent_fd)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent_fd)
            fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            _remove_held(parent_fd, stale)
            yield f"{parent}/{name}", fd
        finally:
            remove_entry(parent_fd, name)
            os.close(fd)
    finally:
        os.close(parent_fd)


def _unheld(parent_fd: int) -> list[tuple[str, int]]:
    """Workspaces whose owner is gone, now held by us."""
    found = []
    for name in os.listdir(parent_fd):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            continue
        found.append((name, fd))
    return found


def _remove_held(parent_fd: int, stale: list[tuple[str, int]]) -> None:
    for name, fd in stale:
        try:
            remove_entry(parent_fd, name)
        except FileNotFoundError:
            pass  # its owner was removing it at the end of its work
        finally:
            os.close(fd)


def replace_file(path: str, data: bytes) -> None:
    """Write a small file atomically: temporary name, fsync, rename, fsync of the directory."""
    directory, name = os.path.split(path)
    temporary = f"{directory}/.{name[:200]}.{os.getpid()}-{os.urandom(4).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:  # a full disk answers with a short count first; half a file must not get the name
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)
