"""Containers that outlive the command which made them: what is written of each, and what is true of it now (ADR 15).

<data root>/containers/<id>/config    what was asked for; changed by rename, under the lock
<data root>/containers/<id>/lock      held (flock) by whoever changes anything; gone with the directory
<data root>/containers/<id>/plan, place   of its last start: the Plan; its owner, cgroups and id maps
<data root>/containers/<id>/state, log    the monitor's; so is what health.py has
<data root>/containers/<id>/layer/        its copy-on-write layer
<data root>/containers/<id>/volumes/      with --rm: its anonymous volumes
<data root>/containers/names/<name>   a link to the id; who makes it has the name
<run root>/containers/<id>/           the monitor's lock and socket, until the boot ends
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import contextmanager, nullcontext

from .. import _native
from ..errors import Conflict, ContainerNotFound, InvalidArgument, errno_name
from ..host import probe
from ..image.rootfs import Healthcheck, ImageConfig
from ..image.workspace import inherit_nothing, make_data_dir, release, replace_file, workspace
from ..record import record, replaced
from ..request import Device, DeviceRate, Mount, RunRequest, Ulimit
from ..spec.runtime import IDMapping
from . import monitor, names
from .container_events import emit_of
from .foreground import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..spec.runtime import Resources
    from .roots import Roots
    from .session import Session
    from .userns import Mappings

__all__ = [
    "Detached",
    "Logging",
    "Restart",
    "State",
    "add_members",
    "as_running",
    "changing",
    "directory_of",
    "find",
    "find_id",
    "load",
    "publish",
    "run_directory_of",
    "state_of",
    "write",
    "write_place",
]

_FORMAT = 1
_HEX = frozenset("0123456789abcdef")
LOST = 255
"""The exit code of a container whose monitor was killed: nobody was there to see it. Docker says the same."""


@record
class Restart:
    """``policy``: "no", "on-failure", "always" or "unless-stopped"; ``most`` restarts of on-failure, 0: no limit."""

    policy: str = "no"
    most: int = 0


@record
class Logging:
    """``driver``: "json-file", "journald" or "none". ``max_size`` in bytes, 0: no limit; ``max_file`` files. ``tag``: of the journal's
    lines, "" for the container's id."""

    driver: str = "json-file"
    max_size: int = 0
    max_file: int = 1
    tag: str = ""


@record
class Detached:
    """What does not change while it runs, but for its name and its restart policy. ``created``: seconds since 1970."""

    id: str
    name: str
    created: float
    request: RunRequest
    image_id: str  # "" when its root is no image's
    args: tuple[str, ...]
    lower: tuple[str, ...]  # its image's layers, topmost first
    config: ImageConfig  # of the image, as it runs
    auto_remove: bool = False
    restart: Restart = Restart()
    logging: Logging = Logging()
    open_stdin: bool = False
    stdin_once: bool = False
    stop_timeout_s: float = 10.0


@record
class State:
    """What has become of it. ``status`` as Docker's; times are RFC 3339, "" for never; ``error`` of a start that failed."""

    status: str = "created"  # "created", "running", "paused", "restarting", "exited", "dead"
    pid: int = 0
    process_start: int = 0
    started_at: str = ""
    finished_at: str = ""
    exit_code: int = 0
    signal: int = 0
    oom_killed: bool = False
    restart_count: int = 0
    stopped_by_request: bool = False
    lost_log_bytes: int = 0
    error: str = ""
    health: str = ""  # "starting", "healthy", "unhealthy"; "": not checked

    @property
    def is_alive(self) -> bool:
        return self.status in ("running", "paused", "restarting")

    @property
    def shown_health(self) -> str:
        """As Docker, unhealthy when nobody checks it any more."""
        return self.health if self.pid else "unhealthy" if self.health else ""


def directory_of(roots: Roots, container_id: str) -> str:
    return f"{roots.data_root}/containers/{container_id}"


def run_directory_of(roots: Roots, container_id: str) -> str:
    return f"{roots.run_root}/containers/{container_id}"


