"""Parsing of seccomp profiles: conditions settled; a complaint says where, what was expected and what was found."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.seccomp import names
from pycontain.seccomp.cache import RELEVANT_CAPS, default_profile
from pycontain.seccomp.profile import Arg, Filter, Rule, flag_bits, parse_docker_profile

NO_CAPS: frozenset[str] = frozenset()


def parse(
    document: object, caps: frozenset[str] = NO_CAPS, arch: str = "x86_64", kernel: tuple[int, int] = (6, 1)
) -> Filter:
    return parse_docker_profile(json.dumps(document), caps, arch, kernel)


def with_rule(**rule: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", **rule}]}


def test_oci_form() -> None:
    parsed = parse({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        "syscalls": [{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
            "args": [{"index": 0, "value": 15, "valueTwo": 4, "op": "SCMP_CMP_MASKED_EQ"}],
        }],
    })  # fmt: skip
    args = (Arg(index=0, value=15, value_two=4, op="SCMP_CMP_MASKED_EQ"),)
    assert parsed.rules == (Rule(names=("personality",), action="SCMP_ACT_ERRNO", errno=22, args=args),)
    assert parsed.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")
    assert flag_bits(parsed) == 2 | 4


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"includes": {}, "excludes": None, "args": None}, True),
        ({"includes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"caps": ["CAP_BPF", "CAP_SYS_ADMIN"]}}, False),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}, False),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["x86"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"includes": {"caps": ["CAP_BPF"], "minKernel": "7.0"}}, False),
    ],
)
def test_conditions(rule: dict[str, Any], kept: bool) -> None:
    assert bool(parse(with_rule(**rule), caps=frozenset({"CAP_BPF"})).rules) is kept


def test_arch_map_picks_the_native_entry() -> None:
    arch_map = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": None},
    ]
    document = {"defaultAction": "SCMP_ACT_ALLOW", "archMap": arch_map}
    assert parse(document).architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    assert parse(document, arch="riscv64").architectures == ("SCMP_ARCH_RISCV64",)
    assert parse(document, arch="aarch64").architectures == ()


def test_single_name_and_podmans_errno_symbol() -> None:
    rule = {"name": "mount", "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "errnoRet": 38}
    parsed = parse({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EPERM", "syscalls": [rule]})
    assert parsed.rules == (Rule(names=("mount",), action="SCMP_ACT_ERRNO", errno=38),)
    assert parsed.default_errno == 1


ARG = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}


@pytest.mark.parametrize(
    ("document", "phrases"),
    [
        ([], ("$: expected an object", "found an array")),
        ({}, ("$: expected the key defaultAction",)),
        ({"defaultAction": "ALLOW"}, ("$.defaultAction: expected one of SCMP_ACT_ALLOW", 'found "ALLOW"')),
        ({"defaultAction": "SCMP_ACT_LOG", "syscalls": {}}, ("$.syscalls: expected an array", "found an object")),
        ({"defaultAction": "SCMP_ACT_LOG", "flags": ["X"]}, ("$.flags[0]", "SECCOMP_FILTER_FLAG_LOG", '"X"')),
        ({"defaultAction": "SCMP_ACT_LOG", "architectures": ["amd64"]}, ("$.architectures[0]", '"amd64"')),
        (
            {"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]},
            ("architectures or archMap, found both",),
        ),
        ({"defaultAction": "SCMP_ACT_LOG", "archMap": [{}]}, ("$.archMap[0]: expected the key architecture",)),
        (with_rule(name="write"), ("$.syscalls[0]: expected the keys action and either names or name",)),
        (with_rule(names=[]), ("$.syscalls[0].names: expected at least one name",)),
        (with_rule(names=["read", 7]), ("$.syscalls[0].names[1]: expected a non-empty string, found 7",)),
        (with_rule(arg=[]), ("$.syscalls[0]: expected only the keys action, args", 'found "arg"')),
        (with_rule(errnoRet=4096), ("$.syscalls[0].errnoRet: expected an integer from 0 to 4095, found 4096",)),
        (with_rule(errnoRet=True), ("errnoRet: expected an integer", "found true")),
        (with_rule(errno="EWHAT"), ("$.syscalls[0].errno: expected the symbol of an errno", '"EWHAT"')),
        (with_rule(errno="EPERM", errnoRet=2), ("the same errno as errnoRet (2)",)),
        (with_rule(args=[{**ARG, "index": 6}]), ("$.syscalls[0].args[0].index: expected an integer from 0 to 5",)),
        (with_rule(args=[{**ARG, "value": -1}]), ("args[0].value: expected an integer from 0 to 1844",)),
        (with_rule(args=[{**ARG, "value": 1.5}]), ("args[0].value", "found 1.5")),
        (with_rule(args=[{**ARG, "op": "EQ"}]), ("args[0].op: expected one of SCMP_CMP_EQ", '"EQ"')),
        (with_rule(args=[{"index": 0, "value": 1}]), ("args[0]: expected the key op",)),
        (
            with_rule(args=[{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]),
            ("args[0].valueTwo: expected only bits of the mask in value (0x1), found 2",),
        ),
        (with_rule(includes={"cap": []}), ("$.syscalls[0].includes: expected only the keys", '"cap"')),
        (with_rule(includes={"caps": ["SYS_ADMIN"]}), ("includes.caps[0]: expected a capability", '"SYS_ADMIN"')),
        (with_rule(excludes={"minKernel": "4"}), ("excludes.minKernel: expected a kernel version", '"4"')),
    ],
)  # fmt: skip
def test_complaint_names_place_expected_and_found(document: object, phrases: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(document)
    for phrase in phrases:
        assert phrase in str(caught.value)


@pytest.mark.parametrize("source", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000])
def test_what_is_not_json(source: bytes) -> None:
    with pytest.raises(InvalidArgument, match="expected a JSON document"):
        parse_docker_profile(source, NO_CAPS, "x86_64", (6, 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["SCMP_ACT_ALLOW", "4.8"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["defaultAction", "syscalls", "names", "action", "args", "index", "includes", "caps", "archMap"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON)
def test_any_json_is_a_filter_or_a_complaint(document: object) -> None:
    try:
        assert isinstance(parse(document), Filter)
    except InvalidArgument as error:
        assert str(error).startswith("seccomp profile: ")


def test_default_profile_asks_only_about_what_the_cache_key_has() -> None:
    rules = json.loads(default_profile())["syscalls"]
    conditions = [rule.get(kind, {}) for rule in rules for kind in ("includes", "excludes")]
    assert {cap for c in conditions for cap in c.get("caps", ())} == set(RELEVANT_CAPS)
    assert {c["minKernel"] for c in conditions if "minKernel" in c} == {"4.8"}


@pytest.mark.parametrize(
    "name", ["io_uring_setup", "keyctl", "add_key", "kexec_load", "userfaultfd", "pivot_root", "swapon"]
)
def test_default_profile_never_names(name: str) -> None:
    everything = parse_docker_profile(default_profile(), frozenset(RELEVANT_CAPS), "x86_64", (6, 1))
    assert all(name not in rule.names for rule in everything.rules)


@pytest.mark.parametrize(
    ("caps", "name", "actions"),
    [
        ((), "clone3", ["SCMP_ACT_ERRNO"]),
        (("CAP_SYS_ADMIN",), "clone3", ["SCMP_ACT_ALLOW"]),
        ((), "open_by_handle_at", []),
        (("CAP_DAC_READ_SEARCH",), "open_by_handle_at", ["SCMP_ACT_ALLOW"]),
        (("CAP_BPF",), "bpf", ["SCMP_ACT_ALLOW"]),
        (("CAP_PERFMON",), "perf_event_open", ["SCMP_ACT_ALLOW"]),
        (("CAP_SYSLOG",), "syslog", ["SCMP_ACT_ALLOW"]),
        (("CAP_SYS_NICE",), "mbind", ["SCMP_ACT_ALLOW"]),
    ],
)
def test_default_profile_follows_capabilities(caps: tuple[str, ...], name: str, actions: list[str]) -> None:
    parsed = parse_docker_profile(default_profile(), frozenset(caps), "x86_64", (6, 1))
    assert [rule.action for rule in parsed.rules if name in rule.names] == actions


def test_missing_libseccomp_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot_load(name: str, token: int) -> int:
        raise OSError(2, "cannot load libseccomp.so.2 (install libseccomp2)")

    native = ModuleType("pycontain._native")
    monkeypatch.setattr(native, "seccomp_resolve", cannot_load, raising=False)
    monkeypatch.setitem(sys.modules, "pycontain._native", native)
    with pytest.raises(Unsupported, match=r"cannot build a seccomp filter: .*install libseccomp2.*unconfined"):
        names.resolve("read", "x86_64")


def test_conditions_on_one_argument_are_alternatives() -> None:
    """As runc and crun have it: libseccomp takes one comparison for each argument."""
    either = [{"index": 0, "value": v, "op": "SCMP_CMP_EQ"} for v in (1, 2)]
    both = [{"index": i, "value": 1, "op": "SCMP_CMP_EQ"} for i in (0, 1)]
    for args, count in ((either, 2), (both, 1)):
        rule = {"names": ["getpriority"], "action": "SCMP_ACT_ALLOW", "args": args}
        document = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
        assert len(parse_docker_profile(document, frozenset(), "x86_64", (6, 1)).rules) == count
