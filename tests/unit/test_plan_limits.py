"""Other limits in a Plan: what a fresh Plan with these limits would do, and nothing else of it changed."""

from __future__ import annotations

from typing import Any

import pytest
from pycontain._ffi import ffi, lib

from pycontain.disassemble import DecodedPlan, decode
from pycontain.limits import cgroups, path_of
from pycontain.ops import CLONE_NS
from pycontain.plan import Place, plan
from pycontain.plan_exec import OwnCgroup, Wish, inherited, plan_exec
from pycontain.plan_limits import NewLimits, with_limits
from pycontain.request import RunRequest
from pycontain.runtime.roots import Roots
from pycontain.runtime.shapes import prepare_spec
from tests.unit.plan_cases import HOSTS, HYBRID

PLACE = Place(container_id="c" * 64, directory="/d", cgroup_parent="/pycontain/OWNER", kept=True)


def start(facts: Any = HYBRID, **options: Any) -> bytes:
    request = RunRequest(image="host", args=("sleep", "9"), seccomp="unconfined", **options)
    return plan(prepare_spec(request, Roots(), facts, container_id="c" * 64), facts, PLACE).data


def changes(facts: Any = HYBRID, **options: Any) -> tuple[NewLimits, ...]:
    request = RunRequest(image="host", seccomp="unconfined", **options)
    resources = prepare_spec(request, Roots(), facts, container_id="c" * 64).linux.resources
    made = cgroups(resources, facts)
    return tuple(
        NewLimits(path=path_of(each, PLACE.cgroup_parent, PLACE.container_id), version=each.version, writes=each.writes)
        for each in made
        if not each.shared and each.writes
    )


def is_whole(data: bytes) -> bool:
    where = ffi.new("uint32_t *")
    return bool(lib.pc_plan_check(data, len(data), where) == 0)


def writes(found: DecodedPlan) -> set[tuple[str, str, str]]:
    """(cgroup, file, value)"""
    paths = {op.slot: op.s1 for op in found.prepare if op.name in ("CGROUP_MAKE", "CGROUP_OPEN")}
    return {(paths[op.slot], op.s1, op.s2) for op in found.prepare if op.name == "CGROUP_WRITE"}


LIMITS: dict[str, Any] = {
    "memory_bytes": 64 << 20, "memory_swap_bytes": 96 << 20, "pids_limit": 50, "cpus": 0.5, "cpu_shares": 300, "cpuset_cpus": "0",
}  # fmt: skip


@pytest.mark.parametrize("facts", [HYBRID, HOSTS["v2-6.6"]], ids=["v1", "v2"])
@pytest.mark.parametrize(
    "before", [{}, {"memory_bytes": 32 << 20}, {**LIMITS, "pids_limit": 7}], ids=["none", "some", "all"]
)
def test_it_does_what_a_fresh_plan_does(facts: Any, before: dict[str, Any]) -> None:
    data = with_limits(start(facts, **before), changes(facts, **LIMITS))
    assert is_whole(data)
    found, fresh = decode(data), decode(start(facts, **LIMITS))
    assert writes(found) == writes(fresh)
    for name in ("CGROUP_MAKE", "CGROUP_OPEN"):
        assert {op.s1 for op in found.prepare if op.name == name} == {op.s1 for op in fresh.prepare if op.name == name}
    joined = [[op.name for op in each.child].count("CGROUP_JOIN") for each in (found, fresh)]
    assert joined[0] == joined[1]
    ends = [{op.s1 for op in each.finish if op.name == "CGROUP_REMOVE"} for each in (found, fresh)]
    assert ends[0] == ends[1]
    assert (found.args, found.env, found.flags, found.clone_flags) == (
        fresh.args,
        fresh.env,
        fresh.flags,
        fresh.clone_flags,
    )
    rest = [
        [(op.name, op.x) for op in each.child if op.name != "CGROUP_JOIN"]
        for each in (found, decode(start(facts, **before)))
    ]
    assert rest[0] == rest[1]


def test_a_setting_that_is_there_is_replaced_and_not_written_twice() -> None:
    data = start(**LIMITS)
    for limit in (70, 71, 72):
        data = with_limits(data, changes(**{**LIMITS, "pids_limit": limit}))
    found = [op.s2 for op in decode(data).prepare if op.s1 == "pids.max"]
    assert found == ["72"] and is_whole(data)


def test_joins_come_before_the_cgroup_namespace() -> None:
    names = [op.name for op in decode(with_limits(start(), changes(**LIMITS))).child]
    last = max(i for i, name in enumerate(names) if name == "CGROUP_JOIN")
    assert last < names.index("UNSHARE")


def test_an_exec_joins_what_it_does_not_make() -> None:
    wish = Wish(namespaces=CLONE_NS["mount"] | CLONE_NS["pid"], v1_cgroups=0, v2_cgroup=False)
    own = (
        OwnCgroup(path="/cg/memory/c/check", version=1, make=True),
        OwnCgroup(path="/cg/devices/x", version=1, make=False),
    )
    data = plan_exec(inherited(start()), wish, args=("true",), env=(), own=own).data
    found = decode(with_limits(data, (NewLimits(path="/cg/pids/c", version=1, writes=(("pids.max", "5"),)),)))
    assert is_whole(with_limits(data, (NewLimits(path="/cg/pids/c", version=1, writes=(("pids.max", "5"),)),)))
    assert [(op.name, op.s1) for op in found.prepare if op.name.startswith("CGROUP")] == [
        ("CGROUP_MAKE", "/cg/memory/c/check"), ("CGROUP_OPEN", "/cg/devices/x"), ("CGROUP_OPEN", "/cg/pids/c"),
    ]  # fmt: skip
    names = [op.name for op in found.child]
    assert names.count("CGROUP_JOIN") == 3 and max(i for i, n in enumerate(names) if n == "CGROUP_JOIN") < names.index(
        "SETNS"
    )
    assert [op.s1 for op in found.finish] == ["/cg/memory/c/check"]
