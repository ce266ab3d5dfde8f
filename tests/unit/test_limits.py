"""Limits: what is written where on v1, v2 and hybrid hosts; a missing controller; the device program, executed."""

from __future__ import annotations

import itertools
import struct

import pytest

from pycontain import limits
from pycontain.errors import InvalidArgument, Unsupported
from pycontain.host import Controller, HostFacts
from pycontain.spec.runtime import CPU, BlockIO, DeviceRule, Memory, Resources, ThrottleDevice
from tests.unit.plan_cases import DEVICE_RULES, HYBRID, pure_v2

V2 = pure_v2()
DISK = (ThrottleDevice(major=8, minor=16, rate=1000),)


def writes(resources: Resources, facts: HostFacts) -> dict[str, str]:
    """mount/file -> value, of every cgroup; a file that is written twice would be a surprise."""
    found: dict[str, str] = {}
    for group in limits.cgroups(resources, facts):
        for file, value in group.writes:
            assert file not in found
            found[file] = value
    return found


@pytest.mark.parametrize(
    ("resources", "v1", "v2"),
    [
        (
            Resources(memory=Memory(limit=1000, reservation=500, swap=3000)),
            {
                "memory.limit_in_bytes": "1000",
                "memory.soft_limit_in_bytes": "500",
                "memory.memsw.limit_in_bytes": "3000",
            },
            {"memory.max": "1000", "memory.low": "500", "memory.swap.max": "2000"},
        ),
        (
            Resources(memory=Memory(limit=-1, swap=-1)),
            {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"},
            {"memory.max": "max", "memory.swap.max": "max"},
        ),
        (
            Resources(cpu=CPU(quota=50000, period=200000)),
            {"cpu.cfs_period_us": "200000", "cpu.cfs_quota_us": "50000"},
            {"cpu.max": "50000 200000"},
        ),
        (Resources(cpu=CPU(shares=1024)), {"cpu.shares": "1024"}, {"cpu.weight": "100"}),
        (Resources(cpu=CPU(shares=2)), {"cpu.shares": "2"}, {"cpu.weight": "1"}),
        (Resources(cpu=CPU(shares=262144)), {"cpu.shares": "262144"}, {"cpu.weight": "10000"}),
        (Resources(pids_limit=32), {"pids.max": "32"}, {"pids.max": "32"}),
        (Resources(pids_limit=-1), {"pids.max": "max"}, {"pids.max": "max"}),
        (
            Resources(block_io=BlockIO(throttle_read_bps_device=DISK)),
            {"blkio.throttle.read_bps_device": "8:16 1000"},
            {"io.max": "8:16 rbps=1000"},
        ),
        (
            Resources(block_io=BlockIO(throttle_write_iops_device=DISK)),
            {"blkio.throttle.write_iops_device": "8:16 1000"},
            {"io.max": "8:16 wiops=1000"},
        ),
    ],
)
def test_each_limit_is_written_in_each_dialect(resources: Resources, v1: dict[str, str], v2: dict[str, str]) -> None:
    assert writes(resources, HYBRID) == v1
    assert writes(resources, V2) == v2


def test_a_cpuset_needs_memory_nodes_too() -> None:
    resources = Resources(cpu=CPU(cpus="0"))
    assert writes(resources, HYBRID) == {"cpuset.cpus": "0", "cpuset.mems": HYBRID.cpuset_mems}


def test_each_controller_where_it_lives() -> None:
    mixed = HostFacts(
        controllers={
            "memory": Controller(version=2, mount="/cg/unified"),
            "cpu": Controller(version=1, mount="/cg/cpu,cpuacct"),
            "cpuacct": Controller(version=1, mount="/cg/cpu,cpuacct"),
            "devices": Controller(version=1, mount="/cg/devices"),
        },
        unified="/cg/unified",
        swap_accounting=True,
    )
    resources = Resources(memory=Memory(limit=1000), cpu=CPU(quota=1000, period=2000), devices=DEVICE_RULES)
    made = {g.mount: g for g in limits.cgroups(resources, mixed)}
    assert made["/cg/unified"].writes == (("memory.max", "1000"),) and made["/cg/unified"].version == 2
    assert made["/cg/cpu,cpuacct"].controllers == ("cpu", "cpuacct")  # one cgroup for two controllers
    assert made["/cg/devices"].shared and not made["/cg/unified"].device_program


def test_the_default_is_accounted_and_unlimited() -> None:
    kinds = [k for g in limits.cgroups(Resources(), HYBRID) for k in g.usage]
    assert sorted(kinds) == [limits.USAGE_CPU_V1, limits.USAGE_MEMORY_V1, limits.USAGE_IO_V1]
    assert writes(Resources(), HYBRID) == {} == writes(Resources(), V2)
    (group,) = limits.cgroups(Resources(), pure_v2("pids"))  # a place for cpu.stat and cgroup.kill at least
    assert group.version == 2 and limits.USAGE_CPU_V2 in group.usage


@pytest.mark.parametrize(
    ("resources", "controller", "option"),
    [
        (Resources(memory=Memory(limit=1)), "memory", "--memory"),
        (Resources(cpu=CPU(quota=1)), "cpu", "--cpus"),
        (Resources(cpu=CPU(cpus="0")), "cpuset", "--cpuset-cpus"),
        (Resources(pids_limit=1), "pids", "--pids-limit"),
        (Resources(block_io=BlockIO(throttle_read_bps_device=DISK)), "blkio", "--device-*"),
    ],
)
def test_a_missing_controller_says_what_there_is_and_what_to_do(
    resources: Resources, controller: str, option: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        limits.cgroups(resources, pure_v2("hugetlb"))
    text = str(caught.value)
    assert text.startswith("cannot limit ")
    assert f"this host has no {controller} controller (cgroup v2 at /sys/fs/cgroup offers: hugetlb)" in text
    assert f"eave out {option}" in text or option in text


def test_no_cgroups_at_all() -> None:
    with pytest.raises(Unsupported, match=r"no memory controller \(no cgroups are mounted\)"):
        limits.cgroups(Resources(memory=Memory(limit=1)), HostFacts())


def test_device_rules_without_a_place_for_them_are_an_error() -> None:
    with pytest.raises(Unsupported, match="no devices controller"):
        limits.cgroups(Resources(devices=DEVICE_RULES), HostFacts())


def test_swap_that_is_not_accounted_is_an_error() -> None:
    facts = HostFacts(controllers={"memory": Controller(version=1, mount="/cg/memory")})
    with pytest.raises(Unsupported, match="swapaccount=1"):
        limits.cgroups(Resources(memory=Memory(limit=1, swap=2)), facts)


# --- device rules ------------------------------------------------------------------------------------------------

TYPES, ACCESS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}


def execute(program: bytes, kind: str, major: int, minor: int, access: str) -> bool:
    """A small interpreter of the eBPF instructions that device_program uses; jumps may only go forward, as verified."""
    context = struct.pack("<III", sum(ACCESS[a] for a in access) << 16 | TYPES[kind], major, minor)
    r = [0] * 11
    pc, code = 0, list(struct.iter_unpack("<BBhi", program))
    while True:
        op, registers, off, imm = code[pc]
        dst, src = registers & 15, registers >> 4
        pc += 1
        if op == 0x61:
            assert src == 1
            r[dst] = struct.unpack_from("<I", context, off)[0]
        elif op == 0xBC:
            r[dst] = r[src]
        elif op == 0xB4:
            r[dst] = imm & 0xFFFFFFFF
        elif op == 0x54:
            r[dst] &= imm & 0xFFFFFFFF
        elif op == 0x74:
            r[dst] >>= imm
        elif op == 0x56:
            assert off >= 0
            pc += off if r[dst] != imm & 0xFFFFFFFF else 0
        elif op == 0x16:
            pc += off if r[dst] == imm & 0xFFFFFFFF else 0
        elif op == 0x95:
            return bool(r[0])
        else:
            raise AssertionError(f"instruction {op:#x} is not one of ours")


def reachable(program: bytes) -> set[int]:
    """Instructions that some path leads to: the kernel's verifier refuses a program with others."""
    code, seen, todo = list(struct.iter_unpack("<BBhi", program)), set[int](), [0]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        op, _, off, _ = code[at]
        if op in (0x16, 0x56):
            todo.append(at + 1 + off)
        if op != 0x95:
            todo.append(at + 1)
    return seen


def expected(rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, access: str) -> bool:
    """For each kind of access the last rule that fits and names it decides; without one it is denied."""
    fitting = [
        r for r in reversed(rules)
        if r.major in (None, major) and r.minor in (None, minor) and r.type in ("a", kind)
    ]  # fmt: skip
    return all(next((r.allow for r in fitting if a in r.access), False) for a in access)


def decided_by_list(rules: tuple[DeviceRule, ...], kind: str, major: int, minor: int, access: str) -> bool:
    """What the kernel's v1 controller makes of device_writes: a default and exceptions (security/device_cgroup.c)."""
    default, exceptions = True, list[tuple[str, str, str, set[str]]]()
    for file, text in limits.device_writes(rules):
        if text == "a":
            default, exceptions = file == "devices.allow", []
            continue
        assert (file == "devices.allow") != default  # nothing is ever taken back
        exception_kind, numbers, words = text.split()
        exceptions.append((exception_kind, *numbers.split(":"), set(words)))  # type: ignore[arg-type]
    fitting = [e[3] for e in exceptions if e[0] == kind and e[1] in ("*", str(major)) and e[2] in ("*", str(minor))]
    if default:
        return not any(set(access) & words for words in fitting)
    return any(set(access) <= words for words in fitting)


RULE_SETS = (
    (),
    (DeviceRule(allow=True),),
    (DeviceRule(allow=False),),
    DEVICE_RULES,
    (DeviceRule(allow=False), DeviceRule(allow=True, type="c", major=1, minor=3, access="r")),
    (DeviceRule(allow=True), DeviceRule(allow=False, type="b")),
    (DeviceRule(allow=False), DeviceRule(allow=True), DeviceRule(allow=False, type="c", major=136, minor=3)),
    (DeviceRule(allow=True, type="c", major=1, access="r"), DeviceRule(allow=True, type="c", major=1, access="w")),
    (DeviceRule(allow=True, type="c", major=1, access="r"), DeviceRule(allow=True, type="c", minor=3, access="w")),
    (DeviceRule(allow=True, type="a", major=1, minor=3), DeviceRule(allow=False, type="c", access="w")),
    (DeviceRule(allow=True, type="a", access="rm"), DeviceRule(allow=True, type="b", major=0, access="w")),
)
HOLES = ((DeviceRule(allow=True, type="a", major=1), DeviceRule(allow=False, type="c", major=1, minor=5)),)
REQUESTS = tuple(itertools.product("bc", (0, 1, 136), (0, 3, 5), ("m", "r", "w", "rw", "rwm")))


@pytest.mark.parametrize("rules", (*RULE_SETS, *HOLES))
def test_the_device_program_decides_as_the_rules_say(rules: tuple[DeviceRule, ...]) -> None:
    program = limits.device_program(rules)
    for kind, major, minor, access in REQUESTS:
        got = execute(program, kind, major, minor, access)
        assert got == expected(rules, kind, major, minor, access), (kind, major, minor, access)


@pytest.mark.parametrize("rules", RULE_SETS)
def test_no_instruction_is_out_of_reach(rules: tuple[DeviceRule, ...]) -> None:
    program = limits.device_program(rules)
    assert reachable(program) == set(range(len(program) // 8))


@pytest.mark.parametrize("rules", RULE_SETS)
def test_the_list_of_v1_decides_the_same(rules: tuple[DeviceRule, ...]) -> None:
    for kind, major, minor, access in REQUESTS:
        got = decided_by_list(rules, kind, major, minor, access)
        assert got == expected(rules, kind, major, minor, access), (kind, major, minor, access)


def test_v1_refuses_a_hole_that_it_would_ignore() -> None:
    with pytest.raises(Unsupported, match=r"devices\[1\]: cgroup v1 cannot take 'c 1:5 rwm' out of .*'c 1:\* rwm'"):
        limits.device_writes(HOLES[0])


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (DeviceRule(allow=True, access=""), "access"),
        (DeviceRule(allow=True, access="rx"), "access"),
        (DeviceRule(allow=True, type="p"), "type"),
        (DeviceRule(allow=True, type="c", major=-1), "major"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(rule: DeviceRule, field: str) -> None:
    for render in (limits.device_writes, limits.device_program):
        with pytest.raises(InvalidArgument, match=rf"devices\[0\]\.{field}: "):
            render((rule,))


def test_a_partial_denial_holds_against_a_wider_request() -> None:
    """Denied writing, a program could otherwise open for reading and writing at once."""
    rules = (DeviceRule(allow=True), DeviceRule(allow=False, type="c", major=1, minor=3, access="w"))
    assert not execute(limits.device_program(rules), "c", 1, 3, "rw")


def test_device_rules_in_the_words_of_v1() -> None:
    assert limits.device_writes(DEVICE_RULES) == (
        ("devices.deny", "a"),
        ("devices.allow", "c *:* m"),
        ("devices.allow", "c 1:3 rwm"),
        ("devices.allow", "c 136:* rwm"),
    )


def test_equal_rules_share_a_cgroup_and_others_do_not() -> None:
    assert limits.device_group_name(DEVICE_RULES) == limits.device_group_name(DEVICE_RULES)
    names = {limits.device_group_name(r) for r in RULE_SETS}
    assert len(names) == len({limits.device_writes(r) for r in RULE_SETS}) > 5
