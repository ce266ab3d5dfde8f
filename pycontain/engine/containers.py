"""Containers, as ``docker`` knows them: list, find, create, start, stop, kill, wait, pause, rename, remove.

Those that stay, which have a monitor when they run; and those that run in the foreground of a ``pycontain run``, of this process or
another. Every function takes the roots first; a container is asked for by name, by id, or by the beginning of an id. Errors:
ContainerNotFound, InvalidArgument (an ambiguous beginning; a damaged file), Conflict (it is not in the state for that).
"""

from __future__ import annotations

import math
import os
import select
import signal as signals
import time

from .. import _native, journal, parse
from ..errors import Conflict, ContainerNotFound, InvalidArgument, NotFound, PycontainError
from ..image.workspace import removal_name, removal_space, storing
from ..record import record, replaced
from ..runtime import cgroups, detached, foreground, monitor, names, stillness
from ..runtime.container_events import emit_of, renamed
from ..runtime.detached import Detached, State
from ..runtime.foreground import Foreground
from ..runtime.mount_points import MountPoint, mount_points
from .ending import Ending, await_monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..request import RunRequest
    from ..runtime.detached import Logging, Restart
    from ..runtime.roots import Roots

__all__ = [
    "ContainerInfo",
    "ask_to_stop",
    "await_monitor",
    "create",
    "ending",
    "find_container",
    "find_running",
    "info_of_foreground",
    "info_of_kept",
    "kill",
    "list_containers",
    "pause",
    "processes",
    "remove",
    "rename",
    "restart",
    "start",
    "stop",
    "unpause",
    "wait",
]


@record
class ContainerInfo:
    """One container. ``created``: seconds since 1970; ``state`` as Docker's; ``command``: its words; times are RFC 3339."""

    id: str
    name: str
    image: str  # as it was asked for
    image_id: str  # "" when its root is no image's
    command: str
    created: float
    state: str
    pid: int
    labels: tuple[tuple[str, str], ...]
    exit_code: int = 0
    started_at: str = ""
    finished_at: str = ""
    restart_count: int = 0
    error: str = ""
    health: str = ""  # "starting", "healthy", "unhealthy"; "": not checked
    stays: bool = False  # it outlives its end
    mounts: tuple[MountPoint, ...] = ()

    @property
    def is_alive(self) -> bool:
        return self.state in ("running", "paused", "restarting")


# --- which ------------------------------------------------------------------------------------------------------------


def list_containers(
    roots: Roots, *, all: bool = False, damaged: list[PycontainError] | None = None
) -> list[ContainerInfo]:
    """Those that run, or ``all``; the newest first. ``damaged`` gets why one that stays cannot be read, which is left out then.

    Raises: InvalidArgument: a file is damaged, and nobody wants to know of it otherwise.
    """
    found = [info_of_foreground(roots, each) for each in foreground.list_all(roots)]
    for container_id in detached.ids(roots):
        try:
            each = detached.load(roots, container_id)
            info = info_of_kept(roots, each, detached.state_of(roots, each))
        except NotFound:
            continue  # removed meanwhile
        except InvalidArgument as error:
            if damaged is None:
                raise
            damaged.append(error)
            continue
        if all or info.is_alive:
            found.append(info)
    return sorted(found, key=lambda info: info.created, reverse=True)


def find_container(roots: Roots, text: str) -> ContainerInfo:
    kept = detached.find(roots, text)
    if kept is not None:
        return info_of_kept(roots, kept, detached.state_of(roots, kept))
    return info_of_foreground(roots, foreground.find(roots, text))


def info_of_foreground(roots: Roots, found: Foreground) -> ContainerInfo:
    return ContainerInfo(
        id=found.id, name=found.name, image=found.image, image_id=found.image_id, command=foreground.shown(found.args),
        created=found.created, state="paused" if stillness.is_paused(found) else "running", pid=found.pid,
        labels=found.config.labels, mounts=mount_points(found.mounts, roots.data_root, found.id, f"{found.directory}.volumes"),
    )  # fmt: skip


def info_of_kept(roots: Roots, found: Detached, state: State) -> ContainerInfo:
    return ContainerInfo(
        id=found.id, name=found.name, image=found.request.image, image_id=found.image_id, command=foreground.shown(found.args),
        created=found.created, state=state.status, pid=state.pid, labels=found.config.labels, exit_code=state.exit_code,
        started_at=state.started_at, finished_at=state.finished_at, restart_count=state.restart_count, error=state.error,
        health=state.shown_health, stays=True, mounts=_mounts_of_kept(roots, found),
    )  # fmt: skip


