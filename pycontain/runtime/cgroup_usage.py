"""What a container uses at this moment, by the counters of its cgroups: v2's, v1's, or of each what it is in.

Memory is counted as ``docker stats`` does: without the pages of files that nobody has used for a while, which the kernel gives back
before it runs short. Kernel: Documentation/admin-guide/cgroup-v2.rst; cgroup-v1/memory.rst, cpuacct.rst, blkio-controller.rst.
"""

from __future__ import annotations

import os
import time

from ..record import record
from .cgroup_tree import read
from .cgroups import Member, pids

__all__ = ["Usage", "read_usage"]


@record
class Usage:
    """``at_ns``: when it was read (CLOCK_MONOTONIC). None: no counter of this host says it; ``memory_limit_bytes`` is never more than
    the machine has."""

    at_ns: int
    cpu_ns: int | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    read_bytes: int | None
    write_bytes: int | None
    pids: int | None


def read_usage(members: tuple[Member, ...]) -> Usage | None:
    """None: it has ended. ``members`` empty: this user has no cgroups, and nobody counts."""
    by_name = {name: m for m in members if m.version == 1 for name in m.controllers}
    unified = next((m for m in members if m.version == 2), None)
    if members and not any(os.path.isdir(m.directory) for m in members):
        return None
    at_ns = time.monotonic_ns()
    memory = _memory_v1(by_name["memory"].directory) if "memory" in by_name else _memory_v2(unified)
    blocks = _blocks_v1(by_name["blkio"].directory) if "blkio" in by_name else _blocks_v2(unified)
    counted = _number(by_name.get("pids", unified), "pids.current")
    return Usage(
        at_ns=at_ns, cpu_ns=_cpu_ns(by_name.get("cpuacct"), unified), memory_bytes=memory[0], memory_limit_bytes=memory[1],
        read_bytes=blocks[0], write_bytes=blocks[1], pids=len(pids(members)) if members and counted is None else counted,
    )  # fmt: skip


def _text(directory: str, file: str) -> str:
    """ "" when there is none: a controller that is not there, or a container that has ended."""
    try:
        return read(f"{directory}/{file}")
    except OSError:
        return ""


def _number(member: Member | None, file: str) -> int | None:
    text = _text(member.directory, file) if member is not None else ""
    return int(text) if text.isdigit() else None


def _keyed(directory: str, file: str) -> dict[str, int]:
    words = [line.split() for line in _text(directory, file).splitlines()]
    return {each[0]: int(each[1]) for each in words if len(each) == 2 and each[1].isdigit()}


def _cpu_ns(v1: Member | None, v2: Member | None) -> int | None:
    if v1 is not None:
        return _number(v1, "cpuacct.usage")
    used = _keyed(v2.directory, "cpu.stat").get("usage_usec") if v2 is not None else None
    return None if used is None else used * 1000


def _memory_v1(directory: str) -> tuple[int | None, int | None]:
    return _memory(
        _text(directory, "memory.usage_in_bytes"), _text(directory, "memory.limit_in_bytes"),
        _keyed(directory, "memory.stat").get("total_inactive_file", 0),
    )  # fmt: skip


def _memory_v2(member: Member | None) -> tuple[int | None, int | None]:
    if member is None:
        return None, None
    directory = member.directory
    inactive = _keyed(directory, "memory.stat").get("inactive_file", 0)
    return _memory(_text(directory, "memory.current"), _text(directory, "memory.max"), inactive)


def _memory(used: str, limit: str, inactive: int) -> tuple[int | None, int | None]:
    if not used.isdigit():
        return None, None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = int(used)
    return size - inactive if inactive < size else size, min(int(limit), total) if limit.isdigit() else total


def _blocks_v1(directory: str) -> tuple[int | None, int | None]:
    found = {"Read": 0, "Write": 0}
    text = _text(directory, "blkio.throttle.io_service_bytes_recursive") or _text(
        directory, "blkio.throttle.io_service_bytes"
    )
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in found and words[2].isdigit():
            found[words[1]] += int(words[2])
    return (found["Read"], found["Write"]) if text else (None, None)


def _blocks_v2(member: Member | None) -> tuple[int | None, int | None]:
    if member is None or not os.path.exists(f"{member.directory}/io.stat"):
        return None, None
    found = {"rbytes": 0, "wbytes": 0}
    for line in _text(member.directory, "io.stat").splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key in found and value.isdigit():
                found[key] += int(value)
    return found["rbytes"], found["wbytes"]
