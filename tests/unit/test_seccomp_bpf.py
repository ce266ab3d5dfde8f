"""The filter compiler, against a naive reading of the rules and against libseccomp's own programs.

Both sides run in a small interpreter of classic BPF. Numbers come from libseccomp through ctypes, in place of the
native module; the property tests need none (a call ``n17`` has number 17).
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.seccomp import names
from pycontain.seccomp.bpf import compile_filter, unknown_names
from pycontain.seccomp.cache import RELEVANT_CAPS, default_profile
from pycontain.seccomp.profile import ACTIONS, OPS, Arg, Filter, Rule, parse_docker_profile

ALLOW, EPERM, ENOSYS, KILL_PROCESS = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
TOKENS = {"x86_64": 0xC000003E, "x86": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
U64 = 2**64 - 1
NEWEST = 466  # removexattrat, the newest call default.json names
LIBSECCOMP_KNOWS = 450  # where 2.5.4, the oldest we test with, ends

Args = tuple[int, ...]


def run(program: bytes, arch: str, number: int, args: Args = ()) -> tuple[int, int]:
    """(verdict, instructions executed) of a seccomp program; raises on what the kernel would refuse."""
    data = struct.pack("=IIQ6Q", number, TOKENS[arch], 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = index = steps = 0
    while True:
        operation, jt, jf, k = code[at]
        at += 1
        steps += 1
        if operation == 0x20:
            assert k % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x00:
            accumulator = k
        elif operation == 0x07:
            index = accumulator
        elif operation == 0x7C:
            assert index < 32
            accumulator >>= index
        elif operation == 0x05:
            at += k
        elif operation == 0x06:
            return k, steps
        else:
            at += jt if _jump_taken(operation, accumulator, k) else jf


def _jump_taken(operation: int, accumulator: int, k: int) -> bool:
    return {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: accumulator & k != 0}[
        operation
    ]


def verdict_of(action: str, errno: int | None) -> int:
    data = 1 if errno is None else errno
    return {
        "SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": 0x50000 + data, "SCMP_ACT_KILL": 0, "SCMP_ACT_KILL_THREAD": 0,
        "SCMP_ACT_KILL_PROCESS": KILL_PROCESS, "SCMP_ACT_TRAP": 0x30000, "SCMP_ACT_TRACE": 0x7FF00000 + data,
        "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_NOTIFY": 0x7FC00000,
    }[action]  # fmt: skip


def holds(arg: Arg, args: Args, arch: str) -> bool:
    found = args[arg.index] & (0xFFFFFFFF if arch in ("x86", "arm") else U64)
    if arg.op == "SCMP_CMP_MASKED_EQ":
        return found & arg.value == arg.value_two
    return {
        "SCMP_CMP_EQ": found == arg.value, "SCMP_CMP_NE": found != arg.value, "SCMP_CMP_LT": found < arg.value,
        "SCMP_CMP_LE": found <= arg.value, "SCMP_CMP_GT": found > arg.value, "SCMP_CMP_GE": found >= arg.value,
    }[arg.op]  # fmt: skip


def naive(filter: Filter, arch: str, number: int, args: Args, listed: bool = True) -> int:
    """What the rules say, read one after the other."""
    if not listed:
        return KILL_PROCESS
    if arch == "x86_64" and number >= 0x40000000:
        return ENOSYS
    known = [(names.resolve(name, arch), rule) for rule in filter.rules for name in rule.names]
    for called, rule in known:
        if called == number and all(holds(arg, args, arch) for arg in rule.args):
            return verdict_of(rule.action, rule.errno)
    default = verdict_of(filter.default_action, filter.default_errno)
    numbers = [called for called, _ in known if called is not None]
    table = [called for called in numbers if called < 0x0F0000]
    permissive = filter.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
    new = bool(table) and number > max(table) and number not in numbers
    return ENOSYS if new and not permissive else default


def plain_number(name: str, token: int) -> int:
    return int(name[1:]) if name[1:].isdigit() else -1


@pytest.fixture(scope="module", autouse=True)
def numbers() -> Iterator[None]:
    """Names resolve without the native module: ``n17`` by itself, others through libseccomp."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        library = None

    def number(name: str, token: int) -> int:
        if plain_number(name, token) >= 0 or library is None:
            return plain_number(name, token)
        found: int = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_native_number", number)
        yield


@pytest.fixture(scope="module")
def libseccomp() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp.so.2 is not installed")
    library.seccomp_init.restype = ctypes.c_void_p
    return library


