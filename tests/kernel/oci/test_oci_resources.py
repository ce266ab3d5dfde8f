"""`linux.resources` and `linux.cgroupsPath`, read from the cgroup files while the process runs.

The files are those of cgroup v1, which is what the peers find on a hybrid host; cgroup v2 has its own tests in the VM.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from .bundles import DELETE
from .comparison import Case, Comparison, with_known
from .known import Known, crun, runc
from .runtimes import OURS, hierarchies

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif("memory" not in hierarchies(), reason="needs the memory controller of cgroup v1"),
]

_MB = 1 << 20
_MEMORY = tuple(
    f"memory/memory.{name}"
    for name in (
        "limit_in_bytes",
        "memsw.limit_in_bytes",
        "soft_limit_in_bytes",
        "swappiness",
        "oom_control",
        "use_hierarchy",
    )
)
_KERNEL = ("memory/memory.kmem.limit_in_bytes", "memory/memory.kmem.tcp.limit_in_bytes")
_CPU = tuple(
    f"cpu/cpu.{name}" for name in ("shares", "cfs_quota_us", "cfs_period_us", "rt_runtime_us", "rt_period_us", "idle")
)
_CPU += ("cpu/cpu.cfs_burst_us", "cpuset/cpuset.cpus", "cpuset/cpuset.mems")
_BLKIO = tuple(f"blkio/blkio.throttle.{way}_{unit}_device" for way in ("read", "write") for unit in ("bps", "iops"))
_BLKIO += ("blkio/blkio.bfq.weight", "blkio/blkio.weight")


_REFUSED = {"started": "no"}


def _memory(name: str, expect: dict[str, str] | None = None, **limits: Any) -> Case:
    return Case(
        f"memory-{name}", {"linux.resources.memory": limits}, expect=_named("memory/memory.", expect), cgroup=_MEMORY
    )


def _cpu(name: str, expect: dict[str, str] | None = None, **limits: Any) -> Case:
    return Case(f"cpu-{name}", {"linux.resources.cpu": limits}, expect=_named("", expect), cgroup=_CPU)


def _blkio(name: str, expect: dict[str, str] | None = None, **limits: Any) -> Case:
    return Case(
        f"blkio-{name}", {"linux.resources.blockIO": limits}, expect=_named("blkio/blkio.", expect), cgroup=_BLKIO
    )


def _named(prefix: str, expect: dict[str, str] | None) -> dict[str, str]:
    """Names of files become those of fields; others stay."""
    others = ("started", "status Cpus_allowed_list")
    return {n if n in others else f"cgroup {prefix}{n}": v for n, v in (expect or {}).items()}


def _disk() -> tuple[int, int]:
    """A block device to set rates on; they hold for the container's cgroup only."""
    name = sorted(n for n in os.listdir("/sys/block") if not n.startswith(("loop", "ram", "zram")))[0]
    with open(f"/sys/block/{name}/dev", encoding="ascii") as f:
        major, minor = f.read().split(":")
    return int(major), int(minor)


_MAJOR, _MINOR = _disk()
_RATE = [{"major": _MAJOR, "minor": _MINOR, "rate": 10 * _MB}]
_SAID = f"{_MAJOR}:{_MINOR} {10 * _MB}"

MEMORY = (
    Case("nothing", cgroup=(*_MEMORY, *_CPU, *_BLKIO, "pids/pids.max")),
    _memory("limit", {"limit_in_bytes": str(64 * _MB)}, limit=64 * _MB),
    _memory("limit-swap", {"limit_in_bytes": str(64 * _MB), "memsw.limit_in_bytes": str(96 * _MB)}, limit=64 * _MB, swap=96 * _MB),
    _memory("swap-equal", {"memsw.limit_in_bytes": str(64 * _MB)}, limit=64 * _MB, swap=64 * _MB),
    _memory("swap-unlimited", limit=64 * _MB, swap=-1),
    _memory("swap-below-limit", _REFUSED, limit=64 * _MB, swap=32 * _MB),
    _memory("swap-alone", _REFUSED, swap=96 * _MB),
    _memory("unlimited", limit=-1),
    _memory("zero", limit=0),
    _memory("not-pages", limit=64 * _MB + 1),
    _memory("reservation", {"soft_limit_in_bytes": str(32 * _MB)}, limit=64 * _MB, reservation=32 * _MB),
    _memory("swappiness", swappiness=10),
    _memory("swappiness-too-high", _REFUSED, swappiness=101),
    _memory("oom-killer-off", disableOOMKiller=True, limit=64 * _MB),
    _memory("hierarchy", useHierarchy=True),
    _memory("check-before-update", limit=64 * _MB, checkBeforeUpdate=True),
    Case("memory-kernel", {"linux.resources.memory": {"kernel": 32 * _MB, "kernelTCP": 16 * _MB}}, cgroup=_KERNEL),
    Case("memory-kernel-tcp", {"linux.resources.memory": {"kernelTCP": 16 * _MB}}, cgroup=_KERNEL,
         expect={"cgroup memory/memory.kmem.tcp.limit_in_bytes": str(16 * _MB)}),
)  # fmt: skip

