"""The systemd driver without a systemd: names, properties, the words of the call."""

from __future__ import annotations

import pytest

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.runtime import systemd
from pycontain.runtime.systemd import UnitName, arguments, properties, unit_name
from pycontain.spec.runtime import CPU, BlockIO, Memory, Resources
from tests.unit.plan_cases import HYBRID, pure_v2

V2 = pure_v2("cpu", "cpuset", "io", "memory", "pids")


@pytest.mark.parametrize(
    ("path", "slice_", "unit"),
    [
        ("", "system.slice", "pycontain-ID.scope"),
        ("machine.slice:libpod:abc", "machine.slice", "libpod-abc.scope"),
        (":docker:abc", "system.slice", "docker-abc.scope"),
        ("a-b.slice::abc", "a-b.slice", "abc.scope"),
    ],
)
def test_names(path: str, slice_: str, unit: str) -> None:
    assert unit_name(path, "ID") == UnitName(slice=slice_, unit=unit)


def test_a_users_manager_has_its_own_slice() -> None:
    assert unit_name("", "ID", user=True).slice == "user.slice"


@pytest.mark.parametrize(
    "path",
    ["/a/b", "a:b", "a:b:c:d", "x:y:", "system:a:b", "a/b.slice:c:d", "-a.slice:b:c", "a--b.slice:c:d", ":a:b c", ":a:b.slice"],
)  # fmt: skip
def test_what_is_no_name(path: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^linux\.cgroupsPath: "):
        unit_name(path, "ID")


def told(resources: Resources, facts: object = V2) -> dict[str, str]:
    return {p.name: f"{p.signature} {' '.join(p.value)}" for p in properties(resources, facts)}  # type: ignore[arg-type]


INFINITY = (1 << 64) - 1


def test_properties_of_v2() -> None:
    resources = Resources(
        memory=Memory(limit=100, reservation=50, swap=300), pids_limit=7, block_io=BlockIO(weight=500),
        cpu=CPU(shares=1024, quota=25000, period=50000, cpus="0-1,9", mems="0"),
        unified=(("memory.high", "90"), ("memory.oom.group", "1")),
    )  # fmt: skip
    assert told(resources) == {
        "MemoryMax": "t 100", "MemoryLow": "t 50", "MemorySwapMax": "t 200", "MemoryHigh": "t 90", "TasksMax": "t 7",
        "CPUWeight": "t 100", "CPUQuotaPeriodUSec": "t 50000", "CPUQuotaPerSecUSec": "t 500000", "IOWeight": "t 4950",
        "AllowedCPUs": "ay 2 3 2", "AllowedMemoryNodes": "ay 1 1",
    }  # fmt: skip


def test_no_limit_is_the_largest_number() -> None:
    resources = Resources(memory=Memory(limit=-1), pids_limit=-1, cpu=CPU(quota=-1))
    assert told(resources) == dict.fromkeys(
        ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUQuotaPerSecUSec"), f"t {INFINITY}"
    )


def test_a_quota_is_rounded_up_to_a_percent() -> None:
    assert told(Resources(cpu=CPU(quota=33333, period=100000)))["CPUQuotaPerSecUSec"] == "t 340000"


def test_properties_of_v1() -> None:
    resources = Resources(memory=Memory(limit=100, swap=200), cpu=CPU(shares=512, quota=50000, cpus="0"), pids_limit=7)
    assert told(resources, HYBRID) == {
        "MemoryLimit": "t 100", "CPUShares": "t 512", "TasksMax": "t 7", "CPUQuotaPeriodUSec": "t 100000",
        "CPUQuotaPerSecUSec": "t 500000",
    }  # fmt: skip


def test_nothing_asked_nothing_told() -> None:
    assert told(Resources()) == {}


def test_the_words_of_the_call() -> None:
    wanted = properties(Resources(pids_limit=7), V2)
    words = arguments(UnitName(slice="a.slice", unit="p-x.scope"), "a container", 42, wanted)
    assert words == [
        "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
        "StartTransientUnit", "ssa(sv)a(sa(sv))", "p-x.scope", "fail", "6",
        "Description", "s", "a container", "Slice", "s", "a.slice", "Delegate", "b", "true",
        "DefaultDependencies", "b", "false", "PIDs", "au", "1", "42", "TasksMax", "t", "7", "0",
    ]  # fmt: skip


def test_without_systemd_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "running", lambda: False)
    scope = systemd.Scope(unit_name("", "ID"))
    with pytest.raises(Unsupported, match="it is not running"):
        scope.start(Resources(), V2, "a container")
    assert scope.holder == 0
