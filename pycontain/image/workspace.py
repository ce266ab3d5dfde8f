"""Private, self-cleaning directories below ``<data-root>/tmp``, and the locks below ``<data-root>/locks``.

A workspace is held by an flock on its directory, which the kernel drops however its owner dies; the next one to make a
workspace removes those that nobody holds. So a kill -9 leaves one directory, for a while, and never a wrong name.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from ..errors import SetupFailed, errno_name
from .remove_tree import remove_entry

__all__ = [
    "locked",
    "locked_unless",
    "inherit_nothing",
    "is_removed",
    "make_data_dir",
    "release",
    "removal_name",
    "removal_space",
    "replace_file",
    "replace_link",
    "storing",
    "try_lock",
    "workspace",
]

_POLL_S = 0.05


def make_data_dir(path: str) -> None:
    """Make a directory of the data root and what is above it, 0700: the trees below hold setuid programs."""
    os.makedirs(path, mode=0o700, exist_ok=True)


@contextmanager
def storing(what: str) -> Iterator[None]:
    """What the file system of the data root refuses, in words: "cannot ``what``: ..."."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        hint = ". Free space on the file system of the data root" if number in (errno.ENOSPC, errno.EDQUOT) else (
            ". Run as root, or give a --data-root that this user may write to" if number in (errno.EACCES, errno.EPERM, errno.EROFS) else ""
        )  # fmt: skip
        where = f" of {error.filename}" if error.filename else ""
        raise SetupFailed(
            f"cannot {what}: writing to the data root{where}: {error.strerror or error} ({errno_name(number)}){hint}",
            step="store", errno=number,
        ) from error  # fmt: skip


@contextmanager
def locked(data_root: str, name: str, *, shared: bool = False) -> Iterator[None]:
    """Hold ``<data-root>/locks/<name>``, waiting for it. The empty file stays: removing a lock file makes two locks."""
    fd = _open_lock(data_root, name)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        release(fd)


@contextmanager
def locked_unless(data_root: str, name: str, stop: Callable[[], bool]) -> Iterator[bool]:
    """As :func:`locked`, for a thread that nobody can interrupt: waits as long as ``stop()`` is false; whether it is held."""
    fd = _open_lock(data_root, name)
    try:
        while not stop():
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_POLL_S)
            else:
                yield True
                return
        yield False
    finally:
        release(fd)


@contextmanager
def try_lock(data_root: str, name: str) -> Iterator[bool]:
    """As :func:`locked`, without waiting: whether it is held."""
    fd = _open_lock(data_root, name)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        release(fd)


def release(fd: int) -> None:
    """Ends an flock and closes its descriptor. Closing alone leaves it held by every process forked meanwhile: they share it."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _open_lock(data_root: str, name: str) -> int:
    make_data_dir(f"{data_root}/locks")
    return os.open(f"{data_root}/locks/{name}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


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
            inherit_nothing(fd, 0o700)
            _remove_held(parent_fd, stale)
            yield f"{parent}/{name}", fd
        finally:
            try:
                remove_entry(parent_fd, name)
            finally:
                os.close(fd)  # what could not be removed is nobody's then, and the next one's to remove
    finally:
        os.close(parent_fd)


@contextmanager
def removal_space(data_root: str) -> Iterator[str]:
    """A directory on the data root's file system for what is to be deleted, under names of :func:`removal_name`.

    A workspace; or, on a disk so full that no directory can be made, and from which something is to be removed just therefore,
    ``tmp`` itself.
    """
    with ExitStack() as stack:
        try:
            work, _ = stack.enter_context(workspace(data_root))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            work = f"{data_root}/tmp"
            stack.callback(_remove_removed, work)
        yield work


def removal_name(name: str) -> str:
    """Of something in a removal space: no other one's, and longer than a workspace's."""
    return f"{name}-{os.urandom(4).hex()}.removed"


def is_removed(name: str) -> bool:
    return name.endswith(".removed")


def _remove_removed(parent: str) -> None:
    parent_fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in filter(is_removed, os.listdir(parent_fd)):
            try:
                remove_entry(parent_fd, name)
            except FileNotFoundError:
                pass  # by another one
    finally:
        os.close(parent_fd)


def inherit_nothing(fd: int, mode: int) -> None:
    """A directory just made, as its maker's own: a data root may lie in one with a default ACL or the set-group-id bit, which
    would go on into every layer and every container."""
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        try:
            os.removexattr(fd, name)
        except OSError:
            pass  # there is none, or the file system has none
    os.fchown(fd, os.geteuid(), os.getegid())
    os.fchmod(fd, mode)


def _unheld(parent_fd: int) -> list[tuple[str, int]]:
    """Workspaces whose owner is gone, now held by us."""
    found = []
    for name in os.listdir(parent_fd):
        if is_removed(name):  # of a removal on a full disk: nobody wants it
            try:
                remove_entry(parent_fd, name)
            except FileNotFoundError:
                pass
            continue
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
    temporary = _beside(path)
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
    _sync_parent(path)


def replace_link(path: str, target: str) -> None:
    """Make a symbolic link, or point an existing one elsewhere, atomically."""
    temporary = _beside(path)
    os.symlink(target, temporary)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_parent(path)


def _beside(path: str) -> str:
    """A name that no reader looks at, in the same directory."""
    directory, name = os.path.split(path)
    return f"{directory}/.{name[:200]}.{os.getpid()}-{os.urandom(4).hex()}"


def _sync_parent(path: str) -> None:
    directory_fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)
