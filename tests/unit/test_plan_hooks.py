"""Hooks inside the container's namespaces: where they stand in the Plan, and what a Plan with them gives up."""

from __future__ import annotations

import pytest

from pycontain.disassemble import DecodedPlan, decode
from pycontain.errors import Unsupported
from pycontain.explain import lines
from pycontain.plan import plan
from pycontain.plan_bytes import HEADER
from pycontain.record import replaced
from pycontain.spec.runtime import Hook, Hooks, Namespace, Root
from tests.unit.plan_cases import HYBRID, PLACE, default_spec

HOOK = Hook(path="/bin/hook", args=("hook", "a b", ""), env=("A=1",), timeout=7)
BARE = Hook(path="/bin/bare")


def data(**hooks: tuple[Hook, ...]) -> bytes:
    spec = default_spec()
    bundle = replaced(spec, root=Root(path="/srv/bundle/rootfs", readonly=True), hooks=Hooks(**hooks))
    return plan(bundle, HYBRID, PLACE).data


def decoded(**hooks: tuple[Hook, ...]) -> DecodedPlan:
    return decode(data(**hooks))


def given(**hooks: tuple[Hook, ...]) -> int:
    return int(HEADER.unpack_from(data(**hooks))[5])


def test_without_them_nothing_is_given_up() -> None:
    made = decoded(prestart=(HOOK,))
    assert given(prestart=(HOOK,)) == 7 and {"LEAN", "SHARE_VM"} <= set(made.flags)


def test_create_container_comes_before_pivot_root_among_the_hosts_mounts() -> None:
    made = decoded(create_runtime=(BARE,), create_container=(HOOK, BARE))
    names = [op.name for op in made.child]
    first = names.index("HOOK")
    assert names[first - 2 : first + 3] == ["SYNC", "SYNC", "HOOK", "HOOK", "ROOT_PIVOT"]
    assert [op.x for op in made.child if op.name == "SYNC"] == [2, 3]
    attach = next(op for op in made.child if op.name == "ROOT_ATTACH")
    assert (attach.s1, attach.flags) == ("/srv/bundle/rootfs", ("PIVOT",))
    assert not {"LEAN", "SHARE_VM", "VISIBLE"} & set(made.flags)
    assert given(create_container=(HOOK, BARE)) == 9
    assert (made.child[first].slot, made.child[first].slot2) == (7, 8)


def test_start_container_comes_last_and_costs_nothing_before() -> None:
    made = decoded(start_container=(HOOK, BARE))
    names = [op.name for op in made.child]
    at = names.index("CLOSE_FDS")
    assert names[at - 3 : at] == ["SYNC", "HOOK", "HOOK"] and "ROOT_PIVOT" not in names
    assert {"LEAN", "SHARE_VM", "STUB"} <= set(made.flags)
    assert given(start_container=(HOOK,)) == 9


def test_the_words_of_a_hook() -> None:
    """Its op's index, milliseconds, the numbers of arguments and variables, and these."""
    made = decoded(start_container=(HOOK, BARE))
    one, two = (op for op in made.child if op.name == "HOOK")
    assert (one.s1, one.items) == ("/bin/hook", (str(one.index), "7000", "3", "1", "hook", "a b", "", "A=1"))
    assert (two.s1, two.items) == ("/bin/bare", (str(two.index), "0", "1", "0", "/bin/bare"))


def test_both_kinds_share_what_they_said() -> None:
    made = decoded(create_container=(BARE,), start_container=(BARE,))
    create, start = (op for op in made.child if op.name == "HOOK")
    assert given(create_container=(BARE,), start_container=(BARE,)) == 10
    assert (create.slot, start.slot) == (7, 8) and create.slot2 == start.slot2 == 9


def test_they_are_told() -> None:
    spec = replaced(
        default_spec(), root=Root(path="/r"), hooks=Hooks(create_container=(BARE,), start_container=(HOOK,))
    )
    text = "\n".join(lines(plan(spec, HYBRID, PLACE).data, HYBRID))
    assert "run /bin/bare" in text and "run /bin/hook" in text


def test_not_in_a_joined_mount_namespace() -> None:
    joined = replaced(default_spec().linux, namespaces=(Namespace(type="mount", path="/proc/1/ns/mnt"),))
    spec = replaced(default_spec(), root=Root(path="/r"), linux=joined, hooks=Hooks(create_container=(BARE,)))
    with pytest.raises(Unsupported, match=r"hooks\.createContainer: in a mount namespace that is joined"):
        plan(spec, HYBRID, PLACE)
