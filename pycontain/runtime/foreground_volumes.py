"""The volumes of a container in the foreground: taken into use before its start, given back at its end."""

from __future__ import annotations

from ..errors import SetupFailed, errno_name
from ..record import replaced
from . import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..request import Mount, RunRequest
    from .look import Resolved
    from .running import Running

    Launch = TypeVar("Launch")

__all__ = ["ready_with_volumes"]


def ready_with_volumes(
    request: RunRequest, found: Resolved, data_root: str, ready: Callable[[Resolved], tuple[Running, Launch]]
) -> tuple[Running, Launch]:
    """What ``ready`` makes ready, with its volumes, known to whoever removes any. Raises: as a start."""
    wanted = volumes.volumes_of((*request.mounts, *found.declared))
    with volumes.Taken(data_root) as taken:  # until it is written down that this container uses them
        for m in wanted:
            if m.source:
                taken.take(m, found.rootfs)
        found = replaced(found, sources=volumes.sources(data_root, wanted))
        running, launch = ready(found)
        running.mounts = volumes.named((*request.mounts, *found.declared), running.id)
        _make_volumes(running, wanted, found)
    return running, launch


def _make_volumes(running: Running, wanted: list[Mount], found: Resolved) -> None:
    directory = volumes.directory_of(running.directory)
    names = [m.source for m in volumes.volumes_of(running.mounts)]
    new = [m for m in wanted if not m.source]
    others = tuple([m.source for m in wanted if m.source and m.anonymous])  # of --volumes-from
    data_root, container_id, count = running.data_root, running.id, len(new)
    running.after = lambda: volumes.remove_owned(data_root, directory, container_id, count, others)
    try:
        volumes.make_owned(directory, new, found.rootfs, names)
    except BaseException as error:
        running.abort()
        if isinstance(error, OSError):
            raise SetupFailed(
                f"cannot start {running.name}: making its volumes: {error.strerror} ({errno_name(error.errno or 0)})",
                step="volumes", errno=error.errno or 0,
            ) from None  # fmt: skip
        raise
