"""Seccomp profiles: the records, and the parser for Docker's JSON form and the plain OCI ``linux.seccomp`` form.

Docker's form is OCI's plus conditions (``includes``, ``excludes``) and ``archMap``; parsing settles them, so a Filter
has none. An unknown key inside a rule is an error: ``arg`` for ``args`` would silently widen the rule.
"""

from __future__ import annotations

import errno as _errno
import json
from dataclasses import dataclass

from ..errors import InvalidArgument
from .names import OCI_ARCHES

__all__ = ["ACTIONS", "FLAGS", "OPS", "Arg", "Filter", "Rule", "flag_bits", "parse_docker_profile"]

ACTIONS = frozenset({
    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP", "SCMP_ACT_TRACE", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY",
})  # fmt: skip
OPS = frozenset({
    "SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
})  # fmt: skip
# SECCOMP_FILTER_FLAG_* of <linux/seccomp.h>, by their OCI names.
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
_MAX_ERRNO = 4095  # the kernel clamps SECCOMP_RET_ERRNO's data to this
_MAX_TRACE = 0xFFFF  # SECCOMP_RET_DATA
_KINDS = {
    dict: "an object", list: "an array", str: "a string", int: "an integer", bool: "a boolean", float: "a fraction",
    type(None): "null",
}  # fmt: skip

# The words profiles use in includes.arches: Docker's, which are Go's but for 386.
_PROFILE_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "x86": "x86", "arm": "arm"}
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Arg:
    """One condition on a call's argument, all of it unsigned 64-bit. ``value`` is the mask for SCMP_CMP_MASKED_EQ."""

    index: int
    value: int
    value_two: int = 0
    op: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """What to do with some calls, if all conditions hold. ``errno`` is SCMP_ACT_TRACE's message as well."""

    names: tuple[str, ...]
    action: str
    errno: int | None = None
    args: tuple[Arg, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """A profile with every condition on the host settled. The first rule that matches decides.

    ``architectures`` has OCI names; empty means the native one. ``flags`` concern loading, not the program.
    """

    default_action: str
    default_errno: int | None = None
    architectures: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    flags: tuple[str, ...] = ()


def flag_bits(filter: Filter) -> int:
    """The flags argument of seccomp(2) for this filter."""
    bits = 0
    for name in filter.flags:
        bits |= FLAGS[name]
    return bits


@dataclass(frozen=True, kw_only=True, slots=True)
class _Host:
    caps: frozenset[str]
    arch: str
    kernel: tuple[int, int]


def _bad(path: str, expected: str, found: object) -> InvalidArgument:
    kind = _KINDS.get(type(found), type(found).__name__)
    shown = kind if isinstance(found, (dict, list)) or found is None else json.dumps(found)[:80]
    return InvalidArgument(f"seccomp profile: {path}: expected {expected}, found {shown}")


class _Node:
    """A JSON value and where it stands, so that every complaint can say so. null counts as absent, as in Go."""

    __slots__ = ("path", "value")

    def __init__(self, value: object, path: str) -> None:
        self.value = value
        self.path = path

    def fields(self) -> dict[str, _Node]:
        if not isinstance(self.value, dict):
            raise _bad(self.path, "an object", self.value)
        return {str(k): _Node(v, f"{self.path}.{k}") for k, v in self.value.items() if v is not None}

    def known_fields(self, known: frozenset[str]) -> dict[str, _Node]:
        fields = self.fields()
        for name in fields:
            if name not in known:
                raise _bad(self.path, f"only the keys {', '.join(sorted(known))}", name)
        return fields

    def items(self) -> list[_Node]:
        if not isinstance(self.value, list):
            raise _bad(self.path, "an array", self.value)
        return [_Node(v, f"{self.path}[{i}]") for i, v in enumerate(self.value)]

    def text(self, expected: str = "a non-empty string") -> str:
        if not isinstance(self.value, str) or not self.value:
            raise _bad(self.path, expected, self.value)
        return self.value

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def one_of(self, allowed: frozenset[str]) -> str:
        if not isinstance(self.value, str) or self.value not in allowed:
            raise _bad(self.path, f"one of {', '.join(sorted(allowed))}", self.value)
        return self.value

    def integer(self, maximum: int) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not 0 <= self.value <= maximum:
            raise _bad(self.path, f"an integer from 0 to {maximum}", self.value)
        return self.value


def parse_docker_profile(source: bytes | str, caps: frozenset[str], arch: str, kernel: tuple[int, int]) -> Filter:
    """Parse a profile and settle its conditions for one container on one host.

    ``caps`` is the container's bounding set (``CAP_*`` names), ``arch`` the machine as uname has it, ``kernel`` its
    (major, minor). A plain OCI ``linux.seccomp`` object is read as well: it has no conditions.

    Raises:
        InvalidArgument: naming the place in the JSON, what was expected and what was found.
    Spec: OCI runtime specification, config-linux.md, "Seccomp".
    """
    try:
        document = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"seccomp profile: expected a JSON document: {error}") from error
    root = _Node(document, "$").fields()
    if "defaultAction" not in root:
        raise InvalidArgument("seccomp profile: $: expected the key defaultAction, found none")
    host = _Host(caps=caps, arch=_ALIASES.get(arch, arch), kernel=kernel)
    default_action = root["defaultAction"].one_of(ACTIONS)
    rules = (
        [rule for entry in root["syscalls"].items() for rule in _parse_rule(entry, host)] if "syscalls" in root else []
    )
    return Filter(
        default_action=default_action,
        default_errno=_parse_errno(root, "defaultErrnoRet", "defaultErrno", default_action),
        architectures=_parse_architectures(root, host.arch),
        rules=tuple(rules),
        flags=tuple(flag.one_of(frozenset(FLAGS)) for flag in root["flags"].items()) if "flags" in root else (),
    )


