"""A directory tree as an uncompressed tar: a container's upper directory as a layer, or a whole root merged.

    pack_layer(upper_fd, ...) -> PackReader     the changeset of image-spec layer.md: whiteouts and opaque marks
    pack_merged(fds, ...) -> PackReader         roots topmost first, as overlayfs shows them: an export
    pack_tree(fd, ...) -> PackReader            a file or directory as it is, through mounts: a copy
    source_date_epoch() -> int | None           $SOURCE_DATE_EPOCH, for ``mtime_max``

A PackReader is a raw binary stream (``readinto``, ``read``, ``close``); give it to :func:`.compress.write_layer`. Nothing is
read before it is asked for, and memory is bounded (src/c/pack.h says by what). The descriptors given are opened again and
stay the caller's.

The bytes depend on the tree alone: entries sorted by name (a directory, its opaque mark, its whiteouts, the rest), no user
or group names, no access or change times, times to the nanosecond where a file has them. Extended attributes: user.*,
security.capability and POSIX ACLs; never overlayfs's own. Sockets are left out and counted. Holes are written as the
zeros they read as, which image-spec asks for, and are not read.

A tree may change meanwhile. A name that is gone when it is its turn is left out and counted; a file that has grown is cut
at the size in its header; one that was cut short is filled up with zeros, and then the last read, after the whole tar,
raises Conflict: what was written is a sound tar of what never was. Contents that change in place are not noticed, so
pause a container to have it as it was at one moment.
"""

from __future__ import annotations

import errno
import io
import os

from .. import _native
from ..errors import Conflict, InvalidArgument, PycontainError, SetupFailed, Unsupported, errno_name
from ..host import probe
from ..record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Buffer

    IdMap = Sequence[tuple[int, int, int]]
    """(id written, id on the disk, how many), as the lines of /proc/PID/uid_map."""

__all__ = ["PackCounts", "PackReader", "pack_error", "pack_layer", "pack_merged", "pack_tree", "source_date_epoch"]


@record
class PackCounts:
    """What went into a tar so far. ``vanished``: names that were gone when it was their turn; ``blocks``: of 512 bytes, of headers and
    contents, without pax headers."""

    entries: int
    whiteouts: int
    opaque_dirs: int
    file_bytes: int
    sockets: int
    vanished: int
    blocks: int = 0


def pack_layer(
    upper_fd: int,
    *,
    userxattr: bool | None = None,
    root_entry: bool = True,
    mtime_max: int | None = None,
    uid_map: IdMap = (),
    gid_map: IdMap = (),
    exclude: Sequence[str | bytes] = (),
) -> PackReader:
    """What an overlay upper directory changes, or a plain directory as a layer of its own.

    ``userxattr``: overlayfs has left its marks as ``user.overlay.*`` (a mount with that option, which is how it is in a
    user namespace; None asks). ``root_entry``: begin with ``./``, for the owner and mode of the root itself. ``mtime_max``:
    later times are written as this one, in seconds. ``uid_map``, ``gid_map``: owners on the disk as the container sees them;
    one that they do not have is an error. ``exclude``: paths, without a slash in front, that are left out with what is
    below them: what the engine itself puts into an upper directory.

    Raises, here and when it is read: InvalidArgument: a name, path or owner that a layer cannot hold; Unsupported: no
    permission, or a tree of ``redirect_dir`` or ``metacopy``; Conflict: see above; SetupFailed (step "pack").
    Spec: image-spec layer.md.
    """
    return PackReader(
        "pack the layer",
        (upper_fd,),
        _native.PACK_LAYER,
        userxattr=userxattr,
        root_entry=root_entry,
        mtime_max=mtime_max,
        uid_map=uid_map,
        gid_map=gid_map,
        mapped=1 if uid_map or gid_map else 0,
        exclude=exclude,
    )


def pack_merged(
    fds: Sequence[int],
    *,
    userxattr: bool | None = None,
    root_entry: bool = True,
    mtime_max: int | None = None,
    uid_map: IdMap = (),
    gid_map: IdMap = (),
    mapped: int = 0,
    exclude: Sequence[str | bytes] = (),
) -> PackReader:
    """All of ``fds``, topmost first, as one overlay mount of them shows: no whiteouts, no opaque marks.

    A mark on one of the directories themselves does not count, as overlayfs has it: :func:`.layers.stack_layers` cuts the
    stack there. As :func:`pack_layer`; but the maps are for the first ``mapped`` directories (an upper directory holds the container's
    own ids, the layers below it are translated by their mount), and ``exclude`` is about the first directory alone: what
    the others have at these paths is shown.
    """
    return PackReader(
        "pack the root",
        fds,
        _native.PACK_MERGED,
        userxattr=userxattr,
        root_entry=root_entry,
        mtime_max=mtime_max,
        uid_map=uid_map,
        gid_map=gid_map,
        mapped=mapped,
        exclude=exclude,
    )


