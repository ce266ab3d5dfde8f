"""Where a copy comes from and where it goes: paths in a container or on this machine, by the rules of ``docker cp``.

Each path is looked up once; from then on there are descriptors, and one name in a directory that is a descriptor. In a container
the look-up is openat2's with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS: whatever its links say, and whoever swaps them meanwhile,
it ends in the container. Nothing is opened for reading here, so no fifo blocks and no device is touched.
"""

from __future__ import annotations

import errno
import os
import stat

from .. import _native
from ..errors import Conflict, InvalidArgument, NotFound, PycontainError, Unsupported, errno_name

__all__ = ["Destination", "Place", "Source", "clean", "find_destination", "find_source"]

_PATH = os.O_PATH | os.O_CLOEXEC
_DIRECTORY = _PATH | os.O_DIRECTORY
_IN_ROOT = _native.RESOLVE_IN_ROOT | _native.RESOLVE_NO_MAGICLINKS
_TRIES = 1000  # somebody renames or mounts something while ".." of a link is followed (EAGAIN)
_MOST_LINKS = 40  # the kernel's own limit
_MISSING = (errno.ENOENT, errno.ENOTDIR)


class Place:
    """Where paths are looked up: below a container's root, or, without one, on this machine.

    ``where`` is put into errors, with the path: "in container web", or "" for this machine.
    """

    def __init__(self, root_fd: int = -1, container: str = "") -> None:
        self.root_fd = root_fd
        self.container = container

    def open(self, path: bytes, flags: int) -> int:
        """Raises: OSError."""
        if self.root_fd < 0:
            return os.open(path, flags)
        for _ in range(_TRIES):
            try:
                return _native.openat2(self.root_fd, path, flags, resolve=_IN_ROOT)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EINTR):
                    raise
        raise Conflict(f"cannot look up {self.shown(path)}: it does not keep still: pause the container, or try again")

    def shown(self, path: bytes) -> str:
        text = os.fsdecode(path)
        return f"{self.container}:{text}" if self.container else text

    def missing(self, path: bytes) -> NotFound:
        if not self.container:
            return NotFound(f"cannot copy {self.shown(path)}: No such file or directory (ENOENT)")
        return NotFound(f"Could not find the file {os.fsdecode(path)} in container {self.container}")

    def refused(self, path: bytes, error: OSError) -> PycontainError:
        """What an OSError of a look-up is in words."""
        number = error.errno or 0
        if number in _MISSING:
            return self.missing(path)
        tried = f"cannot copy {self.shown(path)}: {os.strerror(number)} ({errno_name(number)})"
        if number == errno.ELOOP:
            return InvalidArgument(f"{tried}: links that lead in a circle, or to what only a process has open")
        return Unsupported(tried) if number in (errno.EACCES, errno.EPERM) else InvalidArgument(tried)


class Source:
    """``fd``: what is copied, as a path only; ``name``: its name, b"" for what is in a directory alone ("SRC/."), or a root."""

    def __init__(self, fd: int, name: bytes, info: os.stat_result) -> None:
        self.fd = fd
        self.name = name
        self.info = info

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.info.st_mode)

    def close(self) -> None:
        os.close(self.fd)


class Destination:
    """``fd``: a directory, as a path only; ``name``: of what is made or replaced in it, b"" when the copy goes into the directory
    itself; ``exists``; ``wants_directory``: the path ends in a slash; ``path``: what it was found by."""

    def __init__(self, fd: int, name: bytes = b"", *, exists: bool = True, wants_directory: bool = False) -> None:
        self.fd = fd
        self.name = name
        self.exists = exists
        self.wants_directory = wants_directory

    @property
    def is_dir(self) -> bool:
        return not self.name

    def name_for(self, source: Source, place: Place, path: bytes) -> bytes:
        """What the copy of ``source`` is called below ``fd``; b"": what is in it goes there. Raises: InvalidArgument, NotFound."""
        if self.is_dir:
            return source.name
        if self.exists and source.is_dir:
            raise InvalidArgument(
                f"cannot copy a directory to {place.shown(path)}, which is a file: cannot copy directory"
            )
        if not self.exists and self.wants_directory and not source.is_dir:
            raise NotFound(
                f"cannot copy a file to {place.shown(path)}: no such directory: make it first, or leave out the slash at the end"
            )
        return self.name

    def close(self) -> None:
        os.close(self.fd)


