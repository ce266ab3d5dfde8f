"""The Plan's bytes: header, ops of three sections, string table, as src/c/plan.h lays them out. Knows no policy."""

from __future__ import annotations

import struct

from .errors import InvalidArgument
from .record import record

__all__ = [
    "Builder", "C", "F", "GIVEN", "HEADER", "ID_TOKEN", "MAGIC", "NO_SLOT", "OP", "P", "Place", "Plan", "SHORT_ID_TOKEN", "VERSION",
]  # fmt: skip

HEADER = struct.Struct("<IIIIQIIIIIIIIIIIiiI")
OP = struct.Struct("<HHhhIIIIQQQ")
MAGIC = 0x314E4350
VERSION = 2
NO_SLOT = -1

# Stand-ins for a container's id in a Plan that is kept for its shape; no real path or name can hold them.
ID_TOKEN = "\x01" * 64
SHORT_ID_TOKEN = "\x02" * 12

_MAX_SLOTS, _MAX_OPS = 256, 4096  # src/c/plan.h: PC_MAX_SLOTS, PC_MAX_OPS
# The slots that every Plan is given, in this order; translated layers follow (plan_mounts).
STDIN, STDOUT, STDERR, TEMPLATE, TOP, IDMAP, STUB = range(7)
GIVEN = ("stdin", "stdout", "stderr", "template", "top", "idmap", "stub")

P, C, F = 0, 1, 2  # the sections: prepare, child, finish


@record
class Place:
    """Where this container's things live. ``directory``: its own, made and removed by the Plan; ``cgroup_parent``:
    below each hierarchy's mount, existing; ``disposable``: the upper layer is thrown away (no sync at the end); ``kept``:
    the directory, with upper/ and work/, is there before the Plan and after it, so that it can be executed again; ``alone``:
    no other container is below ``cgroup_parent``, which is its own cgroup, there before and after as well."""

    container_id: str
    directory: str
    cgroup_parent: str
    disposable: bool = True
    gated: bool = False
    kept: bool = False
    alone: bool = False

    @property
    def cgroup_name(self) -> str:
        """Its own cgroup, below the parent; "": that itself."""
        return "" if self.alone else self.container_id


@record
class Plan:
    """The bytes, and where the process's strings begin, so that argv and env can be exchanged cheaply."""

    data: bytes
    process_off: int  # offset in ``data`` of the first argv string

    def with_process(self, args: tuple[str, ...], env: tuple[str, ...]) -> Plan:
        """The same Plan for another program and environment."""
        head = list(HEADER.unpack_from(self.data))
        strings_off = head[10]
        block = _strings(args) + _strings(env)
        argv_len = sum(len(a.encode("utf-8", "surrogateescape")) + 1 for a in args)
        argv_off = self.process_off - strings_off
        head[2] = self.process_off + len(block)
        head[11] = head[2] - strings_off
        head[12:16] = argv_off, len(args), argv_off + argv_len, len(env)
        return Plan(
            data=HEADER.pack(*head) + self.data[HEADER.size : self.process_off] + block, process_off=self.process_off
        )

    def with_id(self, container_id: str) -> Plan:
        """A Plan made for ID_TOKEN, for the container ``container_id`` (64 hexadecimal digits)."""
        data = self.data.replace(ID_TOKEN.encode(), container_id.encode())
        return Plan(
            data=data.replace(SHORT_ID_TOKEN.encode(), container_id[:12].encode()), process_off=self.process_off
        )


def _strings(items: tuple[str, ...]) -> bytes:
    return b"".join(_encode(s) + b"\0" for s in items)


def _encode(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise InvalidArgument(f"{text[:60]!r} contains a NUL byte: no path, argument or variable can")
    return data


class Builder:
    """Collects ops and strings; equal strings share one place in the table."""

    def __init__(self) -> None:
        self.sections: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        self.table = bytearray(b"\0")
        self.known: dict[bytes, int] = {b"": 0}
        self.n_given = self.n_slots = len(GIVEN)
        self.late: dict[int, list[tuple[int, int, int, int]]] = {}  # by slot: flags, x, y, z of ops that come later

    def string(self, text: str) -> int:
        data = _encode(text)
        at = self.known.get(data)
        if at is None:
            at = self.known[data] = len(self.table)
            self.table += data + b"\0"
        return at

    def blob(self, data: bytes) -> int:
        self.table += b"\0" * (-len(self.table) % 8)
        at = len(self.table)
        self.table += data + b"\0"  # the table ends in NUL whatever comes last
        return at

    def strings(self, items: tuple[str, ...]) -> int:
        at = len(self.table)
        self.table += _strings(items)
        return at

    def slot(self) -> int:
        self.n_slots += 1
        return self.n_slots - 1

    def give(self, count: int) -> range:
        """``count`` more slots that the executor is given, after the usual ones; before any other is taken."""
        assert self.n_slots == self.n_given
        first = self.n_given
        self.n_given = self.n_slots = first + count
        return range(first, first + count)

    def add(
        self, section: int, code: int, *, s1: str = "", s2: str = "", s3: int = 0, flags: int = 0, slot: int = NO_SLOT,
        slot2: int = NO_SLOT, n: int = 0, x: int = 0, y: int = 0, z: int = 0,
    ) -> None:  # fmt: skip
        self.sections[section].append(
            OP.pack(code, flags, slot, slot2, self.string(s1), self.string(s2), s3, n, x, y, z)
        )

    def build(
        self, *, flags: int, clone_flags: int, cgroup_slot: int, args: tuple[str, ...], env: tuple[str, ...],
        enter_slot: int = 0,
    ) -> Plan:  # fmt: skip
        """``enter_slot``: with PLAN_ENTER. Raises: InvalidArgument: more mounts and layers than a Plan can have."""
        if self.n_slots > _MAX_SLOTS or any(len(section) > _MAX_OPS for section in self.sections):
            raise InvalidArgument(
                f"cannot plan a container with so many mounts, layers and namespaces: {self.n_slots} to be held open (at most "
                f"{_MAX_SLOTS}) in {max(map(len, self.sections))} steps (at most {_MAX_OPS}): give it fewer mounts"
            )
        ops = b"".join(b"".join(section) for section in self.sections)
        # the table starts 8-byte aligned: the header and the ops are multiples of 8
        strings_off = HEADER.size + len(ops)
        head = HEADER.pack(
            MAGIC, VERSION, strings_off + len(self.table), flags, clone_flags, self.n_given, self.n_slots,
            *(len(s) for s in self.sections), strings_off, len(self.table), 0, 0, 0, 0, cgroup_slot, STUB, enter_slot,
        )  # fmt: skip
        empty = Plan(data=head + ops + bytes(self.table), process_off=strings_off + len(self.table))
        return empty.with_process(args, env)
