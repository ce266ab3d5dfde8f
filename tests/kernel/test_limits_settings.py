"""Fields of linux.resources that no option of ours sets: what the kernel keeps of them, and how it decides."""

from __future__ import annotations

import dataclasses
import os

import pytest
from probes import cgroup_dirs, living

import pycontain
from pycontain import host
from pycontain.errors import SetupFailed
from pycontain.spec.runtime import (
    CPU,
    BlockIO,
    DeviceRule,
    HugepageLimit,
    Memory,
    Resources,
    WeightDevice,
)
from tests.own_documents import with_resources

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

MB = 1 << 20


def kept(resources: Resources, controller: str, *files: str) -> list[str]:
    """The first lines of ``files`` in a container's cgroup of ``controller``."""
    where = host.probe().controllers.get(controller)
    if where is None:
        pytest.skip(f"this host has no {controller} controller")
    with with_resources(resources), living() as c:
        directory = cgroup_dirs(c.pid)["" if where.version == 2 else controller]
        missing = [f for f in files if not (directory / f).exists()]
        if missing:
            pytest.skip(f"this kernel has no {missing[0]}")
        return [(directory / f).read_text().splitlines()[0] for f in files]


def v1(controller: str) -> None:
    where = host.probe().controllers.get(controller)
    if where is None or where.version == 2:
        pytest.skip(f"this host has no {controller} controller in cgroup v1")


def test_memory_of_v1() -> None:
    v1("memory")
    asked = Memory(limit=64 * MB, swap=64 * MB, swappiness=7, kernel_tcp=8 * MB, disable_oom_killer=True)
    files = ("memory.swappiness", "memory.kmem.tcp.limit_in_bytes", "memory.oom_control", "memory.memsw.limit_in_bytes")
    assert kept(Resources(memory=asked), "memory", *files) == ["7", str(8 * MB), "oom_kill_disable 1", str(64 * MB)]


def test_without_the_oom_killer_it_waits_and_can_be_killed() -> None:
    v1("memory")
    asked = Resources(memory=Memory(limit=16 * MB, swap=16 * MB, disable_oom_killer=True))
    with with_resources(asked):
        r = pycontain.run("host", ["head", "-c", "64000000", "/dev/zero"], stdout=pycontain.DEVNULL, timeout=20)
        assert r.exit_code == 0
        r = pycontain.run("host", ["python3", "-I", "-S", "-c", "bytearray(64 << 20)"], timeout=1)
    assert (r.timed_out, r.oom_killed) == (True, False)


def test_burst_and_idle() -> None:
    asked = CPU(quota=50000, period=100000, burst=20000)
    where = host.probe().controllers.get("cpu")
    file = "cpu.max.burst" if where is not None and where.version == 2 else "cpu.cfs_burst_us"
    assert kept(Resources(cpu=asked), "cpu", file) == ["20000"]
    assert kept(Resources(cpu=CPU(shares=512, idle=1)), "cpu", "cpu.idle") == ["1"]


def test_a_period_alone() -> None:
    v1("cpu")
    assert kept(Resources(cpu=CPU(period=50000)), "cpu", "cpu.cfs_period_us", "cpu.cfs_quota_us") == ["50000", "-1"]


def test_real_time() -> None:
    v1("cpu")
    asked = CPU(realtime_period=1000000, realtime_runtime=2000)
    assert kept(Resources(cpu=asked), "cpu", "cpu.rt_runtime_us", "cpu.rt_period_us") == ["2000", "1000000"]


def test_memory_nodes_alone() -> None:
    v1("cpuset")
    found = kept(Resources(cpu=CPU(mems="0")), "cpuset", "cpuset.mems", "cpuset.cpus")
    assert found == ["0", host.probe().cpuset_cpus]


def test_weights_of_bfq() -> None:
    v1("blkio")
    if "blkio.bfq.weight" not in host.probe().memory_files:
        pytest.skip("this kernel has no bfq scheduler")
    assert kept(Resources(block_io=BlockIO(weight=300)), "blkio", "blkio.bfq.weight") == ["300"]
    device = os.stat("/var/tmp").st_dev
    weighed = BlockIO(weight_device=(WeightDevice(major=os.major(device), minor=os.minor(device), weight=400),))
    try:
        with with_resources(Resources(block_io=weighed)), living() as c:
            text = (cgroup_dirs(c.pid)["blkio"] / "blkio.bfq.weight_device").read_text()
            assert "400" in text
    except SetupFailed as e:
        # a device that no bfq scheduler serves has no weight of its own: then the error says which file and value
        assert "set blkio.bfq.weight_device to" in str(e)