def pack_tree(fd: int, *, is_dir: bool, name: bytes = b"", uid_map: IdMap = (), gid_map: IdMap = ()) -> PackReader:
    """What is behind ``fd`` (O_PATH will do), a directory with all that is in it or anything else, as it is at this moment:
    through mounts, but those of the kernel's own file systems are empty; no mark of overlayfs means anything.

    ``name``: what it is called in the tar; a directory without a name is "./". The maps as in :func:`pack_layer`, but whom they
    do not have is 65534, nobody. Raises, when it is read: Conflict, Unsupported, SetupFailed, InvalidArgument: see above.
    """
    return PackReader(
        "copy",
        (fd,),
        _native.PACK_MERGED,
        userxattr=False,
        root_entry=is_dir,
        mtime_max=None,
        uid_map=uid_map,
        gid_map=gid_map,
        mapped=1 if uid_map and gid_map else 0,
        exclude=(),
        name=name,
        tree=True,
        one=not is_dir,
    )


def source_date_epoch(environ: Mapping[str, str] | None = None) -> int | None:
    """$SOURCE_DATE_EPOCH in seconds, or None. Raises InvalidArgument: it is no number.

    Spec: reproducible-builds.org, SOURCE_DATE_EPOCH.
    """
    text = (os.environ if environ is None else environ).get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidArgument(
            f"cannot use SOURCE_DATE_EPOCH={text[:40]!r}: it is a number of seconds since 1970, in decimal digits"
        )
    return int(text)


class PackReader(io.RawIOBase):
    """The tar's bytes. Closed by ``close``, or at its end as a context manager."""

    def __init__(
        self,
        what: str,
        fds: Sequence[int],
        mode: int,
        *,
        userxattr: bool | None,
        root_entry: bool,
        mtime_max: int | None,
        uid_map: IdMap,
        gid_map: IdMap,
        mapped: int,
        exclude: Sequence[str | bytes],
        name: bytes = b"",
        tree: bool = False,
        one: bool = False,
    ) -> None:
        if mapped and not (uid_map and gid_map):
            raise InvalidArgument(f"cannot {what}: owners are translated by a uid map and a gid map, and one is empty")
        self._what = what
        self._packer = _native.Packer(
            fds,
            mode,
            userxattr=probe().in_user_namespace if userxattr is None else userxattr,
            root_entry=root_entry,
            mtime_max=mtime_max,
            uid_map=uid_map,
            gid_map=gid_map,
            mapped=mapped,
            exclude=[_excluded(each, what) for each in exclude],
            name=name,
            tree=tree,
            one=one,
        )

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        """As many bytes as there are for ``buffer``: fewer than it has room for only at the end. Raises: pack_layer."""
        try:
            return self._packer.readinto(buffer)
        except _native.PackFailure as failure:
            raise pack_error(self._what, failure) from None

    def counts(self) -> PackCounts:
        return PackCounts(**self._packer.counts())

    def close(self) -> None:
        packer = getattr(self, "_packer", None)  # None: the constructor has refused its arguments
        if packer is not None:
            packer.close()
        super().close()


def _excluded(path: str | bytes, what: str) -> bytes:
    raw = os.fsencode(path)
    parts = raw.split(b"/")
    if b"\0" in raw or any(part in (b"", b".", b"..") for part in parts):
        raise InvalidArgument(f"cannot {what} without {path!r}: a path there is relative to the root, like 'dev/pts'")
    return raw


_WORDS = {
    "translate owner": "it belongs to an id that the container's map does not have: give the map that the container ran with",
    "name in layer": "names that begin with .wh. mark what a layer removes, and no file can have one: rename it",
    "path": "a path of more than 64 KiB: nothing could unpack it; remove it",
    "overlay attributes": (
        "it was written by an overlay mount with redirect_dir or metacopy, and its contents are elsewhere: mount it without them"
    ),
    "kernel file": (
        "the kernel makes it up for who reads it, and it has no contents to be copied: read it inside, by `pycontain exec`"
    ),
    "changed while read": (
        "the file was cut short while it was read, and was filled up with zeros: pause the container, or try again"
    ),
}
_CLASSES: dict[str, type[PycontainError]] = {
    "translate owner": InvalidArgument,
    "name in layer": InvalidArgument,
    "path": InvalidArgument,
    "overlay attributes": Unsupported,
    "changed while read": Conflict,
    "kernel file": InvalidArgument,
}


def pack_error(what: str, failure: _native.PackFailure) -> PycontainError:
    """What went wrong, in words. ``what``: what was being done, as in "cannot pack the layer"."""
    path = failure.path if len(failure.path) <= 120 else failure.path[:100] + b"..."
    at = "/" + path.decode("utf-8", "backslashreplace")
    number, step = failure.errno, failure.step
    if step in _WORDS:
        return _CLASSES[step](f"cannot {what}: {at!r}: {_WORDS[step]}")
    tried = f"cannot {what}: {step} {at!r}: {os.strerror(number)} ({errno_name(number)})"
    if number == errno.EXDEV:
        return Conflict(
            f"{tried}: something is mounted there: unmount it, or give a copy of the mount without what is on it"
        )
    if number == errno.E2BIG:
        return InvalidArgument(f"{tried}: extended attributes of more than 1 MiB, which no reader of tars takes")
    if number in (errno.EACCES, errno.EPERM):
        return Unsupported(f"{tried}: reading every file of a tree needs root, or `pycontain unshare` for one's own")
    return SetupFailed(tried, step="pack", errno=number)
