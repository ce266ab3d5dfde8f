"""What each layer of an image changes of those below it, by looking at the unpacked directories.

A character device 0:0 is a whiteout, a directory marked opaque hides what is below (kernel: overlayfs.rst, "whiteouts and opaque
directories"). Paths are followed through real directories only, each by its layer's own descriptor.
"""

from __future__ import annotations

import os
import stat
from heapq import heappush, heappushpop

from ..errors import NotFound, errno_name
from ..image.users import is_opaque
from ..record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LayerChanges", "Paths", "changes_of"]


@record
class Paths:
    """Entries of one kind: how many, their bytes, and some of them (path, bytes): the largest, of removed ones the first."""

    count: int = 0
    size: int = 0
    some: tuple[tuple[str, int], ...] = ()


@record
class LayerChanges:
    """``directories``: new ones; ``removed`` counts a directory once, whatever was in it. What is neither file nor directory
    (links, devices) counts as a file, of no bytes."""

    added: Paths
    changed: Paths
    removed: Paths
    directories: int


def changes_of(layers: Sequence[str], shown: int) -> list[LayerChanges]:
    """``layers``: directories, lowest first; ``shown``: how many paths of each kind to name.

    Raises: NotFound: a layer is not there, or cannot be read.
    """
    roots: list[int] = []
    try:
        for path in layers:
            roots.append(_opened(path, None, path))
        return [_Layer(layers, roots, at, shown).changes() for at in range(len(layers))]
    finally:
        for fd in roots:
            os.close(fd)


def _opened(path: str, root: int | None, layer: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError as error:
        inside = f", in it {path[:200]!r}" if root is not None else ""
        raise NotFound(
            f"cannot look into layer {layer}{inside}: {error.strerror} ({errno_name(error.errno or 0)}): "
            "pull or load the image again, if it is gone"
        ) from None


class _Some:
    """Counts, and keeps the largest of what it is given, or (``first``) the first in alphabetical order."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = 0
        self.size = 0
        self.heap: list[tuple[int, _Reversed]] = []

    def add(self, path: str, size: int) -> None:
        self.count += 1
        self.size += size
        item = (size, _Reversed(path))
        if len(self.heap) < self.limit:
            heappush(self.heap, item)
        elif self.limit:
            heappushpop(self.heap, item)

    def paths(self) -> Paths:
        some = sorted(self.heap, key=lambda item: (-item[0], item[1].text))
        return Paths(count=self.count, size=self.size, some=tuple([(path.text, size) for size, path in some]))


class _Reversed:
    """A text that is less than what comes before it: of equal sizes the first path stays."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __lt__(self, other: _Reversed) -> bool:
        return self.text > other.text


class _Layer:
    def __init__(self, layers: Sequence[str], roots: list[int], at: int, shown: int) -> None:
        self.layers = layers
        self.roots = roots
        self.at = at
        self.added, self.changed, self.removed = _Some(shown), _Some(shown), _Some(shown)
        self.directories = 0
        self.links: set[tuple[int, int]] = set()  # files of several names count their bytes once

    def changes(self) -> LayerChanges:
        # (path, layers below that have it as a directory, topmost first, whether those are hidden)
        todo = [("", self._below_root(), False)]
        while todo:
            path, below, hidden = todo.pop()
            todo += self._directory(path, below, hidden)
        return LayerChanges(
            added=self.added.paths(), changed=self.changed.paths(), removed=self.removed.paths(), directories=self.directories,
        )  # fmt: skip

    def _below_root(self) -> list[int]:
        below = []
        for at in range(self.at - 1, -1, -1):
            below.append(at)
            if is_opaque(self.roots[at]):
                break
        return below

    def _directory(self, path: str, below: list[int], hidden: bool) -> list[tuple[str, list[int], bool]]:
        fd = _opened(path or ".", self.roots[self.at], self.layers[self.at])
        try:
            hidden = hidden or is_opaque(fd)
            with os.scandir(fd) as entries:
                found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        finally:
            os.close(fd)
        if hidden and below:
            for name in sorted(self._names(path, below) - found.keys()):
                self.removed.add(f"{path}{name}", 0)
        inner = []
        for name, info in found.items():
            one = f"{path}{name}"
            was, deeper = self._was(one, below)
            if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
                if was:
                    self.removed.add(one, 0)
            elif stat.S_ISDIR(info.st_mode):
                self.directories += not was
                if was == "file":
                    self.changed.add(one, 0)
                inner.append((f"{one}/", deeper, hidden))
            else:
                (self.changed if was else self.added).add(one, self._size(info))
        return inner

    def _size(self, info: os.stat_result) -> int:
        if not stat.S_ISREG(info.st_mode):
            return 0
        if info.st_nlink > 1:
            key = info.st_dev, info.st_ino
            if key in self.links:
                return 0
            self.links.add(key)
        return info.st_size

    def _was(self, path: str, below: list[int]) -> tuple[str, list[int]]:
        """What a path is in the layers below, "file", "directory" or "", and which of them make up the directory."""
        deeper: list[int] = []
        for at in below:
            try:
                info = os.lstat(path, dir_fd=self.roots[at])
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISDIR(info.st_mode):
                is_whiteout = stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
                return ("directory" if deeper else "" if is_whiteout else "file"), deeper
            deeper.append(at)
            fd = _opened(path, self.roots[at], self.layers[at])
            try:
                if is_opaque(fd):
                    break
            finally:
                os.close(fd)
        return "directory" if deeper else "", deeper

    def _names(self, path: str, below: list[int]) -> set[str]:
        """What a directory of the layers below had in it."""
        names: set[str] = set()
        gone: set[str] = set()
        for at in below:
            fd = _opened(path or ".", self.roots[at], self.layers[at])
            try:
                with os.scandir(fd) as entries:
                    here = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
            finally:
                os.close(fd)
            whiteouts = {name for name, info in here.items() if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0}
            names |= here.keys() - whiteouts - gone
            gone |= whiteouts
        return names
