"""A Plan's bytes back into records: for ``--explain``, golden tests, and errors that name the step that failed.

The C core is the only reader that executes; this one only reads. It checks every offset all the same, because a Plan
may come from a file. The byte format is src/c/plan.h's; a test holds ``LISTS``, ``BLOBS`` and ``TEXTS`` against it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .errors import InvalidArgument
from .ops import CLONE_NS, OP_NAMES, PLAN_ENTER
from .plan_bytes import GIVEN, HEADER, MAGIC, NO_SLOT, OP, VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AUDIT_ARCH",
    "DecodedOp",
    "DecodedPlan",
    "SeccompSummary",
    "as_document",
    "as_json",
    "clone_names",
    "decode",
    "dump",
    "seccomp_summary",
]

SECTIONS = ("prepare", "child", "finish")

# What s3 is, by op: the start of n strings, of n bytes, or one string.
LISTS = frozenset(("OVERLAY", "FS_MAKE", "HOOK"))
BLOBS = frozenset(("CGROUP_DEVICES", "WRITE_FILE", "IDS", "SECCOMP", "LISTENER", "SCHEDULER", "MEMORY_POLICY"))
TEXTS = frozenset(("MOUNT",))
PROGRAMS = frozenset(("CGROUP_DEVICES", "SECCOMP", "LISTENER"))  # blobs of 8-byte instructions

_MAX_SLOTS = 256  # PC_MAX_SLOTS of src/c/plan.h
PLAN_FLAGS = ("SHARE_VM", "GATED", "LEAN", "VISIBLE", "STUB", "ENTER")
OP_FLAGS = (
    "OPTIONAL", "RECURSIVE", "NOSYMLINK", "CREATE", "CLASSIC", "VOLATILE", "LAYER_FDS", "PIVOT", "LAYER_PLUS",
    "COPY_UP", "USERXATTR", "LIKE_BELOW", "KERNEL_TREE", "DEVICES", "REMOUNT",
)  # fmt: skip
_CLONE_WORDS = {
    "pid": "NEWPID", "mount": "NEWNS", "network": "NEWNET", "uts": "NEWUTS", "ipc": "NEWIPC", "cgroup": "NEWCGROUP",
    "user": "NEWUSER", "time": "NEWTIME", "into_cgroup": "INTO_CGROUP",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedOp:
    """One op with its strings resolved. ``s3``, ``items`` and ``blob`` are what s3 stands for in this op; ``source`` what n
    stands for in a MOUNT."""

    section: str
    index: int
    name: str
    flags: tuple[str, ...] = ()
    slot: int = NO_SLOT
    slot2: int = NO_SLOT
    s1: str = ""
    s2: str = ""
    s3: str = ""
    source: str = ""
    items: tuple[str, ...] = ()
    blob: bytes = b""
    n: int = 0
    x: int = 0
    y: int = 0
    z: int = 0

    @property
    def gids(self) -> tuple[int, ...]:
        """The additional groups of an IDS op."""
        return struct.unpack(f"<{len(self.blob) // 4}I", self.blob) if self.name == "IDS" else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedPlan:
    """``slots``: their names, those that are given by their role, the others by what fills them."""

    version: int
    flags: tuple[str, ...]
    clone_flags: int
    cgroup_slot: int
    stub_slot: int
    slots: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[str, ...]
    prepare: tuple[DecodedOp, ...]
    child: tuple[DecodedOp, ...]
    finish: tuple[DecodedOp, ...]

    def ops(self) -> Iterator[DecodedOp]:
        """All ops in the order of execution."""
        yield from self.prepare
        yield from self.child
        yield from self.finish


def clone_names(flags: int) -> tuple[str, ...]:
    """The words of clone3's namespace flags, without CLONE_: ``("NEWPID", "NEWNS")``."""
    return tuple(word for kind, word in _CLONE_WORDS.items() if flags & CLONE_NS[kind])


def _bits(value: int, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(names) if value >> i & 1)


