"""Who a container's process is: the image's own passwd and group bytes, and reading them out of the layers.

No NSS and no ``getpwnam``: they would read the host's files, and inside a chroot they load the image's libraries into
this process (CVE-2019-14271).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from ..errors import InvalidArgument, errno_name
from ..record import record

__all__ = ["MergedDirectory", "ResolvedUser", "is_opaque", "read_file_in_layers", "resolve_user"]

_MAX_ID = 2**31 - 1
_MAX_HOPS = 40  # the kernel's own limit on symbolic links in one walk
_MEMO_ENTRIES = 64
_memo: dict[tuple[int, int, int, int, int], bytes] = {}


@record
class ResolvedUser:
    """Ids as the container sees them. ``name`` is "" and ``home`` is "/" when no passwd entry matched."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = "/"
    name: str = ""


def resolve_user(spec: str, passwd: bytes, group: bytes, group_add: Sequence[str] = ()) -> ResolvedUser:
    """Resolve ``uid``, ``name``, ``uid:gid`` or ``name:group`` (empty: uid 0) by Docker's rules.

    A number is always an id, with or without an entry (then gid 0, home "/"). Supplementary groups are the group
    file's when no group was named, then those of ``group_add`` (names or numbers).
    Raises: InvalidArgument: unknown name, or an id outside 0 to 2^31-1 (in the file too: CVE-2024-40635).
    Spec: image-spec config.md, "config.User".
    """
    user_part, _, group_part = spec.partition(":")
    wanted = user_part or "0"
    uid = _as_id(wanted, spec)
    entry = _find_user(wanted, uid, passwd)
    if entry is None and uid is None:
        raise InvalidArgument(f"unable to find user {wanted}: no matching entries in passwd file")
    name, home, gid = "", "/", 0
    if entry is not None:
        name, uid, gid, home = entry
    assert uid is not None
    if group_part:
        gid = _resolve_group(group_part, group, spec)
        gids: list[int] = []
    else:
        gids = _groups_of(name, group) if name else []
    gids.extend(_resolve_group(each, group, each) for each in group_add)
    return ResolvedUser(uid=uid, gid=gid, additional_gids=tuple(dict.fromkeys(gids)), home=home, name=name)


def _as_id(text: str, spec: str) -> int | None:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    # More than 10 digits cannot be in range; the length check also keeps int() from working on a megabyte.
    if text[0] == "-" or len(digits.lstrip("0")) > 10 or int(digits) > _MAX_ID:
        raise InvalidArgument(f"cannot use user {spec[:80]!r}: uids and gids must be in range 0-{_MAX_ID}")
    return int(digits)


def _records(data: bytes, fields: int) -> Iterator[list[bytes]]:
    for line in data.split(b"\n"):
        parts = line.strip().split(b":")
        if len(parts) >= fields and parts[0]:
            yield parts


def _file_id(text: bytes) -> int | None:
    """An id of the image's file: None when it is no number, or beyond 32 bits (never 0 by overflow)."""
    if not text.isdigit() or len(text.lstrip(b"0")) > 10:
        return None
    value = int(text)
    return value if value <= _MAX_ID else None


def _find_user(wanted: str, uid: int | None, passwd: bytes) -> tuple[str, int, int, str] | None:
    wanted_bytes = wanted.encode("utf-8", "surrogateescape")
    for parts in _records(passwd, 4):
        found = _file_id(parts[2])
        if uid is None:
            if parts[0] != wanted_bytes:
                continue
        elif found != uid:
            continue
        gid = _file_id(parts[3])
        if found is None or gid is None:
            raise InvalidArgument(
                f"cannot use user {wanted!r}: its passwd entry has ids outside 0-{_MAX_ID}; "
                "correct the image's /etc/passwd or give uid:gid"
            )
        home = parts[5].decode("utf-8", "surrogateescape") if len(parts) > 5 else ""
        if not home.startswith("/") or "\0" in home:
            home = "/"
        return parts[0].decode("utf-8", "surrogateescape"), found, gid, home
    return None


def _groups_of(name: str, group: bytes) -> list[int]:
    member = name.encode("utf-8", "surrogateescape")
    gids = []
    for parts in _records(group, 4):
        if member in parts[3].split(b","):
            gid = _file_id(parts[2])
            if gid is None:
                raise InvalidArgument(
                    f"cannot use user {name!r}: the group entry {parts[0]!r} has an id outside 0-{_MAX_ID}"
                )
            gids.append(gid)
    return gids


def _resolve_group(wanted: str, group: bytes, spec: str) -> int:
    gid = _as_id(wanted, spec)
    if gid is not None:
        return gid
    wanted_bytes = wanted.encode("utf-8", "surrogateescape")
    for parts in _records(group, 3):
        if parts[0] == wanted_bytes:
            found = _file_id(parts[2])
            if found is None:
                raise InvalidArgument(f"cannot use group {wanted!r}: its group entry has an id outside 0-{_MAX_ID}")
            return found
    raise InvalidArgument(f"unable to find group {wanted}: no matching entries in group file")


