"""What the tests of the packer share: trees as values, packing and unpacking in memory, overlay mounts of their own.

A tree as a value is a dict from the path to what it is: kind, mode, owner, time, contents or target or device, extended
attributes, and for a file with several names all of them. Two trees are the same when these are equal.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from image_cases import use_native

from pycontain import _native
from pycontain.image.pack import PackReader, pack_layer, pack_merged
from pycontain.image.unpack import LayerStats, unpack_layer

Tree = dict[str, tuple[Any, ...]]


@contextlib.contextmanager
def shm() -> Iterator[Path]:
    """A directory on a tmpfs: many files, made and deleted quickly."""
    made = tempfile.mkdtemp(prefix="pycontain-pack-", dir="/dev/shm")
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made)


@contextlib.contextmanager
def opened(*paths: str | Path) -> Iterator[list[int]]:
    fds = [os.open(p, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for p in paths]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def _xattrs(path: str) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {n: os.getxattr(path, n, follow_symlinks=False) for n in names if ".overlay." not in n}


def _of(path: str, info: os.stat_result) -> tuple[Any, ...]:
    if stat.S_ISLNK(info.st_mode):
        return ("link", os.readlink(path))
    if stat.S_ISREG(info.st_mode):
        return ("file", Path(path).read_bytes())
    if stat.S_ISDIR(info.st_mode):
        return ("dir",)
    return (stat.S_IFMT(info.st_mode), info.st_rdev)


def tree_of(root: str | Path, *, names: bool = True) -> Tree:
    """The tree below ``root``, which is itself ".". ``names``: with which other names a file shares its inode."""
    found: Tree = {}
    inodes: dict[tuple[int, int], list[str]] = {}
    base = os.fspath(root)
    for directory, dirs, files in os.walk(base):
        for name in (*dirs, *files, *(["."] if directory == base else [])):
            path = os.path.join(directory, name)
            info = os.lstat(path)
            key = os.path.relpath(path, base)
            found[key] = (
                *_of(path, info), stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns, _xattrs(path),
            )  # fmt: skip
            if not stat.S_ISDIR(info.st_mode):
                inodes.setdefault((info.st_dev, info.st_ino), []).append(key)
    if names:
        for group in inodes.values():
            for key in group:
                found[key] += (tuple(sorted(group)),)
    return found


def differences(left: Tree, right: Tree) -> list[str]:
    """Readable, and empty when the trees are the same."""
    return [f"{p}: {left.get(p)} != {right.get(p)}" for p in sorted({*left, *right}) if left.get(p) != right.get(p)]


def layer_bytes(upper: str | Path, **options: Any) -> bytes:
    with opened(upper) as (fd,), pack_layer(fd, **options) as reader:
        return reader.readall()


def merged_bytes(roots: Sequence[str | Path], **options: Any) -> bytes:
    with opened(*roots) as fds, pack_merged(fds, **options) as reader:
        return reader.readall()


def drained(reader: PackReader) -> int:
    """How many bytes it gives."""
    buffer, total = bytearray(1 << 20), 0
    while got := reader.readinto(buffer):
        total += got
    return total


def unpacked(data: bytes, into: Path) -> LayerStats:
    """Unpacks into a new directory."""
    use_native()
    into.mkdir()
    with opened(into) as (fd,):
        return unpack_layer(io.BytesIO(data), fd)


@contextlib.contextmanager
def overlay(place: Path, lower: Sequence[Path], upper: Path | None = None, *, userxattr: bool = False) -> Iterator[str]:
    """An overlay mount that is attached nowhere: the path of its root."""
    options = [f"lowerdir={':'.join(map(str, lower))}"]
    if upper is not None:
        work = Path(tempfile.mkdtemp(prefix="work-", dir=place))
        options += [f"upperdir={upper}", f"workdir={work}"]
    options += ["userxattr"] if userxattr else ["redirect_dir=nofollow", "metacopy=off"]
    fd = _native.mount_detached("overlay", ",".join(options), 0)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