VALUES = st.sampled_from([0, 1, 2, 5, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**32 + 5, 5 * 2**32 + 5, 2**63, U64])
NUMBERS = st.integers(0, 30) | st.sampled_from([200, 255, 256, 257, 423, 600, 0x0F0002, 0x0F0005])
ERRNOS = st.none() | st.sampled_from([0, 1, 38, 4095])


@st.composite
def conditions(draw: st.DrawFn) -> Arg:
    op = draw(st.sampled_from(sorted(OPS)))
    value, two = draw(VALUES), draw(VALUES)
    return Arg(index=draw(st.integers(0, 5)), value=value, value_two=two & value, op=op)


RULES = st.builds(
    Rule,
    names=st.lists(NUMBERS.map("n{}".format), min_size=1, max_size=6).map(tuple),
    action=st.sampled_from(sorted(ACTIONS)),
    errno=ERRNOS,
    args=st.lists(conditions(), max_size=3).map(tuple),
)
FILTERS = st.builds(
    Filter,
    default_action=st.sampled_from(sorted(ACTIONS)),
    default_errno=ERRNOS,
    architectures=st.just(("SCMP_ARCH_X86", "SCMP_ARCH_ARM", "SCMP_ARCH_X32")),
    rules=st.lists(RULES, max_size=12).map(tuple),
)
ARGS = st.tuples(*[VALUES | st.integers(0, U64)] * 6)
CALLS = st.lists(st.tuples(NUMBERS | st.sampled_from([601, 0x40000000, 0x40000001, 2**32 - 1]), ARGS), min_size=20)


@settings(max_examples=200, deadline=None)
@given(FILTERS, CALLS, st.sampled_from(["x86_64", "aarch64"]))
def test_random_filters_do_what_the_rules_say(filter: Filter, calls: list[tuple[int, Args]], host: str) -> None:
    program = compile_filter(filter, host)
    for arch in TOKENS:
        listed = arch in names.FAMILY[host]
        for number, args in calls:
            assert run(program, arch, number, args)[0] == naive(filter, arch, number, args, listed)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 450), min_size=60), st.sets(st.integers(0, 450), max_size=4), st.booleans())
def test_many_calls_of_a_second_architecture(allowed: set[int], other: set[int], with_args: bool) -> None:
    """Enough ranges that the second architecture is decided by bits; some numbers have an answer of their own."""
    args = (Arg(index=1, value=7, op="SCMP_CMP_EQ"),) if with_args else ()
    filter = Filter(
        default_action="SCMP_ACT_ERRNO",
        architectures=("SCMP_ARCH_X86",),
        rules=(
            Rule(names=tuple(f"n{n}" for n in sorted(other)), action="SCMP_ACT_TRAP", args=args),
            Rule(names=tuple(f"n{n}" for n in sorted(allowed)), action="SCMP_ACT_ALLOW"),
        ),
    )
    program = compile_filter(filter, "x86_64")
    for number in [*range(520), 2**31, 2**32 - 1]:
        for value in (7, 8):
            arguments = (0, value, 0, 0, 0, 0)
            assert run(program, "x86", number, arguments)[0] == naive(filter, "x86", number, arguments)


def crowded(calls: int, rules_per_call: int) -> Filter:
    """Conditions on every call, so that the tree's halves lie further apart than a conditional jump reaches."""
    ops = sorted(OPS - {"SCMP_CMP_MASKED_EQ"})
    rules = tuple(
        Rule(
            names=(f"n{number}",), action="SCMP_ACT_ERRNO", errno=(number * 7 + i) % 4096,
            args=(Arg(index=i % 6, value=number * 2**32 + i, op=ops[(number + i) % 6]),),
        )
        for number in range(calls) for i in range(rules_per_call)
    )  # fmt: skip
    return Filter(default_action="SCMP_ACT_ALLOW", rules=rules, architectures=("SCMP_ARCH_X86",))


def test_far_jumps() -> None:
    filter = crowded(100, 3)
    program = compile_filter(filter, "x86_64")
    assert len(program) // 8 > 2 * 255
    for number in range(101):
        for value in (0, 1, number * 2**32, number * 2**32 + 1, number * 2**32 + 2, U64):
            for arch in ("x86_64", "x86"):
                assert run(program, arch, number, (value,) * 6)[0] == naive(filter, arch, number, (value,) * 6)


def test_too_many_instructions() -> None:
    with pytest.raises(InvalidArgument, match=r"needs \d{4,} BPF instructions and the kernel takes at most 4096"):
        compile_filter(crowded(400, 4), "x86_64")


