"""Write a layer's tar into a directory that becomes an overlay lower directory. The tar is hostile.

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
import stat
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import InvalidArgument, SetupFailed, Unsupported, errno_name
from ..host import probe
from .remove_tree import remove_entry
from .tar_reader import TarEntry, TarReader

__all__ = ["LayerLimits", "LayerStats", "unpack_layer"]

OPAQUE, _OPAQUE_OF_USERS = "trusted.overlay.opaque", "user.overlay.opaque"
_WHITEOUT = b".wh."
_OPAQUE_MARK = b".wh..wh..opq"
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 18
# What only the layer's own names and links can have caused.
_LAYER_FAULTS = (
    errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EFBIG,
    errno.EXDEV, errno.EMLINK, errno.ERANGE, errno.E2BIG,
)  # fmt: skip
_NODE_TYPES = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerLimits:
    """What one layer may hold. ``max_bytes`` counts the unpacked tar with its headers; a sparse hole costs nothing."""

    max_bytes: int = 128 << 30
    max_entries: int = 4_000_000
    max_depth: int = 256  # of a name; links in the layer can make a tree deeper, which costs only its removal
    max_path_bytes: int = 4095  # PATH_MAX without its NUL


@dataclass(kw_only=True, slots=True)
class LayerStats:
    """What was unpacked. ``skipped_xattrs`` are the names of extended attributes that were not set, sorted."""

    entries: int = 0
    bytes_read: int = 0
    file_bytes: int = 0
    whiteouts: int = 0
    opaque_dirs: int = 0
    skipped_xattrs: tuple[str, ...] = ()
    skipped_nodes: int = 0


def unpack_layer(stream: BinaryIO, dest_dirfd: int, *, limits: LayerLimits | None = None) -> LayerStats:
    """Unpack an uncompressed tar stream, read to its end, below the directory ``dest_dirfd`` (borrowed).

    Not atomic: after an error the destination holds a part, and is to be removed.
    Raises: InvalidArgument: malformed, escaping or over a limit; Unsupported: no permission for a device, owner or
    attribute; SetupFailed (step "unpack"): the file system refused.
    """
    writer = _LayerWriter(stream, dest_dirfd, limits or LayerLimits())
    try:
        return writer.run()
    finally:
        writer.close()


class _LayerWriter:
    def __init__(self, stream: BinaryIO, root: int, limits: LayerLimits) -> None:
        from .. import _native

        self._native = _native
        self._resolve = _native.RESOLVE_IN_ROOT | _native.RESOLVE_NO_MAGICLINKS
        self._root = root
        self._limits = limits
        self._reader = TarReader(stream, max_bytes=limits.max_bytes)
        self._stats = LayerStats()
        self._skipped: set[str] = set()
        self._parent_path: bytes | None = None  # the directory that the last entry was in: most share it
        self._parent_fd = -1
        self._dir_times: dict[bytes, tuple[int, int]] = {}  # path -> (inode, mtime_ns), set when all is written

    def close(self) -> None:
        self._forget_parent()

    def run(self) -> LayerStats:
        stats = self._stats
        while (entry := self._reader.next_entry()) is not None:
            stats.entries += 1
            if stats.entries > self._limits.max_entries:
                raise InvalidArgument(f"cannot unpack the layer: it has more than {self._limits.max_entries} entries")
            try:
                self._write(entry)
            except OSError as error:
                raise _failed(entry, error) from error
        self._set_dir_times()
        stats.bytes_read = self._reader.bytes_read
        stats.skipped_xattrs = tuple(sorted(self._skipped))
        return stats

    def _write(self, entry: TarEntry) -> None:
        parts = self._split(entry.name, entry)
        if not parts:
            if entry.kind != "dir":  # CVE-2021-29136: the root itself replaced by a link
                raise _rejected(entry, f"it names the root of the layer and is a {entry.kind}, not a directory")
            self._set_dir(self._root, entry)
            return
        name, parent_path = parts[-1], b"/".join(parts[:-1])
        if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
            raise _rejected(entry, "a directory's name may not start with .wh., which marks whiteouts")
        parent = self._open_parent(parts[:-1], parent_path)
        if name.startswith(_WHITEOUT):
            self._whiteout(entry, parent, name)
        elif entry.kind == "dir":
            self._directory(entry, parent, name, b"/".join(parts))
        elif entry.kind == "hardlink":
            self._hardlink(entry, parent, name)
        else:
            self._clear(parent, name)
            self._create(entry, parent, name)

    def _split(self, path: bytes, entry: TarEntry) -> list[bytes]:
        """The components of a path relative to the root; ``..`` is applied to the text, as Docker does."""
        if not path or b"\0" in path:
            raise _rejected(entry, "an empty name" if not path else "a name with a NUL")
        if len(path) > self._limits.max_path_bytes:
            raise _rejected(entry, f"a path of {len(path)} bytes, the limit is {self._limits.max_path_bytes}")
        parts: list[bytes] = []
        for part in path.split(b"/"):
            if part == b"..":
                if not parts:
                    raise _rejected(entry, f"the path {_show(path)} leaves the layer's root")
                parts.pop()
            elif part not in (b"", b"."):
                parts.append(part)
        if len(parts) > self._limits.max_depth:
            raise _rejected(entry, f"{len(parts)} directories deep, the limit is {self._limits.max_depth}")
        return parts

    # Parents

    def _forget_parent(self) -> None:
        if self._parent_fd >= 0:
            os.close(self._parent_fd)
        self._parent_fd, self._parent_path = -1, None

    def _open_in_root(self, path: bytes, flags: int) -> int:
        fd: int = self._native.openat2(self._root, path, flags | os.O_CLOEXEC, 0, self._resolve)
        return fd

    def _open_parent(self, parts: list[bytes], path: bytes) -> int:
        if path == self._parent_path:
            return self._parent_fd
        self._forget_parent()
        try:
            fd = self._open_in_root(path or b".", _DIR_FLAGS)
        except FileNotFoundError:
            fd = self._make_parents(parts)
        self._parent_fd, self._parent_path = fd, path
        return fd

    def _make_parents(self, parts: list[bytes]) -> int:
        """Directories that the layer implies but does not list: root's, mode 0755, as Docker makes them."""
        above = self._open_in_root(b".", _DIR_FLAGS)
        for count in range(1, len(parts) + 1):
            path = b"/".join(parts[:count])
            try:
                try:
                    fd = self._open_in_root(path, _DIR_FLAGS)
                except FileNotFoundError:  # EEXIST from here: a link to nowhere, which is not followed to make things
                    os.mkdir(parts[count - 1], 0o700, dir_fd=above)
                    fd = self._open_in_root(path, _DIR_FLAGS)
                    os.fchmod(fd, 0o755)
            finally:
                os.close(above)
            above = fd
        return above

    # The last component

    def _clear(self, parent: int, name: bytes) -> None:
        """Remove what the layer has put there before."""
        try:
            remove_entry(parent, name)
        except FileNotFoundError:
            return
        self._parent_path = None  # a part of the remembered path may be gone; the fd stays good for this entry

    def _create(self, entry: TarEntry, parent: int, name: bytes) -> None:
        if entry.kind == "file":
            self._file(entry, parent, name)
        elif entry.kind == "symlink":
            if not entry.linkname or b"\0" in entry.linkname:
                raise _rejected(entry, "a symbolic link without a target")
            os.symlink(entry.linkname, name, dir_fd=parent)
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
            self._skipped.update(entry.xattrs)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        else:
            self._node(entry, parent, name)

    def _file(self, entry: TarEntry, parent: int, name: bytes) -> None:
        fd = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            if entry.segments is None:
                while chunk := self._reader.read_data(_CHUNK):
                    _write_all(fd, chunk)
            else:
                self._sparse(entry, fd)
            self._stats.file_bytes += entry.stored_bytes
            self._set_owner_mode_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _sparse(self, entry: TarEntry, fd: int) -> None:
        os.ftruncate(fd, entry.size)
        for offset, length in entry.segments or ():
            os.lseek(fd, offset, os.SEEK_SET)
            while length:
                chunk = self._reader.read_data(min(length, _CHUNK))
                _write_all(fd, chunk)
                length -= len(chunk)

    def _node(self, entry: TarEntry, parent: int, name: bytes) -> None:
        device = 0
        if entry.kind != "fifo":
            if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
                raise _rejected(entry, f"a device number {entry.major}:{entry.minor} beyond 12 and 20 bits")
            device = os.makedev(entry.major, entry.minor)
            if probe().in_user_namespace:
                self._stats.skipped_nodes += 1
                return
        os.mknod(name, _NODE_TYPES[entry.kind] | 0o600, device, dir_fd=parent)
        # Not opened for real, since that would reach the device; /proc/self/fd takes us to this very inode.
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
            os.chmod(f"/proc/self/fd/{fd}", entry.mode)
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(fd)
        self._skipped.update(entry.xattrs)

    def _hardlink(self, entry: TarEntry, parent: int, name: bytes) -> None:
        target = self._split(entry.linkname, entry)
        if not target or target[-1].startswith(_WHITEOUT):
            raise _rejected(entry, f"a hard link to {_show(entry.linkname)}, which is no file")
        try:
            target_dir = self._open_in_root(b"/".join(target[:-1]) or b".", _DIR_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            raise _rejected(entry, f"a hard link to {_show(entry.linkname)}, which the layer does not have") from None
        try:
            try:
                info = os.stat(target[-1], dir_fd=target_dir, follow_symlinks=False)
            except FileNotFoundError:
                raise _rejected(
                    entry, f"a hard link to {_show(entry.linkname)}, which the layer does not have"
                ) from None
            if stat.S_ISDIR(info.st_mode) or _is_whiteout(info):
                raise _rejected(entry, f"a hard link to {_show(entry.linkname)}, which is no file")
            if _same_entry(parent, name, info):
                return  # a link to itself; removing the old name first would lose the file
            self._clear(parent, name)
            # linkat(2) without AT_SYMLINK_FOLLOW: a link to a symbolic link is the link again, not what it points to.
            os.link(target[-1], name, src_dir_fd=target_dir, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(target_dir)

    def _directory(self, entry: TarEntry, parent: int, name: bytes, path: bytes) -> None:
        try:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            info = None
        was_whiteout = info is not None and _is_whiteout(info)
        if info is None or not stat.S_ISDIR(info.st_mode):
            self._clear(parent, name)
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, _DIR_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
        try:
            self._set_dir(fd, entry)
            if was_whiteout:  # the directory of the layers below was removed, then made anew
                self._set_opaque(fd)
            self._dir_times[path] = (os.fstat(fd).st_ino, entry.mtime_ns)
        finally:
            os.close(fd)

    def _whiteout(self, entry: TarEntry, parent: int, name: bytes) -> None:
        if entry.kind not in ("file", "hardlink"):  # aufs made whiteouts as links to one file
            raise _rejected(entry, f"a whiteout that is a {entry.kind}")
        if name == _OPAQUE_MARK:
            self._set_opaque(parent)
            return
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b"..") or hidden.startswith(_WHITEOUT):
            raise _rejected(entry, "a whiteout of no possible name")
        try:
            info = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
            self._stats.whiteouts += 1
            return
        # A whiteout is about the layers below, whatever the order: what this layer holds stays and hides them anyway,
        # but a directory would let theirs show through.
        if stat.S_ISDIR(info.st_mode):
            fd = os.open(hidden, _DIR_FLAGS | os.O_NOFOLLOW, dir_fd=parent)
            try:
                self._set_opaque(fd)
            finally:
                os.close(fd)

    # Metadata

    def _set_opaque(self, fd: int) -> None:
        os.setxattr(fd, _OPAQUE_OF_USERS if probe().in_user_namespace else OPAQUE, b"y")
        self._stats.opaque_dirs += 1

    def _set_dir(self, fd: int, entry: TarEntry) -> None:
        self._set_owner_mode_xattrs(fd, entry)
        if fd == self._root:
            self._dir_times[b"."] = (os.fstat(fd).st_ino, entry.mtime_ns)

    def _set_owner_mode_xattrs(self, fd: int, entry: TarEntry) -> None:
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)  # after chown, which clears the setuid bit; so it does security.capability
        for name, value in entry.xattrs.items():
            if name != "security.capability" and (not name.startswith("user.") or name.startswith("user.overlay.")):
                self._skipped.add(name)  # trusted.* and user.overlay.* would steer overlayfs, others the host's LSMs
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP or name == "security.capability":
                    raise
                self._skipped.add(name)

    def _set_dir_times(self) -> None:
        for path, (inode, mtime_ns) in self._dir_times.items():
            try:
                fd = self._open_in_root(path, _DIR_FLAGS | os.O_NOFOLLOW)
            except OSError:
                continue  # a later entry replaced it
            try:
                if os.fstat(fd).st_ino == inode:
                    os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _is_whiteout(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def _same_entry(parent: int, name: bytes, info: os.stat_result) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, info)


