"""Every field of linux.resources: written in both dialects, refused where there is none, out of range."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pycontain import limits
from pycontain.errors import InvalidArgument, PycontainError, Unsupported
from pycontain.host import Controller, HostFacts
from pycontain.limits.cpu import _weight
from pycontain.spec.runtime import (
    CPU,
    BlockIO,
    DeviceRule,
    HugepageLimit,
    InterfacePriority,
    Memory,
    Network,
    Rdma,
    Resources,
    ThrottleDevice,
    WeightDevice,
)
from tests.unit.plan_cases import DEVICE_RULES, HYBRID, pure_v2

V1_NAMES = (
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "pids",
    "rdma",
)
V1 = HostFacts(
    kernel=(6, 1),
    controllers={n: Controller(version=1, mount=f"/sys/fs/cgroup/{n}") for n in V1_NAMES},
    cpuset_cpus="0-1",
    swap_accounting=True,
    memory_files=frozenset(("blkio.bfq.weight", "memory.memsw.limit_in_bytes")),
)
V2 = pure_v2("cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma")


def written(resources: Resources, facts: HostFacts) -> list[tuple[str, str]]:
    """All writes but the device rules, in order."""
    return [w for g in limits.cgroups(resources, facts) for w in g.writes if not w[0].startswith("devices.")]


def memory(**fields: Any) -> Resources:
    return Resources(memory=Memory(**fields))


def cpu(**fields: Any) -> Resources:
    return Resources(cpu=CPU(**fields))


def block_io(**fields: Any) -> Resources:
    return Resources(block_io=BlockIO(**fields))


# resources, v1's writes in order, v2's; None: refused there
CASES: list[tuple[Resources, list[tuple[str, str]] | None, list[tuple[str, str]] | None]] = [
    (memory(swappiness=10), [("memory.swappiness", "10")], None),
    (memory(disable_oom_killer=True), [("memory.oom_control", "1")], None),
    (memory(kernel_tcp=1 << 20), [("memory.kmem.tcp.limit_in_bytes", "1048576")], None),
    (memory(kernel=1 << 20), None, None),
    (memory(use_hierarchy=False), None, None),
    (memory(kernel=-1, kernel_tcp=-1, use_hierarchy=True, disable_oom_killer=False, check_before_update=True), [], []),
    (memory(limit=0, reservation=0, swap=0), [], []),
    (memory(limit=-1), [("memory.limit_in_bytes", "-1")], [("memory.max", "max"), ("memory.swap.max", "max")]),
    (
        memory(limit=10, swap=10),
        [("memory.limit_in_bytes", "10"), ("memory.memsw.limit_in_bytes", "10")],
        [("memory.max", "10"), ("memory.swap.max", "0")],
    ),
    (cpu(period=50000), [("cpu.cfs_period_us", "50000")], [("cpu.max", "max 50000")]),
    (
        cpu(quota=20000),
        [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "20000")],
        [("cpu.max", "20000 100000")],
    ),
    (
        cpu(quota=-1),
        [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "-1")],
        [("cpu.max", "max 100000")],
    ),
    (
        cpu(quota=20000, period=50000, burst=10000),
        [("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "20000"), ("cpu.cfs_burst_us", "10000")],
        [("cpu.max", "20000 50000"), ("cpu.max.burst", "10000")],
    ),
    (cpu(idle=1), [("cpu.idle", "1")], [("cpu.idle", "1")]),
    (cpu(shares=512, idle=1), [("cpu.shares", "512"), ("cpu.idle", "1")], [("cpu.weight", "59"), ("cpu.idle", "1")]),
    (cpu(shares=512, idle=0), [("cpu.idle", "0"), ("cpu.shares", "512")], [("cpu.idle", "0"), ("cpu.weight", "59")]),
    (
        cpu(realtime_period=1000000, realtime_runtime=5000),
        [("cpu.rt_period_us", "1000000"), ("cpu.rt_runtime_us", "5000")],
        None,
    ),
    (cpu(mems="0"), [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")], [("cpuset.mems", "0")]),
    (cpu(cpus="0-1,3"), [("cpuset.cpus", "0-1,3"), ("cpuset.mems", "0")], [("cpuset.cpus", "0-1,3")]),
    (block_io(weight=300), [("blkio.bfq.weight", "300")], [("io.weight", "default 2930")]),
    (
        block_io(weight_device=(WeightDevice(major=8, minor=0, weight=10),)),
        [("blkio.bfq.weight_device", "8:0 10")],
        [("io.weight", "8:0 1")],
    ),
    (block_io(leaf_weight=10), None, None),
    (
        block_io(throttle_write_bps_device=(ThrottleDevice(major=8, minor=0, rate=0),)),
        [("blkio.throttle.write_bps_device", "8:0 0")],
        [("io.max", "8:0 wbps=max")],
    ),
    (Resources(pids_limit=0), [("pids.max", "1")], [("pids.max", "1")]),
    (
        Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=4 << 20),)),
        [("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"), ("hugetlb.2MB.limit_in_bytes", "4194304")],
        [("hugetlb.2MB.rsvd.max", "4194304"), ("hugetlb.2MB.max", "4194304")],
    ),
    (
        Resources(
            rdma=(Rdma(device="mlx5_1", hca_handles=3, hca_objects=4294967295), Rdma(device="rxe3", hca_objects=1))
        ),
        [("rdma.max", "mlx5_1 hca_handle=3 hca_object=max"), ("rdma.max", "rxe3 hca_object=1")],
        [("rdma.max", "mlx5_1 hca_handle=3 hca_object=max"), ("rdma.max", "rxe3 hca_object=1")],
    ),
    (Resources(network=Network(class_id=1048577)), [("net_cls.classid", "1048577")], None),
    (
        Resources(network=Network(priorities=(InterfacePriority(name="eth0", priority=5),))),
        [("net_prio.ifpriomap", "eth0 5")],
        None,
    ),
    (Resources(unified=(("memory.high", "100"),)), None, [("memory.high", "100")]),
    (
        Resources(unified=(("io.max", "8:0 rbps=1\n8:16 wiops=2\n"), ("cgroup.max.depth", "3"), ("misc.max", "x 1"))),
        None,
        [("io.max", "8:0 rbps=1"), ("io.max", "8:16 wiops=2"), ("misc.max", "x 1"), ("cgroup.max.depth", "3")],
    ),
    (Resources(unified=(("cpuset.cpus", ""),)), None, [("cpuset.cpus", "\n")]),
    (
        Resources(memory=Memory(limit=10), unified=(("memory.max", "20"),)),
        None,
        [("memory.max", "10"), ("memory.max", "20")],
    ),
]


@pytest.mark.parametrize(("resources", "v1", "v2"), CASES)
def test_each_field_in_each_dialect(
    resources: Resources, v1: list[tuple[str, str]] | None, v2: list[tuple[str, str]] | None
) -> None:
    for facts, wanted in ((V1, v1), (V2, v2)):
        if wanted is None:
            with pytest.raises(Unsupported):
                limits.cgroups(resources, facts)
        else:
            assert written(resources, facts) == wanted


@pytest.mark.parametrize(("resources", "v1", "v2"), CASES)
def test_each_field_is_refused_or_empty_without_cgroups(
    resources: Resources, v1: list[tuple[str, str]] | None, v2: list[tuple[str, str]] | None
) -> None:
    if v1 == [] and v2 == []:
        assert limits.cgroups(resources, HostFacts(kernel=(6, 1))) == ()
        return
    with pytest.raises(Unsupported):
        limits.cgroups(resources, HostFacts(kernel=(6, 1)))


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (memory(limit=-2), "memory.limit"),
        (memory(reservation=-5), "memory.reservation"),
        (memory(swappiness=101), "memory.swappiness"),
        (memory(limit=10, swap=9), "memory.swap"),
        (cpu(shares=1), "cpu.shares"),
        (cpu(shares=262145), "cpu.shares"),
        (cpu(quota=999), "cpu.quota"),
        (cpu(period=999), "cpu.period"),
        (cpu(period=1000001), "cpu.period"),
        (cpu(quota=2000, burst=2001), "cpu.burst"),
        (cpu(burst=-1), "cpu.burst"),
        (cpu(idle=2), "cpu.idle"),
        (cpu(realtime_runtime=-2), "cpu.realtimeRuntime"),
        (cpu(cpus="0;1"), "cpu.cpus"),
        (cpu(cpus="0", mems="a"), "cpu.mems"),
        (block_io(weight=9), "blockIO.weight"),
        (block_io(weight=1001), "blockIO.weight"),
        (block_io(weight_device=(WeightDevice(major=8, minor=0),)), "blockIO.weightDevice[0]"),
        (block_io(weight_device=(WeightDevice(major=8, minor=0, weight=5),)), "blockIO.weightDevice[0].weight"),
        (block_io(throttle_read_iops_device=(ThrottleDevice(major=-1, minor=0, rate=1),)), "blockIO.throttleReadIOPSDevice[0].major"),
        (block_io(throttle_read_bps_device=(ThrottleDevice(major=1, minor=0, rate=-1),)), "blockIO.throttleReadBpsDevice[0].rate"),
        (Resources(pids_limit=-2), "pids.limit"),
        (Resources(hugepage_limits=(HugepageLimit(page_size="2M", limit=1),)), "hugepageLimits[0].pageSize"),
        (Resources(hugepage_limits=(HugepageLimit(page_size="../2MB", limit=1),)), "hugepageLimits[0].pageSize"),
        (Resources(hugepage_limits=(HugepageLimit(page_size="2MB", limit=-1),)), "hugepageLimits[0].limit"),
        (Resources(rdma=(Rdma(device="mlx5_1"),)), "rdma.mlx5_1"),
        (Resources(rdma=(Rdma(device="a b", hca_handles=1),)), "rdma"),
        (Resources(rdma=(Rdma(device="a", hca_handles=-1),)), "rdma.a.hcaHandles"),
        (Resources(devices=(DeviceRule(allow=True, access="x"),)), "devices[0].access"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("facts", [V1, V2], ids=["v1", "v2"])
def test_a_value_out_of_range_names_its_json_path(resources: Resources, field: str, facts: HostFacts) -> None:
    with pytest.raises(InvalidArgument) as caught:
        limits.cgroups(resources, facts)
    assert str(caught.value).startswith(f"linux.resources.{field}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (Resources(network=Network(class_id=-1)), "network.classID"),
        (Resources(network=Network(priorities=(InterfacePriority(name="", priority=1),))), "network.priorities[0].name"),
        (Resources(network=Network(priorities=(InterfacePriority(name="e", priority=-1),))), "network.priorities[0].priority"),
    ],
)  # fmt: skip
def test_network_values_out_of_range(resources: Resources, field: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^linux\.resources\.{field.replace('[', '.').replace(']', '.')}: "):
        limits.cgroups(resources, V1)


@pytest.mark.parametrize(
    ("key", "phrase"),
    [
        ("../memory.max", "expected the name of a file"),
        ("memory", "expected the name of a file"),
        ("memory.", "expected the name of a file"),
        (".max", "expected the name of a file"),
        ("memory.max/x", "expected the name of a file"),
        ("cgroup.procs", "sets no limit"),
        ("cgroup.freeze", "sets no limit"),
        ("cgroup.subtree_control", "sets no limit"),
    ],
)
def test_a_unified_key_that_is_no_limit(key: str, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase):
        limits.cgroups(Resources(unified=((key, "1"),)), V2)


def test_a_unified_key_of_a_controller_that_is_elsewhere() -> None:
    for facts in (HYBRID, pure_v2("cpu")):
        with pytest.raises(Unsupported, match=r"unified memory\.max: this host has no memory|unified memory\.max"):
            limits.cgroups(Resources(unified=(("memory.max", "1"),)), facts)
    assert written(Resources(unified=(("hugetlb.2MB.max", "0"),)), HYBRID) == [("hugetlb.2MB.max", "0")]


def test_weights_keep_both_ends_and_the_default() -> None:
    assert [_weight(s) for s in (2, 1024, 262144)] == [1, 100, 10000]
    all_of_them = [_weight(s) for s in range(2, 4096)]
    assert all_of_them == sorted(all_of_them)


def test_old_kernels_say_what_they_lack() -> None:
    for resources, version in ((cpu(burst=1), "5.14"), (cpu(idle=1), "5.15")):
        with pytest.raises(Unsupported, match=f"needs Linux {version}; this kernel is 5.13"):
            limits.cgroups(resources, pure_v2(kernel=(5, 13)))
    resources = Resources(hugepage_limits=(HugepageLimit(page_size="1GB", limit=0),))
    assert written(resources, replace(V2, kernel=(5, 6))) == [("hugetlb.1GB.max", "0")]


def test_both_io_weights_where_both_exist() -> None:
    both = replace(V2, memory_files=frozenset(("io.weight", "io.bfq.weight")))
    assert written(block_io(weight=500), both) == [("io.bfq.weight", "500"), ("io.weight", "default 4950")]
    bfq = replace(V2, memory_files=frozenset(("io.bfq.weight",)))
    assert written(block_io(weight=500), bfq) == [("io.bfq.weight", "500")]


# --- cgroupsPath ------------------------------------------------------------------------------------------------------


def paths(cgroups_path: str, facts: HostFacts) -> set[str]:
    made = limits.cgroups(Resources(devices=DEVICE_RULES), facts, cgroups_path)
    assert all(g.existing for g in made) or not cgroups_path
    return {limits.path_of(g, "/pycontain/OWNER", "ID") for g in made}


def test_an_absolute_path_is_below_each_mount() -> None:
    assert paths("/a/b/", replace(V2, cgroup_base="/base")) == {"/sys/fs/cgroup/a/b"}
    found = paths("/a/b", V1)
    assert found == {
        f"/sys/fs/cgroup/{n}/a/b" for n in ("blkio", "cpu", "cpuacct", "devices", "freezer", "memory", "pids")
    }


def test_a_relative_path_is_below_our_base_whoever_starts_it() -> None:
    assert paths("a/b", replace(V2, cgroup_base="/base")) == {"/sys/fs/cgroup/base/pycontain/a/b"}


def test_no_path_is_the_owners_place() -> None:
    assert paths("", replace(V2, cgroup_base="/base")) == {"/sys/fs/cgroup/base/pycontain/OWNER/ID"}


@pytest.mark.parametrize("path", ["..", "/a/../b", "a/..", "/", "//", "a//b", "/./a", "/" + "x" * 256, "/a\nb"])
def test_a_path_that_leads_astray_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^linux\.cgroupsPath: "):
        limits.cgroups(Resources(), V2, path)


# --- obstacles --------------------------------------------------------------------------------------------------------


def test_a_controller_that_cannot_be_used_says_why() -> None:
    blocked = Controller(version=2, mount="/sys/fs/cgroup", obstacle="it is not delegated to /sys/fs/cgroup/x")
    facts = replace(V2, controllers={**V2.controllers, "memory": blocked}, cgroup_base="/x")
    with pytest.raises(PycontainError, match="the memory controller cannot be used: it is not delegated to"):
        limits.cgroups(memory(limit=1), facts)
    (group,) = limits.cgroups(Resources(), facts)  # accounts are had as far as they can be
    assert "memory" not in group.controllers and "cpu" in group.controllers
    assert group.base == "/x"


def test_without_a_writable_cgroup_nothing_is_made_unless_it_is_needed() -> None:
    why = "/sys/fs/cgroup is mounted read-only"
    facts = HostFacts(
        kernel=(6, 1), unified="/sys/fs/cgroup", cgroup_obstacle=why,
        controllers={n: Controller(version=2, mount="/sys/fs/cgroup", obstacle=why) for n in ("cpu", "memory")},
    )  # fmt: skip
    assert limits.cgroups(Resources(), facts) == ()
    with pytest.raises(Unsupported, match="memory controller cannot be used: /sys/fs/cgroup is mounted read-only"):
        limits.cgroups(memory(limit=1), facts)
    with pytest.raises(Unsupported, match="cannot limit devices"):
        limits.cgroups(Resources(devices=DEVICE_RULES), facts)
