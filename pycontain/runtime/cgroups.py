"""The cgroups of a running container: freeze, thaw, kill, list, pressure, events, new limits.

Functions over the cgroups that it is in (:class:`Member`); nothing here knows a container. Loaded when one of them is
asked for, not for a start.
"""

from __future__ import annotations

import os
import select
import time

from .. import limits
from ..errors import Conflict, InvalidArgument, SetupFailed, Unsupported, errno_name
from ..record import record
from .cgroup_tree import read, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import CPU, Memory, Resources

__all__ = [
    "Events",
    "Member",
    "Pressure",
    "PressureShare",
    "Stall",
    "events",
    "freeze",
    "freezer",
    "is_frozen",
    "kill",
    "member_of",
    "move_all",
    "open_events",
    "pids",
    "pressure",
    "put_back",
    "thaw",
    "thawing",
    "update",
    "writes_now",
]

_DEADLINE_S = 10.0
_EINVAL, _EBUSY, _ENOENT, _ENODEV, _EOPNOTSUPP, _ETIMEDOUT, _SIGKILL = 22, 16, 2, 19, 95, 110, 9


@record
class Member:
    """One cgroup that a container is in: its controllers by name, 1 or 2, and the directory."""

    controllers: tuple[str, ...]
    version: int
    directory: str


@record
class PressureShare:
    """Of the last 10, 60 and 300 seconds, in percent, and in all, in microseconds."""

    avg10: float
    avg60: float
    avg300: float
    total_us: int


@record
class Stall:
    """``some``: at least one task waited; ``full``: all of them did at once (None where the kernel does not tell)."""

    some: PressureShare
    full: PressureShare | None = None


@record
class Pressure:
    """Time lost by waiting for CPU, memory and block I/O. Kernel: Documentation/accounting/psi.rst."""

    cpu: Stall
    memory: Stall
    io: Stall


@record
class Events:
    """How often since the start: memory was reclaimed at its protection (low), at memory.high, at the limit (max), the
    limit could not be kept (oom), a process was killed for it (oom_kill); a fork was refused (pids_max). v1 tells only
    max, oom_kill and pids_max; what is not told is 0."""

    low: int = 0
    high: int = 0
    max: int = 0
    oom: int = 0
    oom_kill: int = 0
    pids_max: int = 0


def _keyed(text: str) -> dict[str, int]:
    return {k: int(v) for k, _, v in (line.partition(" ") for line in text.splitlines()) if v.strip().isdigit()}


def _gone(e: OSError, what: str) -> Conflict:
    return Conflict(f"cannot {what}: its cgroup has gone, so it has ended ({errno_name(e.errno or 0)})")


# --- freeze and thaw ----------------------------------------------------------------------------------------------


def freezer(members: tuple[Member, ...], what: str) -> Member:
    """The one that freezes. Raises: Unsupported: none, saying ``what`` cannot be done."""
    for m in members:
        if m.version == 2 and os.path.exists(f"{m.directory}/cgroup.freeze"):
            return m
    for m in members:
        if "freezer" in m.controllers:
            return m
    raise Unsupported(
        f"cannot {what}: it is in no cgroup that can be frozen (cgroup v2 of Linux 5.2, or v1's freezer). Mount one of them"
    )


def is_frozen(member: Member) -> bool:
    """Whether what is in it stands still, by its own setting or by that of a cgroup above."""
    try:
        if member.version == 2:
            return _keyed(read(f"{member.directory}/cgroup.events")).get("frozen") == 1 or (
                read(f"{member.directory}/cgroup.freeze") == "1"  # events say it only when something is inside
            )
        return "freezer" in member.controllers and read(f"{member.directory}/freezer.state") != "THAWED"
    except FileNotFoundError:
        return False


def freeze(members: tuple[Member, ...]) -> None:
    """Stops every process; returns when none makes progress any more. Idempotent.

    Raises: Unsupported without a freezer; Conflict when it has ended; SetupFailed when a process cannot be stopped (it
    hangs in the kernel): then all run again.
    """
    member = freezer(members, "pause")
    try:
        stopped = _freeze_v2(member) if member.version == 2 else _freeze_v1(member)
        if not stopped:
            thaw((member,))
    except (FileNotFoundError, OSError) as e:
        if e.errno not in (_ENOENT, _ENODEV):
            raise SetupFailed(
                f"cannot pause: {e.strerror} ({errno_name(e.errno or 0)})", step="freeze", errno=e.errno or 0
            ) from None
        raise _gone(e, "pause") from None
    if not stopped:
        raise SetupFailed(
            f"cannot pause: a process did not stop within {_DEADLINE_S:g} s (ETIMEDOUT): it waits in the kernel, for a disk "
            "or a network file system perhaps. Try again",
            step="freeze", errno=_ETIMEDOUT,
        )  # fmt: skip


