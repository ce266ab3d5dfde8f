"""Renderings of the ops about user ids, joined namespaces, labels and scheduling; see :mod:`pycontain.explain_steps`."""

from __future__ import annotations

import struct

from .disassemble import clone_names
from .explain_steps import BE, BECOME, ROOT, SEE, USE, Step, many

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .disassemble import DecodedOp
    from .explain_steps import Scene

__all__ = ["STEPS"]


def _ns_open(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=SEE, call=f"open {ops[0].s1}", why="a namespace that it is going to share")


def _userns_make(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=ROOT, call=f"clone(NEWUSER), {_ranges(ops[0].s1)}", why="a table that translates owners of files")


def _tree_attr(ops: list[DecodedOp], scene: Scene) -> Step:
    mapped = any(op.slot2 >= 0 for op in ops)
    why = "files of the host show the container's owners" if mapped else "what may be done with these files"
    call = "mount_setattr" if ops[0].section == "prepare" else "mount(REMOUNT)"  # the latter before Linux 5.12
    return Step(group=ROOT, call=f"{call}({'IDMAP' if mapped else ', '.join(_attributes(ops[0]))})", why=why)


_ATTRIBUTES = {
    0x1: "RDONLY",
    0x2: "NOSUID",
    0x4: "NODEV",
    0x8: "NOEXEC",
    0x10: "NOATIME",
    0x80: "NODIRATIME",
    0x200000: "NOSYMFOLLOW",
}
_PROPAGATION = {1 << 17: "UNBINDABLE", 1 << 18: "PRIVATE", 1 << 19: "SLAVE", 1 << 20: "SHARED"}


def _attributes(op: DecodedOp) -> tuple[str, ...]:
    found = [name for bit, name in _ATTRIBUTES.items() if op.x & bit]
    found += [f"no {name}" for bit, name in _ATTRIBUTES.items() if op.y & bit]
    return (*found, *(name for bit, name in _PROPAGATION.items() if op.z & bit)) or ("no change",)


def _fs_make(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=ROOT, call=f"fsopen {ops[0].s1}", items=ops[0].items, why="a file system made ready to appear inside"
    )


def _ranges(text: str) -> str:
    first = text.split("\n", 1)[0].split()
    return (
        f"{first[0]}-{int(first[0]) + int(first[2]) - 1} = {first[1]}-{int(first[1]) + int(first[2]) - 1}"
        if len(first) == 3
        else text
    )


def _parent_write(ops: list[DecodedOp], scene: Scene) -> Step:
    op = ops[0]
    if op.s1 == "timens_offsets":
        return Step(group=SEE, call=f"timens_offsets = {op.s2.strip()}", why="clocks since boot of its own")
    return Step(
        group=USE, call=f"{op.s1} = {op.s2.strip()}",
        why="who dies first when the whole machine runs out of memory" if op.s1 == "oom_score_adj" else "set from outside",
    )  # fmt: skip


def _id_maps(ops: list[DecodedOp], scene: Scene) -> Step:
    call = f"uid_map, gid_map: {_ranges(ops[0].s1)}"
    return Step(group=BE, call=call, why="its root is an ordinary, unused user of the host")


def _fork(ops: list[DecodedOp], scene: Scene) -> Step:
    names = "|".join(clone_names(ops[0].x))
    return Step(group=SEE, call=f"clone3({names or 'PARENT'})", why="what was joined holds for children: one goes on")


def _mount_attr(ops: list[DecodedOp], scene: Scene) -> Step:
    op = ops[0]
    if op.s1 == "/":
        return Step(
            group=ROOT, call=f"mount_setattr(/, {', '.join(_attributes(op))})", why="which mounts pass in and out"
        )
    return Step(
        group=ROOT, call=f"mount_setattr {many(len(ops), 'path')}:", items=tuple(each.s1 for each in ops),
        why="what may be done with these files",
    )  # fmt: skip


def _root_pivot(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=ROOT, call="pivot_root, umount2", why="nothing is left below its root")


def _keyring(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=SEE, call="keyctl(JOIN_SESSION_KEYRING)", why="none of your keys come along")


_POLICIES = ("OTHER", "FIFO", "RR", "BATCH", "ISO", "IDLE", "DEADLINE")


def _scheduler(ops: list[DecodedOp], scene: Scene) -> Step:
    _, policy, _, nice, priority = struct.unpack_from("<IIQiI", ops[0].blob.ljust(24, b"\0"))
    name = _POLICIES[policy] if policy < len(_POLICIES) else str(policy)
    return Step(
        group=USE,
        call=f"sched_setattr({name}, nice {nice}, priority {priority})",
        why="how the CPU takes turns with it",
    )


def _io_priority(ops: list[DecodedOp], scene: Scene) -> Step:
    kind = ("none", "RT", "BE", "IDLE")[ops[0].x >> 13 & 3]
    return Step(group=USE, call=f"ioprio_set({kind}, {ops[0].x & 7})", why="how the disk takes turns with it")


def _personality(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call=f"personality({ops[0].x:#x})", why="what kind of machine it is told that this is")


def _memory_policy(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=USE, call=f"set_mempolicy({ops[0].x & 0xFFF})", why="which memory nodes its pages come from")


def _listener(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=BE, call=f"seccomp: a filter of {len(ops[0].blob) // 8} instructions, with a listener",
        why="fewer doors into the kernel; some calls are decided outside",
    )  # fmt: skip


_SYNC = {
    1: "the listener is handed over",
    2: "prestart and createRuntime hooks run",
    3: "what createContainer hooks read is made ready",
    4: "what startContainer hooks read is made ready",
}


def _sync(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call="wait", why=_SYNC.get(ops[0].x, "the caller does its part"))


def _pipe_owner(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call=f"fchown({ops[0].x})", why="it may open its own standard streams again")


def _exec_label(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=BE, call=f"{ops[0].s1.removeprefix('self/')} = {ops[0].s2}",
        why="a security module watches over what it does besides",
    )  # fmt: skip


def _hook(ops: list[DecodedOp], scene: Scene) -> Step:
    why = (
        "a createContainer hook, before its root is all it sees"
        if ops[0].x == 3
        else "a startContainer hook, as what it will be"
    )
    return Step(group=BECOME, call=f"run {ops[0].s1}", why=why)


def _net_device(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=SEE, call=f"move {ops[0].s1} into its network", why="a network device of the host, now the container's alone"
    )  # fmt: skip


STEPS = {
    "NS_OPEN": _ns_open, "USERNS_MAKE": _userns_make, "TREE_ATTR": _tree_attr, "FS_MAKE": _fs_make,
    "PARENT_WRITE": _parent_write, "ID_MAPS": _id_maps, "FORK": _fork, "MOUNT_ATTR": _mount_attr,
    "ROOT_PIVOT": _root_pivot, "KEYRING": _keyring,
    "SCHEDULER": _scheduler, "IO_PRIORITY": _io_priority, "PERSONALITY": _personality, "MEMORY_POLICY": _memory_policy,
    "LISTENER": _listener, "SYNC": _sync, "PIPE_OWNER": _pipe_owner, "EXEC_LABEL": _exec_label, "HOOK": _hook, "NET_DEVICE": _net_device,
}  # fmt: skip