def clean(path: bytes, base: bytes = b"/") -> bytes:
    """``path`` from ``base`` on, without ".", ".." and double slashes, by its words alone; a slash or "/." at its end stays, as it
    says something. Raises: InvalidArgument: a NUL."""
    if b"\0" in path:
        raise InvalidArgument(f"cannot copy {os.fsdecode(path)[:80]!r}: a path cannot have a NUL byte")
    parts: list[bytes] = []
    whole = path if path.startswith(b"/") else base + b"/" + path
    for part in whole.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    cleaned = b"/" + b"/".join(parts)
    last = path.rpartition(b"/")[2]
    end = b"/." if last == b"." else b"/" if path.endswith(b"/") else b""
    return cleaned.rstrip(b"/") + end if end else cleaned


def find_source(place: Place, path: bytes, *, follow: bool) -> Source:
    """``path`` is a clean one. A link at its end is what is copied, unless ``follow``, or a slash comes after it.

    Raises: NotFound, InvalidArgument, Unsupported, Conflict.
    """
    try:
        fd = place.open(path, _PATH | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        raise place.refused(path, error) from None
    name = b"" if path.endswith(b"/.") else path.rstrip(b"/").rpartition(b"/")[2]
    return Source(fd, name, os.fstat(fd))


def find_destination(place: Place, path: bytes) -> Destination:
    """``path`` is a clean one; links at its end are followed, also one to what is not there yet.

    Raises: NotFound: the directory above it is missing; InvalidArgument: it is a device, fifo or socket; as find_source.
    """
    asked = path
    for _ in range(_MOST_LINKS):
        try:
            return Destination(place.open(path, _DIRECTORY))
        except OSError as error:
            if error.errno not in _MISSING:
                raise place.refused(asked, error) from None
        above, name = _split(path)
        try:
            fd = place.open(above or b"/", _DIRECTORY)
        except OSError as error:
            raise place.refused(above or asked, error) from None
        try:
            found = _in_directory(place, fd, path, name, asked)
        except BaseException:
            os.close(fd)
            raise
        if isinstance(found, Destination):
            return found
        os.close(fd)
        path = found if found.startswith(b"/") else above + b"/" + found
    raise place.refused(asked, OSError(errno.ELOOP, ""))


def _split(path: bytes) -> tuple[bytes, bytes]:
    """The directory and the last name."""
    shorter = path
    while shorter.endswith((b"/", b"/.")):
        shorter = shorter[:-1]
    above, _, name = shorter.rpartition(b"/")
    return above, name


def _in_directory(place: Place, fd: int, path: bytes, name: bytes, asked: bytes) -> Destination | bytes:
    """What the name is in the directory; of a link, where it leads to."""
    wants_directory = path.endswith((b"/", b"/."))
    if name in (b"", b".."):  # a link may end so; it would have been there
        raise place.missing(asked)
    try:
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return Destination(fd, name, exists=False, wants_directory=wants_directory)
    if stat.S_ISLNK(mode):
        return os.readlink(name, dir_fd=fd) + (b"/" if wants_directory else b"")
    if wants_directory:
        raise (
            place.refused(asked, OSError(errno.ENOTDIR, ""))
            if not place.container
            else InvalidArgument(f"cannot copy to {place.shown(asked)}: it is not a directory")
        )
    if not stat.S_ISREG(mode):
        raise InvalidArgument(f'destination "{place.shown(asked)}" must be a directory or a regular file')
    return Destination(fd, name)
