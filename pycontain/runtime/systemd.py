"""The systemd cgroup driver: a transient scope per container, made by the manager, handed to us (Delegate=yes).

linux.cgroupsPath is ``slice:prefix:name`` then. systemd makes the unit ``prefix-name.scope`` in the slice and sets what it
has properties for, so that a reload does not undo it; the same and all the rest is written into the files afterwards. A
scope needs a process to be born with: a holder, which the container's own replace (Scope.settle).

Loaded only when this driver is chosen. Talks to the manager by ``busctl``, a part of systemd.
Manager: org.freedesktop.systemd1(5), StartTransientUnit; systemd.resource-control(5); systemd.io, "CGROUP_DELEGATION".
"""

from __future__ import annotations

import os
import subprocess
import time

from .. import limits
from ..errors import Conflict, InvalidArgument, SetupFailed, Unsupported
from ..record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import Resources

__all__ = ["Property", "Scope", "UnitName", "arguments", "properties", "running", "unit_name"]

_INFINITY = (1 << 64) - 1
_DEADLINE_S = 20.0
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.\\@-")
_DESTINATION = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


@record
class UnitName:
    slice: str
    unit: str


@record
class Property:
    """``value``: as busctl takes it, one word each."""

    name: str
    signature: str
    value: tuple[str, ...]


def unit_name(cgroups_path: str, container_id: str, *, user: bool = False) -> UnitName:
    """From ``slice:prefix:name``; "" is ``system.slice:pycontain:<id>``, of a user's manager ``user.slice``. Raises
    InvalidArgument."""
    parts = cgroups_path.split(":") if cgroups_path else ["", "pycontain", container_id]
    if len(parts) != 3 or not parts[2]:
        raise InvalidArgument(
            f"linux.cgroupsPath: expected slice:prefix:name for the systemd driver, found {cgroups_path!r}"
        )
    where, prefix, name = parts
    where = where or ("user.slice" if user else "system.slice")
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not where.endswith(".slice") or "/" in where or where.startswith("-") or "--" in where:
        raise InvalidArgument(f"linux.cgroupsPath: expected the name of a slice, such as system.slice, found {where!r}")
    if name.endswith(".slice"):
        raise InvalidArgument(f"linux.cgroupsPath: {name!r} is a slice: a container is a scope in one")
    for text in (where, unit):
        if len(text) > 255 or not set(text) <= _NAME_CHARS:
            raise InvalidArgument(f"linux.cgroupsPath: {text!r} is no name of a systemd unit")
    return UnitName(slice=where, unit=unit)


# --- properties ---------------------------------------------------------------------------------------------------


def _amount(text: str) -> str:
    return str(_INFINITY) if text in ("max", "-1") else text


