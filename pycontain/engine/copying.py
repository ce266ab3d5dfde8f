"""Files between a container and this machine, as ``docker cp`` has them: copies, archives as streams, and what a path is.

Every function takes the roots first, and a container in any state. What is in the container is hostile: no path of it is looked up
but below its root (copy_places.py), nothing is opened for reading that is no regular file or directory, what comes out is written
below the destination's descriptor alone, and what goes in below one in the container.

Errors: ContainerNotFound, NotFound, InvalidArgument, Conflict, Unsupported, SetupFailed.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager

from .. import _native
from ..errors import Conflict, InvalidArgument
from ..image.compression import compression_of, decompressed
from ..image.pack import pack_tree
from ..image.unpack import TreeWriter
from ..record import record
from ..runtime.container_events import emit_of
from ..runtime.root_view import opened_root
from .copy_places import Place, clean, find_destination, find_source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ..image.pack import PackReader
    from ..runtime.root_view import ContainerRoot
    from ..runtime.roots import Roots
    from .copy_places import Destination, Source

__all__ = ["Archive", "PathInfo", "archive_in", "archive_out", "copy_in", "copy_out", "path_info"]

_CHUNK = 1 << 18
_PREFIX = 16  # bytes that tell a compression
_BLOCK = 512


@record
class PathInfo:
    """A path in a container. ``mode`` as in stat(2); ``mtime_ns`` since 1970; ``link_target``: of a symbolic link, as an absolute
    path of the container, else ""."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""


class Archive:
    """What archive_out gives: ``info``, and the bytes of a tar in pieces of any size by ``readinto``, which is 0 at its end."""

    def __init__(self, info: PathInfo, packed: PackReader) -> None:
        self.info = info
        self._packed = packed
        self.readinto = packed.readinto

    @property
    def size(self) -> int:
        """The bytes so far, as Docker counts them: a header of 512, the contents in blocks of as many, and two at the end."""
        return _size(self._packed)

    @property
    def sockets(self) -> int:
        """How many were left out: a tar has no kind for them."""
        return self._packed.counts().sockets


def _size(packed: PackReader) -> int:
    return (packed.counts().blocks + 2) * _BLOCK


def path_info(roots: Roots, container: str, path: str) -> PathInfo:
    """What ``path`` is in the container; a link at its end is not followed."""
    with opened_root(roots, container) as root, _source(_place(root), _clean(path), follow=False) as source:
        return _info(source, _clean(path))


def _info(source: Source, path: bytes) -> PathInfo:
    info = source.info
    target = ""
    if stat.S_ISLNK(info.st_mode):
        above = path.rstrip(b"/").rpartition(b"/")[0]
        target = os.fsdecode(clean(os.readlink(b"", dir_fd=source.fd), above or b"/"))
    return PathInfo(
        name=os.fsdecode(source.name) or "/", size=info.st_size, mode=info.st_mode, mtime_ns=info.st_mtime_ns,
        link_target=target,
    )  # fmt: skip


@contextmanager
def archive_out(roots: Roots, container: str, path: str, *, follow: bool = False) -> Iterator[Archive]:
    """``path`` as a tar: the last name of the path and all that is below it; with "/." at its end only that, as "./".

    Owners are those that the container sees, times to the nanosecond. ``follow``: a link at its end is. Memory is bounded.
    """
    asked = _clean(path)
    with (
        opened_root(roots, container) as root,
        _source(_place(root), asked, follow=follow) as source,
        _packed(source, source.name, root) as packed,
    ):
        yield Archive(_info(source, asked), packed)
        emit_of(roots, root.found, "archive-path")


def copy_out(
    roots: Roots, container: str, path: str, destination: str, *, follow: bool = False, keep_owners: bool = False
) -> int:
    """Answers with the bytes, as Docker counts them. All is this process's user's, or, with ``keep_owners``, whose it is in the
    container. Set-user-ID bits, file capabilities and access lists stay behind, and a device is its owner's alone: a container
    could give them to any file."""
    asked, to, here = _clean(path), _here(destination), Place()
    owner = None if keep_owners else (os.geteuid(), os.getegid())
    with (
        opened_root(roots, container) as root,
        _source(_place(root), asked, follow=follow) as source,
        _destination(here, to) as found,
        _packed(source, found.name_for(source, here, to), root) as packed,
        TreeWriter(found.fd, f"cannot copy to {destination}", owner=owner, sober=True) as writer,
    ):
        count = _pour(packed, writer)
        emit_of(roots, root.found, "archive-path")
        return count


