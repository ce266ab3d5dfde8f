"""Filters that are made for it, compiled by us and by libseccomp: every number that both know, with arguments around every bound."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from pycontain.seccomp import names
from pycontain.seccomp.bpf import compile_filter
from pycontain.seccomp.profile import Arg, Filter, Rule
from tests.unit.test_seccomp_bpf import _LIB_OPS, TOKENS, U64, Args, _ArgCmp, run, verdict_of

ORDERED = ("SCMP_CMP_EQ", "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_GT", "SCMP_CMP_GE")
NARROW = (1, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE)
WIDE = (*NARROW, 0xFFFFFFFF, 1 << 32, (1 << 32) + 5, 1 << 63, U64 - 1)
MASKS = ((0x7E020000, 0), (0xFF, 5), (0x80000000, 0x80000000))
WIDE_MASKS = (*MASKS, (0xFF00000000, 1 << 32), (U64, 7))


@pytest.fixture(scope="module")
def library() -> Iterator[ctypes.CDLL]:
    loaded = ctypes.CDLL("libseccomp.so.2")
    loaded.seccomp_init.restype = ctypes.c_void_p
    loaded.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    before = names.resolve
    yield loaded
    assert names.resolve is before


def called(library: ctypes.CDLL) -> dict[int, str]:
    """Every name of an x86_64 call that this library has."""
    found = {}
    for number in range(1024):
        at = library.seccomp_syscall_resolve_num_arch(ctypes.c_uint32(TOKENS["x86_64"]), number)
        if at:
            found[number] = ctypes.string_at(at).decode()
    return found


def conditions(number: int, wide: bool) -> tuple[Arg, ...]:
    """None, one, or two for different arguments; each op, each index and each bound is among those of a few dozen calls."""
    values, masks = (WIDE, WIDE_MASKS) if wide else (NARROW, MASKS)
    kind, index, value = number % 9, number % 6, values[number // 9 % len(values)]
    if kind == 0:
        return ()
    if kind == 7:
        mask, wanted = masks[number // 9 % len(masks)]
        return (Arg(index=index, op="SCMP_CMP_MASKED_EQ", value=mask, value_two=wanted),)
    first = Arg(index=index, op=ORDERED[(kind - 1) % 6], value=value)
    if kind < 7:
        return (first,)
    return (first, Arg(index=(index + 1) % 6, op=ORDERED[number // 9 % 6], value=values[number % len(values)]))


def profile(kind: str, all_names: dict[int, str], wide: bool) -> Filter:
    default, actions = {
        "allowances": ("SCMP_ACT_ERRNO", ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")),
        "denials": ("SCMP_ACT_ALLOW", ("SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP")),
        "everything": ("SCMP_ACT_KILL_PROCESS", ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP", "SCMP_ACT_LOG")),
    }[kind]  # fmt: skip
    rules = tuple(
        Rule(
            names=(name,), action=actions[n % len(actions)], args=conditions(n, wide),
            errno=n % 100 + 2 if actions[n % len(actions)] in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else None,
        )
        for n, name in all_names.items()
        if kind == "everything" or n % 4 != 3 or n == max(all_names)
    )  # fmt: skip
    architectures = () if wide else ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    return Filter(default_action=default, rules=rules, architectures=architectures)


def theirs(library: ctypes.CDLL, filter: Filter) -> bytes:
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(verdict_of(filter.default_action, None))))
    if "SCMP_ARCH_X86" in filter.architectures:
        assert library.seccomp_arch_add(context, ctypes.c_uint32(TOKENS["x86"])) == 0
    for rule in filter.rules:
        number = library.seccomp_syscall_resolve_name(rule.names[0].encode())
        args = (_ArgCmp * 6)(*(_ArgCmp(a.index, _LIB_OPS[a.op], a.value, a.value_two) for a in rule.args))
        action = ctypes.c_uint32(verdict_of(rule.action, rule.errno))
        assert library.seccomp_rule_add_array(context, action, number, len(rule.args), args) == 0, rule
    memory = os.memfd_create("program")
    assert library.seccomp_export_bpf(context, memory) == 0
    library.seccomp_release(context)
    with open(memory, "rb") as file:
        file.seek(0)
        return file.read()


def around(rules: tuple[Rule, ...]) -> list[Args]:
    """Argument lists in which each of the rules' arguments is below, at and above its bound, with either word odd."""
    found: set[Args] = {(0,) * 6, (U64,) * 6}
    for rule in rules:
        met = [5] * 6
        for arg in rule.args:
            met[arg.index] = arg.value_two if arg.op == "SCMP_CMP_MASKED_EQ" else arg.value
        for arg in rule.args:
            at = met[arg.index]
            for value in (at - 1, at, at + 1, at ^ 1 << 32, at ^ 1):
                found.add((*met[: arg.index], value & U64, *met[arg.index + 1 :]))
    return sorted(found)


@pytest.mark.parametrize("wide", [False, True], ids=["two architectures", "64-bit bounds"])
@pytest.mark.parametrize("kind", ["allowances", "denials", "everything"])
def test_both_decide_alike(library: ctypes.CDLL, kind: str, wide: bool) -> None:
    all_names = called(library)
    assert len(all_names) > 340
    filter = profile(kind, all_names, wide)
    ours, their_program = compile_filter(filter, "x86_64"), theirs(library, filter)
    compared = 0
    for arch in ("x86_64",) if wide else ("x86_64", "x86"):
        numbers = {n: r for r in filter.rules for n in [names.resolve(r.names[0], arch)] if n is not None}
        for number in range(max(numbers) + 1):
            for args in around((numbers[number],) if number in numbers else ()):
                found, wanted = run(ours, arch, number, args)[0], run(their_program, arch, number, args)[0]
                assert found == wanted, (arch, number, args, numbers.get(number))
                compared += 1
    assert compared > 1500, compared
