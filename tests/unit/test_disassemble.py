"""Plans read back: every op and string as it was put in, stable JSON, and no crash on damaged bytes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain import disassemble
from pycontain.disassemble import as_document, as_json, decode, seccomp_summary
from pycontain.errors import InvalidArgument
from pycontain.ops import OP_NAMES
from pycontain.plan import HEADER, OP, plan
from tests.unit import golden
from tests.unit.plan_cases import HOSTS, HYBRID, PLACE, SMALL_FILTER, default_spec, everything_spec

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", ["default", "everything"])
def test_a_plan_is_what_it_was(kind: str, host: str) -> None:
    spec = default_spec() if kind == "default" else everything_spec()
    golden.check(f"plan-{kind}-{host}.json", as_json(plan(spec, HOSTS[host], PLACE).data))


@pytest.mark.parametrize("host", HOSTS)
def test_the_same_input_gives_the_same_bytes(host: str) -> None:
    assert plan(everything_spec(), HOSTS[host], PLACE).data == plan(everything_spec(), HOSTS[host], PLACE).data


def test_json_is_json_and_repeats_itself() -> None:
    data = plan(everything_spec(), HYBRID, PLACE).data
    assert json.loads(as_json(data)) == json.loads(json.dumps(as_document(data)))
    assert as_json(data) == as_json(data)


def test_the_op_table_is_the_header_files() -> None:
    text = (ROOT / "src/c/plan.h").read_text()
    rows = dict(re.findall(r"^\tX\((\w+), ([\w |]+)\)", text, re.MULTILINE))
    assert tuple(rows) == OP_NAMES
    for name, fields in rows.items():
        assert ("PC_LIST" in fields) == (name in disassemble.LISTS), name
        assert ("PC_BLOB" in fields) == (name in disassemble.BLOBS), name
        assert ("PC_S3" in fields) == (name in disassemble.TEXTS), name


def test_flag_names_are_the_header_files() -> None:
    text = (ROOT / "src/c/plan.h").read_text()
    op_flags = {n: int(v) for n, v in re.findall(r"PC_F_(\w+) = (\d+),", text)}
    plan_flags = {n: int(v) for n, v in re.findall(r"#define PC_PLAN_(\w+) (\d+)u +/\*", text)}
    assert op_flags == {name: 1 << i for i, name in enumerate(disassemble.OP_FLAGS)}
    assert plan_flags == {name: 1 << i for i, name in enumerate(disassemble.PLAN_FLAGS)}


def test_strings_lists_and_blobs_come_back() -> None:
    decoded = decode(plan(everything_spec(), HYBRID, PLACE).data)
    ops = {op.name: op for op in decoded.ops()}
    assert decoded.args == ("/sbin/docker-init", "--", "cat", "two words")
    assert decoded.env == ("A=1",)
    assert ops["OVERLAY"].items == ("@4", "/")
    assert ops["IDS"].gids == (27, 100)
    assert ops["SECCOMP"].blob == SMALL_FILTER
    assert [op.blob for op in decoded.child if op.name == "WRITE_FILE"][1] == b"\xff\x00\xfe"
    assert ops["TTY"].x == 24 and ops["RLIMIT"].y == 2**64 - 1


def test_slots_are_named_by_what_fills_them() -> None:
    decoded = decode(plan(default_spec(), HOSTS["v2-6.1"], PLACE).data)
    assert decoded.slots[:8] == ("stdin", "stdout", "stderr", "template", "top", "idmap", "stub", "root")
    assert "tree /srv/data" in decoded.slots
    assert decoded.slots[decoded.cgroup_slot].startswith("cgroup /sys/fs/cgroup/pycontain/")


def test_process_and_id_are_exchanged_in_place() -> None:
    made = plan(default_spec(), HYBRID, PLACE).with_process(("true",), ("B=2", "C=ü"))
    decoded = decode(made.data)
    assert decoded.args == ("true",) and decoded.env == ("B=2", "C=ü")
    assert decoded.child == decode(plan(default_spec(), HYBRID, PLACE).data).child


def test_numbers_that_json_readers_round_are_hexadecimal() -> None:
    text = as_json(plan(everything_spec(), HYBRID, PLACE).data)
    assert '"y": "0xffffffffffffffff"' in text


def test_bytes_that_are_no_text_are_hexadecimal() -> None:
    assert '{"hex": "ff00fe"}' in as_json(plan(everything_spec(), HYBRID, PLACE).data)


@pytest.mark.parametrize("length", [0, 8, 71, 72, 200])
def test_a_short_plan_is_refused(length: int) -> None:
    with pytest.raises(InvalidArgument, match="not a Plan"):
        decode(plan(default_spec(), HYBRID, PLACE).data[:length])


def test_an_unknown_op_is_named_with_its_place() -> None:
    data = bytearray(plan(default_spec(), HYBRID, PLACE).data)
    data[HEADER.size + OP.size : HEADER.size + OP.size + 2] = b"\xff\x7f"
    with pytest.raises(InvalidArgument, match=r"prepare\[1\] has the unknown op code 32767"):
        decode(bytes(data))


_DATA = plan(everything_spec(), HYBRID, PLACE).data


@pytest.mark.parametrize("count", [257, 1 << 25, (1 << 32) - 1])
def test_a_damaged_count_of_slots_takes_no_memory(count: int) -> None:
    """Offset 28 is n_slots: one changed byte made the property test below use all memory of the machine."""
    with pytest.raises(InvalidArgument, match=f"not a Plan: it has {count} slots, more than 256"):
        as_json(_DATA[:28] + count.to_bytes(4, "little") + _DATA[32:])


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, len(_DATA) - 1), value=st.integers(0, 255))
def test_damaged_bytes_never_crash(at: int, value: int) -> None:
    damaged = _DATA[:at] + bytes([value]) + _DATA[at + 1 :]
    try:
        as_json(damaged)
    except InvalidArgument as e:
        assert "not a Plan" in str(e)


def test_planning_opens_no_file_and_makes_no_call() -> None:
    """In a process of its own: an audit hook cannot be removed again."""
    code = (
        "import sys\n"
        "from tests.unit.plan_cases import HOSTS, PLACE, default_spec, everything_spec\n"
        "from pycontain.plan import plan\n"
        "specs = default_spec(), everything_spec()\n"
        "[plan(s, f, PLACE) for s in specs for f in HOSTS.values()]  # imports that are made on first use\n"
        "seen = []\n"
        "sys.addaudithook(lambda event, args: seen.append((event, args)))\n"
        "[plan(s, f, PLACE) for s in specs for f in HOSTS.values()]\n"
        "print([s for s in seen if s[0] not in ('compile', 'exec', 'object.__getattr__')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_filter_in_two_numbers() -> None:
    found = seccomp_summary(SMALL_FILTER, "x86_64")
    assert (found.allowed, found.refusal) == (1023, "EPERM")


def test_a_foreign_filter_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="none of ours"):
        seccomp_summary(bytes.fromhex("8700000000000000"), "x86_64")
