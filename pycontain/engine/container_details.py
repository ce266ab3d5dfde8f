"""Looking at containers of either kind, whether they run or not: everything about one, what it has changed, its size, what it uses.

Nothing of a container is executed for it, and none of its paths is followed but through directories, each by its descriptor.
"""

from __future__ import annotations

import os

from .. import _native
from ..errors import ContainerNotFound, ImageNotFound, InvalidArgument, SetupFailed, Unsupported, errno_name
from ..image.commit import ENGINE_PATHS
from ..image.rootfs import ImageConfig
from ..record import record, replaced
from ..runtime import cgroup_usage, detached, foreground, stillness
from ..runtime.at_rest import as_at_rest
from ..runtime.cgroup_usage import Usage
from ..runtime.detached import Detached, State
from .containers import ContainerInfo, info_of_foreground, info_of_kept
from .tree_size import bytes_below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.foreground import Foreground
    from ..runtime.health import HealthResult
    from ..runtime.roots import Roots

__all__ = ["ContainerDetails", "Sizes", "Usage", "changes", "details", "sizes", "usage"]

_HOST_ID = 12  # digits of the id that are a container's host name


@record
class Sizes:
    """In bytes: the files of its own layer; ``image`` those of its image, 0 when its root is no image's."""

    layer: int
    image: int


@record
class ContainerDetails:
    """One container. ``kept`` and ``state``: of one that stays; of one in the foreground of a command only its record is known.

    ``layer``: the directory of its copy-on-write layer; ``words``: of its program.
    """

    info: ContainerInfo
    words: tuple[str, ...]
    config: ImageConfig
    hostname: str
    lower: tuple[str, ...]
    layer: str
    log_path: str = ""
    kept: Detached | None = None
    state: State | None = None
    sizes: Sizes | None = None
    health: tuple[HealthResult, ...] = ()  # the last five checks, the oldest first


def details(roots: Roots, text: str, *, with_sizes: bool = False) -> ContainerDetails:
    """Raises: ContainerNotFound; InvalidArgument: an ambiguous beginning of an id, a damaged file; Unsupported: sizes of files that
    this user may not look at."""
    kept = detached.find(roots, text)
    found = _of_foreground(roots, foreground.find(roots, text)) if kept is None else _of_kept(roots, kept)
    return replaced(found, sizes=_sizes(roots, found.info, found.layer)) if with_sizes else found


def _of_kept(roots: Roots, kept: Detached) -> ContainerDetails:
    state = detached.state_of(roots, kept)
    directory = detached.directory_of(roots, kept.id)
    request = kept.request
    health: tuple[HealthResult, ...] = ()
    if state.health:
        from ..runtime.health import read_results

        health = tuple(read_results(directory, kept))
    return ContainerDetails(
        info=info_of_kept(roots, kept, state), words=kept.args, config=kept.config,
        hostname=request.hostname or ("" if request.uts == "host" else kept.id[:_HOST_ID]), lower=kept.lower,
        layer=f"{directory}/layer",
        log_path=f"{directory}/log" if kept.logging.driver == "json-file" else "", kept=kept, state=state,
        health=health,
    )  # fmt: skip


def _of_foreground(roots: Roots, found: Foreground) -> ContainerDetails:
    words = (*found.config.entrypoint, *found.config.cmd)
    return ContainerDetails(
        info=info_of_foreground(roots, found), words=words, config=found.config, hostname="", lower=found.lower, layer=found.directory,
    )  # fmt: skip


# --- sizes ------------------------------------------------------------------------------------------------------------


def sizes(roots: Roots, info: ContainerInfo) -> Sizes:
    """Raises: ContainerNotFound: it is gone meanwhile; Unsupported: this user may not look at its files."""
    found = details(roots, info.id)
    return _sizes(roots, info, found.layer)


def _sizes(roots: Roots, info: ContainerInfo, layer: str) -> Sizes:
    from .images import find_image

    image = 0
    if info.image_id:
        try:
            image = find_image(roots.data_root, info.image_id).size
        except (ImageNotFound, InvalidArgument):
            pass  # one without a record (oci:DIR), or removed by force
    return Sizes(layer=_bytes_of_layer(f"{layer}/upper", info.name), image=image)


def _bytes_of_layer(path: str, name: str) -> int:
    """Without what the engine has put there."""
    try:
        return bytes_below(path, ENGINE_PATHS)
    except FileNotFoundError:
        return 0  # it has never been started
    except OSError as error:
        raise _unseen(name, error) from None


def _unseen(name: str, error: OSError) -> Unsupported:
    return Unsupported(
        f"cannot tell the size of container {name}: {error.strerror} ({errno_name(error.errno or 0)}): its files belong to others: ask "
        "as root, or in `pycontain unshare`"
    )


# --- changes ----------------------------------------------------------------------------------------------------------


def changes(roots: Roots, text: str) -> list[tuple[str, str]]:
    """What it has changed in its root: ("A" added, "C" changed or "D" deleted, the path), by path; nothing of one never started.

    Raises: ContainerNotFound, Conflict, Unsupported, SetupFailed.
    """
    from ..image.diff import changes as list_changes

    kept = detached.find(roots, text)
    if kept is None:
        found = foreground.find(roots, text)
    elif os.path.isdir(f"{detached.directory_of(roots, kept.id)}/layer/upper"):
        found = as_at_rest(roots, kept)
    else:
        return []
    fds: list[int] = []
    path = ""
    try:
        for path in (found.upper, *found.lower):
            # layers of images have no mounts in them; a directory, or this machine's root, can have
            may_have_mounts = not found.image_id and path != found.upper
            fds.append(
                _below_mounts(path) if may_have_mounts else os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            )
        return list_changes(fds[0], fds[1:], uid_map=found.uid_map, gid_map=found.gid_map, exclude=ENGINE_PATHS)
    except OSError as error:
        if not fds and isinstance(error, FileNotFoundError):
            raise ContainerNotFound(f"No such container: {text}: it has just ended, and its files are gone") from None
        why = f"{error.strerror} ({errno_name(error.errno or 0)})"
        raise SetupFailed(
            f"cannot list changes of {found.name}: open {path}: {why}", step="open", errno=error.errno or 0
        ) from None
    finally:
        for fd in fds:
            os.close(fd)


def _below_mounts(path: str) -> int:
    """A directory as overlayfs sees it: with what lies beneath the mounts in it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        copy = _native.open_tree(_AT_FDCWD, path)
    except OSError:  # in a user namespace, where mounts may not be looked beneath
        return os.open(path, flags)
    try:
        return os.open(".", flags, dir_fd=copy)
    finally:
        os.close(copy)


_AT_FDCWD = -100


# --- usage ------------------------------------------------------------------------------------------------------------


def usage(roots: Roots, text: str) -> Usage | None:
    """What it uses at this moment; None: it does not run. Raises: ContainerNotFound."""
    kept = detached.find(roots, text)
    if kept is None:
        return cgroup_usage.read_usage(stillness.members_of(foreground.find(roots, text)))
    state = detached.state_of(roots, kept)
    if not state.pid:
        return None
    return cgroup_usage.read_usage(stillness.members_of(detached.as_running(roots, kept, state)))
