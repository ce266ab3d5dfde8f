"""Every field of linux.resources that cgroup v2 has: what kernel 6.1 keeps of it."""

from __future__ import annotations

import os

import pytest

import pycontain
from pycontain.errors import SetupFailed, Unsupported
from pycontain.host import probe
from pycontain.runtime import cgroups
from pycontain.spec.runtime import (
    CPU,
    BlockIO,
    HugepageLimit,
    Memory,
    Network,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from tests.own_documents import with_resources

MB = 1 << 20
DISK = os.stat("/dev/vda").st_rdev
NUMBER = f"{os.major(DISK)}:{os.minor(DISK)}"


def kept(resources: Resources, *files: str) -> list[str]:
    with with_resources(resources), pycontain.Container("host", ["sleep", "1000"], stop_timeout=0) as c:
        (member,) = c._running.members()
        found = []
        for file in files:
            with open(f"{member.directory}/{file}", encoding="ascii") as f:
                found.append(f.read().strip())
        return found


def rate(n: int) -> tuple[ThrottleDevice, ...]:
    return (ThrottleDevice(major=os.major(DISK), minor=os.minor(DISK), rate=n),)


def test_every_controller_of_this_kernel_can_be_used() -> None:
    facts = probe(fresh=True)
    assert {"cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"} <= set(facts.controllers)
    assert not any(c.obstacle for c in facts.controllers.values())
    assert (facts.cgroup_base, facts.cgroup_obstacle) == ("", "")


def test_memory() -> None:
    asked = Memory(limit=64 * MB, reservation=32 * MB, swap=96 * MB)
    assert kept(Resources(memory=asked), "memory.max", "memory.low", "memory.swap.max") == [
        str(64 * MB), str(32 * MB), str(32 * MB),
    ]  # fmt: skip
    assert kept(Resources(memory=Memory(limit=-1)), "memory.max", "memory.swap.max") == ["max", "max"]


def test_cpu() -> None:
    asked = CPU(shares=1024, quota=50000, period=200000, burst=20000, cpus="0", mems="0")
    files = ("cpu.weight", "cpu.max", "cpu.max.burst", "cpuset.cpus", "cpuset.mems")
    assert kept(Resources(cpu=asked), *files) == ["100", "50000 200000", "20000", "0", "0"]
    assert kept(Resources(cpu=CPU(period=50000)), "cpu.max") == ["max 50000"]
    assert kept(Resources(cpu=CPU(shares=2, idle=1)), "cpu.idle") == ["1"]


def test_block_io() -> None:
    asked = BlockIO(
        weight=500, throttle_read_bps_device=rate(5 * MB), throttle_write_bps_device=rate(6 * MB),
        throttle_read_iops_device=rate(70), throttle_write_iops_device=rate(80),
    )  # fmt: skip
    weight, rates = kept(Resources(block_io=asked), "io.weight", "io.max")
    assert weight.splitlines()[0] == "default 4950"
    assert rates == f"{NUMBER} rbps={5 * MB} wbps={6 * MB} riops=70 wiops=80"
    assert kept(Resources(block_io=BlockIO(throttle_read_bps_device=rate(0))), "io.max") == [""]


def test_weight_of_one_device() -> None:
    weighed = BlockIO(weight_device=(WeightDevice(major=os.major(DISK), minor=os.minor(DISK), weight=10),))
    with pytest.raises(SetupFailed, match=rf"set io.weight to '{NUMBER} 1': .*nothing weighs this device.*ENOTSUP"):
        kept(Resources(block_io=weighed), "io.weight")
    with open("/sys/fs/cgroup/io.cost.qos", "w", encoding="ascii") as f:
        f.write(f"{NUMBER} enable=1")
    try:
        (weights,) = kept(Resources(block_io=weighed), "io.weight")
        assert f"{NUMBER} 1" in weights.splitlines()
    finally:
        with open("/sys/fs/cgroup/io.cost.qos", "w", encoding="ascii") as f:
            f.write(f"{NUMBER} enable=0")


def test_pids() -> None:
    assert kept(Resources(pids_limit=20), "pids.max") == ["20"]
    assert kept(Resources(pids_limit=-1), "pids.max") == ["max"]
    assert kept(Resources(pids_limit=0), "pids.max") == ["1"]


def test_huge_pages() -> None:
    asked = Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 * MB),))
    assert kept(asked, "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max") == [str(4 * MB)] * 2


