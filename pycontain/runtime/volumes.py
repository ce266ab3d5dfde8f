"""The volumes of a container: which it has, taking them into use, where they are for its Plan, and what goes with it.

Asked for by ``-v``, ``--mount`` and ``--volumes-from``, or declared by the image. Spec: image-spec config.md, "Volumes".
"""

from __future__ import annotations

import os
import posixpath
from contextlib import contextmanager

from .. import _native
from ..errors import Conflict, InvalidArgument, PycontainError
from ..image.workspace import inherit_nothing, release
from ..record import replaced
from ..request import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..image.rootfs import RootFS
    from ..request import RunRequest
    from .volume_store import Volume

__all__ = [
    "Taken",
    "declared",
    "directory_of",
    "ensure_filled",
    "make_owned",
    "named",
    "preview",
    "remove_owned",
    "remove_unused",
    "sources",
    "volumes_of",
]

_AT_FDCWD = -100
_TRIES = 64
_MOST = 128  # each is a directory to copy, and mounts in the Plan


def declared(request: RunRequest, volumes: tuple[str, ...]) -> tuple[Mount, ...]:
    """What the image wants where the request mounts nothing itself. Raises: InvalidArgument: at no possible place, or too many."""
    mounted = {posixpath.normpath(m.target) for m in request.mounts}
    found = []
    for path in volumes:
        target = posixpath.normpath(posixpath.join("/", path))
        if target in ("/", "//"):
            raise InvalidArgument(
                f"cannot use image {request.image}: it declares {path!r} as a volume: that is its whole root"
            )
        if target == "/proc" or target.startswith(
            "/proc/"
        ):  # CVE-2019-16884: what writes to /proc would write to the image's files
            raise InvalidArgument(
                f"cannot use image {request.image}: it declares {path[:200]!r} as a volume, in place of the kernel's own files"
            )
        if target not in mounted:
            found.append(target)
    wanted = tuple(dict.fromkeys(found))
    if len(wanted) > _MOST:
        raise InvalidArgument(
            f"cannot use image {request.image}: it declares {len(wanted)} volumes, the limit is {_MOST}"
        )
    return tuple([Mount(type="volume", target=target, anonymous=True, inherited=True) for target in wanted])


def volumes_of(mounts: tuple[Mount, ...]) -> list[Mount]:
    return [m for m in mounts if m.type == "volume"]


def directory_of(container_directory: str) -> str:
    """For anonymous volumes of a container in the foreground: beside its directory, which overlay's upper directory is in."""
    return f"{container_directory}.volumes"


# --- where they are, for the Plan -------------------------------------------------------------------------------------


def sources(data_root: str, mounts: list[Mount], container_id: str = "") -> tuple[tuple[str, bool], ...]:
    """For each volume its directory, and whether no link on the way there may be followed. "@N" is the container's own N-th.

    ``container_id``: of one that stays, whose own volumes are looked for with it first. Raises: VolumeNotFound.
    """
    numbers = iter(range(len(mounts)))
    return tuple([_source(data_root, m, container_id) if m.source else (f"@{next(numbers)}", True) for m in mounts])


def _source(data_root: str, m: Mount, container_id: str) -> tuple[str, bool]:
    from . import volume_store as store

    if m.anonymous and container_id and m.source[:62] == container_id[:1:-1]:
        own = f"{os.path.realpath(data_root)}/containers/{container_id}/volumes/{int(m.source[62:], 16)}"
        if os.path.isdir(own):
            return f"{own}/_data", True
    volume = store.find(data_root, m.source)
    below = f"/{m.subpath}" if m.subpath else ""
    if volume.device and not below:
        return volume.device, False
    # the device is the host's, and may have links in its path; what is below belongs to containers
    top = os.path.realpath(volume.device) if volume.device else volume.mountpoint
    return top + below, True


def preview(data_root: str, mounts: list[Mount]) -> tuple[tuple[str, bool], ...]:
    """As :func:`sources`, for a Plan that is only shown: also of volumes that a start would make."""
    from ..errors import VolumeNotFound
    from .volume_store import data_of

    found: list[tuple[str, bool]] = []
    for m in mounts:
        try:
            found += sources(data_root, [m])
        except VolumeNotFound:
            found.append((data_of(data_root, m.source), True))
    numbers = iter(range(len(mounts)))
    return tuple([(f"@{next(numbers)}", strict) if path.startswith("@") else (path, strict) for path, strict in found])


# --- taking them into use ---------------------------------------------------------------------------------------------