def _mounts_of_kept(roots: Roots, found: Detached) -> tuple[MountPoint, ...]:
    own = f"{detached.directory_of(roots, found.id)}/volumes"
    return mount_points(found.request.mounts, roots.data_root, found.id, own)


def find_running(roots: Roots, text: str) -> Foreground:
    """A container that runs, of either kind, for those who look into it. Raises: ContainerNotFound, Conflict: it does not run."""
    kept = detached.find(roots, text)
    if kept is None:
        return foreground.find(roots, text)
    state = detached.state_of(roots, kept)
    if not state.pid:
        raise Conflict(f"container {kept.name} is not running")
    return detached.as_running(roots, kept, state)


# --- life -------------------------------------------------------------------------------------------------------------


def create(
    request: RunRequest, roots: Roots, *, auto_remove: bool = False, restart: Restart | None = None,
    logging: Logging | None = None, open_stdin: bool = False, stdin_once: bool = False, stop_timeout_s: float = 10.0,
) -> str:  # fmt: skip
    """A container that stays, not started: its id. Its image is pulled as the request says."""
    from ..runtime import detached_start

    made = detached_start.create(
        request, roots, auto_remove=auto_remove, restart=restart, logging=logging, open_stdin=open_stdin,
        stdin_once=stdin_once, stop_timeout_s=stop_timeout_s,
    )  # fmt: skip
    emit_of(roots, made, "create")
    return made.id


def start(roots: Roots, text: str, *, console_size: tuple[int, int] = (0, 0)) -> None:
    """Its program has begun when this returns; nothing happens when it runs already. Raises: as ``run``."""
    from ..runtime import detached_start

    detached_start.start(roots, _kept(roots, text).id, console_size=console_size)


def _kept(roots: Roots, text: str) -> Detached:
    found = detached.find(roots, text)
    if found is None:
        foreground.find(roots, text)  # raises, unless there is one
        raise Conflict(f"container {text} runs in the foreground of another command, which it does not outlive")
    return found


def kill(roots: Roots, text: str, signal: str = "KILL") -> None:
    """Sends a signal to its first process. SIGKILL ends a paused one as well, and its restart policy."""
    number = parse.signal_number(signal)
    kept = detached.find(roots, text)
    if kept is None:
        found = foreground.find(roots, text)
        _kill_foreground(found, number)
        emit_of(roots, found, "kill", signal=str(number))
        return
    state = detached.state_of(roots, kept)
    if not state.pid:
        raise Conflict(f"cannot kill container: {text}: container {kept.id} is not running")
    wanted = kept.config.stop_signal
    ends = number == signals.SIGKILL or number == (parse.signal_number(wanted) if wanted else signals.SIGTERM)
    try:
        with _control(roots, kept.id) as control:
            control.kill(number, ends_policy=ends)
    except (ConnectionError, monitor.Refused):
        raise Conflict(f"cannot kill container: {text}: container {kept.id} has just ended") from None
    if number == signals.SIGKILL and state.status == "paused":
        _thaw(detached.as_running(roots, kept, state))  # in cgroup v1 nobody dies frozen


def _control(roots: Roots, container_id: str) -> monitor.Control:
    try:
        return monitor.Control(detached.run_directory_of(roots, container_id))
    except OSError:
        raise Conflict(f"container {container_id[:12]} has just ended") from None


def _kill_foreground(found: Foreground, number: int) -> None:
    pidfd = _open(found, "kill")
    try:
        _send(found, pidfd, number)
    finally:
        os.close(pidfd)


def stop(
    roots: Roots, text: str, *, signal: str = "", grace_s: float | None = None, shutdown: bool = False, keep: bool = False
) -> None:  # fmt: skip
    """Its stop signal, or ``signal``; after ``grace_s`` seconds, whole ones, SIGKILL (never when negative). Returns when it has ended;
    nothing happens when it does not run. ``shutdown``: it is to run again after the boot, if its restart policy says so. ``keep``:
    it does not remove itself at this end."""
    kept = detached.find(roots, text)
    if kept is None:
        found = foreground.find(roots, text)
        _stop_foreground(found, signal, 10.0 if grace_s is None else grace_s)
        emit_of(roots, found, "stop")
        return
    if ask_to_stop(roots, kept.id, signal=signal, grace_s=grace_s, shutdown=shutdown, keep=keep):
        try:
            wait(roots, kept.id)
        except ContainerNotFound:
            pass  # removed at its end
        await_monitor(roots, kept.id)


