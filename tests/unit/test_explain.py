"""--explain: every op has words, the text fits its columns, a plain container is told in about thirty lines."""

from __future__ import annotations

import json

import pytest

from pycontain import explain
from pycontain.disassemble import DecodedOp, DecodedPlan, decode
from pycontain.explain import Timing, lines
from pycontain.explain_steps import GROUPS, Scene
from pycontain.explain_table import RENDERINGS
from pycontain.ops import OP_NAMES
from pycontain.plan import plan
from pycontain.request import RunRequest
from pycontain.runtime.roots import Roots
from tests.unit import golden
from tests.unit.plan_cases import HOSTS, HYBRID, PLACE, default_spec, everything_spec

DEFAULT = plan(default_spec(), HYBRID, PLACE).data
_EMPTY = DecodedPlan(
    version=1, flags=(), clone_flags=0, cgroup_slot=-1, stub_slot=-1, slots=("stdin",), args=("true",), env=(),
    prepare=(), child=(), finish=(),
)  # fmt: skip


def stamps_for(data: bytes) -> Timing:
    """A made-up run: each op takes 1 us, clone3 500 us, execve 100 us."""
    decoded = decode(data)
    p, c = len(decoded.prepare), len(decoded.child)
    cloned = 1000 * p + 500_000
    stamps = [1000 * (i + 1) for i in range(p)] + [cloned + 1000 * (i + 1) for i in range(c)]
    return Timing(stamps=tuple(stamps), begun_ns=0, cloned_ns=cloned, execed_ns=cloned + 1000 * c + 100_000)


def test_every_op_has_words() -> None:
    assert set(RENDERINGS) == set(OP_NAMES) - {"NONE"}
    scene = Scene(plan=_EMPTY, facts=HYBRID)
    for name in RENDERINGS:
        # a bare op: the least that any Plan can hold
        step = RENDERINGS[name]([DecodedOp(section="child", index=0, name=name, slot=0)], scene)
        assert step.group in GROUPS and step.call and step.why, name
        assert not step.why.endswith("."), name


@pytest.mark.parametrize("host", HOSTS)
def test_a_plain_container_is_told_as_before(host: str) -> None:
    text = "\n".join(lines(plan(default_spec(), HOSTS[host], PLACE).data, HOSTS[host])) + "\n"
    golden.check(f"explain-default-{host}.txt", text)


def test_everything_is_told_as_before() -> None:
    data = plan(everything_spec(), HYBRID, PLACE).data
    golden.check("explain-everything-hybrid-6.18.txt", "\n".join(lines(data, HYBRID)) + "\n")


def test_timed_as_before() -> None:
    golden.check("explain-timed-hybrid-6.18.txt", "\n".join(lines(DEFAULT, HYBRID, stamps_for(DEFAULT))) + "\n")


@pytest.mark.parametrize("width", [40, 70, 80, 100, 120, 140, 300])
@pytest.mark.parametrize("timed", [False, True])
def test_no_line_is_too_long(width: int, timed: bool) -> None:
    data = plan(everything_spec(), HYBRID, PLACE).data
    told = lines(data, HYBRID, stamps_for(data) if timed else None, width=width)
    assert max(map(len, told[:-1])) <= max(70, min(width, 140))


def test_about_thirty_lines() -> None:
    assert 25 <= len(lines(DEFAULT, HYBRID)) <= 45


def test_the_times_add_up() -> None:
    timing = stamps_for(DEFAULT)
    told = lines(DEFAULT, HYBRID, timing)
    total = sum(int(line.split()[-2]) for line in told[:-1] if line.endswith(" us"))
    assert total * 1000 == timing.execed_ns
    steps = len(decode(DEFAULT).prepare) + len(decode(DEFAULT).child) + 2
    assert told[-1] == f" {steps} steps, {timing.execed_ns / 1e6:.1f} ms until the program ran"


def test_a_step_that_was_not_reached_takes_no_time() -> None:
    timing = Timing(stamps=(5, 0), begun_ns=1, cloned_ns=9, execed_ns=12)
    assert timing.durations(1, 1) == ((4,), 4, (0,), 12)


@pytest.mark.parametrize("word", ["two\nlines", "\x1b[31mred", "\udcff"])
def test_hostile_arguments_cannot_break_the_table(word: str) -> None:
    data = plan(default_spec(), HYBRID, PLACE).with_process(("echo", word), ()).data
    assert all(line.isprintable() and line.isascii() for line in lines(data, HYBRID))


def test_limits_are_said_in_words() -> None:
    text = "\n".join(lines(DEFAULT, HYBRID))
    for phrase in ("more than 64 MB: the kernel kills it", "at most half of one CPU", "at most 32 processes"):
        assert phrase in text


def test_planning_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from pycontain.runtime import shapes

    monkeypatch.setattr(shapes, "plan_for", lambda request, roots, facts: plan(default_spec(), HYBRID, PLACE))
    request, roots = RunRequest(image="host", args=("true",)), Roots()
    assert "nothing was run" in explain.explain(request, roots, width=140)
    assert json.loads(explain.explain(request, roots, "json"))["args"] == ["sh", "-c", "echo hi"]