class Taken:
    """Volumes that nobody removes as long as this is open: until it is written down that a container uses them."""

    def __init__(self, data_root: str) -> None:
        self._data_root = data_root
        self._held: list[int] = []
        self._made: list[str] = []

    def __enter__(self) -> Taken:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close()
        if kind is not None:
            for name in self._made:
                remove_unused(self._data_root, name)

    def close(self) -> None:
        while self._held:
            release(self._held.pop())

    def take(self, m: Mount, rootfs: RootFS) -> None:
        """Makes it if it is missing, and fills it if it is empty. Raises: VolumeNotFound, SetupFailed, and as pack and unpack."""
        from .volume_copy import fill, finish

        volume = self._hold(m)
        finish(volume)
        if m.copy and not m.inherited and not m.subpath:
            with _layers(rootfs) as lower:
                if lower:
                    fill(self._data_root, volume, lower, m.target)

    def _hold(self, m: Mount) -> Volume:
        from ..errors import VolumeNotFound
        from . import volume_store as store

        for left in range(_TRIES, -1, -1):
            try:
                volume, fd = store.hold(self._data_root, m.source)
            except VolumeNotFound:  # also among those that go with a container
                if m.inherited or not left:  # what another container has is there
                    raise
            else:
                self._held.append(fd)
                return volume
            try:
                volume, is_new = store.create(self._data_root, m.source, held=self._held)  # held before anybody sees it
            except VolumeNotFound:
                continue  # somebody else's, and removed again
            if is_new:
                self._made.append(m.source)
                return volume
        raise AssertionError("not reached")

    def take_new(self, m: Mount, rootfs: RootFS) -> Mount:
        """An anonymous one that will outlive its container, with its name."""
        from . import volume_store as store

        name = store.random_name()
        with _layers(rootfs) as lower:
            store.create(
                self._data_root,
                name,
                labels=((store.ANONYMOUS, ""),),
                fill=lambda path: _begin(path, m, lower),
                held=self._held,
            )
        self._made.append(name)
        return replaced(m, source=name)


def _begin(path: str, m: Mount, lower: tuple[str, ...]) -> None:
    from .volume_copy import copy_image

    if m.copy and lower:
        copy_image(lower, m.target, path)


@contextmanager
def _layers(rootfs: RootFS) -> Iterator[tuple[str, ...]]:
    """Where the image's files are to be read for a copy; nothing of the image ``host``: what it hides must not come into a volume.

    A directory of the host is read as overlayfs shows it, without what is mounted in it.
    """
    if rootfs.hidden_dirs or rootfs.hidden_files or rootfs.shown:
        yield ()
        return
    if rootfs.image_id:
        yield rootfs.lower
        return
    fds: list[int] = []
    try:
        for path in rootfs.lower:
            fds.append(_beneath_mounts(path))
        yield tuple([f"/proc/self/fd/{fd}" for fd in fds])
    finally:
        for fd in fds:
            os.close(fd)


def _beneath_mounts(path: str) -> int:
    try:
        return _native.open_tree(_AT_FDCWD, path)
    except OSError:  # in a user namespace, where mounts may not be looked beneath
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def make_owned(directory: str, mounts: list[Mount], rootfs: RootFS, uses: list[str]) -> None:
    """The anonymous volumes that go with their container, by number, in the new ``directory``; ``uses``: the names of all that one
    in the foreground has. Raises: OSError, and as pack and unpack."""
    from .volume_store import make_directory
    from .volume_uses import write_uses

    os.mkdir(directory, 0o700)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        inherit_nothing(fd, 0o700)
    finally:
        os.close(fd)
    if uses:
        write_uses(directory, uses)
    with _layers(rootfs) as lower:
        for number, m in enumerate(mounts):
            make_directory(f"{directory}/{number}")
            _begin(f"{directory}/{number}/_data", m, lower)


def named(mounts: tuple[Mount, ...], container_id: str) -> tuple[Mount, ...]:
    """Volumes without a name with the one that they have when they go with the container."""
    from .volume_store import anonymous_name

    numbers = iter(range(len(mounts)))
    return tuple([
        replaced(m, source=anonymous_name(container_id, next(numbers))) if m.type == "volume" and not m.source else m
        for m in mounts
    ])  # fmt: skip


def ensure_filled(data_root: str, mounts: list[Mount]) -> None:
    """What a killed one has left half done is finished. Raises: VolumeNotFound, SetupFailed."""
    from . import volume_store as store
    from .volume_copy import finish

    for m in mounts:
        if m.source and not m.anonymous:
            finish(store.find(data_root, m.source))


# --- the end ----------------------------------------------------------------------------------------------------------


def remove_unused(data_root: str, name: str) -> None:
    """Removes an anonymous volume, or one just made, unless another container uses it."""
    from . import volume_store as store
    from .volume_uses import Uses

    def allow(volume: store.Volume) -> None:
        if Uses(data_root).of(name):
            raise Conflict(f"volume {name} is in use")

    try:
        if not store.find(data_root, name).container:
            store.remove(data_root, name, allow)
    except PycontainError:
        pass  # in use; gone; or the disk refuses: then it is dangling, and `volume prune` removes it


def remove_owned(data_root: str, directory: str, container_id: str, own: int, taken: tuple[str, ...]) -> None:
    """At the end of a container in the foreground: its ``own`` anonymous volumes in ``directory``, and of those that it has taken
    from others what nobody uses any more."""
    moved = [number for number in range(own) if not os.path.isdir(f"{directory}/{number}")]
    _native.remove_tree(directory)
    if moved:
        from .volume_store import anonymous_name

        taken = (*taken, *(anonymous_name(container_id, number) for number in moved))
    for name in taken:
        remove_unused(data_root, name)