def copy_in(
    roots: Roots, container: str, source: str, path: str, *, follow: bool = False, keep_owners: bool = False
) -> int:
    """Answers with the bytes, as Docker counts them. All is the container's root's, or, with ``keep_owners``, of the same ids in
    the container as here."""
    asked, to = _here(source), _clean(path)
    with (
        _source(Place(), asked, follow=follow) as found,
        opened_root(roots, container) as root,
        _destination(_place(root), to) as target,
        _packed(found, target.name_for(found, _place(root), to), None) as packed,
        _writer(root, target, to, keep_owners=keep_owners) as writer,
        _as_root_of(root),
    ):
        count = _pour(packed, writer)
    emit_of(roots, root.found, "extract-to-dir")
    return count


def archive_in(roots: Roots, container: str, path: str, stream: BinaryIO, *, keep_owners: bool = True) -> int:
    """A tar into the directory ``path`` of the container: plain, or compressed by gzip, xz or zstd. Answers with its bytes.

    The tar is hostile, too: no name of it leads out of ``path``, and a link in the way is followed inside ``path``.
    """
    to = _clean(path)
    with opened_root(roots, container) as root, _destination(_place(root), to) as target:
        if not target.is_dir:
            raise InvalidArgument(f'destination "{_place(root).shown(to)}" must be a directory')
        with _writer(root, target, to, keep_owners=keep_owners) as writer, _as_root_of(root):
            count = _feed(stream, writer)
    emit_of(roots, root.found, "extract-to-dir")
    return count


# --- the ends ---------------------------------------------------------------------------------------------------------


def _clean(path: str) -> bytes:
    """An absolute path of the container."""
    return clean(os.fsencode(path))


def _here(path: str) -> bytes:
    """An absolute path of this machine."""
    return clean(os.fsencode(path), os.getcwdb() if not path.startswith("/") else b"/")


def _place(root: ContainerRoot) -> Place:
    return Place(root.fd, root.name)


@contextmanager
def _source(place: Place, path: bytes, *, follow: bool) -> Iterator[Source]:
    found = find_source(place, path, follow=follow)
    try:
        yield found
    finally:
        found.close()


@contextmanager
def _destination(place: Place, path: bytes) -> Iterator[Destination]:
    found = find_destination(place, path)
    try:
        yield found
    finally:
        found.close()


def _packed(source: Source, name: bytes, root: ContainerRoot | None) -> PackReader:
    uid_map, gid_map = (root.uid_map, root.gid_map) if root is not None else ((), ())
    return pack_tree(source.fd, is_dir=source.is_dir, name=name, uid_map=uid_map, gid_map=gid_map)


def _writer(root: ContainerRoot, target: Destination, path: bytes, *, keep_owners: bool) -> TreeWriter:
    """Raises: Conflict: what is there is mounted read-only."""
    _check_writable(root, target.fd)
    what = f"cannot copy to {root.name}:{os.fsdecode(path)}"
    if keep_owners:
        return TreeWriter(target.fd, what, uid_map=root.uid_map, gid_map=root.gid_map)
    return TreeWriter(target.fd, what, owner=(_outside(root.uid_map), _outside(root.gid_map)))


@contextmanager
def _as_root_of(root: ContainerRoot) -> Iterator[None]:
    """Files are made by the container's root meanwhile: a volume whose owners are translated knows nobody else."""
    if not root.uid_map:
        yield
        return
    _native.act_as(_outside(root.uid_map), _outside(root.gid_map))
    try:
        yield
    finally:
        _native.act_as(os.geteuid(), os.getegid())


def _outside(ranges: tuple[tuple[int, int, int], ...]) -> int:
    """Of the container's root."""
    return next((outside for inside, outside, _ in ranges if inside == 0), 0)


def _check_writable(root: ContainerRoot, fd: int) -> None:
    if not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        return
    if _mount_of(fd) == _mount_of(root.fd):
        raise Conflict("container rootfs is marked read-only")
    raise Conflict("mounted volume is marked read-only")


def _mount_of(fd: int) -> bytes:
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        return next(line for line in file if line.startswith(b"mnt_id:"))


# --- the bytes --------------------------------------------------------------------------------------------------------


def _pour(packed: PackReader, writer: TreeWriter) -> int:
    buffer = memoryview(bytearray(_CHUNK))
    while size := packed.readinto(buffer):
        writer.feed(buffer[:size])
    writer.finish()
    return _size(packed)


def _feed(stream: BinaryIO, writer: TreeWriter) -> int:
    first = stream.read(_PREFIX)
    plain = decompressed(_Again(first, stream), compression_of(first))  # type: ignore[arg-type]
    size = 0
    while data := plain.read(_CHUNK):
        writer.feed(data)
        size += len(data)
    writer.finish()
    return size


class _Again:
    """A stream whose first bytes have been read already."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        first, self._first = self._first, b""
        return first or self._stream.read(size)