def _parse_errno(fields: dict[str, _Node], number_key: str, name_key: str, action: str) -> int | None:
    number = None
    if number_key in fields:
        number = fields[number_key].integer(_MAX_TRACE if action == "SCMP_ACT_TRACE" else _MAX_ERRNO)
    if name_key in fields and fields[name_key].value != "":
        # Podman's profiles carry the symbol beside the number.
        node = fields[name_key]
        symbol = getattr(_errno, node.text(), None) if node.text().isupper() else None
        if not isinstance(symbol, int):
            raise _bad(node.path, "the symbol of an errno, such as EPERM", node.value)
        if number is not None and number != symbol:
            raise _bad(node.path, f"the same errno as {number_key} ({number})", node.value)
        number = symbol
    return number


def _parse_architectures(root: dict[str, _Node], arch: str) -> tuple[str, ...]:
    names = frozenset(OCI_ARCHES)
    listed = [a.one_of(names) for a in root["architectures"].items()] if "architectures" in root else []
    entries = root["archMap"].items() if "archMap" in root else []
    if listed and entries:
        raise InvalidArgument("seccomp profile: $: expected architectures or archMap, found both")
    for entry in entries:
        fields = entry.known_fields(frozenset({"architecture", "subArchitectures"}))
        if "architecture" not in fields:
            raise _bad(entry.path, "the key architecture", entry.value)
        native = fields["architecture"].one_of(names)
        subs = [s.one_of(names) for s in fields["subArchitectures"].items()] if "subArchitectures" in fields else []
        if OCI_ARCHES[native] == arch:
            listed = [native, *subs]
            break
    return tuple(dict.fromkeys(listed))


_RULE_KEYS = frozenset({
    "names", "name", "action", "errnoRet", "errno", "args", "includes", "excludes", "comment",
})  # fmt: skip


