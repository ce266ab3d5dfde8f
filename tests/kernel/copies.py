"""Trees to be copied, and what is compared of them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["facts", "special_tree"]

WHEN_NS = 1_234_567_890_123_456_789


def special_tree(root: Path) -> None:
    """One of everything that a tar can say, and names that are no UTF-8."""
    root.mkdir()
    (root / "file").write_text("contents")
    os.chown(root / "file", 1234, 2345)
    (root / "file").chmod(0o640)
    os.link(root / "file", root / "same")
    (root / "link").symlink_to("/nowhere/at/all")
    os.mkfifo(root / "fifo", 0o600)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "null").chmod(0o666)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    with open(root / "holes", "wb") as file:
        file.seek(8 << 20)
        file.write(b"end")
    (root / ".wh.file").write_text("no whiteout")
    os.setxattr(root / "file", "user.note", b"kept")
    with open(os.fsencode(root) + b"/\xff\xfe name", "wb") as file:
        file.write(b"bytes")
    for path in (b"file", b"link", b"holes", b"\xff\xfe name", b"sticky", b"."):
        os.utime(os.path.join(os.fsencode(root), path), ns=(WHEN_NS, WHEN_NS), follow_symlinks=False)


def facts(root: Path, *, owners: bool = False) -> dict[bytes, tuple[Any, ...]]:
    """By path: kind and mode, size, contents or target, device, times of all but what was made without one, attributes."""
    found: dict[bytes, tuple[Any, ...]] = {}
    base = os.fsencode(root)
    for directory, directories, files in os.walk(base):
        for name in [*directories, *files, *([b"."] if directory == base else [])]:
            path = os.path.join(directory, name)
            info = os.lstat(path)
            what: Any = b""
            if stat.S_ISLNK(info.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(
                info.st_mode
            ):  # not the contents: who compares megabytes in an assertion waits for the difference
                what = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            attributes = () if stat.S_ISLNK(info.st_mode) else tuple(sorted(os.listxattr(path)))
            when = info.st_mtime_ns if info.st_mtime_ns == WHEN_NS else 0
            links = info.st_nlink if stat.S_ISREG(info.st_mode) else 0
            found[os.path.relpath(path, base)] = (
                oct(info.st_mode), what, info.st_rdev, when, attributes, links,
                (info.st_uid, info.st_gid) if owners else (),
            )  # fmt: skip
    return found