def _show(path: bytes) -> str:
    text = path if len(path) <= 120 else path[:100] + b"..."
    return repr(text.decode("utf-8", "backslashreplace"))


def _rejected(entry: TarEntry, why: str) -> InvalidArgument:
    return InvalidArgument(f"cannot unpack the layer: entry {_show(entry.name)}: {why}")


def _failed(entry: TarEntry, error: OSError) -> Exception:
    what = (
        f"cannot unpack the layer: {entry.kind} {_show(entry.name)}: {error.strerror} ({errno_name(error.errno or 0)})"
    )
    facts = probe()
    for number, table, whose in ((entry.uid, facts.uid_map, "user"), (entry.gid, facts.gid_map, "group")):
        if error.errno == errno.EINVAL and table and not any(inside <= number < inside + n for inside, _, n in table):
            return Unsupported(
                f"{what}: it belongs to the {whose} {number}, which this user namespace does not have: give this user more "
                "subordinate ids in /etc/subuid and /etc/subgid"
            )
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unsupported(
            f"{what}: device nodes, owners, whiteouts and file capabilities need root on the host; run as root"
        )
    if error.errno in _LAYER_FAULTS:
        return InvalidArgument(f"{what}: the layer contradicts itself")
    hint = ": free space on the file system of the data root" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return SetupFailed(what + hint, step="unpack", errno=error.errno or 0)