def _parse_rule(entry: _Node, host: _Host) -> tuple[Rule, ...]:
    """Conditions on different arguments must all hold. When one argument has several, any condition is enough: each is a
    rule of its own, as runc and crun have it (libseccomp takes one comparison for each argument)."""
    fields = entry.known_fields(_RULE_KEYS)
    if ("names" in fields) == ("name" in fields) or "action" not in fields:
        found = ", ".join(sorted(fields))
        raise InvalidArgument(
            f"seccomp profile: {entry.path}: expected the keys action and either names or name, found {found or 'none'}"
        )
    names = fields["names"].texts() if "names" in fields else (fields["name"].text(),)
    if not names:
        raise _bad(fields["names"].path, "at least one name", [])
    action = fields["action"].one_of(ACTIONS)
    rule = Rule(
        names=names,
        action=action,
        errno=_parse_errno(fields, "errnoRet", "errno", action),
        args=tuple(_parse_arg(a) for a in fields["args"].items()) if "args" in fields else (),
    )
    wanted = "includes" not in fields or _included(fields["includes"], host)
    unwanted = "excludes" in fields and _excluded(fields["excludes"], host)
    if not wanted or unwanted:
        return ()
    if len({arg.index for arg in rule.args}) == len(rule.args):
        return (rule,)
    return tuple(Rule(names=rule.names, action=rule.action, errno=rule.errno, args=(arg,)) for arg in rule.args)


def _parse_arg(node: _Node) -> Arg:
    fields = node.known_fields(frozenset({"index", "value", "valueTwo", "op"}))
    for key in ("index", "value", "op"):
        if key not in fields:
            raise InvalidArgument(f"seccomp profile: {node.path}: expected the key {key}, found none")
    arg = Arg(
        index=fields["index"].integer(5),
        value=fields["value"].integer(2**64 - 1),
        value_two=fields["valueTwo"].integer(2**64 - 1) if "valueTwo" in fields else 0,
        op=fields["op"].one_of(OPS),
    )
    if arg.op == "SCMP_CMP_MASKED_EQ" and arg.value_two & ~arg.value:
        # Such a rule can never match; in a list of denials that is a hole, so it is said.
        raise _bad(fields["valueTwo"].path, f"only bits of the mask in value ({arg.value:#x})", arg.value_two)
    return arg


_CONDITION_KEYS = frozenset({"caps", "arches", "minKernel"})


def _included(node: _Node, host: _Host) -> bool:
    """All listed capabilities, any listed architecture, and the kernel: every kind that is given must hold."""
    caps, arches, min_kernel = _conditions(node)
    arch_holds = not arches or _PROFILE_ARCH.get(host.arch, host.arch) in arches
    return arch_holds and host.caps.issuperset(caps) and (min_kernel is None or host.kernel >= min_kernel)


def _excluded(node: _Node, host: _Host) -> bool:
    """Any one listed thing that holds is enough."""
    caps, arches, min_kernel = _conditions(node)
    arch_holds = _PROFILE_ARCH.get(host.arch, host.arch) in arches
    return arch_holds or not host.caps.isdisjoint(caps) or (min_kernel is not None and host.kernel >= min_kernel)


def _conditions(node: _Node) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, int] | None]:
    fields = node.known_fields(_CONDITION_KEYS)
    caps = fields["caps"].texts() if "caps" in fields else ()
    arches = fields["arches"].texts() if "arches" in fields else ()
    for i, cap in enumerate(caps):
        if not cap.startswith("CAP_"):
            raise _bad(f"{node.path}.caps[{i}]", "a capability such as CAP_SYS_ADMIN", cap)
    return caps, arches, _parse_kernel(fields["minKernel"]) if "minKernel" in fields else None


def _parse_kernel(node: _Node) -> tuple[int, int]:
    expected = "a kernel version such as 4.8"
    major, dot, minor = node.text(expected).partition(".")
    if not dot or not all(part.isascii() and part.isdigit() and len(part) < 6 for part in (major, minor)):
        raise _bad(node.path, expected, node.value)
    return int(major), int(minor)
