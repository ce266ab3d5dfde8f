"""Ids for containers in user namespaces of their own: which range of the host's, and its translation for files.

A range is reserved by a symbolic link in the run root that names its owner, like a container's name, and stays this
process's for as long as it lives: the next container of the same size takes it again, and its Plan with it.
"""

from __future__ import annotations

import os
from _thread import RLock

from .. import _native
from ..errors import InvalidArgument, SetupFailed, Unsupported, errno_name
from ..plan_namespaces import map_text
from ..spec.runtime import IDMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..host import HostFacts
    from ..idmap import UserNamespace
    from ..request import RunRequest
    from .template import Template

__all__ = ["NOTHING", "Descriptor", "IdRanges", "Mappings", "check_mapped"]

Mappings = tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]]  # users, groups

_SUBORDINATE_OWNER = "containers"  # whose subordinate ids automatic ranges come from, as podman has it
# Without such an owner: the part of the 32 bits that systemd keeps free for containers (its UIDS-GIDS document).
_FREE = (0x80000, 0x6FFF0000)
_TRANSLATIONS_KEPT = 64
_LAYERS_KEPT = 256


class IdRanges:
    """One session's ranges. Thread-safe."""

    def __init__(
        self, run_root: str, owner: str, facts: HostFacts, forget_dead: Callable[[str], None] | None = None
    ) -> None:
        """``forget_dead``: removes the reservations in a directory whose owners are dead."""
        self.directory = f"{run_root}/userns"
        self._forget_dead = forget_dead
        self._owner = owner
        self._facts = facts
        self._lock = RLock()
        self._free: dict[int, list[int]] = {}  # size -> starts that are ours and not in use
        self._ours: dict[int, range] = {}  # start -> the blocks that it has reserved
        self._translations: dict[Mappings, Descriptor] = {}
        self._layers: dict[tuple[object, ...], Descriptor] = {}

    def mappings(self, request: RunRequest) -> Mappings:
        """The maps of a container with this request; ((), ()) when it has no user namespace of its own.

        Raises: InvalidArgument, Unsupported.
        """
        if request.userns == "host" and not (request.uid_mappings or request.gid_mappings):
            return (), ()
        from ..idmap import userns

        wanted = userns(request.userns)
        uid, gid = request.uid_mappings or wanted.uid_mappings, request.gid_mappings or wanted.gid_mappings
        if bool(request.uid_mappings) != bool(request.gid_mappings):
            uid, gid = uid or gid, gid or uid
        if uid:
            return uid, gid
        if wanted.mode == "keep-id":
            return self._keep_id()
        start = self._take(wanted)
        found = (IDMapping(container_id=0, host_id=start, size=wanted.size),)
        return found, found

    def preview(self, request: RunRequest) -> Mappings:
        """As :meth:`mappings`, but nothing is reserved: the first range that could be."""
        if not request.userns.startswith("auto"):
            return self.mappings(request)
        from ..idmap import userns

        wanted = userns(request.userns)
        start, _ = next(self._candidates(wanted.size), (0, None))
        found = (IDMapping(container_id=0, host_id=start, size=wanted.size),)
        return found, found

    def release(self, request: RunRequest, given: Mappings) -> None:
        """A container with these maps has ended."""
        if given[0] and not request.uid_mappings and not request.gid_mappings and request.userns.startswith("auto"):
            with self._lock:
                self._free.setdefault(given[0][0].size, []).append(given[0][0].host_id)

    def _keep_id(self) -> Mappings:
        if not self._facts.in_user_namespace:
            raise InvalidArgument("--userns keep-id is for an ordinary user: root keeps its id with --userns host")
        from ..idmap import keep_id

        maps = []
        for table in (self._facts.uid_map, self._facts.gid_map):
            own = next((outside for inside, outside, _ in table if inside == 0), 0)
            count = sum(size for _, _, size in table)
            maps.append(keep_id(own, count))
        return maps[0], maps[1]

    def _candidates(self, size: int) -> Iterator[tuple[int, range]]:
        """Ranges of ``size`` that may be used at all: (start, the blocks that it touches, each by its first id). Ranges of
        any two sizes that overlap share a block."""
        ranges = _subordinate(self._facts)
        # one name per block: where there are few ids, small ones
        block = 1 << (16 if sum(high - low for low, high in ranges) >= 1 << 24 else 10)
        step = max(block, 1 << (size - 1).bit_length())
        for low, high in ranges:
            for start in range(low, high - size + 1, step):
                yield start, range(start, start + size, block)

    def _take(self, wanted: UserNamespace) -> int:
        with self._lock:
            free = self._free.get(wanted.size)
            if free:
                return free.pop()
            try:
                os.makedirs(self.directory, 0o755, exist_ok=True)
                for again in (False, True):
                    for start, blocks in self._candidates(wanted.size):
                        if self._reserve(blocks):
                            return start
                    if self._give_back():  # kept for containers of another size
                        return self._take(wanted)
                    if self._forget_dead is None or again:
                        break
                    self._forget_dead(self.directory)  # those that have died since we began
            except OSError as e:
                raise SetupFailed(
                    f"cannot reserve user ids in {self.directory}: {e.strerror} ({errno_name(e.errno or 0)}). Give a --run-root that "
                    "you may write to",
                    step="user ids",
                    errno=e.errno or 0,
                ) from None
        raise Unsupported(
            f"cannot give {wanted.size} user ids: no unused range is left in /etc/subuid and /etc/subgid for "
            f"{_SUBORDINATE_OWNER if not self._facts.in_user_namespace else 'you'}. End other containers, ask for less "
            "(--userns auto:size=1024), or add ids there"
        )

    def _give_back(self) -> bool:
        """Whether there were ranges that no container of ours uses; they are anybody's now."""
        unused = [start for starts in self._free.values() for start in starts]
        self._free.clear()
        for start in unused:
            for block in self._ours.pop(start):
                os.unlink(f"{self.directory}/{block}")
        return bool(unused)

    def _reserve(self, blocks: range) -> bool:
        for i, block in enumerate(blocks):
            try:
                os.symlink(f"{self._owner}/ids", f"{self.directory}/{block}")
            except FileExistsError:
                for each in blocks[:i]:
                    os.unlink(f"{self.directory}/{each}")
                return False
        self._ours[blocks.start] = blocks
        return True

    def translation(self, given: Mappings) -> Descriptor:
        """A user namespace with these maps, for id-mapped mounts; NOTHING without maps."""
        if not given[0]:
            return NOTHING
        with self._lock:
            found = self._translations.get(given)
            if found is None:
                found = _keep(self._translations, given, _TRANSLATIONS_KEPT, Descriptor(self._make(given)))
            return found

    def layers(self, template: Template, directories: tuple[str, ...], given: Mappings) -> tuple[Descriptor, ...]:
        """The layers of a root seen through the maps: the template's top, then these directories. A copy of a mount and the
        end of one cost more than the overlay itself, so they are made once for many containers."""
        with self._lock:
            return (
                self._layer(template, template.top_fd, "", given),
                *(self._layer(_identity(path), -1, path, given) for path in directories),
            )

    def _layer(self, which: object, dirfd: int, path: str, given: Mappings) -> Descriptor:
        found = self._layers.get((which, given))
        if found is None:
            fd = -1
            try:
                fd = _native.open_tree(dirfd, path)
                _native.mount_attributes(fd, 0, userns_fd=self.translation(given).fd)
            except OSError as e:
                if fd >= 0:
                    os.close(fd)
                number = e.errno or 0
                raise _untranslatable(path, number) from None
            found = _keep(self._layers, (which, given), _LAYERS_KEPT, Descriptor(fd))
        return found

    def _make(self, given: Mappings) -> int:
        try:
            return _native.make_userns(map_text(given[0]), map_text(given[1]))
        except OSError as e:
            number = e.errno or 0
            why = {
                1: "this process may not map these ids, or the host forbids user namespaces (EPERM). `pycontain doctor` shows which",
                22: "the map is none (EINVAL): ranges overlap, or the ids do not exist in this user namespace",
                28: "too many user namespaces (ENOSPC): see /proc/sys/user/max_user_namespaces",
            }.get(number, f"{e.strerror} ({errno_name(number)})")
            raise Unsupported(f"cannot make a user namespace: {why}") from None

    def close(self) -> None:
        for blocks in self._ours.values():
            for block in blocks:
                try:
                    os.unlink(f"{self.directory}/{block}")
                except OSError:
                    pass  # swept already
        self._ours.clear()
        self._free.clear()
        self.disown()

    def disown(self) -> None:
        """Closes the descriptors, touches nothing else."""
        for kept in (self._layers, self._translations):
            for each in kept.values():
                each.close()
            kept.clear()


