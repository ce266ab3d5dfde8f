"""What exists now and may be ours: the census that DESIGN.md's first promise is held to.

The kernel is asked, not the package: /proc, the cgroup file systems, the directories. Other users of the machine may run
containers at the same time, so an owner's things (cgroups, guardians, processes) count only when the owner is this
process, or is dead, or works below the roots that the caller names.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

__all__ = ["Census", "cgroup_bases", "gone", "left_by", "poll_until", "take"]

_DEADLINE_S = 5.0


def poll_until(condition: Callable[[], bool], deadline_s: float = _DEADLINE_S) -> bool:
    """Whether ``condition`` came true in time: for what the kernel does without telling anybody."""
    until = time.monotonic() + deadline_s
    pause = 0.001
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return True


def cgroup_bases() -> list[str]:
    """The directory of all owners in each mounted cgroup hierarchy."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            before, _, after = line.partition(" - ")
            if after.startswith(("cgroup ", "cgroup2 ")):
                found.append(before.split()[4] + "/pycontain")
    return found


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


_monitors: list[str] = []  # the command lines of all that live, as of the last look: there may be a thousand


def _look_for_monitors() -> None:
    _monitors[:] = [
        _read(f"/proc/{pid}/cmdline") for pid in _pids() if _read(f"/proc/{pid}/comm").startswith("pycontain-monit")
    ]


def _is_strangers(owner: str, below: tuple[str, ...]) -> bool:
    """Whether a directory named ``owner`` belongs to a living process other than this one, or to a monitor that is not ``below``."""
    if owner.startswith("c"):
        return any(owner in title and not any(f"\0{b}/" in title for b in below) for title in _monitors)
    pid = owner.partition("-")[0]
    return not pid.isdigit() or (int(pid) != os.getpid() and _alive(int(pid)))


def _cgroups(below: tuple[str, ...]) -> set[str]:
    found = set()
    for base in cgroup_bases():
        with suppress(OSError):
            found |= {f"{base}/{o}" for o in os.listdir(base) if "-" in o and not _is_strangers(o, below)}
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _title(pid: int) -> str:
    words = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1]
    return f"process {pid} [{''.join(state)}] {words[:120] or _read(f'/proc/{pid}/comm').strip()}"


def _cgroup_owner(pid: int) -> str:
    """The owner below whose cgroup the process is; "" when it is in no container."""
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        path = line.split(":", 2)[2]
        if path.startswith("/pycontain/"):
            return path.split("/")[2]
    return ""


def _processes(below: tuple[str, ...]) -> dict[int, str]:
    """Children of this process, processes in our (or a dead owner's) cgroups, guardians of ours or of ``below``."""
    mine = {int(p) for t in os.listdir("/proc/self/task") for p in _read(f"/proc/self/task/{t}/children").split()}
    found = {pid: _title(pid) for pid in mine}
    for pid in _pids():
        owner = _cgroup_owner(pid)
        if owner and not _is_strangers(owner, below):
            found[pid] = f"in cgroup {owner}: " + _title(pid)
        elif _read(f"/proc/{pid}/comm").startswith("pycontain-guard"):
            words = _read(f"/proc/{pid}/cmdline")
            if any(f"\0{b}/" in words for b in below):
                found[pid] = _title(pid)
    return found


def _fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.endswith("/fd"):  # the listing's own
                found[int(name)] = target
    return found


_BASES = "/var/tmp/pct-"  # how the directory of a test session begins (conftest.py, `base`)


def _mounts(below: tuple[str, ...]) -> Counter[str]:
    """Without the ids, which are used again; what counts is what is mounted where. Another session's are its own."""
    lines = (line.split() for line in _read("/proc/self/mountinfo").splitlines())
    ours = (w for w in lines if not below or not w[4].startswith(_BASES) or w[4].startswith(below))
    return Counter(" ".join(words[2:]) for words in ours)


def left_by(data_root: str, run_root: str) -> list[str]:
    """What lies in the roots and belongs to a run that is over."""
    left = []
    for directory in (f"{data_root}/ephemeral", f"{run_root}/names", f"{run_root}/userns", f"{data_root}/tmp"):
        with suppress(OSError):
            left += [f"{directory}/{name}" for name in os.listdir(directory)]
    with suppress(OSError):
        left += [f"{run_root}/{name}" for name in os.listdir(run_root) if name not in ("names", "userns")]
    return sorted(left)


@dataclass(frozen=True)
class Census:
    processes: dict[int, str]
    mounts: Counter[str]
    cgroups: set[str]
    interfaces: set[str]
    fds: dict[int, str]
    shm: set[str]
    files: list[str] = field(default_factory=list)

    def more_than(self, before: Census) -> list[str]:
        """One readable line for each thing that is there now and was not before, or the other way round for fds."""
        more = [text for pid, text in self.processes.items() if pid not in before.processes]
        more += [f"mount {line}" for line in (self.mounts - before.mounts)]
        more += [f"unmounted {line}" for line in (before.mounts - self.mounts)]
        more += [f"cgroup {path}" for path in sorted(self.cgroups - before.cgroups)]
        more += [f"network interface {name}" for name in sorted(self.interfaces - before.interfaces)]
        more += [f"fd {fd} -> {target}" for fd, target in self.fds.items() if before.fds.get(fd) != target]
        more += [f"closed fd {fd} -> {target}" for fd, target in before.fds.items() if fd not in self.fds]
        more += [f"/dev/shm/{name}" for name in sorted(self.shm - before.shm)]
        more += [f"file {path}" for path in self.files if path not in before.files]
        return more


def take(roots: tuple[str, str] | None = None, below: tuple[str, ...] = ()) -> Census:
    """The census now. ``roots``: data root and run root to look into; ``below``: whose guardians are counted too."""
    _look_for_monitors()
    return Census(
        processes=_processes(below),
        mounts=_mounts(below),
        cgroups=_cgroups(below),
        interfaces=set(os.listdir("/sys/class/net")),
        fds=_fds(),
        shm=set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set(),
        files=left_by(*roots) if roots else [],
    )


def gone(
    before: Census,
    roots: tuple[str, str] | None = None,
    below: tuple[str, ...] = (),
    deadline_s: float = _DEADLINE_S,
) -> list[str]:
    """What is still there beyond ``before`` when the deadline has passed; empty as soon as nothing is."""
    more: list[str] = []

    def clean() -> bool:
        nonlocal more
        more = take(roots, below).more_than(before)
        return not more

    poll_until(clean, deadline_s)
    return more
