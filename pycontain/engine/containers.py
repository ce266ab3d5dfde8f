"""Containers, as ``docker`` knows them: list, find, kill, stop, pause, unpause, processes.

Those that run in the foreground of a ``pycontain run``, of this process or another. Every function takes the roots first; a
container is asked for by name, by id, or by the beginning of an id. Errors: ContainerNotFound, InvalidArgument (an ambiguous
beginning), Conflict (it has ended).
"""

from __future__ import annotations

import os
import select
import signal as signals

from .. import parse
from ..errors import Conflict
from ..record import record
from ..runtime import cgroups, stillness
from ..runtime.foreground import Foreground, find, list_all, process_start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["ContainerInfo", "find_container", "kill", "list_containers", "pause", "processes", "stop", "unpause"]

DEFAULT_GRACE_S = 10.0


@record
class ContainerInfo:
    """One container. ``created``: seconds since 1970; ``state``: "running" or "paused"; ``command``: its words."""

    id: str
    name: str
    image: str  # as it was asked for
    image_id: str  # "" when its root is no image's
    command: str
    created: float
    state: str
    pid: int
    labels: tuple[tuple[str, str], ...]


def list_containers(roots: Roots) -> list[ContainerInfo]:
    """Those that run, the newest first. Raises: InvalidArgument: a record is damaged."""
    return [_info(each) for each in list_all(roots)]


def find_container(roots: Roots, text: str) -> ContainerInfo:
    return _info(find(roots, text))


def _info(found: Foreground) -> ContainerInfo:
    return ContainerInfo(
        id=found.id, name=found.name, image=found.image, image_id=found.image_id, command=found.command,
        created=found.created, state="paused" if stillness.is_paused(found) else "running", pid=found.pid,
        labels=found.config.labels,
    )  # fmt: skip


def kill(roots: Roots, text: str, signal: str = "KILL") -> None:
    """Sends a signal to its first process. SIGKILL ends a paused one as well."""
    number = parse.signal_number(signal)
    found = find(roots, text)
    pidfd = _open(found, "kill")
    try:
        _send(found, pidfd, number)
    finally:
        os.close(pidfd)


def stop(roots: Roots, text: str, *, signal: str = "", grace_s: float = DEFAULT_GRACE_S) -> None:
    """Its stop signal, or ``signal``; after ``grace_s`` seconds SIGKILL (never when negative). Returns when it has ended."""
    found = find(roots, text)
    wanted = signal or found.config.stop_signal
    number = parse.signal_number(wanted) if wanted else signals.SIGTERM
    pidfd = _open(found, "stop")
    try:
        if stillness.is_paused(found):  # it could not hear us
            stillness.unpause(found)
        _send(found, pidfd, number)
        if not _ended(pidfd, None if grace_s < 0 else grace_s):
            _send(found, pidfd, signals.SIGKILL)
            _ended(pidfd, None)
    finally:
        os.close(pidfd)


def _open(found: Foreground, verb: str) -> int:
    """A pidfd of its first process, and of no later one that has got its number."""
    ended = Conflict(f"cannot {verb} container {found.name}: it has ended")
    try:
        pidfd = os.pidfd_open(found.pid)
    except ProcessLookupError:
        raise ended from None
    try:
        if process_start(found.pid) == found.process_start:
            return pidfd
    except OSError:
        pass  # it ended between the two
    os.close(pidfd)
    raise ended


def _send(found: Foreground, pidfd: int, number: int) -> None:
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    if number == signals.SIGKILL and stillness.is_paused(found):
        try:
            stillness.unpause(found)  # in cgroup v1 nobody dies frozen
        except Conflict:
            pass  # it has ended


def _ended(pidfd: int, within_s: float | None) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if within_s is None else within_s * 1000))


def pause(roots: Roots, text: str) -> None:
    """Stops every process in it where it stands. Raises: Unsupported: no freezer; SetupFailed."""
    stillness.pause(find(roots, text))


def unpause(roots: Roots, text: str) -> None:
    stillness.unpause(find(roots, text))


def processes(roots: Roots, text: str) -> list[int]:
    """The process ids, as this host sees them, of everything that runs in it."""
    found = find(roots, text)
    return [pid for pid in cgroups.pids(stillness.members_of(found)) if pid > 0] or [found.pid]
