"""Write a layer's tar into a directory that becomes an overlay lower directory. The tar is hostile; the C core parses and
writes it (src/c/tar.h, src/c/unpack.h), and this module puts into words what is wrong with it.

Assumptions: the destination is private to this process until the layer is complete, so nothing changes under us but
what the layer itself made. A parent directory is resolved by ``openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)``, so a
link that the layer made is followed inside the destination and never out of it; the last component is never followed.

Whiteouts become what overlayfs reads: ``.wh.NAME`` a character device 0:0, ``.wh..wh..opq`` the attribute
``trusted.overlay.opaque``. Spec: image-spec layer.md, "Applying Changesets", "Whiteouts".

In a user namespace (an ordinary user's data root) the attribute is ``user.overlay.opaque``, and device nodes, which nobody
may make there and nothing could be opened by, are left out.
"""

from __future__ import annotations

import errno
import os
from typing import BinaryIO

from ..errors import InvalidArgument, PycontainError, SetupFailed, Unsupported, errno_name
from ..host import probe
from ..record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from typing_extensions import Self

    from .._native import UnpackFailure

__all__ = ["LayerLimits", "LayerStats", "LayerWriter", "TreeWriter", "unpack_layer"]

_CHUNK = 1 << 20
_NO_LIMIT = 2**63 - 1
_DEEPEST = 4095  # as many as fit into a path
_SHOWN = 120  # bytes of a name in a message
# What only the layer's own names and links can have caused.
_LAYER_FAULTS = (
    errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG,
    errno.EXDEV, errno.EMLINK, errno.ERANGE, errno.E2BIG,
)  # fmt: skip
_BY_LINK = (errno.EEXIST, errno.ELOOP, errno.ENOENT)
# By the C core's names (src/c/tar.h): what is wrong with the archive, and what an entry asks for and may not have.
_MALFORMED = {
    "truncated": "the archive is truncated: {a} bytes expected, {b} left",
    "data ends": "the archive ends {a} bytes before the end of a file's data",
    "meta ends": "the archive ends after an extended header",
    "trailer": "data follows the end of the archive",
    "checksum": "a header's checksum is wrong",
    "type": "an entry of unknown type {type!r}",
    "meta bytes": "extended headers of one entry are over {a} bytes",
    "meta headers": "more than {a} extended headers for one entry",
    "global": "global extended headers that set more than {a} bytes or {b} extended attributes for all that follows",
    "negative": "a negative {what}",
    "octal": "a {what} that is no octal number: {raw!r}",
    "range": "a {what} that is above 2^63-1",
    "decimal": "a {what} that is no number from 0 to 2^63-1: {raw!r}",
    "mtime": "an mtime that is no number: {raw!r}",
    "pax length": "a pax record without a length",
    "pax cut": "a pax record that is cut short",
    "pax NUL": "a NUL in the pax record {key!r}",
    "sparse version": "a sparse file of an unknown version",
    "sparse bytes": "a sparse map over {a} bytes",
    "sparse end": "a sparse map without an end",
    "sparse odd": "a sparse map with an odd number of fields",
    "sparse order": "a sparse map that overlaps or passes the end of the file",
    "sparse total": "a sparse map of {a} bytes for {b} bytes of data",
}
_REJECTED = {
    "id": "{what} {a} is above {b}",
    "root kind": "it names the root of the layer and is a {kind}, not a directory",
    "whiteout parent": "a directory's name may not start with .wh., which marks whiteouts",
    "whiteout kind": "a whiteout that is a {kind}",
    "whiteout name": "a whiteout of no possible name",
    "name empty": "an empty name",
    "path bytes": "a path of {a} bytes, the limit is {b}",
    "escapes": "the path {text} leaves the layer's root",
    "depth": "{a} directories deep, the limit is {b}",
    "symlink empty": "a symbolic link without a target",
    "device": "a device number {a}:{b} beyond 12 and 20 bits",
    "link kind": "a hard link to {text}, which is no file",
    "link absent": "a hard link to {text}, which the layer does not have",
    "over file": "cannot overwrite non-directory with directory",
    "over directory": "cannot overwrite directory with non-directory",
}
_LIMITS = {
    "bytes": "it has more than {a} bytes unpacked",
    "entries": "it has more than {a} entries",
}