class Descriptor:
    """An fd that ends with its last user, or by close(): one thread may forget it while another starts a container with it."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


NOTHING = Descriptor(-1)


def _keep(kept: dict[Any, Descriptor], key: object, most: int, new: Descriptor) -> Descriptor:
    """The newest ``most`` of them."""
    if len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept[key] = new
    return new


def _untranslatable(path: str, number: int) -> SetupFailed:
    why = os.strerror(number)
    if number == 22:
        why = "its file system cannot be id-mapped (overlay on overlay, NFS). Leave out --userns, or give an image on a disk"
    return SetupFailed(
        f"cannot translate the owners of the layer {path or 'with /dev'}: {why} ({errno_name(number)})",
        step="id-map a layer",
        errno=number,
    )


def _identity(path: str) -> tuple[str, int, int]:
    """A directory that has been replaced is another one."""
    try:
        found = os.stat(path)
    except OSError as e:
        raise SetupFailed(
            f"cannot open the layer {path}: {e.strerror} ({errno_name(e.errno or 0)})",
            step="open a layer",
            errno=e.errno or 0,
        ) from None
    return path, found.st_dev, found.st_ino


def _subordinate(facts: HostFacts) -> list[tuple[int, int]]:
    """[from, to) ranges of ids that may be given to containers, the same for users and groups."""
    if facts.in_user_namespace:  # those that we have ourselves, but 0, which is the user who called
        top = min(max((i + n for i, _, n in m), default=0) for m in (facts.uid_map, facts.gid_map))
        return [(1, top)]
    users, groups = _read_sub("/etc/subuid"), _read_sub("/etc/subgid")
    both = [(max(a, c), min(b, d)) for a, b in users for c, d in groups if max(a, c) < min(b, d)]
    return both or [_FREE]


def _read_sub(path: str) -> list[tuple[int, int]]:
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            for line in f:
                name, _, numbers = line.strip().partition(":")
                start, _, count = numbers.partition(":")
                if name == _SUBORDINATE_OWNER and start.isdecimal() and count.isdecimal():
                    found.append((int(start), int(start) + int(count)))
    except OSError:
        pass
    return found


def check_mapped(given: Mappings, facts: HostFacts, uid: int, gid: int, gids: tuple[int, ...]) -> None:
    """Raises InvalidArgument for a user or group of the container that its user namespace does not have: one of its own
    with the maps ``given``, or ours."""
    if not given[0] and not facts.in_user_namespace:
        return
    whose = "container's" if given[0] else "ordinary user's"
    users = [(m.container_id, m.size) for m in given[0]] or [(inside, n) for inside, _, n in facts.uid_map]
    groups = [(m.container_id, m.size) for m in given[1]] or [(inside, n) for inside, _, n in facts.gid_map]
    for what, each, table in (("user", uid, users), *(("group", g, groups) for g in (gid, *gids))):
        if not any(start <= each < start + size for start, size in table):
            widen = (
                "Widen the map" if given[0] else "Choose another, or add subordinate ids to /etc/subuid and /etc/subgid"
            )
            raise InvalidArgument(f"{what} {each} is outside the {whose} user namespace, which has no such id. {widen}")