# --- config -----------------------------------------------------------------------------------------------------------

_RECORDS = {
    each.__name__: each
    for each in (Device, DeviceRate, Healthcheck, IDMapping, ImageConfig, Logging, Mount, Restart, RunRequest, Ulimit)
}
# what reading a document that is none of ours raises
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def _encoded(value: Any) -> Any:
    """A record as {"its class": {field: value}}, without what is its default."""
    kind = type(value)
    if kind.__name__ in _RECORDS:
        missing = object()
        fields = {name: getattr(value, name) for name in kind._names}
        return {
            kind.__name__: {
                name: _encoded(each) for name, each in fields.items() if kind._defaults.get(name, missing) != each
            }
        }
    return [_encoded(each) for each in value] if isinstance(value, tuple) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        ((kind, fields),) = value.items()
        return _RECORDS[kind](**{name: _decoded(each) for name, each in fields.items()})
    return tuple([_decoded(each) for each in value]) if isinstance(value, list) else value


def write(roots: Roots, found: Detached) -> None:
    """Durably, by rename. The caller holds the lock."""
    _write(directory_of(roots, found.id), found)


def _write(directory: str, found: Detached) -> None:
    fields: tuple[str, ...] = type(found)._names  # type: ignore[attr-defined]
    document = {"format": _FORMAT, **{name: _encoded(getattr(found, name)) for name in fields}}
    replace_file(f"{directory}/config", json.dumps(document).encode("utf-8", "surrogateescape"))


def load(roots: Roots, container_id: str) -> Detached:
    """Raises: ContainerNotFound; InvalidArgument: the file is damaged, or another version's."""
    path = f"{directory_of(roots, container_id)}/config"
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise ContainerNotFound(f"No such container: {container_id}") from None
    except OSError as error:
        raise _damaged(path, f"{error.strerror} ({errno_name(error.errno or 0)})") from None
    try:
        document = json.loads(data.decode("utf-8", "surrogateescape"))
        form = document.pop("format")
        if form == _FORMAT:
            found = Detached(**{name: _decoded(value) for name, value in document.items()})
            if found.id == container_id:
                return found
    except _MALFORMED as error:
        raise _damaged(path, str(error)[:100]) from None
    raise _damaged(path, f"it is of another version ({form!r})" if form != _FORMAT else "it is of another container")


def _damaged(path: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"cannot use the container of {path}: {why}: its layer and log beside it are as they were; `pycontain rm -f` removes all of it"
    )


# --- which ------------------------------------------------------------------------------------------------------------


def ids(roots: Roots) -> list[str]:
    try:
        return [
            each for each in os.listdir(f"{roots.data_root}/containers") if len(each) == 64 and _HEX.issuperset(each)
        ]
    except FileNotFoundError:
        return []


def find(roots: Roots, text: str) -> Detached | None:
    """By name, by id, or by the beginning of an id. None: there is none. Raises: InvalidArgument: ambiguous; damaged."""
    container_id = find_id(roots, text)
    try:
        return load(roots, container_id) if container_id else None
    except ContainerNotFound:
        return None


def find_id(roots: Roots, text: str) -> str:
    if not text or "/" in text or "\0" in text:
        return ""
    whole = len(text) == 64 and _HEX.issuperset(text)
    if whole and os.path.isdir(directory_of(roots, text)):
        return text  # before a name, which may be another one's id
    try:
        return os.readlink(f"{roots.data_root}/containers/names/{text}")
    except (OSError, ValueError):
        pass
    if not _HEX.issuperset(text):
        return ""
    if whole:
        return ""  # at once: whoever asks for a thousand by id does not look at a thousand for each
    matching = [each for each in ids(roots) if each.startswith(text)]
    if len(matching) > 1:
        raise InvalidArgument(f"{text} is the beginning of {len(matching)} container ids: write more of it")
    return matching[0] if matching else ""


# --- the lock ---------------------------------------------------------------------------------------------------------