def test_huge_pages() -> None:
    where = host.probe().controllers.get("hugetlb")
    end = "max" if where is not None and where.version == 2 else "limit_in_bytes"
    asked = Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 * MB),))
    files = (f"hugetlb.2MB.rsvd.{end}", f"hugetlb.2MB.{end}")
    assert kept(asked, "hugetlb", *files) == [str(4 * MB)] * 2


def test_a_size_of_page_that_there_is_not() -> None:
    if "hugetlb" not in host.probe().controllers:
        pytest.skip("this host has no hugetlb controller")
    asked = Resources(hugepage_limits=(HugepageLimit(page_size="3MB", limit=4 * MB),))
    with (
        with_resources(asked),
        pytest.raises(SetupFailed, match=r"set hugetlb.3MB.*this kernel has no such setting \(ENOENT\)"),
    ):
        pycontain.run("host", ["true"])


def test_unified_files() -> None:
    where = host.probe().controllers.get("hugetlb")
    if where is None or where.version == 1:
        pytest.skip("this host has no hugetlb controller in cgroup v2")
    asked = Resources(unified=(("hugetlb.2MB.max", "2097152"), ("cgroup.max.depth", "3")))
    with with_resources(asked), living() as c:
        directory = cgroup_dirs(c.pid)[""]
        assert (directory / "hugetlb.2MB.max").read_text() == "2097152\n"
        assert (directory / "cgroup.max.depth").read_text() == "3\n"


# --- device rules, as the kernel decides them -------------------------------------------------------------------------

RULES = {
    "r and w of two rules": (DeviceRule(allow=True, type="c", major=1, access="r"), DeviceRule(allow=True, type="c", major=1, access="w")),
    "crossing rules": (DeviceRule(allow=True, type="c", major=1, access="r"), DeviceRule(allow=True, type="c", minor=5, access="w")),
    "all, then not writing": (DeviceRule(allow=True), DeviceRule(allow=False, type="c", major=1, minor=5, access="w")),
    "type a with numbers": (DeviceRule(allow=False), DeviceRule(allow=True, type="a", major=1, minor=5)),
    "type a, reading only": (DeviceRule(allow=True, type="a", access="r"),),
    "taken back": (DeviceRule(allow=True, type="c", major=1, minor=5), DeviceRule(allow=False, type="a")),
    "taken back in part": (DeviceRule(allow=True, type="c", major=1, minor=5), DeviceRule(allow=False, type="c", access="w")),
    "nothing said": (DeviceRule(allow=True, type="b"),),
}  # fmt: skip
DECIDED = {  # open for reading, for writing, for both
    "r and w of two rules": "yes yes yes",
    "crossing rules": "yes yes yes",
    "all, then not writing": "yes no no",
    "type a with numbers": "yes yes yes",
    "type a, reading only": "yes no no",
    "taken back": "no no no",
    "taken back in part": "yes no no",
    "nothing said": "no no no",
}
OPEN = """
import os
for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
    try: os.close(os.open('/dev/zero', mode)); print('yes', end=' ')
    except PermissionError: print('no', end=' ')
"""


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", RULES)
def test_both_versions_decide_the_same(name: str, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = host.probe()
    if version == 2 and not facts.unified:
        pytest.skip("this host has no cgroup v2")
    if version == 1:
        v1("devices")
    elif "devices" in facts.controllers:
        left = {n: c for n, c in facts.controllers.items() if n != "devices"}
        monkeypatch.setattr(host, "_memo", dataclasses.replace(facts, controllers=left))
    null = tuple(DeviceRule(allow=True, type="c", major=1, minor=m) for m in (3, 9))  # what Python itself opens
    with with_resources(Resources(devices=RULES[name] + null)):
        r = pycontain.run("host", ["/usr/bin/python3", "-I", "-S", "-c", OPEN], text=True, timeout=20)
    assert str(r.stdout).strip() == DECIDED[name], r.stderr
