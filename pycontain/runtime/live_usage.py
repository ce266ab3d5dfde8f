"""What a container that runs has used so far and uses now, as the public record has it."""

from __future__ import annotations

import os
import time

from .. import _native
from ..errors import Conflict
from ..result import Usage
from .cgroup_usage import read_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cgroups import Member
    from .foreground import Foreground

__all__ = ["live_usage", "usage_of_found"]

_CPU, _PEAK, _IO = 3, 12, 48  # bits of pc_usage.have


def live_usage(plan: bytes, members: tuple[Member, ...], wall_s: float) -> Usage:
    """``plan``: its start's, whose last section names the counters. Raises: Conflict: it has ended."""
    from ..disassemble import decode

    raw = _native.usage_read([(op.x, op.s1) for op in decode(plan).finish if op.name == "USAGE"])
    now = read_usage(members)
    if now is None:
        raise Conflict("the container has ended")
    counted = bool(raw.have & _CPU)
    return Usage(
        cpu_user_s=raw.cpu_user_ns / 1e9 if counted else 0.0,
        cpu_system_s=raw.cpu_system_ns / 1e9 if counted else 0.0,
        memory_peak_bytes=raw.memory_peak_bytes if raw.have & _PEAK else None,
        io_read_bytes=raw.io_read_bytes if raw.have & _IO else None,
        io_write_bytes=raw.io_write_bytes if raw.have & _IO else None,
        wall_s=wall_s, memory_bytes=now.memory_bytes, memory_limit_bytes=now.memory_limit_bytes, pids=now.pids,
    )  # fmt: skip


def usage_of_found(found: Foreground) -> Usage:
    """Of a container of another process, or one that stays. Raises: Conflict: it has ended."""
    from .stillness import members_of

    ended = Conflict(f"container {found.name} has ended")
    try:
        with open(found.plan, "rb") as file:
            plan = file.read()
    except FileNotFoundError:
        raise ended from None
    wall_s = time.clock_gettime(time.CLOCK_BOOTTIME) - found.begun / os.sysconf("SC_CLK_TCK")
    try:
        return live_usage(plan, members_of(found), max(0.0, wall_s))
    except Conflict:
        raise ended from None