@contextmanager
def changing(roots: Roots, container_id: str) -> Iterator[None]:
    """Nobody else starts, stops by rename, or removes the container meanwhile. Raises: ContainerNotFound."""
    path = f"{directory_of(roots, container_id)}/lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, NotADirectoryError):
        raise ContainerNotFound(f"No such container: {container_id}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if not os.fstat(fd).st_nlink:
            raise ContainerNotFound(f"No such container: {container_id}")
        yield
    finally:
        release(fd)


# --- what is true now -------------------------------------------------------------------------------------------------


def state_of(roots: Roots, found: Detached, *, locked: bool = False) -> State:
    """By the monitor's file; and where the monitor is no more, by looking. Raises: InvalidArgument: the file is damaged.

    A monitor that was killed is told from one that lives by its lock. The container has died with it: that is written down here,
    once, by the first who looks, and what is left of it is removed. ``locked``: the caller holds the lock.
    """
    state = _read_state(roots, found.id)
    if state is None or not state.is_alive or monitor.is_alive(run_directory_of(roots, found.id)):
        return state or State()
    with nullcontext() if locked else changing(roots, found.id):
        state = _read_state(roots, found.id)  # it may have ended in order, or another one been here
        if state is None or not state.is_alive or monitor.is_alive(run_directory_of(roots, found.id)):
            return state or State()
        return bury(roots, found, state)


def bury(roots: Roots, found: Detached, state: State) -> State:
    """Kills what a dead monitor has left, removes its cgroups and mounts, and writes down that it has ended. The caller holds the
    lock."""
    directory = directory_of(roots, found.id)
    with open(f"{directory}/plan", "rb") as file:
        raw, _ = _native.finish(file.read())
    for _, _, cgroup in as_running(roots, found, state).members:  # empty ones, for a next start
        _native.remove_cgroup(cgroup)
    from .session import Session

    session = Session(roots, probe(), detached=found.id)
    try:
        session.sweep()  # what else the dead owner has left
    finally:
        session.close()
    ended = replaced(
        state, status="exited", pid=0, process_start=0, exit_code=LOST, signal=0, oom_killed=raw.oom_kills > 0,
        finished_at=now(), error="the container's monitor was killed, and the container with it; its exit code is lost",
    )  # fmt: skip
    document = {name: getattr(ended, name) for name in ended._names}  # type: ignore[attr-defined]
    document["pid_started"] = document.pop("process_start")
    try:
        replace_file(f"{directory}/state", json.dumps({"format": 1, **document}).encode())
        emit_of(roots, found, "die", exitCode=str(LOST))
    except OSError:
        pass  # a full disk: whoever looks next writes it down, and until then can at least remove it
    return ended


def now() -> str:
    """This moment as Docker writes it: RFC 3339 with nine digits, UTC."""
    at = time.time_ns()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1_000_000_000)) + f".{at % 1_000_000_000:09}Z"


def _read_state(roots: Roots, container_id: str) -> State | None:
    """None: it has never been started."""
    directory = directory_of(roots, container_id)
    try:
        document = monitor.read_state(directory)
        return State(
            status=document["status"], pid=document["pid"], process_start=document["pid_started"],
            started_at=document["started_at"], finished_at=document["finished_at"], exit_code=_exit_code_of(document),
            signal=document["signal"], oom_killed=document["oom_killed"], restart_count=document["restart_count"],
            stopped_by_request=document["stopped_by_request"], lost_log_bytes=document["lost_log_bytes"],
            error=_error_of(document), health=document.get("health", ""),
        )  # fmt: skip
    except FileNotFoundError:
        return None
    except _MALFORMED as error:
        raise InvalidArgument(
            f"cannot read {directory}/state: {str(error)[:100]}: it is damaged: `pycontain rm -f` removes the container"
        ) from None


def _exit_code_of(document: dict[str, Any]) -> int:
    """One that could not be started has Docker's code for it: 127 or 126 for its program, 128 for whatever else."""
    code, number = int(document["exit_code"]), document.get("error_errno", 0)
    if code or not number:
        return code
    if document["error_step"] not in ("find program", "execve"):
        return 128
    return 127 if number == errno.ENOENT else 126