def test_consecutive_numbers_share_a_range() -> None:
    rule = Rule(names=tuple(f"n{i}" for i in range(400)), action="SCMP_ACT_ALLOW")
    filter = Filter(default_action="SCMP_ACT_ERRNO", rules=(rule,))
    # load arch, compare, kill, load number, compare with 400, allow, ENOSYS
    assert len(compile_filter(filter, "x86_64")) // 8 == 7


def test_first_matching_rule_decides() -> None:
    args = (Arg(index=0, value=5, op="SCMP_CMP_EQ"),)
    rules = tuple(
        Rule(names=("n1",), action="SCMP_ACT_ERRNO", errno=e, args=a) for e, a in ((7, args), (8, ()), (9, args))
    )
    program = compile_filter(Filter(default_action="SCMP_ACT_ALLOW", rules=rules), "x86_64")
    assert run(program, "x86_64", 1, (5,))[0] == 0x50007
    assert run(program, "x86_64", 1, (6,))[0] == 0x50008


def test_upper_word_of_a_32_bit_call_is_not_looked_at() -> None:
    rule = Rule(names=("n1",), action="SCMP_ACT_ERRNO", args=(Arg(index=0, value=40, op="SCMP_CMP_EQ"),))
    filter = Filter(default_action="SCMP_ACT_ALLOW", rules=(rule,), architectures=("SCMP_ARCH_X86",))
    assert run(compile_filter(filter, "x86_64"), "x86", 1, (2**32 + 40,))[0] == EPERM