CPU = (
    _cpu("shares", {"cpu/cpu.shares": "512"}, shares=512),
    _cpu("shares-too-small", _REFUSED, shares=1),
    _cpu("quota", {"cpu/cpu.cfs_quota_us": "50000"}, quota=50000),
    _cpu(
        "quota-period", {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "40000"}, quota=20000, period=40000
    ),
    _cpu("quota-unlimited", {"cpu/cpu.cfs_quota_us": "-1"}, quota=-1),
    _cpu("quota-too-small", _REFUSED, quota=500),
    _cpu("burst", {"cpu/cpu.cfs_burst_us": "10000"}, quota=50000, burst=10000),
    _cpu("idle", {"cpu/cpu.idle": "1"}, idle=1),
    _cpu("realtime", realtimeRuntime=1000, realtimePeriod=500000),
    _cpu(
        "cpus",
        {"cpuset/cpuset.cpus": "1", "cpuset/cpuset.mems": "0", "status Cpus_allowed_list": "1"},
        cpus="1",
        mems="0",
    ),
    _cpu("cpus-that-are-not", _REFUSED, cpus="4000"),
    _cpu("cpus-malformed", _REFUSED, cpus="one"),
)

OTHERS = (
    Case("pids", {"linux.resources.pids": {"limit": 50}}, cgroup=("pids/pids.max",), expect={"cgroup pids/pids.max": "50"}),
    Case("pids-unlimited", {"linux.resources.pids": {"limit": -1}}, cgroup=("pids/pids.max",), expect={"cgroup pids/pids.max": "max"}),
    Case("pids-zero", {"linux.resources.pids": {"limit": 0}}, cgroup=("pids/pids.max",)),
    _blkio("read-bps", {"throttle.read_bps_device": _SAID}, throttleReadBpsDevice=_RATE),
    _blkio("write-bps", {"throttle.write_bps_device": _SAID}, throttleWriteBpsDevice=_RATE),
    _blkio("read-iops", {"throttle.read_iops_device": _SAID}, throttleReadIOPSDevice=_RATE),
    _blkio("write-iops", {"throttle.write_iops_device": _SAID}, throttleWriteIOPSDevice=_RATE),
    _blkio("weight", weight=200),
    _blkio("weight-too-high", _REFUSED, weight=5000),
    _blkio("leaf-weight", _REFUSED, leafWeight=200),
    _blkio("no-such-device", _REFUSED, throttleReadBpsDevice=[{"major": 999, "minor": 99, "rate": _MB}]),
    Case("hugepages", {"linux.resources.hugepageLimits": [{"pageSize": "2MB", "limit": 4 * _MB}]}, cgroup=("hugetlb/hugetlb.2MB.max",),
         expect={"cgroup hugetlb/hugetlb.2MB.max": str(4 * _MB)}),
    Case("hugepages-unknown-size", {"linux.resources.hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}, expect={"started": "no"}),
    Case("network-class", {"linux.resources.network": {"classID": 0x100001}}, expect=_REFUSED),
    Case("rdma", {"linux.resources.rdma": {"mlx5_1": {"hcaHandles": 3}}}, expect=_REFUSED),
    Case("unified", {"linux.resources.unified": {"memory.high": "100000"}}, expect=_REFUSED),
)  # fmt: skip

PATHS = (
    Case("path-unsaid", {"linux.cgroupsPath": DELETE}),
    Case("path-relative", {"linux.cgroupsPath": "@id@"}),
    Case("path-dots", {"linux.cgroupsPath": "/../../@id@"}, expect=_REFUSED),
    Case("path-below", {"linux.cgroupsPath": "/@id@/below"}),
)

_NO_HUGETLB = "looks for hugetlb on cgroup v1 only, and here it is on v2"
_OWN = "makes cgroups from the root of the hierarchies; runc from its own cgroup, unless the path is absolute"

KNOWN: dict[str, tuple[Known, ...]] = {
    "memory-zero": (crun("started", "sets a limit of 0; runc takes it as unset"),),
    "memory-swappiness-too-high": (crun("started", "sets what the kernel takes"),),
    "memory-kernel": (runc("cgroup memory/memory.kmem.tcp.limit_in_bytes", "ignores kernelTCP"),),
    "memory-kernel-tcp": (runc("cgroup memory/memory.kmem.tcp.limit_in_bytes", "ignores kernelTCP"),),
    "cpu-shares-too-small": (crun("started", "lets the kernel raise it to 2"),),
    "cpu-quota-unlimited": (crun("started", "writes -1 as an unsigned number"),),
    "cpu-burst": (
        runc("cgroup cpu/cpu.cfs_burst_us", "ignores burst"),
        crun("cgroup cpu/cpu.cfs_burst_us", "ignores burst"),
    ),
    "cpu-idle": (runc("cgroup cpu/cpu.idle", "ignores idle"), runc("cgroup cpu/cpu.shares", "ignores idle")),
    "pids-unlimited": (crun("started", "writes -1 into pids.max"),),
    "blkio-weight": (crun("started", "knows only blkio.weight, which went with CFQ"),),
    "hugepages": (runc("started", _NO_HUGETLB), crun("started", _NO_HUGETLB)),
    "rdma": (crun("started", "ignores rdma on cgroup v1"),),
    "path-unsaid": (crun("cgroup of memory", _OWN), crun("mount /sys/fs/cgroup/memory", _OWN)),
    "path-relative": (crun("cgroup of memory", _OWN), crun("mount /sys/fs/cgroup/memory", _OWN)),
    "path-dots": (runc("started", "cleans the path first"),),
}

CASES = with_known((*MEMORY, *CPU, *OTHERS, *PATHS), KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