def read_file_in_layers(lower: tuple[str, ...], path: str, limit: int) -> bytes | None:
    """The bytes of a regular file as an overlay of ``lower`` (topmost first) would show it; None when there is none.

    Whiteouts, opaque directories and symbolic links are honoured, and nothing outside the layers is reached: each
    component is looked up by itself, on directory fds. ``limit`` is in bytes.
    Raises: InvalidArgument: the file is larger than ``limit``, not a regular file, or a loop of links.
    """
    walk = _LayerWalk(lower)
    try:
        return walk.read(path, limit)
    except OSError as error:
        raise InvalidArgument(
            f"cannot read {path} of the image ({lower[0] if lower else 'no layers'}): {error.strerror} "
            f"({errno_name(error.errno or 0)})"
        ) from error
    finally:
        walk.close()


class MergedDirectory:
    """The directories, topmost first, that an overlay of ``lower`` would merge at ``path``: for a block, their descriptors.

    None when there is no directory. Looked up as in :func:`read_file_in_layers`. Raises: InvalidArgument: a loop of links.
    """

    def __init__(self, lower: tuple[str, ...], path: str) -> None:
        self._walk = _LayerWalk(lower)
        self._path = path

    def __enter__(self) -> list[int] | None:
        try:
            return self._walk.directory(self._path)
        except BaseException:
            self._walk.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._walk.close()


class _LayerWalk:
    """One walk through stacked directories; a merged directory is the list of its fds, topmost first."""

    def __init__(self, lower: tuple[str, ...]) -> None:
        self._fds: list[int] = []
        self._lower = lower

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def read(self, path: str, limit: int) -> bytes | None:
        found = self._walk(path)
        if found is None:
            return None
        if isinstance(found, list):
            raise InvalidArgument(f"cannot read {path} of the image: it is a directory, a regular file is needed")
        dirfd, name, info = found
        if not stat.S_ISREG(info.st_mode):  # asked before the open: opening a device can do things
            raise InvalidArgument(f"cannot read {path} of the image: it is not a regular file")
        return _read_regular(dirfd, name, path, limit)

    def directory(self, path: str) -> list[int] | None:
        """The descriptors of a merged directory, topmost first; None when there is none."""
        found = self._walk(path)
        return found if isinstance(found, list) else None

    def _walk(self, path: str) -> list[int] | tuple[int, str, os.stat_result] | None:
        """A merged directory, or (directory, name, status) of what is none, or None when there is nothing."""
        root = [self._open(layer, None) for layer in self._lower]
        stack = [root]
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        hops = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if len(stack) > 1:  # ".." of the root is the root, as in a container
                    stack.pop()
                continue
            found = self._lookup(stack[-1], part)
            if found is None:
                return None
            if isinstance(found, list):
                stack.append(found)
                continue
            dirfd, info = found
            if stat.S_ISLNK(info.st_mode):
                hops += 1
                if hops > _MAX_HOPS:
                    raise InvalidArgument(f"cannot read {path} of the image: more than {_MAX_HOPS} symbolic links")
                target = os.readlink(part, dir_fd=dirfd)
                if target.startswith("/"):
                    stack = [root]
                todo.extend(each for each in reversed(target.split("/")) if each not in ("", "."))
            elif todo:
                return None  # a file in the middle of the path
            else:
                return dirfd, part, info
        return stack[-1]

    def _open(self, path: str, dirfd: int | None) -> int:
        follow = 0 if dirfd is None else os.O_NOFOLLOW  # the layer's own path is ours and may hold links
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow, dir_fd=dirfd)
        self._fds.append(fd)
        return fd

    def _lookup(self, merged: list[int], part: str) -> list[int] | tuple[int, os.stat_result] | None:
        """A merged directory, or the directory fd and status of what is no directory, or None."""
        found: list[int] = []
        for dirfd in merged:
            try:
                info = os.stat(part, dir_fd=dirfd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(info.st_mode):
                if found or (stat.S_ISCHR(info.st_mode) and info.st_rdev == 0):
                    break  # a whiteout, or a file below a directory: nothing further down shows through
                return dirfd, info
            fd = self._open(part, dirfd)
            found.append(fd)
            if len(merged) > 1 and is_opaque(fd):
                break
        return found or None


def is_opaque(fd: int | str) -> bool:
    """Whether a layer's directory hides the same directory of the layers below."""
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(fd, name) == b"y":
                return True
        except OSError:
            continue
    return False


def _read_regular(dirfd: int, name: str, path: str, limit: int) -> bytes:
    # O_NONBLOCK: a fifo must not hang us; the type is checked on the fd, which cannot be swapped any more.
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise InvalidArgument(f"cannot read {path} of the image: it is not a regular file")
        if info.st_size > limit:
            raise InvalidArgument(f"cannot read {path} of the image: {info.st_size} bytes, the limit is {limit}")
        key = (info.st_dev, info.st_ino, info.st_mtime_ns, info.st_ctime_ns, info.st_size)
        known = _memo.get(key)
        if known is not None:
            return known
        chunks = []
        left = limit + 1
        while left > 0 and (chunk := os.read(fd, min(left, 1 << 20))):
            chunks.append(chunk)
            left -= len(chunk)
        if left <= 0:
            raise InvalidArgument(f"cannot read {path} of the image: it grew past the limit of {limit} bytes")
    finally:
        os.close(fd)
    data = b"".join(chunks)
    if len(_memo) >= _MEMO_ENTRIES:
        _memo.clear()
    _memo[key] = data
    return data
