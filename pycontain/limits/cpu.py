"""The controllers cpu and cpuset. Spec: runtime-spec config-linux.md, "CPU"."""

from __future__ import annotations

from ..errors import InvalidArgument
from .refusals import in_range, no_setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import CPU

__all__ = ["cpu_asked", "cpu_writes", "cpuset_writes"]

_DEFAULT_PERIOD_US = 100_000
_MOST_US = 1 << 44  # the kernel's own bound is on nanoseconds in 64 bits, shifted


def cpu_asked(c: CPU) -> bool:
    """Whether anything of the cpu controller is asked for (0 is unset, as in runc, but for burst and idle)."""
    return bool(c.shares or c.quota or c.period or c.realtime_period or c.realtime_runtime) or not (
        c.burst is None and c.idle is None
    )


def _weight(shares: int) -> int:
    """cpu.shares [2, 262144] -> cpu.weight [1, 10000] so that the defaults meet, 1024 -> 100: the curve that runc and crun
    agree on since 2024; the straight line before it made 39 of the default. Both ends and the default are exact."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    from math import ceil, log2

    log = log2(shares)
    return ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34) - 1e-9)


def _check(c: CPU, facts: HostFacts) -> None:
    in_range("cpu.shares", c.shares, 2, 262144, also=(0,))
    in_range("cpu.quota", c.quota, 1000, _MOST_US, also=(-1, 0))
    in_range("cpu.period", c.period, 1000, 1_000_000, also=(0,))
    in_range("cpu.burst", c.burst, 0, _MOST_US)
    in_range("cpu.idle", c.idle, 0, 1)
    in_range("cpu.realtimeRuntime", c.realtime_runtime, 0, _MOST_US, also=(-1,))
    in_range("cpu.realtimePeriod", c.realtime_period, 1, 1 << 40, also=(0,))
    if c.burst and c.quota is not None and 0 < c.quota < c.burst:
        raise InvalidArgument(f"linux.resources.cpu.burst: {c.burst} is above the quota ({c.quota})")
    kernel = f"{facts.kernel[0]}.{facts.kernel[1]}"
    if c.burst is not None and facts.kernel < (5, 14):
        raise no_setting("cpu.burst", f"needs Linux 5.14; this kernel is {kernel}")
    if c.idle is not None and facts.kernel < (5, 15):
        raise no_setting("cpu.idle", f"needs Linux 5.15; this kernel is {kernel}")


def cpu_writes(c: CPU, facts: HostFacts, version: int) -> list[tuple[str, str]]:
    """(file, value), in order: an idle group has no weight, and a burst may not be above the quota."""
    _check(c, facts)
    writes: list[tuple[str, str]] = []
    if c.idle == 0:
        writes.append(("cpu.idle", "0"))
    if c.shares:
        writes.append(("cpu.weight", str(_weight(c.shares))) if version == 2 else ("cpu.shares", str(c.shares)))
    if c.idle:
        writes.append(("cpu.idle", "1"))
    if version == 2:
        if c.realtime_runtime or c.realtime_period:
            raise no_setting("cpu.realtimeRuntime", "cgroup v2 has no limit on real-time tasks. Leave it out")
        if c.quota or c.period:
            quota = "max" if not c.quota or c.quota < 0 else str(c.quota)
            writes.append(("cpu.max", f"{quota} {c.period or _DEFAULT_PERIOD_US}"))
    else:
        if c.quota or c.period:
            writes.append(("cpu.cfs_period_us", str(c.period or _DEFAULT_PERIOD_US)))
        if c.quota:
            writes.append(("cpu.cfs_quota_us", str(c.quota)))
        if c.realtime_period:
            writes.append(("cpu.rt_period_us", str(c.realtime_period)))
        if c.realtime_runtime:
            writes.append(("cpu.rt_runtime_us", str(c.realtime_runtime)))
    if c.burst is not None:
        writes.append(("cpu.max.burst" if version == 2 else "cpu.cfs_burst_us", str(c.burst)))
    return writes


def cpuset_writes(c: CPU, facts: HostFacts, version: int) -> list[tuple[str, str]]:
    for field, text in (("cpus", c.cpus), ("mems", c.mems)):
        if text and not set(text) <= set("0123456789,-"):
            raise InvalidArgument(f"linux.resources.cpu.{field}: expected a list such as 0-3,7, found {text!r}")
    if version == 2:
        return [(f, v) for f, v in (("cpuset.cpus", c.cpus), ("cpuset.mems", c.mems)) if v]
    # v1 admits no process before both are set
    return [("cpuset.cpus", c.cpus or facts.cpuset_cpus), ("cpuset.mems", c.mems or facts.cpuset_mems)]