@record
class LayerLimits:
    """What one layer may hold. ``max_bytes`` counts the unpacked tar with its headers; a sparse hole costs nothing."""

    max_bytes: int = 128 << 30
    max_entries: int = 4_000_000
    max_depth: int = 256  # of a name; links in the layer can make a tree deeper, which costs only its removal
    max_path_bytes: int = 4095  # PATH_MAX without its NUL
    max_meta_bytes: int = 1 << 20  # extended headers of one entry, or its sparse map; Go's archive/tar has the same


@record
class LayerStats:
    """What was unpacked. ``skipped_xattrs`` are the names of extended attributes that were not set, sorted (4 kB of them)."""

    entries: int = 0
    bytes_read: int = 0
    file_bytes: int = 0
    whiteouts: int = 0
    opaque_dirs: int = 0
    skipped_xattrs: tuple[str, ...] = ()
    skipped_nodes: int = 0


class LayerWriter:
    """Unpacks an uncompressed tar that is pushed into it, below the directory ``dest_dirfd`` (borrowed).

    ``uid_map`` and ``gid_map``, (inside, outside, count) each, shift the owners; without them every id is itself. ``layer`` is
    what an error calls it.
    Not atomic: after an error, or without :meth:`finish`, the destination holds a part, and is to be removed.
    Raises, from feed and finish: InvalidArgument: malformed, escaping or over a limit; Unsupported: no permission for a
    device, owner or attribute; SetupFailed (step "unpack"): the file system refused.
    """

    def __init__(
        self,
        dest_dirfd: int,
        *,
        limits: LayerLimits | None = None,
        uid_map: Sequence[tuple[int, int, int]] = (),
        gid_map: Sequence[tuple[int, int, int]] = (),
        layer: str = "the layer",
    ) -> None:
        self._begin(dest_dirfd, limits or LayerLimits(), f"cannot unpack {layer}", uid_map=uid_map, gid_map=gid_map)

    def _begin(self, dest_dirfd: int, limits: LayerLimits, what: str, **more: Any) -> None:
        from .. import _native

        self._what = what
        self._failure = _native.UnpackFailure
        try:
            self._unpacker = _native.Unpacker(
                dest_dirfd,
                max_bytes=limits.max_bytes,
                max_entries=limits.max_entries,
                max_depth=limits.max_depth,
                max_path_bytes=limits.max_path_bytes,
                max_meta_bytes=limits.max_meta_bytes,
                in_user_namespace=probe().in_user_namespace,
                **more,
            )
        except OSError as error:  # no memory, or no descriptor left
            number = error.errno or 0
            raise SetupFailed(
                f"{what}: {os.strerror(number)} ({errno_name(number)})", step="unpack", errno=number
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """The next piece, of any size; other threads run meanwhile."""
        try:
            self._unpacker.feed(data)
        except self._failure as failure:
            raise _in_words(failure, self._what) from None

    def finish(self) -> LayerStats:
        """The tar has ended: checks that it is whole, and sets the times of the directories."""
        try:
            stats = self._unpacker.finish()
        except self._failure as failure:
            raise _in_words(failure, self._what) from None
        return LayerStats(
            entries=stats.entries,
            bytes_read=stats.bytes_read,
            file_bytes=stats.file_bytes,
            whiteouts=stats.whiteouts,
            opaque_dirs=stats.opaque_dirs,
            skipped_xattrs=tuple(sorted(os.fsdecode(name) for name in stats.skipped_xattrs)),
            skipped_nodes=stats.skipped_nodes,
        )

    def close(self) -> None:
        """Idempotent."""
        self._unpacker.close()


class TreeWriter(LayerWriter):
    """Unpacks into a directory that others may be changing meanwhile: a copy. No name is a whiteout, the directory itself stays as
    it is, and neither takes a directory the place of anything else nor anything else that of a directory.

    ``what``: what an error begins with: "cannot copy to web:/srv". ``owner``: (uid, gid) of all that is made, else the tar's, by
    the maps. ``sober``: the tar is not trusted: no set-user-ID bits, no attributes but user.*, devices for their owner alone.
    """

    def __init__(
        self,
        dest_dirfd: int,
        what: str,
        *,
        owner: tuple[int, int] | None = None,
        sober: bool = False,
        uid_map: Sequence[tuple[int, int, int]] = (),
        gid_map: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        limits = LayerLimits(max_bytes=_NO_LIMIT, max_entries=_NO_LIMIT, max_depth=_DEEPEST)
        self._begin(
            dest_dirfd, limits, what, uid_map=uid_map, gid_map=gid_map, plain=True, owner=owner, sober=sober
        )  # fmt: skip


def unpack_layer(stream: BinaryIO, dest_dirfd: int, *, limits: LayerLimits | None = None) -> LayerStats:
    """Unpack an uncompressed tar stream, read to its end, below the directory ``dest_dirfd`` (borrowed).

    Not atomic: after an error the destination holds a part, and is to be removed. Raises: as :class:`LayerWriter`.
    """
    with LayerWriter(dest_dirfd, limits=limits) as writer:
        while chunk := stream.read(_CHUNK):
            writer.feed(chunk)
        return writer.finish()


def _show(path: bytes, whole: int) -> str:
    """A name as it is printed; ``whole`` is its length when ``path`` is only the beginning of it."""
    text = path if whole <= _SHOWN else path[:100] + b"..."
    return repr(text.decode("utf-8", "backslashreplace"))


def _in_words(f: UnpackFailure, doing: str) -> PycontainError:
    a, b = f.numbers
    name = _show(f.name, f.name_bytes)
    values = {"a": a, "b": b, "kind": f.kind, "what": f.what, "text": _show(f.text, f.text_bytes)}
    if f.fault == "system":
        return _failed(f, name, doing)
    if f.fault == "unmapped":
        return Unsupported(f"{doing}: {f.kind} {name}: {f.what} {a} is not in the id map: give the container more ids")
    if f.fault in _REJECTED:
        why = f"entry {name}: {_REJECTED[f.fault].format_map(values)}"
    elif f.fault in _LIMITS:
        why = _LIMITS[f.fault].format_map(values) + (f" ({_where(f, name)})" if f.name_bytes else "")
    else:
        values |= {"raw": f.text[:24], "key": f.text[:40], "type": chr(a) if f.fault == "type" else ""}
        where = f"{_where(f, name)}: " if f.name_bytes else ""
        why = f"malformed tar: {where}{_MALFORMED[f.fault].format_map(values)}"
    return InvalidArgument(f"{doing}: {why}")


def _where(f: UnpackFailure, name: str) -> str:
    return f"after entry {name}" if f.after else f"entry {name}"


def _failed(f: UnpackFailure, name: str, doing: str) -> PycontainError:
    what = f"{doing}: {f.kind} {name}: {os.strerror(f.errno)} ({errno_name(f.errno)})"
    facts = probe()
    for number, table, whose in ((f.uid, facts.uid_map, "user"), (f.gid, facts.gid_map, "group")):
        if f.errno == errno.EINVAL and table and not any(inside <= number < inside + n for inside, _, n in table):
            return Unsupported(
                f"{what}: it belongs to the {whose} {number}, which this user namespace does not have: give this user more "
                "subordinate ids in /etc/subuid and /etc/subgid"
            )
    if f.errno in (errno.EPERM, errno.EACCES):
        return Unsupported(
            f"{what}: device nodes, owners, whiteouts and file capabilities need root on the host; run as root"
        )
    if f.errno in _LAYER_FAULTS:
        if doing.startswith("cannot unpack"):
            return InvalidArgument(f"{what}: the layer contradicts itself")
        in_the_way = ": a link on its way leads to nothing below the destination" if f.errno in _BY_LINK else ""
        return InvalidArgument(f"{what}{in_the_way}")
    where = " on the file system of the data root" if doing.startswith("cannot unpack") else ""
    hint = f": free space{where}" if f.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return SetupFailed(what + hint, step="unpack", errno=f.errno)