def _mask(cpus: str) -> tuple[str, ...]:
    """A list such as 0-3,7 as an array of bytes, the lowest first."""
    bits = 0
    for part in cpus.split(","):
        first, _, last = part.partition("-")
        for n in range(int(first), int(last or first) + 1):
            bits |= 1 << n
    data = bits.to_bytes((bits.bit_length() + 7) // 8 or 1, "little")
    return (str(len(data)), *(str(b) for b in data))


# file of v2 or v1 -> property of one number
_NUMBERS = {
    "memory.max": "MemoryMax",
    "memory.high": "MemoryHigh",
    "memory.low": "MemoryLow",
    "memory.min": "MemoryMin",
    "memory.swap.max": "MemorySwapMax",
    "memory.limit_in_bytes": "MemoryLimit",
    "cpu.weight": "CPUWeight",
    "cpu.shares": "CPUShares",
    "pids.max": "TasksMax",
}


def _quota(quota_us: int, period_us: int) -> tuple[Property, ...]:
    if quota_us <= 0:
        return (Property(name="CPUQuotaPerSecUSec", signature="t", value=(str(_INFINITY),)),)
    # systemd keeps whole percents of a CPU: rounded up, never less than was asked for
    per_second = -(-quota_us * 1_000_000 // period_us)
    per_second = -(-per_second // 10_000) * 10_000
    return (
        Property(name="CPUQuotaPeriodUSec", signature="t", value=(str(period_us),)),
        Property(name="CPUQuotaPerSecUSec", signature="t", value=(str(per_second),)),
    )


def properties(resources: Resources, facts: HostFacts) -> tuple[Property, ...]:
    """What of ``resources`` the manager has properties for, from the same (file, value) pairs that are written later, so
    that the two cannot differ. Device rules are left to our own program, and v1's list: DevicePolicy stays auto."""
    found: dict[str, Property] = {}
    period, quota = 100_000, 0
    for writes in limits.writes_of(resources, facts).values():
        for file, value in writes:
            if file in _NUMBERS:
                name = _NUMBERS[file]
                found[name] = Property(name=name, signature="t", value=(_amount(value),))
            elif file == "cpu.max":
                words = value.split()
                quota, period = (-1 if words[0] == "max" else int(words[0])), int(words[1])
            elif file == "cpu.cfs_period_us":
                period = int(value)
            elif file == "cpu.cfs_quota_us":
                quota = int(value)
            elif file in ("cpuset.cpus", "cpuset.mems") and facts.controllers["cpuset"].version == 2 and value.strip():
                name = "AllowedCPUs" if file == "cpuset.cpus" else "AllowedMemoryNodes"
                found[name] = Property(name=name, signature="ay", value=_mask(value))
            elif file == "io.weight" and value.startswith("default "):
                found["IOWeight"] = Property(name="IOWeight", signature="t", value=(value.split()[1],))
    return (*found.values(), *(_quota(quota, period) if quota else ()))


def arguments(name: UnitName, description: str, pid: int, wanted: tuple[Property, ...]) -> list[str]:
    """The words after ``busctl call``: StartTransientUnit for a scope that begins with the process ``pid``."""
    first = (
        Property(name="Description", signature="s", value=(description,)),
        Property(name="Slice", signature="s", value=(name.slice,)),
        Property(name="Delegate", signature="b", value=("true",)),
        Property(name="DefaultDependencies", signature="b", value=("false",)),
        Property(name="PIDs", signature="au", value=("1", str(pid))),
    )
    every = (*first, *wanted)
    words = [*_DESTINATION, "StartTransientUnit", "ssa(sv)a(sa(sv))", name.unit, "fail", str(len(every))]
    for p in every:
        words += [p.name, p.signature, *p.value]
    return [*words, "0"]


# --- the manager --------------------------------------------------------------------------------------------------


def running() -> bool:
    """Whether systemd is this host's manager (sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def _bus(words: list[str], *, user: bool) -> str:
    """Calls the manager. Raises Unsupported when there is none; SetupFailed with what it says."""
    if not running():
        raise Unsupported(
            "the systemd cgroup driver needs systemd as the host's manager, and it is not running (no /run/systemd/system). "
            "Choose the cgroupfs driver"
        )
    try:
        done = subprocess.run(
            ["busctl", *(("--user",) if user else ()), "call", *words], capture_output=True, text=True, check=False,
            timeout=_DEADLINE_S,
        )  # fmt: skip
    except FileNotFoundError:
        raise Unsupported("the systemd cgroup driver needs the program busctl (a part of systemd) in PATH") from None
    except subprocess.TimeoutExpired:
        raise SetupFailed(f"systemd did not answer {words[3]} within {_DEADLINE_S:g} s", step="systemd") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"busctl ended with {done.returncode}"
        raise SetupFailed(f"systemd refuses {words[3]} of {words[5]}: {said}", step="systemd")
    return done.stdout.strip()


class Scope:
    """One transient scope. start, put the container into ``cgroups_path``, settle; stop when it has ended."""

    def __init__(self, name: UnitName, *, user: bool = False) -> None:
        self.name = name
        self.cgroups_path = ""  # below the mounts, when it is started
        self._user = user
        self._holder: subprocess.Popen[bytes] | None = None

    @property
    def holder(self) -> int:
        """The process that keeps it until the container is in it; 0 when there is none."""
        return self._holder.pid if self._holder is not None else 0

    def start(self, resources: Resources, facts: HostFacts, description: str) -> None:
        """Raises Unsupported without systemd; Conflict when there is a unit of this name; SetupFailed."""
        wanted = properties(resources, facts)
        if not running():
            _bus([*_DESTINATION, "StartTransientUnit"], user=self._user)
        self._holder = subprocess.Popen(
            ["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # ends with us: its input does
        try:
            _bus(arguments(self.name, description, self._holder.pid, wanted), user=self._user)
            self.cgroups_path = self._wait(facts)
        except SetupFailed as e:
            self.settle()
            if "already exists" in str(e) or "already loaded" in str(e):
                raise Conflict(f"there is a unit {self.name.unit} already: stop it, or choose another name") from None
            raise
        except BaseException:
            self.settle()
            raise

    def _wait(self, facts: HostFacts) -> str:
        """The kernel is asked: until the holder is in the unit's cgroup."""
        end = time.monotonic() + _DEADLINE_S
        mark = "0::" if facts.pure_v2 else ":name=systemd:"
        while time.monotonic() < end:
            with open(f"/proc/{self.holder}/cgroup", encoding="utf-8") as f:
                for line in f:
                    if mark in line and line.rstrip("\n").endswith("/" + self.name.unit):
                        return line.rstrip("\n").split(":", 2)[2]
            time.sleep(0.002)
        raise SetupFailed(f"systemd did not move the first process into {self.name.unit} in time", step="systemd")

    def settle(self) -> None:
        """The container is in: ends the holder."""
        if self._holder is not None:
            holder, self._holder = self._holder, None
            holder.kill()
            holder.wait()
            assert holder.stdin is not None
            holder.stdin.close()

    def stop(self) -> None:
        """Stops the unit with all that is left in it; nothing happens when it has gone by itself."""
        self.settle()
        for words in (["StopUnit", "ss", self.name.unit, "replace"], ["ResetFailedUnit", "s", self.name.unit]):
            try:
                _bus([*_DESTINATION, *words], user=self._user)
            except SetupFailed as e:
                if "not loaded" not in str(e) and "NoSuchUnit" not in str(e):
                    raise
