"""The root of a container as a descriptor, whatever state the container is in: what it sees, or would see, with its mounts.

A path in it is looked up below the descriptor (``openat2``, RESOLVE_IN_ROOT), never in this process's own root, and nothing in it
is executed or loaded. The root of one that runs is its first process's own; of one that does not, it is mounted as for a start,
in a mount namespace that only this look has, and goes with it however this process ends.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager

from .. import _native
from ..errors import Conflict
from ..host import probe
from ..image.usage import hold_rootfs
from ..plan_bytes import Place
from ..plan_view import plan_view
from ..record import record
from ..request import RunRequest
from . import detached, detached_start, foreground
from .at_rest import looked_into, make_upper, triples
from .failure import describe
from .foreground import Foreground
from .session import Session
from .shapes import generated
from .slots import slots_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .detached import Detached
    from .roots import Roots

__all__ = ["ContainerRoot", "opened_root"]

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DEADLINE_NS = 60_000_000_000


@record
class ContainerRoot:
    """``fd``: its root directory, as a path only. The maps are (inside, outside, count): the files' owners are those outside."""

    fd: int
    found: Foreground | Detached
    uid_map: tuple[tuple[int, int, int], ...]
    gid_map: tuple[tuple[int, int, int], ...]

    @property
    def name(self) -> str:
        return self.found.name


@contextmanager
def opened_root(roots: Roots, text: str) -> Iterator[ContainerRoot]:
    """The root of a container by name, id or the beginning of one; one that does not run is not started, nor removed, meanwhile.

    Raises: ContainerNotFound; Conflict: it has just ended, or waits for its next start; and as a start's: its image is gone, the
    source of a mount is missing.
    """
    with looked_into(roots, text) as found, _of(roots, found) as root:
        yield root


def _of(roots: Roots, found: Foreground | Detached) -> AbstractContextManager[ContainerRoot]:
    return _of_running(roots, found) if isinstance(found, Foreground) else _of_stopped(roots, found)


@contextmanager
def _of_running(roots: Roots, found: Foreground) -> Iterator[ContainerRoot]:
    ended = Conflict(f"container {found.name} has ended")
    try:
        fd = os.open(f"/proc/{found.pid}/root", _DIRECTORY)
    except OSError:
        raise ended from None
    try:
        if foreground.begun_at(found.pid) != found.begun:  # the number was another process's when it was opened
            raise ended
        yield ContainerRoot(fd=fd, found=found, uid_map=found.uid_map, gid_map=found.gid_map)
        kept = detached.find(roots, found.id)
        if kept is not None and detached.state_of(roots, kept).pid not in (0, found.pid):
            # its root has been mounted anew, and does not show all that came into the old one
            raise Conflict(f"container {found.name} was restarted meanwhile: copy again")
    finally:
        os.close(fd)


class _Taken(Exception):
    """The root is open: the start, which was for nothing else, ends."""


class _Seen:
    """What the child of a look has made: its root, and its mount namespace, by whose life the mounts in it stay."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def take(self, what: int, pid: int, fd: int) -> None:
        for name, flags in (("root", _DIRECTORY), ("ns/mnt", os.O_RDONLY | os.O_CLOEXEC)):
            self.fds.append(os.open(f"/proc/{pid}/{name}", flags))
        raise _Taken

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@contextmanager
def _of_stopped(roots: Roots, found: Detached) -> Iterator[ContainerRoot]:
    asked = found.request
    # of what a start needs only what makes its root: no device, limit or program has to be there
    request = RunRequest(
        image=found.image_id or asked.image, pull="never", args=("-",), user="0", seccomp="unconfined", mounts=asked.mounts,
        read_only=asked.read_only, userns=asked.userns, uid_mappings=asked.uid_mappings, gid_mappings=asked.gid_mappings,
    )  # fmt: skip
    resolved = detached_start.resolved_of(roots, found, request)
    image_fd = hold_rootfs(roots.data_root, asked.image, resolved.rootfs)
    seen = _Seen()
    try:
        session = Session(roots, probe(), detached=found.id)
        try:
            maps = session.ids.mappings(request)
            layer = f"{detached.directory_of(roots, found.id)}/layer"
            spec = generated(request, resolved, maps, roots, session.facts, (0, 0), found.id, layer)
            make_upper(layer, maps)
            slots = slots_for(session, resolved.rootfs, maps, hosts=asked.network == "none")
            place = Place(container_id=found.id, directory=layer, cgroup_parent="", kept=True)
            made = plan_view(spec, session.facts, place)
            try:
                _native.start(
                    made.data, (-1, -1, -1, *slots.fds), _native.Started(), sync=seen.take,
                    deadline_ns=time.monotonic_ns() + _DEADLINE_NS,
                )  # fmt: skip
            except _Taken:
                pass
            except _native.StartFailure as failure:
                raise describe(failure, made, who=found.name, program="", env_path=None) from None
            uid_map, gid_map = triples(maps)
            yield ContainerRoot(fd=seen.fds[0], found=found, uid_map=uid_map, gid_map=gid_map)
        finally:
            seen.close()
            session.close()
    finally:
        if image_fd >= 0:
            os.close(image_fd)
