"""Volumes, as they lie in the data root: make, find, list, hold, remove (ADR 17).

<data root>/volumes/<name>/_data     what is mounted
<data root>/volumes/<name>/volume    what it is: JSON, written before the directory has its name; flocked by who fills it
<data root>/volumes/<name>/_copy     what it begins with, whole, on its way into _data (volume_copy)

A directory gets its name by one rename, with all that belongs to it, and loses it by another. Who takes a volume into use holds a
shared flock on the directory until that is written down where :mod:`volume_uses` looks; who removes it, an exclusive one.

Anonymous volumes of a container that goes with its command, or by ``--rm``, lie in what goes with it, so that they go however it
ends. When another container takes one (``--volumes-from``), it is moved to the others first (:func:`keep`):

<data root>/ephemeral/<owner>/<id>.volumes/<number>/_data        <data root>/containers/<id>/volumes/<number>/_data
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from .. import journal
from ..errors import Conflict, InvalidArgument, VolumeNotFound, errno_name
from ..image.workspace import (
    inherit_nothing,
    make_data_dir,
    release,
    removal_name,
    removal_space,
    storing,
    workspace,
)
from ..parse import volume_name
from ..record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "ANONYMOUS",
    "Volume",
    "anonymous_name",
    "create",
    "data_of",
    "find",
    "hold",
    "keep",
    "list_all",
    "make_directory",
    "owned",
    "random_name",
    "remove",
]

ANONYMOUS = "com.docker.volume.anonymous"
_FORMAT = 1
_TRIES = 64
_MOST_OWNED = 256  # a Plan has no more mounts


@record
class Volume:
    """``created``: seconds since 1970. ``container``: the id of the one that it goes with; "": it is on its own."""

    name: str
    created: float
    directory: str
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    container: str = ""

    @property
    def mountpoint(self) -> str:
        return f"{self.directory}/_data"

    @property
    def is_anonymous(self) -> bool:
        return any(key == ANONYMOUS for key, _ in self.labels)

    @property
    def device(self) -> str:
        """The directory of the host that it is by its options; "": it has one of its own."""
        return dict(self.options).get("device", "")


def _base(data_root: str) -> str:
    """Without symbolic links: those who mount follow none."""
    return f"{os.path.realpath(data_root)}/volumes"


def data_of(data_root: str, name: str) -> str:
    """Where the volume's files are, or would be, unless it goes with a container."""
    return f"{_base(data_root)}/{name}/_data"


def random_name() -> str:
    return os.urandom(32).hex()


def anonymous_name(container_id: str, number: int) -> str:
    """Of one that lies with its container. Nobody has to look into a file to know it."""
    return f"{container_id[:1:-1]}{number:02x}"


# --- one --------------------------------------------------------------------------------------------------------------


def create(
    data_root: str, name: str, *, labels: tuple[tuple[str, str], ...] = (), options: tuple[tuple[str, str], ...] = (),
    fill: Callable[[str], None] | None = None, held: list[int] | None = None,
) -> tuple[Volume, bool]:  # fmt: skip
    """The volume of that name, and whether it is new; one that is there stays as it is.

    ``fill`` is called with its directory of files before anybody else sees it; ``held`` gets the hold of a new one
    (:func:`hold`), from before that. Raises: InvalidArgument: no possible name; SetupFailed; VolumeNotFound: it was removed just now.
    """
    directory = f"{_base(data_root)}/{volume_name(name)}"
    if os.path.isdir(directory):
        return _load(directory, name), False
    made = Volume(name=name, created=time.time(), directory=directory, labels=labels, options=options)
    with storing(f"make volume {name}"):
        make_data_dir(os.path.dirname(directory))
        with workspace(data_root) as (work, _):
            path = f"{work}/volume"
            make_directory(path)
            if fill is not None:
                fill(f"{path}/_data")
            _write(path, made)
            if held is not None:
                held.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
                fcntl.flock(held[-1], fcntl.LOCK_SH)
            try:
                os.rename(path, directory)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                return _load(directory, name), False  # somebody else was quicker
        journal.emit(data_root, "volume", "create", name, {"driver": "local"})
        return made, True


def make_directory(path: str) -> None:
    """Of a volume: empty, its own only."""
    for each, mode in ((path, 0o700), (f"{path}/_data", 0o755)):
        os.mkdir(each, mode)
        fd = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            inherit_nothing(fd, mode)
        finally:
            os.close(fd)


def _write(directory: str, volume: Volume) -> None:
    import json

    from ..image.workspace import replace_file

    document = {
        "format": _FORMAT, "name": volume.name, "created": volume.created, "labels": dict(volume.labels),
        "options": dict(volume.options),
    }  # fmt: skip
    replace_file(f"{directory}/volume", json.dumps(document).encode())