def ask_to_stop(
    roots: Roots, text: str, *, signal: str = "", grace_s: float | None = None, shutdown: bool = False, keep: bool = False
) -> bool:  # fmt: skip
    """As :func:`stop`, of one that stays, which returns at once: whether its end is to be waited for."""
    kept = _kept(roots, text)
    state = detached.state_of(roots, kept)
    if not state.is_alive:
        return False
    wanted = signal or kept.config.stop_signal
    number = parse.signal_number(wanted) if wanted else signals.SIGTERM
    grace = kept.stop_timeout_s if grace_s is None else grace_s
    if not grace < monitor.FOREVER:  # nor is it no number at all
        raise InvalidArgument(f"a grace of {grace} seconds: write a number below {monitor.FOREVER}, or -1 for ever")
    if state.status == "paused":  # it could not hear us
        unpause(roots, text)
    try:
        with _control(roots, kept.id) as control:
            control.stop(number, monitor.FOREVER if grace < 0 else math.ceil(grace), shutdown=shutdown, keep=keep)
    except monitor.Refused as error:
        raise Conflict(f"cannot stop container {kept.name}: {error}") from None
    except (Conflict, ConnectionError):
        pass  # it has ended by itself
    return True


def _until_over(control: monitor.Control) -> tuple[int, int] | None:
    """Exit code and signal, when it has ended for good; None: the monitor has gone without a word."""
    while (ended := control.ended()) is not None:
        code, number, again = ended
        if not again:
            return code, number
    return None


def restart(roots: Roots, text: str, *, signal: str = "", grace_s: float | None = None) -> None:
    kept = _kept(roots, text)
    stop(roots, kept.id, signal=signal, grace_s=grace_s, keep=True)
    start(roots, kept.id)
    note_restart(roots, kept.id)


def note_restart(roots: Roots, text: str) -> None:
    """For those who follow events: it has been stopped and started."""
    emit_of(roots, _kept(roots, text), "restart")