def _error_of(document: dict[str, Any]) -> str:
    if "error" in document:
        return str(document["error"])
    if document["error_errno"]:
        number = document["error_errno"]
        return f"{document['error_step']}: {os.strerror(number)} ({errno_name(number)})"
    return ""


def write_place(roots: Roots, container_id: str, session: Session, resources: Resources, maps: Mappings) -> None:
    """What others need of a start, beside the Plan: see :func:`as_running`."""
    from ..limits import cgroups, path_of

    made = cgroups(resources, session.facts)
    members = [
        (group.controllers, group.version, path_of(group, session.cgroup_parent, ""))
        for group in made
        if not group.shared
    ]
    document = {
        "owner": session.owner, "members": members,
        "uid_map": [(m.container_id, m.host_id, m.size) for m in maps[0]],
        "gid_map": [(m.container_id, m.host_id, m.size) for m in maps[1]],
    }  # fmt: skip
    replace_file(f"{directory_of(roots, container_id)}/place", json.dumps(document).encode())


def add_members(roots: Roots, container_id: str, members: tuple[tuple[tuple[str, ...], int, str], ...]) -> None:
    """Cgroups that it has come to since its start. The caller holds the lock."""
    path = f"{directory_of(roots, container_id)}/place"
    with open(path, "rb") as file:
        place = json.load(file)
    place["members"] += [list(each) for each in members]
    replace_file(path, json.dumps(place).encode())


def as_running(roots: Roots, found: Detached, state: State) -> Foreground:
    """What a container that runs is to those who pause it, look into it or make an image of it. Raises: Conflict: it does not run."""
    path = f"{directory_of(roots, found.id)}/place"
    try:
        with open(path, "rb") as file:
            place = json.load(file)
        return Foreground(
            id=found.id, name=found.name, owner=place["owner"], image=found.request.image, image_id=found.image_id,
            created=found.created, pid=state.pid, begun=state.process_start, group_add=found.request.group_add,
            plan=f"{directory_of(roots, found.id)}/plan",
            directory=f"{directory_of(roots, found.id)}/layer", lower=found.lower, config=found.config,
            args=found.args, uid_map=tuple(map(tuple, place["uid_map"])), gid_map=tuple(map(tuple, place["gid_map"])),
            members=tuple((tuple(names), version, where) for names, version, where in place["members"]),
        )  # fmt: skip
    except FileNotFoundError:
        raise Conflict(f"container {found.name} has never been started") from None
    except _MALFORMED as error:
        raise _damaged(path, str(error)[:100]) from None


def _clear_half_removed(roots: Roots) -> None:
    """What a monitor has left that was killed while it removed its container."""
    for entry in os.listdir(f"{roots.data_root}/containers"):
        if entry.endswith(".gone") and not monitor.is_alive(run_directory_of(roots, entry.removesuffix(".gone"))):
            _native.remove_tree(f"{roots.data_root}/containers/{entry}")


def publish(roots: Roots, found: Detached, prepare: Callable[[str], None] | None = None) -> None:
    """Make the directory of a container: it is there with its configuration, and what ``prepare`` makes in it, or not at all.

    Raises: OSError, and what ``prepare`` raises.
    """
    # closed to others: what a container writes may be a setuid program, and its id is in the title of its monitor
    make_data_dir(f"{roots.data_root}/containers")
    make_data_dir(f"{roots.data_root}/containers/names")
    names.forget_stale(roots)
    _clear_half_removed(roots)
    with workspace(roots.data_root) as (work, work_fd):
        os.mkdir("container", 0o700, dir_fd=work_fd)
        fd = os.open("container", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work_fd)
        try:
            inherit_nothing(fd, 0o700)
        finally:
            os.close(fd)
        _write(f"{work}/container", found)
        if prepare is not None:
            prepare(f"{work}/container")
        os.rename(f"{work}/container", directory_of(roots, found.id))