def _load(directory: str, name: str) -> Volume:
    """Raises: VolumeNotFound; InvalidArgument: its file is damaged."""
    import json

    path = f"{directory}/volume"
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(4 << 20))
        if document["format"] == _FORMAT and document["name"] == name:
            return Volume(
                name=name, created=float(document["created"]), directory=directory, labels=_pairs(document["labels"]),
                options=_pairs(document["options"]),
            )  # fmt: skip
        why = "it is another version's, or another volume's"
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.isdir(directory):
            raise VolumeNotFound(f"get {name}: no such volume") from None
        why = "it is not there"
    except OSError as error:
        why = f"{error.strerror} ({errno_name(error.errno or 0)})"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = str(error)[:100]
    raise InvalidArgument(
        f"cannot use volume {name}: {path} is damaged: {why}: its files in _data beside it are as they were; "
        f"`pycontain volume rm -f {name}` removes all of it"
    )


def _pairs(document: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(value)) for key, value in document.items())


def find(data_root: str, name: str) -> Volume:
    """Raises: VolumeNotFound; InvalidArgument: its file is damaged."""
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise VolumeNotFound(f"get {name}: no such volume")
    for _ in range(2):  # one that lay with its container may have been moved meanwhile
        directory = f"{_base(data_root)}/{name}"
        if os.path.isdir(directory):
            return _load(directory, name)
        for each in owned(data_root):
            if each.name == name:
                return each
    raise VolumeNotFound(f"get {name}: no such volume")


def _found(data_root: str, name: str, damaged: bool) -> Volume:
    try:
        return find(data_root, name)
    except InvalidArgument:
        if not damaged:
            raise
    return Volume(name=name, created=0.0, directory=f"{_base(data_root)}/{name}")


def list_all(data_root: str) -> list[Volume]:
    """By name. Raises: InvalidArgument: a file is damaged."""
    found = {each.name: each for each in owned(data_root)}
    for name in _entries(_base(data_root)):
        if not name.startswith("."):
            try:
                found[name] = _load(f"{_base(data_root)}/{name}", name)
            except VolumeNotFound:
                continue  # removed meanwhile
    return [found[name] for name in sorted(found)]


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def owned(data_root: str) -> Iterator[Volume]:
    """Those that go with a container."""
    root = os.path.realpath(data_root)
    for owner in _entries(f"{root}/ephemeral"):
        for entry in _entries(f"{root}/ephemeral/{owner}"):
            if entry.endswith(".volumes"):
                yield from _owned_by(entry.removesuffix(".volumes"), f"{root}/ephemeral/{owner}/{entry}")
    for container_id in _entries(f"{root}/containers"):
        if len(container_id) == 64:
            yield from _owned_by(container_id, f"{root}/containers/{container_id}/volumes")


def _owned_by(container_id: str, directory: str) -> Iterator[Volume]:
    for entry in _entries(directory):
        if not entry.isdigit() or int(entry) >= _MOST_OWNED:
            continue
        try:
            created = os.stat(f"{directory}/{entry}", follow_symlinks=False).st_mtime
        except OSError:
            continue  # it is just being removed
        yield Volume(
            name=anonymous_name(container_id, int(entry)), created=created, directory=f"{directory}/{entry}",
            labels=((ANONYMOUS, ""),), container=container_id,
        )  # fmt: skip


# --- taking into use, and removing ------------------------------------------------------------------------------------


def hold(data_root: str, name: str, *, exclusive: bool = False, damaged: bool = False) -> tuple[Volume, int]:
    """The volume, and the descriptor whose life keeps it from being removed; ``exclusive``: from being taken into use.
    ``damaged``: whatever its file says.

    One that goes with its container is moved to where it does not. Raises: VolumeNotFound, InvalidArgument, SetupFailed.
    """
    for _ in range(_TRIES):
        volume = _found(data_root, name, damaged)
        if volume.container:
            keep(data_root, volume)
            continue
        try:
            fd = os.open(volume.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InvalidArgument(
                f"cannot use volume {name}: {volume.directory}: {error.strerror} ({errno_name(error.errno or 0)})"
            ) from None
        fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        if _is_at(fd, volume.directory):
            return volume, fd
        release(fd)  # removed, and perhaps made again, while we waited
    raise Conflict(f"volume {name} is being made and removed by others at this moment: try again")


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def keep(data_root: str, volume: Volume) -> None:
    """Moves one that would go with its container to those that do not. Its container's own mounts are not touched by that. Nothing
    happens when it is gone already. Raises: SetupFailed."""
    target = f"{_base(data_root)}/{volume.name}"
    with storing(f"keep volume {volume.name}"):
        make_data_dir(os.path.dirname(target))
        try:
            _write(volume.directory, volume)
            os.rename(volume.directory, target)
        except OSError:
            if os.path.isdir(volume.directory):
                raise


def remove(data_root: str, name: str, allow: Callable[[Volume], None], *, damaged: bool = False) -> Volume:
    """Removes it, unless ``allow``, called while nobody can take it into use, raises. ``damaged``: whatever its file says.

    Raises: VolumeNotFound, InvalidArgument, SetupFailed, and what ``allow`` raises.
    """
    with storing(f"remove volume {name}"), removal_space(data_root) as work:
        volume, fd = hold(data_root, name, exclusive=True, damaged=damaged)
        try:
            allow(volume)
            os.rename(volume.directory, f"{work}/{removal_name(name[:100])}")
        finally:
            release(fd)
        journal.emit(data_root, "volume", "destroy", name, {"driver": "local"})
        return volume