def _freeze_v2(member: Member) -> bool:
    write(f"{member.directory}/cgroup.freeze", "1")
    end = time.monotonic() + _DEADLINE_S
    fd = os.open(f"{member.directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        while True:
            text = os.pread(fd, 4096, 0).decode()  # before the wait: reading arms it
            found = _keyed(text)
            if found.get("frozen") == 1 or found.get("populated") == 0:
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            poller.poll(min(left, 1.0) * 1000)
    finally:
        os.close(fd)


def _freeze_v1(member: Member) -> bool:
    file = f"{member.directory}/freezer.state"
    end = time.monotonic() + _DEADLINE_S
    tries = 0
    write(file, "FROZEN")
    while read(file) != "FROZEN":  # nothing reports it; reading makes the kernel look
        if time.monotonic() > end:
            return False
        tries += 1
        if tries % 50 == 0:  # forks can keep it FREEZING for ever: let go, and try again
            write(file, "THAWED")
            write(file, "FROZEN")
        time.sleep(0.001)
    return True


def thaw(members: tuple[Member, ...]) -> None:
    """Lets every process run again. Idempotent. Raises as freeze."""
    try:
        write(*thawing(freezer(members, "unpause")))
    except OSError as e:
        raise _gone(e, "unpause") from None


def thawing(member: Member) -> tuple[str, str]:
    """The file that thaws, and what is written to it."""
    if member.version == 2:
        return f"{member.directory}/cgroup.freeze", "0"
    return f"{member.directory}/freezer.state", "THAWED"


# --- processes ----------------------------------------------------------------------------------------------------


def _pids_below(directory: str) -> list[int]:
    found: list[int] = []
    try:
        found += [int(p) for p in read(f"{directory}/cgroup.procs").split()]
        with os.scandir(directory) as entries:
            children = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return found  # removed meanwhile; or threaded, and then its domain lists them
    for child in children:
        found += _pids_below(child)
    return found


def pids(members: tuple[Member, ...]) -> list[int]:
    """Every process, also those in cgroups that the container made below its own. 0: of a pid namespace that we do not
    see into."""
    for m in sorted(members, key=lambda m: -m.version):
        return sorted(set(_pids_below(m.directory)))
    return []


def kill(members: tuple[Member, ...]) -> None:
    """SIGKILL for every process, also a frozen one; returns when none is left. Raises SetupFailed after 10 s."""
    for m in members:
        if m.version == 2:
            try:
                write(f"{m.directory}/cgroup.kill", "1")  # 5.14; later forks of the killed die too
            except OSError:
                pass  # older, or gone
    end = time.monotonic() + _DEADLINE_S
    frozen = [m for m in members if "freezer" in m.controllers and m.version == 1]
    while left := [p for p in pids(members) if p > 0]:
        for m in frozen:  # while they stand still none can fork away
            try:
                write(f"{m.directory}/freezer.state", "FROZEN")
            except OSError:
                pass  # gone
        for pid in {*left, *pids(members)}:
            try:
                os.kill(pid, _SIGKILL)
            except ProcessLookupError:
                pass
        for m in frozen:  # in v1 nobody dies frozen
            try:
                write(f"{m.directory}/freezer.state", "THAWED")
            except OSError:
                pass  # gone
        if time.monotonic() > end:
            raise SetupFailed(
                f"cannot kill the processes {left[:5]}: they are still there after {_DEADLINE_S:g} s (ETIMEDOUT)",
                step="kill", errno=_ETIMEDOUT,
            )  # fmt: skip
        time.sleep(0.001)


def move_all(members: tuple[Member, ...], target: str) -> None:
    """Moves every process of a container into the cgroup ``target`` of another hierarchy, until a look finds none that is
    not there. Raises OSError; SetupFailed when it forks faster than we move."""
    for _ in range(200):
        outside = set(pids(members)) - set(_pids_below(target))
        if not outside:
            return
        for pid in outside:
            try:
                write(f"{target}/cgroup.procs", str(pid))
            except ProcessLookupError:
                pass
    raise SetupFailed(f"cannot move all processes into {target}: new ones come faster", step="move", errno=_EBUSY)


# --- pressure and events ------------------------------------------------------------------------------------------


def _stall(directory: str, what: str) -> Stall:
    path = f"{directory}/{what}.pressure"
    try:
        text = read(path)
    except OSError as e:
        if e.errno not in (_ENOENT, _EOPNOTSUPP):
            raise _gone(e, "tell its pressure") from None
        if not os.path.isdir(directory):
            raise _gone(e, "tell its pressure") from None
        raise Unsupported(
            f"cannot tell its pressure: this kernel does not count it (no {path}). Boot with psi=1, on a kernel with CONFIG_PSI"
        ) from None
    lines = {}
    for line in text.splitlines():
        kind, *words = line.split()
        values = dict(w.split("=") for w in words)
        lines[kind] = PressureShare(
            avg10=float(values["avg10"]), avg60=float(values["avg60"]), avg300=float(values["avg300"]),
            total_us=int(values["total"]),
        )  # fmt: skip
    return Stall(some=lines["some"], full=lines.get("full"))


def pressure(members: tuple[Member, ...]) -> Pressure:
    """Raises: Unsupported in cgroup v1 and on a kernel without PSI; Conflict when it has ended."""
    for m in members:
        if m.version == 2:
            return Pressure(
                cpu=_stall(m.directory, "cpu"), memory=_stall(m.directory, "memory"), io=_stall(m.directory, "io")
            )
    raise Unsupported(
        "cannot tell its pressure: the kernel counts it in cgroup v2 only, and this container is in v1. Boot with cgroup v2 "
        "(systemd.unified_cgroup_hierarchy=1)"
    )


def events(members: tuple[Member, ...]) -> Events:
    """The counts so far; of a controller that it is not in, 0."""
    found: dict[str, int] = {}
    for m in members:
        files = {"memory.events": "", "pids.events": "pids_"}
        if m.version == 1:
            files = {"memory.oom_control": "", "pids.events": "pids_"}
        for file, prefix in files.items():
            try:
                found.update({prefix + k: v for k, v in _keyed(read(f"{m.directory}/{file}")).items()})
            except OSError:
                pass  # not this one's controller
        if m.version == 1 and "memory" in m.controllers:
            counts = (_value((m,), f) for f in ("memory.failcnt", "memory.memsw.failcnt"))
            found["max"] = sum(int(n) for n in counts if n)
    names = ("low", "high", "max", "oom", "oom_kill", "pids_max")
    return Events(**{n: found[n] for n in names if n in found})


def open_events(members: tuple[Member, ...]) -> int:
    """A descriptor that poll() reports (POLLPRI) whenever a count of memory events changes; read it from its beginning to
    arm it again. The caller closes it. Raises Unsupported in v1."""
    for m in members:
        if m.version == 2 and os.path.exists(f"{m.directory}/memory.events"):
            fd = os.open(f"{m.directory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            os.pread(fd, 4096, 0)
            return fd
    raise Unsupported("cannot watch memory events: it is in no cgroup v2 with the memory controller")


# --- new limits ---------------------------------------------------------------------------------------------------


def update(members: tuple[Member, ...], resources: Resources, facts: HostFacts) -> list[tuple[str, str]]:
    """Sets what ``resources`` asks for; everything else stays as it is. All of it or, when one is refused, nothing. What was set
    before, for :func:`put_back`.

    Raises: InvalidArgument for a value that makes no sense, or that the kernel refuses; Unsupported without a controller
    or a cgroup of it; Conflict when it has ended, or (check_before_update) when it uses more than the new limit.
    """
    if resources.devices:
        raise Unsupported("linux.resources.devices: device rules cannot be changed while a container runs")
    todo: list[tuple[str, str]] = []
    for name, writes in writes_now(members, resources, facts).items():
        where = member_of(members, name, facts)
        todo += [(f"{where.directory}/{file}", value) for file, value in writes]
    if resources.memory.check_before_update and resources.memory.limit and resources.memory.limit > 0:
        _check_usage(member_of(members, "memory", facts), resources.memory.limit)
    return _apply(todo)


def writes_now(members: tuple[Member, ...], resources: Resources, facts: HostFacts) -> dict[str, list[tuple[str, str]]]:
    """(file, value) by controller, with what a setting shares its file with as it is now. Raises: as :func:`update`."""
    return limits.writes_of(_completed(resources, members), facts)


def put_back(done: list[tuple[str, str]]) -> None:
    """The settings before an update, as far as the kernel takes them."""
    for path, before in reversed(done):
        try:
            write(path, before)
        except OSError:
            pass  # it has ended, or the kernel keeps the new one


def member_of(members: tuple[Member, ...], name: str, facts: HostFacts) -> Member:
    version = 2 if name == "cgroup" else facts.controllers[name].version
    for m in members:
        if m.version == version and (version == 2 or name in m.controllers):
            return m
    raise Unsupported(f"cannot set a limit of the {name} controller: the container is in no cgroup of it")


def _check_usage(member: Member, limit: int) -> None:
    file = "memory.current" if member.version == 2 else "memory.usage_in_bytes"
    used = int(read(f"{member.directory}/{file}"))
    if used > limit:
        raise Conflict(f"cannot set the memory limit to {limit}: {used} bytes are in use, and checkBeforeUpdate is set")


def _value(members: tuple[Member, ...], file: str) -> str | None:
    for m in members:
        try:
            return read(f"{m.directory}/{file}")
        except OSError:
            pass
    return None


def _completed(r: Resources, members: tuple[Member, ...]) -> Resources:
    """With what a setting shares its file with, or is counted from, as it is now."""
    if r.memory == type(r.memory)() and r.cpu == type(r.cpu)():
        return r
    from dataclasses import replace  # an update is no start

    memory: Memory = r.memory
    limit = _value(members, "memory.max")
    if memory.swap and memory.swap > 0 and not memory.limit and limit is not None:
        memory = replace(memory, limit=-1 if limit == "max" else int(limit))
    cpu: CPU = r.cpu
    if cpu.quota or cpu.period:
        quota, _, period = (_value(members, "cpu.max") or "").partition(" ")
        period = period or _value(members, "cpu.cfs_period_us") or ""
        cpu = replace(
            cpu,
            quota=cpu.quota or (int(quota) if quota.isdigit() else None),
            period=cpu.period or (int(period) if period.isdigit() else None),
        )
    if cpu.cpus or cpu.mems:
        cpu = replace(
            cpu, cpus=cpu.cpus or _value(members, "cpuset.cpus"), mems=cpu.mems or _value(members, "cpuset.mems")
        )
    return replace(r, memory=memory, cpu=cpu)


def _apply(todo: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """In which order limits fit each other depends on what is set now (memory below memory and swap, a burst below its
    quota): what the kernel refuses is tried again after the others, until nothing moves any more."""
    done: list[tuple[str, str]] = []
    while todo:
        again: list[tuple[str, str, OSError]] = []
        for path, value in todo:
            try:
                before = _one_line(path)
                write(path, value)
                if before is not None:
                    done.append((path, before))
            except OSError as e:
                again.append((path, value, e))
        if len(again) == len(todo) or any(e.errno not in (_EINVAL, _EBUSY) for _, _, e in again):
            put_back(done)
            raise _not_set(*again[0])
        todo = [(path, value) for path, value, _ in again]
    return done


def _one_line(path: str) -> str | None:
    """The present setting; None for a file of several, such as rates by device, or one that cannot be read."""
    try:
        text = read(path)
    except OSError:
        return None
    return None if "\n" in text or ":" in text or not text else text


def _not_set(path: str, value: str, e: OSError) -> InvalidArgument | Conflict | SetupFailed:
    directory, _, file = path.rpartition("/")
    number = e.errno or 0
    if number == _ENODEV or not os.path.isdir(directory):
        return _gone(e, f"set {file}")
    why = {
        _EBUSY: "more than that is in use",
        _EINVAL: "the kernel does not take this value, or not beside the other limits",
        _ENOENT: "this kernel has no such setting",
        34: "out of range",
    }.get(number, os.strerror(number))
    text = f"cannot set {file} to {value!r}: {why} ({errno_name(number)}). Nothing was changed"
    if number in (_EINVAL, _EBUSY, 34):
        return InvalidArgument(text)
    return SetupFailed(text, step="update", errno=number)