def test_a_reservation_of_huge_pages_above_the_limit_is_refused_at_once() -> None:
    with open("/proc/sys/vm/nr_hugepages", "w", encoding="ascii") as f:
        f.write("4")
    asked = Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=2 * MB),))
    script = (
        "import mmap\nfor pages in (1, 2):\n"
        " try: mmap.mmap(-1, pages << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000).close(); print('yes')\n"
        " except OSError as e: print(e.errno)\n"
    )
    try:
        with with_resources(asked):
            r = pycontain.run("host", ["python3", "-I", "-S", "-c", script], text=True)
        assert str(r.stdout).split() == ["yes", "12"], r.stderr
    finally:
        with open("/proc/sys/vm/nr_hugepages", "w", encoding="ascii") as f:
            f.write("0")


def test_rdma_of_a_device_that_is_not_there() -> None:
    asked = Resources(rdma=(Rdma(device="mlx5_1", hca_handles=3),))
    with with_resources(asked), pytest.raises(SetupFailed, match=r"set rdma.max to 'mlx5_1 hca_handle=3': .*\(E"):
        pycontain.run("host", ["true"])


def test_unified() -> None:
    keys = (
        ("memory.high", str(48 * MB)),
        ("memory.oom.group", "1"),
        ("cgroup.max.depth", "2"),
        ("io.max", f"{NUMBER} rbps=1048576\n{NUMBER} wiops=9"),
    )
    files = ("memory.high", "memory.oom.group", "cgroup.max.depth", "io.max")
    assert kept(Resources(unified=keys), *files) == [
        str(48 * MB), "1", "2", f"{NUMBER} rbps=1048576 wbps=max riops=max wiops=9",
    ]  # fmt: skip


def test_a_unified_file_that_is_not_there() -> None:
    with (
        with_resources(Resources(unified=(("memory.nonsense", "1"),))),
        pytest.raises(SetupFailed, match=r"set memory.nonsense to '1': this kernel has no such setting \(ENOENT\)"),
    ):
        pycontain.run("host", ["true"])
    with (
        with_resources(Resources(unified=(("net_cls.classid", "1"),))),
        pytest.raises(Unsupported, match="this host has no net_cls controller"),
    ):
        pycontain.run("host", ["true"])


@pytest.mark.parametrize(
    ("resources", "phrase"),
    [
        (Resources(memory=Memory(swappiness=3)), "memory.swappiness: cgroup v2 has no swappiness"),
        (Resources(memory=Memory(disable_oom_killer=True)), "memory.disableOOMKiller: cgroup v2 cannot"),
        (Resources(cpu=CPU(realtime_runtime=1000)), "cpu.realtimeRuntime: cgroup v2 has no limit"),
        (Resources(network=Network(class_id=1)), "no net_cls controller"),
    ],
)
def test_what_v2_does_not_have(resources: Resources, phrase: str) -> None:
    with with_resources(resources), pytest.raises(Unsupported, match=phrase):
        pycontain.run("host", ["true"])


def test_misc_counts_what_this_machine_has() -> None:
    with open("/sys/fs/cgroup/misc.capacity", encoding="ascii") as f:
        kinds = f.read().split()[::2]
    asked = Resources(unified=(("misc.max", f"{kinds[0] if kinds else 'sev'} 1"),))
    if kinds:
        assert f"{kinds[0]} 1" in kept(asked, "misc.max")[0]
    else:  # no SEV here: the file is there, its resource is not
        with with_resources(asked), pytest.raises(SetupFailed, match=r"set misc.max to 'sev 1': .*EINVAL"):
            pycontain.run("host", ["true"])


def test_pressure_of_a_container_that_waits() -> None:
    busy = "for n in 1 2 3 4; do (while :; do :; done) & done; wait"
    with pycontain.Container("host", ["sh", "-c", busy], stop_timeout=0, cpus=0.2) as c:
        before = c.pressure().cpu.some.total_us
        while c.stats().cpu_s < 0.2:
            assert c.poll() is None
        found = c.pressure()
    assert found.cpu.some.total_us > before
    assert found.memory.full is not None and found.io.full is not None
    assert 0 <= found.cpu.some.avg10 <= 100


def test_memory_events_are_reported_to_who_polls() -> None:
    import select

    script = "read x; python3 -I -S -c 'bytearray(200 << 20)'; sleep 1000"
    with pycontain.Container(
        "host", ["sh", "-c", script], stdin=pycontain.PIPE, stop_timeout=0, memory="32m", memory_swap="32m"
    ) as c:
        fd = cgroups.open_events(c._running.members())
        poller = select.poll()
        poller.register(fd, select.POLLPRI)
        assert not poller.poll(0)
        assert c.stdin is not None
        c.stdin.write(b"go\n")
        while c.events().oom_kill == 0:
            assert poller.poll(30000), "nothing was reported within 30 s"
            os.pread(fd, 4096, 0)
        os.close(fd)
        assert c.events().max > 0