class _Table:
    """The string table, with bounds."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def end(self, off: int, what: str) -> int:
        end = self.data.find(b"\0", off) if off < len(self.data) else -1
        if end < 0:
            raise InvalidArgument(f"not a Plan: {what} lies outside the string table ({off} of {len(self.data)})")
        return end

    def text(self, off: int, what: str) -> str:
        return self.data[off : self.end(off, what)].decode("utf-8", "surrogateescape")

    def texts(self, off: int, count: int, what: str) -> tuple[str, ...]:
        found = []
        for _ in range(count):
            end = self.end(off, what)
            found.append(self.data[off:end].decode("utf-8", "surrogateescape"))
            off = end + 1
        return tuple(found)

    def blob(self, off: int, length: int, what: str) -> bytes:
        if off + length > len(self.data):
            raise InvalidArgument(f"not a Plan: {what} lies outside the string table ({off}, {length} bytes)")
        return self.data[off : off + length]


def decode(data: bytes) -> DecodedPlan:
    """The records of a Plan. Raises InvalidArgument for bytes that are none."""
    if len(data) < HEADER.size:
        raise InvalidArgument(f"not a Plan: {len(data)} bytes are shorter than its header ({HEADER.size})")
    (
        magic, version, total, flags, clone_flags, n_given, n_slots, n_prepare, n_child, n_finish, strings_off, strings_len,
        argv_off, argc, env_off, envc, cgroup_slot, stub_slot, _reserved,
    ) = HEADER.unpack_from(data)  # fmt: skip
    if magic != MAGIC or version != VERSION:
        raise InvalidArgument(f"not a Plan of version {VERSION}: it begins with {data[:8].hex()}")
    counts = (n_prepare, n_child, n_finish)
    if total != len(data) or strings_off != HEADER.size + sum(counts) * OP.size or strings_off + strings_len != total:
        raise InvalidArgument(f"not a Plan: its parts do not add up to its {len(data)} bytes")
    if n_slots > _MAX_SLOTS:  # each gets a name: a damaged count must not ask for gigabytes
        raise InvalidArgument(f"not a Plan: it has {n_slots} slots, more than {_MAX_SLOTS}")
    table = _Table(data[strings_off:])
    sections = []
    at = HEADER.size
    for section, count in zip(SECTIONS, counts, strict=True):
        sections.append(tuple(_op(data, at + i * OP.size, table, section, i) for i in range(count)))
        at += count * OP.size
    return DecodedPlan(
        version=version,
        flags=_bits(flags, PLAN_FLAGS),
        clone_flags=clone_flags,
        cgroup_slot=cgroup_slot,
        stub_slot=stub_slot,
        slots=_slot_names(n_given, n_slots, sections[0], enter=bool(flags & PLAN_ENTER)),
        args=table.texts(argv_off, argc, "argv"),
        env=table.texts(env_off, envc, "the environment"),
        prepare=sections[0],
        child=sections[1],
        finish=sections[2],
    )


def _op(data: bytes, at: int, table: _Table, section: str, index: int) -> DecodedOp:
    code, flags, slot, slot2, s1, s2, s3, n, x, y, z = OP.unpack_from(data, at)
    if not 0 < code < len(OP_NAMES):
        raise InvalidArgument(f"not a Plan: {section}[{index}] has the unknown op code {code}")
    name = OP_NAMES[code]
    what = f"{section}[{index}] {name}"
    return DecodedOp(
        section=section, index=index, name=name, flags=_bits(flags, OP_FLAGS), slot=slot, slot2=slot2,
        s1=table.text(s1, what), s2=table.text(s2, what), s3=table.text(s3, what) if name in TEXTS else "",
        source=table.text(n, what) if name == "MOUNT" else "",
        items=table.texts(s3, n, what) if name in LISTS else (), blob=table.blob(s3, n, what) if name in BLOBS else b"",
        n=n, x=x, y=y, z=z,
    )  # fmt: skip


def _slot_names(given: int, count: int, prepare: tuple[DecodedOp, ...], *, enter: bool) -> tuple[str, ...]:
    names = [*GIVEN[:count], *(f"slot {i}" for i in range(len(GIVEN), count))]
    for i in range(len(GIVEN), min(given, count)):
        number = i - len(GIVEN)
        if enter:
            names[i] = ("enter", "container")[number] if number < 2 else f"cgroup {number - 2}"
        else:
            names[i] = f"translated layer {number}"
    for op in prepare:
        makes = {
            "CGROUP_MAKE": "cgroup",
            "CGROUP_OPEN": "cgroup",
            "OVERLAY": "root",
            "TREE_CLONE": "tree",
            "NS_OPEN": "namespace",
            "USERNS_MAKE": "id map",
            "FS_MAKE": "file system",
        }.get(op.name)
        if makes is not None and len(GIVEN) <= op.slot < count:
            names[op.slot] = makes if makes == "root" else f"{makes} {op.s1}"
    return tuple(names)


# --- JSON --------------------------------------------------------------------------------------------------------

_EXACT = 1 << 53  # beyond it JavaScript and jq round integers: such a number is written as a hexadecimal string


def _number(value: int) -> int | str:
    return value if value < _EXACT else f"{value:#x}"


def _blob(op: DecodedOp) -> object:
    if op.name in PROGRAMS:
        import hashlib

        return {"instructions": len(op.blob) // 8, "sha256": hashlib.sha256(op.blob).hexdigest()}
    if op.name == "IDS":
        return {"gids": list(op.gids)}
    if op.name in ("SCHEDULER", "MEMORY_POLICY"):
        return {"hex": op.blob.hex()}
    try:
        return {"text": op.blob.decode("utf-8")}
    except UnicodeDecodeError:
        return {"hex": op.blob.hex()}


def _op_document(op: DecodedOp) -> dict[str, object]:
    """Only what the op says: a field at its default is left out."""
    document: dict[str, object] = {"op": op.name}
    if op.flags:
        document["flags"] = list(op.flags)
    if op.name == "STDIO":
        document["slots"] = [op.slot, op.slot2, op.n]
    else:
        document.update({key: slot for key, slot in (("slot", op.slot), ("slot2", op.slot2)) if slot != NO_SLOT})
    for key, text in (("s1", op.s1), ("s2", op.s2), ("s3", op.s3), ("source", op.source)):
        if text:
            document[key] = text
    if op.items:
        document["items"] = list(op.items)
    if op.blob:
        document["blob"] = _blob(op)
    if op.n and op.name == "RLIMIT":
        document["n"] = op.n
    for key, number in (("x", op.x), ("y", op.y), ("z", op.z)):
        if number:
            document[key] = _number(number)
    return document


def as_document(data: bytes) -> dict[str, object]:
    """A Plan as JSON's own types: header, slots, sections. Large numbers are hexadecimal strings, programs digests."""
    plan = decode(data)
    document: dict[str, object] = {
        "version": plan.version,
        "flags": list(plan.flags),
        "clone_flags": list(clone_names(plan.clone_flags)),
        "cgroup_slot": plan.cgroup_slot,
        "slots": list(plan.slots),
        "args": list(plan.args),
        "env": list(plan.env),
    }
    for section, ops in zip(SECTIONS, (plan.prepare, plan.child, plan.finish), strict=True):
        document[section] = [_op_document(op) for op in ops]
    return document