@pytest.mark.parametrize("action", ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_LOG"])
def test_x32_calls_get_enosys_whatever_the_profile_says(action: str) -> None:
    listed = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X32")
    program = compile_filter(Filter(default_action=action, architectures=listed), "x86_64")
    assert run(program, "x86_64", 0x40000000)[0] == ENOSYS


def test_architecture_that_is_not_listed_is_killed() -> None:
    program = compile_filter(Filter(default_action="SCMP_ACT_ALLOW"), "x86_64")
    assert run(program, "x86", 3)[0] == KILL_PROCESS
    assert run(program, "x86_64", 3)[0] == ALLOW


def test_machine_without_support() -> None:
    with pytest.raises(Unsupported, match="cannot build a seccomp filter for s390x"):
        compile_filter(Filter(default_action="SCMP_ACT_ALLOW"), "s390x")


def test_denied_socket_is_denied_inside_socketcall(libseccomp: ctypes.CDLL) -> None:
    rule = Rule(names=("socket", "shmget"), action="SCMP_ACT_ERRNO")
    filter = Filter(default_action="SCMP_ACT_ALLOW", rules=(rule,), architectures=("SCMP_ARCH_X86",))
    program = compile_filter(filter, "x86_64")
    calls = {
        (102, 1): EPERM,
        (102, 2): ALLOW,
        (117, 23): EPERM,
        (117, 0x10017): EPERM,
        (117, 1): ALLOW,
        (359, 0): EPERM,
    }
    assert {call: run(program, "x86", call[0], (call[1],))[0] for call in calls} == calls


def test_unknown_names_are_told(libseccomp: ctypes.CDLL) -> None:
    rule = Rule(names=("read", "mout", "listns", "set_tls"), action="SCMP_ACT_ERRNO")
    assert unknown_names(Filter(default_action="SCMP_ACT_ALLOW", rules=(rule,)), "x86_64") == ("mout",)


def default(*caps: str, arch: str = "x86_64") -> Filter:
    return parse_docker_profile(default_profile(), frozenset(caps), arch, (6, 1))


ARGUMENTS: list[Args] = [
    *((value,) for value in (0, 1, 2, 8, 38, 39, 40, 41, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF, 0x1200011, 0x3D0F00)),
    *((1 << bit | 17,) for bit in range(17, 32)),
    (2**32,), (2**32 + 8,), (U64,), (9, 38, 40, 1, 2, 3),
]  # fmt: skip


class _ArgCmp(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


_LIB_OPS = {f"SCMP_CMP_{op}": i for i, op in enumerate(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"), start=1)}


def libseccomp_program(library: ctypes.CDLL, filter: Filter) -> bytes:
    """The same filter by libseccomp, default EPERM, for x86_64 and i386."""
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(EPERM)))
    assert library.seccomp_arch_add(context, ctypes.c_uint32(TOKENS["x86"])) == 0
    for rule in filter.rules:
        args = (_ArgCmp * 6)(*(_ArgCmp(a.index, _LIB_OPS[a.op], a.value, a.value_two) for a in rule.args))
        action = ctypes.c_uint32(verdict_of(rule.action, rule.errno))
        for name in rule.names:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:
                assert library.seccomp_rule_add_array(context, action, number, len(rule.args), args) == 0, name
    memory = os.memfd_create("program")
    assert library.seccomp_export_bpf(context, memory) == 0
    library.seccomp_release(context)
    with open(memory, "rb") as file:
        file.seek(0)
        return file.read()


def without_masked_socket(filter: Filter) -> Filter:
    """The socket rules as allowances, which is how libseccomp, where order means nothing, can have them."""
    bounds = (("SCMP_CMP_LT", 38), ("SCMP_CMP_EQ", 39), ("SCMP_CMP_GT", 40))
    sockets = [
        Rule(names=("socket",), action="SCMP_ACT_ALLOW", args=(Arg(index=0, value=value, op=op),))
        for op, value in bounds
    ]
    rules = [rule for rule in filter.rules if rule.names != ("socket",)]
    return dataclasses.replace(filter, rules=(*rules, *sockets))


@pytest.mark.parametrize("caps", [(), ("CAP_SYS_ADMIN",), RELEVANT_CAPS], ids=["none", "admin", "all"])
def test_default_profile_against_libseccomp(libseccomp: ctypes.CDLL, caps: tuple[str, ...]) -> None:
    filter = default(*caps)
    ours, theirs = compile_filter(filter, "x86_64"), libseccomp_program(libseccomp, without_masked_socket(filter))
    for arch in ("x86_64", "x86"):
        for number in range(600):
            for args in ARGUMENTS if number in (56, 120, 135, 136, 41, 359) else ARGUMENTS[::9]:
                found = run(ours, arch, number, args)[0]
                assert found == naive_or_theirs(filter, theirs, arch, number, args), (arch, number, args)


def naive_or_theirs(filter: Filter, theirs: bytes, arch: str, number: int, args: Args) -> int:
    # Above what the installed libseccomp may know, only our own reading can be asked.
    if number > LIBSECCOMP_KNOWS:
        return naive(filter, arch, number, args)
    socket = number == {"x86_64": 41, "x86": 359}[arch]
    return run(theirs, arch, number, (args[0] & 0xFFFFFFFF, *args[1:]) if socket else args)[0]


@pytest.mark.parametrize("host", ["x86_64", "aarch64"])
def test_default_profile_against_the_rules(libseccomp: ctypes.CDLL, host: str) -> None:
    filter = default(arch=host)
    program = compile_filter(filter, host)
    for arch in names.FAMILY[host]:
        for number in [*range(0, 480, 3), 0x0F0000, 0x0F0002, 0x0F0005, 0x0F0006, 2**32 - 1]:
            assert run(program, arch, number, (1,))[0] == naive(filter, arch, number, (1,)), (arch, number)


def test_vsock_and_alg_are_denied_with_garbage_in_the_upper_word(libseccomp: ctypes.CDLL) -> None:
    program = compile_filter(default(), "x86_64")
    for family in (38, 40):
        for upper in (0, 1, 2**31):
            assert run(program, "x86_64", 41, (upper << 32 | family,))[0] == EPERM
    assert run(program, "x86_64", 41, (1,))[0] == run(program, "x86_64", 41, (2**32 + 2,))[0] == ALLOW


@pytest.mark.parametrize("host", ["x86_64", "aarch64"])
def test_default_profile_knows_calls_newer_than_the_library(host: str) -> None:
    program = compile_filter(default(arch=host), host)
    assert run(program, host, 452)[0] == ALLOW  # fchmodat2
    assert run(program, host, NEWEST)[0] == ALLOW
    assert run(program, host, NEWEST + 1)[0] == run(program, host, 1000)[0] == ENOSYS


@pytest.mark.parametrize("host", ["x86_64", "aarch64"])
def test_size_and_depth(libseccomp: ctypes.CDLL, host: str) -> None:
    filter = default(arch=host)
    native = compile_filter(dataclasses.replace(filter, architectures=()), host)
    both = compile_filter(filter, host)
    assert len(native) // 8 <= 120
    assert len(both) // 8 <= 270
    steps = sorted(run(both, host, number, (U64,) * 6)[1] for number in range(600))
    assert steps[-4] <= 11, "a call without conditions"
    assert steps[-1] <= 14, "clone, personality, socket"


def test_i386_after_x86_64_is_reached_in_few_steps(libseccomp: ctypes.CDLL) -> None:
    program = compile_filter(default(), "x86_64")
    assert max(run(program, "x86", number)[1] for number in range(600)) <= 18