def wait(roots: Roots, text: str, *, timeout_s: float | None = None, for_good: bool = True) -> int | None:
    """Its exit code, when it has ended, ``for_good`` or to be started again by its restart policy; None after ``timeout_s`` seconds.

    Raises: Conflict: it runs in the foreground of another process, which alone knows; ContainerNotFound: it was removed first.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with Ending(roots, _kept(roots, text), for_good=for_good) as end:
        while end.exit_code is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not _ended(end.fileno(), left):
                return None
            end.advance()
        return end.exit_code


def ending(roots: Roots, text: str) -> Ending:
    """For who waits with descriptors of his own beside it. Raises: as :func:`wait`."""
    return Ending(roots, _kept(roots, text))


def rename(roots: Roots, text: str, name: str) -> None:
    """Raises: Conflict: the name is in use."""
    from ..runtime.detached_start import check_foreground

    parse.name(name)
    kept = _kept(roots, text)
    with detached.changing(roots, kept.id):
        now = detached.load(roots, kept.id)
        if now.name == name:
            raise Conflict("Renaming a container with the same name as its current name")
        names.reserve(roots, name, kept.id)
        other = replaced(now, name=name)
        try:
            check_foreground(roots, name, kept.id)
            detached.write(roots, other)
        except BaseException:
            names.forget(roots, name, kept.id)
            raise
        names.forget(roots, now.name, kept.id)
        renamed(roots, detached.directory_of(roots, kept.id), other, now.name)


def remove(roots: Roots, text: str, *, force: bool = False, volumes: bool = False) -> None:
    """With its layer and log. ``force``: it is killed first; one whose files are damaged is removed as well. ``volumes``: with its
    anonymous volumes, unless others use them; those of one that was to remove itself go anyway.

    Raises: Conflict: it runs.
    """
    container_id = detached.find_id(roots, text)
    if not container_id:
        found = foreground.find(roots, text)
        if force:  # who has started it removes it
            _stop_foreground(found, "KILL", -1.0)
            return
        raise Conflict(
            f"container {text} runs in the foreground of another command, and goes with it: `pycontain stop {text}`"
        )
    try:
        kept = detached.load(roots, container_id)
        state = detached.state_of(roots, kept)
    except (NotFound, ValueError):
        if not force:
            raise
        kept, state = None, State()
    if kept is None:  # whatever it is, it ends
        _end(roots, container_id)
    elif state.is_alive:
        if not force:
            raise Conflict(
                f'cannot remove container "{kept.name}": container is {state.status}: stop the container before removing or force remove'
            )
        _end(roots, container_id, detached.as_running(roots, kept, state) if state.status == "paused" else None)
    await_monitor(roots, container_id)  # a monitor that has just written its last word, or removes it itself
    try:
        with detached.changing(roots, container_id):
            run_directory = detached.run_directory_of(roots, container_id)
            if monitor.is_alive(run_directory):
                raise Conflict(f"container {text} has been started again meanwhile: try again")
            _remove_files(roots, container_id, run_directory)
    finally:
        if kept is not None and not os.path.isdir(detached.directory_of(roots, container_id)):
            names.forget(roots, kept.name, container_id)
            emit_of(roots, kept, "destroy")
            if volumes or kept.auto_remove:
                _remove_volumes(roots, kept)
    if kept is None:
        journal.emit(roots.data_root, "container", "destroy", container_id, {})


def _remove_volumes(roots: Roots, kept: Detached) -> None:
    from ..runtime.volumes import remove_unused

    for m in kept.request.mounts:
        if m.anonymous:
            remove_unused(roots.data_root, m.source)


def _end(roots: Roots, container_id: str, frozen: Foreground | None = None) -> None:
    """At once, and its restart policy with it: one that waits for its next start has no process to be killed."""
    try:
        with _control(roots, container_id) as control:
            control.stop(signals.SIGKILL, 0)
            if frozen is not None:
                _thaw(frozen)  # in cgroup v1 nobody dies frozen
            _until_over(control)
    except (Conflict, ConnectionError):
        pass  # it has ended by itself


def _remove_files(roots: Roots, container_id: str, run_directory: str) -> None:
    """Its directory has no name that others look at any more before anything in it goes."""
    with storing("remove a container"), removal_space(roots.data_root) as work:
        os.rename(detached.directory_of(roots, container_id), f"{work}/{removal_name(container_id)}")
    _native.remove_tree(run_directory)


# --- one that runs ----------------------------------------------------------------------------------------------------


def _stop_foreground(found: Foreground, signal: str, grace_s: float) -> None:
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
    if foreground.begun_at(found.pid) == found.begun:
        return pidfd
    os.close(pidfd)
    raise ended


def _send(found: Foreground, pidfd: int, number: int) -> None:
    try:
        signals.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    if number == signals.SIGKILL and stillness.is_paused(found):
        _thaw(found)  # in cgroup v1 nobody dies frozen


def _thaw(found: Foreground) -> None:
    try:
        stillness.unpause(found)
    except Conflict:
        pass  # it has ended


def _ended(fd: int, within_s: float | None) -> bool:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if within_s is None else within_s * 1000))


def pause(roots: Roots, text: str) -> None:
    """Stops every process in it where it stands. Raises: Unsupported: no freezer; SetupFailed."""
    found = find_running(roots, text)
    if stillness.is_paused(found):
        raise Conflict(f"Container {found.id} is already paused")
    _note(roots, text, paused=True)  # before: no health check begins from here on
    try:
        stillness.pause(found)
    except BaseException:
        _note(roots, text, paused=stillness.is_paused(found))
        raise
    emit_of(roots, found, "pause")


def unpause(roots: Roots, text: str) -> None:
    found = find_running(roots, text)
    stillness.unpause(found)
    _note(roots, text, paused=False)
    emit_of(roots, found, "unpause")


def _note(roots: Roots, text: str, *, paused: bool) -> None:
    """The monitor of one that stays writes it down."""
    kept = detached.find(roots, text)
    if kept is not None:
        try:
            with _control(roots, kept.id) as control:
                control.note_paused(paused)
        except (Conflict, ConnectionError, monitor.Refused):
            pass  # it has ended


def processes(roots: Roots, text: str) -> list[int]:
    """The process ids, as this host sees them, of everything that runs in it."""
    found = find_running(roots, text)
    emit_of(roots, found, "top")
    return [pid for pid in cgroups.pids(stillness.members_of(found)) if pid > 0] or [found.pid]