def as_json(data: bytes) -> str:
    """The Plan itself as stable JSON: the same bytes give the same text."""
    return dump(as_document(data))


def dump(document: dict[str, object]) -> str:
    """One op a line: a changed step is a changed line in a golden file's diff."""
    import json

    rows = []
    for key, value in document.items():
        if key in SECTIONS and isinstance(value, list) and value:
            body = ",\n  ".join(json.dumps(op) for op in value)
            rows.append(f'"{key}": [\n  {body}\n ]')
        else:
            rows.append(f'"{key}": {json.dumps(value)}')
    return "{\n " + ",\n ".join(rows) + "\n}\n"


# --- the seccomp filter in two numbers ---------------------------------------------------------------------------

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_ENOSYS = _ERRNO | 38
_HIGHEST = 1024  # no architecture we know numbers its calls beyond


@dataclass(frozen=True, kw_only=True, slots=True)
class SeccompSummary:
    """``allowed``: how many call numbers pass with plain arguments. ``refusal``: what the filter most often answers to
    the others, as the word an errno or an action has ("EPERM", "KILL")."""

    allowed: int
    refusal: str


def _verdict(program: list[tuple[int, int, int, int]], nr: int, arch: int) -> int:
    """What the filter returns for the call ``nr`` with all arguments 0."""
    words = {0: nr, 4: arch}
    a = pc = 0
    while pc < len(program):
        code, jt, jf, k = program[pc]
        pc += 1
        if code == 0x20:
            a = words.get(k, 0)
        elif code == 0x54:
            a &= k
        elif code == 0x05:
            pc += k
        elif code == 0x06:
            return k
        elif code in (0x15, 0x25, 0x35):
            hit = a == k if code == 0x15 else a > k if code == 0x25 else a >= k
            pc += jt if hit else jf
        else:
            raise InvalidArgument(f"the filter has an instruction ({code:#x}) that is none of ours")
    raise InvalidArgument("the filter ends without an answer")


def seccomp_summary(filter: bytes, machine: str) -> SeccompSummary:
    """Runs a filter of :mod:`pycontain.seccomp` once for each call number. Raises InvalidArgument for a foreign one."""
    import errno

    program = list(struct.iter_unpack("<HBBI", filter))
    arch = AUDIT_ARCH.get(machine, 0)
    seen: dict[int, int] = {}
    for nr in range(_HIGHEST):
        verdict = _verdict(program, nr, arch)
        seen[verdict] = seen.get(verdict, 0) + 1
    # numbers that no call has are answered with ENOSYS: no statement about the profile
    others = {v: n for v, n in seen.items() if v not in (_ALLOW, _ENOSYS)}
    most = max(others, key=lambda v: others[v]) if others else _ENOSYS
    word = errno.errorcode.get(most & 0xFFFF, "an error") if most & 0xFFFF0000 == _ERRNO else "KILL"
    return SeccompSummary(allowed=seen.get(_ALLOW, 0), refusal=word)
