"""Other limits in a Plan that is there: the ops of its cgroups, nothing else of its bytes. Pure.

A container that runs is started again by its monitor from the Plan of its start (ADR 15): what that says must be what an update has
made of the container, and nothing that only its start knew may change.
"""

from __future__ import annotations

from .ops import F_OPTIONAL, Op
from .plan_bytes import HEADER, NO_SLOT, OP, C, P
from .record import record

__all__ = ["NewLimits", "with_limits"]

_PLACE = frozenset((Op.CGROUP_MAKE, Op.CGROUP_OPEN))
_CGROUP = frozenset((*_PLACE, Op.CGROUP_WRITE, Op.CGROUP_DEVICES))
_CODE, _FLAGS, _SLOT, _S1, _S2, _X = 0, 1, 2, 4, 5, 8


@record
class NewLimits:
    """What the cgroup at ``path`` is told, in order: (file, value). ``version`` 1 or 2: one of v1 is joined when it was not."""

    path: str
    version: int
    writes: tuple[tuple[str, str], ...]


def with_limits(plan: bytes, changes: tuple[NewLimits, ...]) -> bytes:
    """The start's Plan with these limits. For the Plan of an exec, which makes no cgroup and limits none, only what it joins."""
    edited = _Edited(plan)
    for each in changes:
        edited.limit(each)
    return edited.whole()


class _Edited:
    def __init__(self, plan: bytes) -> None:
        self.head = list(HEADER.unpack_from(plan))
        self.strings = bytearray(plan[self.head[10] : self.head[10] + self.head[11]])
        self.sections: list[list[list[int]]] = []
        at = HEADER.size
        for count in self.head[7:10]:
            self.sections.append([list(OP.unpack_from(plan, at + i * OP.size)) for i in range(count)])
            at += count * OP.size
        self.starts = not any(op[_CODE] == Op.STDIO and i == 0 for i, op in enumerate(self.sections[C]))

    def whole(self) -> bytes:
        head = self.head
        head[7:10] = [len(ops) for ops in self.sections]
        head[10] = HEADER.size + OP.size * sum(head[7:10])
        head[11] = len(self.strings)
        head[2] = head[10] + head[11]
        ops = b"".join(OP.pack(*op) for section in self.sections for op in section)
        return HEADER.pack(*head) + ops + bytes(self.strings)

    def text(self, offset: int) -> str:
        return self.strings[offset : self.strings.index(b"\0", offset)].decode("utf-8", "surrogateescape")

    def string(self, text: str) -> int:
        at = len(self.strings)
        self.strings += text.encode("utf-8", "surrogateescape") + b"\0"
        return at

    def op(self, code: int, *, s1: str, s2: str = "", slot: int = NO_SLOT) -> list[int]:
        return [code, 0, slot, NO_SLOT, self.string(s1), self.string(s2), 0, 0, 0, 0, 0]

    def limit(self, change: NewLimits) -> None:
        prepare = self.sections[P]
        slot = next((op[_SLOT] for op in prepare if op[_CODE] in _PLACE and self.text(op[_S1]) == change.path), NO_SLOT)
        if slot == NO_SLOT and change.version == 1:
            slot = self.join(change.path)
        if slot == NO_SLOT or not self.starts:
            return
        for file, value in change.writes:
            self.write(slot, file, value)

    def join(self, path: str) -> int:
        """One more cgroup of v1, before the process leaves the host's namespaces."""
        slot = int(self.head[6])
        self.head[6] = slot + 1
        prepare, child, finish = self.sections
        at = 1 + max((i for i, op in enumerate(prepare) if op[_CODE] in _CGROUP), default=-1)
        op = self.op(Op.CGROUP_MAKE if self.starts else Op.CGROUP_OPEN, s1=path, slot=slot)
        if self.starts:  # it has been made for what runs now, whose end may have gone by the Plan before this one
            op[_FLAGS] = F_OPTIONAL
        prepare.insert(at, op)
        joins = [i for i, op in enumerate(child) if op[_CODE] == Op.CGROUP_JOIN]
        leaves = [i for i, op in enumerate(child) if op[_CODE] in (Op.SETNS, Op.UNSHARE)]
        at = joins[-1] + 1 if joins else leaves[0] if leaves and not self.starts else 0
        child.insert(at, self.op(Op.CGROUP_JOIN, s1="", slot=slot))
        if self.starts:
            at = next((i for i, op in enumerate(finish) if op[_CODE] == Op.TREE_REMOVE), len(finish))
            op = self.op(Op.CGROUP_REMOVE, s1=path)
            op[_X] = max((each[_X] for each in finish if each[_CODE] == Op.CGROUP_REMOVE), default=0)
            finish.insert(at, op)
        return slot

    def write(self, slot: int, file: str, value: str) -> None:
        prepare = self.sections[P]
        for op in prepare:
            if op[_CODE] == Op.CGROUP_WRITE and op[_SLOT] == slot and self.text(op[_S1]) == file:
                op[_S2] = self.string(value)
                return
        at = 1 + max(i for i, op in enumerate(prepare) if op[_CODE] in _CGROUP and op[_SLOT] == slot)
        prepare.insert(at, self.op(Op.CGROUP_WRITE, s1=file, s2=value, slot=slot))
