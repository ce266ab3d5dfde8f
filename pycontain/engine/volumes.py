"""Volumes, as ``docker`` knows them: create, list, inspect, remove, prune.

Every function takes the roots first; a volume is asked for by its name. Errors: VolumeNotFound, InvalidArgument (no possible name or
option; a damaged file), Conflict (containers use it), SetupFailed (the disk refuses).
"""

from __future__ import annotations

from .. import parse
from ..errors import Conflict, InvalidArgument, PycontainError, Unsupported
from ..runtime import volume_store as store
from ..runtime.volume_store import ANONYMOUS, Volume
from ..runtime.volume_uses import Uses
from .tree_size import bytes_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..runtime.roots import Roots

__all__ = [
    "ANONYMOUS",
    "Volume",
    "create_volume",
    "dangling",
    "find_volume",
    "list_volumes",
    "prune_volumes",
    "remove_volume",
    "users",
]


def create_volume(
    roots: Roots,
    name: str = "",
    *,
    driver: str = "local",
    labels: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Volume:
    """The volume of that name, made unless it is there already; "": an anonymous one, of a name that is made up.

    ``options``: none, or ``type=none``, ``o=bind``, ``device=/DIRECTORY``: the volume is that directory of the host.
    Raises: Unsupported: another driver, other options.
    """
    shown = name or "a volume"
    if driver != "local":
        raise Unsupported(
            f"create {shown}: there is no volume driver {parse.quote(driver)} here: write --driver local, or leave it out"
        )
    given = _checked(options or {}, shown)
    labelled = dict(labels or {})
    if not name:
        name = store.random_name()
        labelled.setdefault(ANONYMOUS, "")
    try:
        made, _ = store.create(roots.data_root, name, labels=tuple(labelled.items()), options=given)
    except InvalidArgument as error:
        raise InvalidArgument(f"create {name}: {error}") from None
    return made


def _checked(options: Mapping[str, str], name: str) -> tuple[tuple[str, str], ...]:
    if not options:
        return ()
    form = "--opt type=none --opt o=bind --opt device=/DIRECTORY"
    for key in options:
        if key not in ("type", "o", "device"):
            raise InvalidArgument(
                f"create {name}: invalid option: {parse.quote(key)}: the options are type, o and device"
            )
    kind, device = options.get("type", "none"), options.get("device", "")
    if kind == "tmpfs":
        raise Unsupported(
            f"create {name}: a volume of type tmpfs would have to stay mounted on this host: write --tmpfs TARGET for the container"
        )
    if kind not in ("none", "bind", ""):
        raise Unsupported(
            f"create {name}: volumes of type {parse.quote(kind)} are not supported: mount it on this host, and write {form}"
        )
    words = [word for word in options.get("o", "").split(",") if word]
    unknown = [word for word in words if word not in ("bind", "rbind", "rw")]
    if unknown or not {"bind", "rbind"} & set(words):
        what = f"o={unknown[0]}" if unknown else "without o=bind"
        raise InvalidArgument(f"create {name}: a directory of this host {what} cannot be a volume: write {form}")
    if not device.startswith("/") or "\0" in device:
        raise InvalidArgument(f"create {name}: missing device in volume options: write {form}")
    return tuple((key, str(value)) for key, value in options.items())


def find_volume(roots: Roots, name: str) -> Volume:
    return store.find(roots.data_root, name)


def list_volumes(roots: Roots) -> list[Volume]:
    """All, by name."""
    return store.list_all(roots.data_root)


def users(roots: Roots) -> Callable[[str], list[str]]:
    """What says, for the name of a volume, the ids of the containers that use it at this moment, started or not."""
    return Uses(roots.data_root).of


def dangling(roots: Roots, found: list[Volume]) -> list[Volume]:
    """Those of ``found`` that no container uses."""
    of = users(roots)
    return [each for each in found if not each.container and not of(each.name)]


def remove_volume(roots: Roots, name: str, *, force: bool = False) -> None:
    """With its files; of one that is a directory of the host by its options, that directory stays. ``force``: one that is damaged
    as well. Raises: Conflict: containers use it."""

    def allow(volume: Volume) -> None:
        ids = Uses(roots.data_root).of(name)
        if ids:
            raise _in_use(name, ids)

    try:
        volume = store.find(roots.data_root, name)
    except InvalidArgument:
        if not force:
            raise
    else:
        if volume.container:
            raise _in_use(name, [volume.container])
    store.remove(roots.data_root, name, allow, damaged=force)


def _in_use(name: str, ids: list[str]) -> Conflict:
    return Conflict(f"remove {name}: volume is in use - [{', '.join(ids)}]")


def prune_volumes(
    roots: Roots, *, all: bool = False, keep: Callable[[Volume], bool] = lambda volume: False
) -> tuple[list[str], int]:
    """Removes those that no container uses: the anonymous ones, or ``all``; but none that has options, nor what ``keep`` says of.

    The names, and how many bytes their files had.
    """
    removed, freed = [], 0
    for each in dangling(roots, list_volumes(roots)):
        if not (all or each.is_anonymous) or each.options or keep(each):
            continue
        try:
            size = bytes_below(each.mountpoint)
            remove_volume(roots, each.name)
        except (PycontainError, OSError):
            continue  # taken into use, or removed, meanwhile
        removed.append(each.name)
        freed += size
    return removed, freed
