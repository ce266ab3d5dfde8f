"""An exec's Plan: made from the start's own bytes; golden, and what must hold for any of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pycontain._ffi import ffi, lib

from pycontain import capabilities
from pycontain.disassemble import DecodedPlan, as_json, decode
from pycontain.errors import Unsupported
from pycontain.ops import CLONE_NS
from pycontain.plan import Place, plan
from pycontain.plan_exec import Wish, inherited, plan_exec
from pycontain.record import replaced
from pycontain.request import RunRequest, Ulimit
from pycontain.runtime.roots import Roots
from pycontain.runtime.shapes import prepare_spec
from pycontain.spec.runtime import IDMapping, RuntimeSpec
from tests.unit.golden import check
from tests.unit.plan_cases import HYBRID

PLACE = Place(container_id="c" * 64, directory="/d", cgroup_parent="/pycontain/OWNER")
OWN = CLONE_NS["mount"] | CLONE_NS["pid"] | CLONE_NS["network"] | CLONE_NS["ipc"] | CLONE_NS["uts"] | CLONE_NS["cgroup"]
FILTER = bytes(range(16))


def spec(**options: Any) -> RuntimeSpec:
    request = RunRequest(image="host", args=("sleep", "9"), seccomp="unconfined", **options)
    made = prepare_spec(request, Roots(), HYBRID, container_id="c" * 64)
    return replaced(made, linux=replaced(made.linux, seccomp=FILTER))


def data(of: RuntimeSpec, **wish: Any) -> bytes:
    whole = Wish(**{"namespaces": OWN, "v1_cgroups": 2, "v2_cgroup": False, **wish})
    return plan_exec(inherited(plan(of, HYBRID, PLACE).data), whole, args=("id", "-u"), env=("A=b",)).data


def made(of: RuntimeSpec, **wish: Any) -> DecodedPlan:
    return decode(data(of, **wish))


def names(found: DecodedPlan) -> list[str]:
    return [op.name for op in found.child]


CASES: dict[str, tuple[Callable[[], RuntimeSpec], dict[str, Any]]] = {
    "plain": (spec, {}),
    "user": (spec, {"ids": (1000, 100, (5, 6)), "cwd": "/srv"}),
    "privileged_terminal": (
        spec, {"privileged": True, "all_caps": (1 << 41) - 1, "terminal": True, "console_size": (24, 80), "follows": False},
    ),
    "user_namespace": (
        lambda: spec(oom_score_adj=5),
        {"namespaces": OWN | CLONE_NS["user"], "maps": ((IDMapping(container_id=0, host_id=300000, size=65536),),) * 2},
    ),
    "limited": (
        lambda: spec(no_new_privileges=True, user="7:8", cap_drop=("ALL",), workdir="/srv",
                     ulimits=(Ulimit(name="nofile", soft=10, hard=20),)),
        {"v2_cgroup": True, "v1_cgroups": 0},
    ),
    "others_trace": (lambda: spec(cap_add=("SYS_PTRACE",)), {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    of, wish = CASES[case]
    check(f"exec-{case}.json", as_json(data(of(), **wish)))


@pytest.mark.parametrize("case", CASES)
def test_the_core_takes_it(case: str) -> None:
    of, wish = CASES[case]
    found = data(of(), **wish)
    where = ffi.new("uint32_t *")
    assert lib.pc_plan_check(ffi.from_buffer(found), len(found), where) == 0, where[0]


@pytest.mark.parametrize("case", CASES)
def test_who_is_seen_inside_has_nothing_of_the_host(case: str) -> None:
    """Streams first, cgroups before the namespaces, everything closed before another process appears in there."""
    of, wish = CASES[case]
    found = names(made(of(), **wish))
    assert found[0] == "STDIO"
    joined = found.index("SETNS")
    assert all(i < joined for i, name in enumerate(found) if name == "CGROUP_JOIN")
    assert found[joined + 1] == "CLOSE_FDS" and joined + 1 < found.index("FORK")
    assert found[-1] == "CHDIR"


def test_where_others_may_trace_it_appears_without_powers() -> None:
    found = names(made(spec(cap_add=("SYS_PTRACE",))))
    assert found.index("CAPS") < found.index("FORK") and found.index("SECCOMP") < found.index("FORK")
    found = names(made(spec()))
    assert found.index("FORK") < found.index("CAPS")


def test_no_process_between_without_a_pid_namespace_to_join() -> None:
    assert "FORK" not in names(made(spec(pid="host"), namespaces=OWN & ~CLONE_NS["pid"]))


def test_capabilities_are_what_execve_would_make_of_them() -> None:
    bounding = capabilities.mask(capabilities.DEFAULT)

    def caps(of: RuntimeSpec, **wish: Any) -> tuple[int, int, int]:
        op = next(op for op in made(of, **wish).child if op.name == "CAPS")
        return op.x, op.y, op.z

    assert caps(spec()) == (bounding, bounding, 0)
    assert caps(spec(), ids=(1000, 0, ())) == (0, 0, 0)
    assert caps(spec(user="1000")) == (0, 0, 0)
    assert caps(spec(user="1000"), ids=(0, 0, ())) == (bounding, bounding, 0)
    assert caps(spec(), privileged=True, all_caps=255) == (255, 255, 0)


def test_privileged_has_no_filter_and_keeps_no_new_privs() -> None:
    found = names(made(spec(no_new_privileges=True), privileged=True, all_caps=255))
    assert "SECCOMP" not in found and "NO_NEW_PRIVS" in found


def test_a_listener_is_refused() -> None:
    of = spec()
    of = replaced(of, linux=replaced(of.linux, seccomp_listener_path="/run/listener"))
    with pytest.raises(Unsupported, match="comes later"):
        made(of)


def test_what_the_start_was_is_read_back() -> None:
    of = inherited(plan(spec(user="7:8", workdir="/srv", group_add=("9",)), HYBRID, PLACE).data)
    assert (of.args, of.uid, of.gid, of.gids, of.cwd) == (("sleep", "9"), 7, 8, (9,), "/srv")
    assert of.keyring == "_ses." + "c" * 64
    assert of.filter is not None and of.filter.blob == FILTER
    assert any(each.startswith("PATH=") for each in of.env)
