"""Device rules: a list in cgroup v1, a program in v2.

What they mean is the same in both. For each kind of access (read, write, mknod) the last rule that fits the device and
names this kind decides; without one it is denied; a request needs all that it asks for.
Spec: runtime-spec config-linux.md, "Allowed Device list". Kernel: security/device_cgroup.c, bpf(2).
"""

from __future__ import annotations

import struct

from ..errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..spec.runtime import DeviceRule

    Key = tuple[str, int | None, int | None]

__all__ = ["device_group_name", "device_program", "device_writes"]

_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL = 7


def _bits(i: int, rule: DeviceRule) -> int:
    if not rule.access or not set(rule.access) <= set(_ACCESS):
        raise InvalidArgument(
            f"linux.resources.devices[{i}].access: expected some of r, w and m, found {rule.access!r}"
        )
    if rule.type not in ("a", "b", "c"):
        raise InvalidArgument(f"linux.resources.devices[{i}].type: expected a, b or c, found {rule.type!r}")
    for name, n in (("major", rule.major), ("minor", rule.minor)):
        if n is not None and not 0 <= n < 1 << 32:
            raise InvalidArgument(f"linux.resources.devices[{i}].{name}: {n} is no device number")
    return sum(_ACCESS[a] for a in set(rule.access))


# --- cgroup v1 ---------------------------------------------------------------------------------------------------


def _overlap(a: Key, b: Key) -> bool:
    return a[0] == b[0] and all(x is None or y is None or x == y for x, y in zip(a[1:], b[1:], strict=True))


def _covers(wide: Key, narrow: Key) -> bool:
    return wide[0] == narrow[0] and all(x is None or x == y for x, y in zip(wide[1:], narrow[1:], strict=True))


def _exceptions(rules: tuple[DeviceRule, ...]) -> tuple[bool, dict[Key, int]]:
    """(what is allowed by default, exceptions from it): all that the kernel's v1 controller keeps.

    It has no order: an exception can be taken back only as it was made. A rule that would cut a hole into a wider
    exception cannot be said there, and the kernel would ignore it silently.
    """
    default = False
    exceptions: dict[Key, int] = {}
    for i, rule in enumerate(rules):
        bits = _bits(i, rule)
        if rule.type == "a" and rule.major is None and rule.minor is None and bits == _ALL:
            default, exceptions = rule.allow, {}
            continue
        # the kernel ignores numbers and access after "a": say it for both kinds
        for kind in ("b", "c") if rule.type == "a" else (rule.type,):
            key = (kind, rule.major, rule.minor)
            if rule.allow != default:
                exceptions[key] = exceptions.get(key, 0) | bits
                continue
            for other in [k for k, b in exceptions.items() if b & bits and _overlap(k, key)]:
                if not _covers(key, other):
                    raise Unsupported(
                        f"linux.resources.devices[{i}]: cgroup v1 cannot take {_words(key, bits)!r} out of the earlier rule "
                        f"{_words(other, exceptions[other])!r}. Write rules that do not overlap"
                    )
                exceptions[other] &= ~bits
    left = {k: b for k, b in exceptions.items() if b}
    return default, left if default else _joined(left)


def _joined(allowed: dict[Key, int]) -> dict[Key, int]:
    """One exception must allow all that a request asks for: each gets what the wider ones allow as well, and where two
    cross there is a third."""
    for a in tuple(allowed):
        for b in tuple(allowed):
            if a != b and _overlap(a, b) and not _covers(a, b) and not _covers(b, a):
                allowed.setdefault((a[0], a[1] if a[1] is not None else b[1], a[2] if a[2] is not None else b[2]), 0)
    return {k: _union(bits for other, bits in allowed.items() if _covers(other, k)) for k in allowed}


def _union(bits: Iterable[int]) -> int:
    found = 0
    for each in bits:
        found |= each
    return found


def _words(key: Key, bits: int) -> str:
    major, minor = ("*" if n is None else str(n) for n in key[1:])
    return f"{key[0]} {major}:{minor} {''.join(a for a in 'rwm' if bits & _ACCESS[a])}"


def device_writes(rules: tuple[DeviceRule, ...]) -> tuple[tuple[str, str], ...]:
    """cgroup v1: (file, value), in order. Raises Unsupported for rules that v1 cannot express."""
    default, exceptions = _exceptions(rules)
    first, then = ("devices.allow", "devices.deny") if default else ("devices.deny", "devices.allow")
    return ((first, "a"), *((then, _words(key, bits)) for key, bits in exceptions.items()))


def device_group_name(rules: tuple[DeviceRule, ...]) -> str:
    """Equal rules, equal name: a device cgroup accounts nothing, so containers with the same rules share one."""
    from zlib import crc32

    text = ";".join(f"{f}={v}" for f, v in device_writes(rules)).encode()
    # 64 bits against accidents; only this process's own rules meet here, so nobody gains by a collision of his making
    return f"devices-{crc32(text):08x}{crc32(text[::-1]):08x}-{len(text)}"


# --- cgroup v2 ---------------------------------------------------------------------------------------------------

_INSN = struct.Struct("<BBhi")
_LDXW, _AND, _RSH, _MOV, _MOVR, _JNE, _JEQ, _EXIT = 0x61, 0x54, 0x74, 0xB4, 0xBC, 0x56, 0x16, 0x95
_BPF_DEV = {"b": 1, "c": 2}


def _insn(op: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return _INSN.pack(op, src << 4 | dst, off, imm)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value  # imm is signed; the comparison is of 32 bits


def device_program(rules: tuple[DeviceRule, ...]) -> bytes:
    """cgroup v2: an eBPF program (BPF_PROG_TYPE_CGROUP_DEVICE), the last rule first.

    Context (struct bpf_cgroup_dev_ctx): access_type = access << 16 | type, major, minor, 4 bytes each. r3 holds the
    access that no rule has decided yet: an allow takes its bits away, and none left is a yes; a denial of one that is
    left is a no.
    """
    code = [
        _insn(_LDXW, 2, 1, 0), _insn(_MOVR, 3, 2), _insn(_AND, 2, imm=0xFFFF), _insn(_RSH, 3, imm=16),
        _insn(_LDXW, 4, 1, 4), _insn(_LDXW, 5, 1, 8),
    ]  # fmt: skip
    for i, rule in reversed(tuple(enumerate(rules))):
        bits = _bits(i, rule)
        tests: list[tuple[int, int]] = []  # (register, value): each skips this rule when it does not hold
        if rule.type in _BPF_DEV:
            tests.append((2, _BPF_DEV[rule.type]))
        if rule.major is not None:
            tests.append((4, rule.major))
        if rule.minor is not None:
            tests.append((5, rule.minor))
        body: list[bytes] = []
        if bits != _ALL and rule.allow:
            body = [_insn(_AND, 3, imm=~bits), _insn(_JNE, 3, off=2, imm=0)]
        elif bits != _ALL:
            body = [_insn(_MOVR, 6, 3), _insn(_AND, 6, imm=bits), _insn(_JEQ, 6, off=2, imm=0)]
        body += [_insn(_MOV, 0, imm=int(rule.allow)), _insn(_EXIT)]
        total = len(tests) + len(body)
        code += [_insn(_JNE, r, off=total - n - 1, imm=_signed(value)) for n, (r, value) in enumerate(tests)]
        code += body
        if not tests and bits == _ALL:  # matches everything: what follows could not be reached, and the verifier minds
            return b"".join(code)
    return b"".join((*code, _insn(_MOV, 0, imm=0), _insn(_EXIT)))
