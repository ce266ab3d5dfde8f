"""An exec into a running container as a Plan: the start's own Plan says what its processes are, this one how to become one. Pure.

What a start has done for its first process (limits, scheduling, capabilities, filter, label) is read back from its Plan's bytes:
whoever has these, in this process or from a file beside the container, can exec into it. The slots are those of every Plan, with
no template, then pycontain-enter, the container's pidfd, its cgroup of v2 if there is one, those of v1.

Spec: opencontainers/runtime-spec runtime.md has no exec; the rules are Docker's (docs.docker.com, "docker container exec").
"""

from __future__ import annotations

import struct

from .errors import Unsupported
from .ops import CLONE_NS, F_OPTIONAL, PLAN_ENTER, PLAN_STUB, Op
from .plan_bytes import HEADER, NO_SLOT, OP, STDERR, STDIN, STDOUT, Builder, C, F, P
from .plan_namespaces import host_id
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .plan_bytes import Plan
    from .spec.runtime import IDMapping

__all__ = ["Inherited", "OwnCgroup", "Wish", "inherited", "plan_exec"]

_SYS_PTRACE = 19
_OOM_FILES = ("oom_score_adj", "self/oom_score_adj")
# what every process of a container has, as the start's ops have it: copied as they are
_COPIED = (Op.SCHEDULER, Op.IO_PRIORITY, Op.PERSONALITY, Op.MEMORY_POLICY)
_BLOBS = (Op.SCHEDULER, Op.MEMORY_POLICY, Op.SECCOMP, Op.LISTENER, Op.IDS)


@record
class _Taken:
    """An op of the start's Plan."""

    code: int
    s1: str
    s2: str
    blob: bytes
    n: int
    x: int
    y: int
    z: int


@record
class Inherited:
    """What the container's first process is, from its Plan."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    gids: tuple[int, ...]
    umask: int
    bounding: int
    caps: tuple[int, int, int]
    ambient: int
    no_new_privs: bool
    filter: _Taken | None
    label: _Taken | None
    keyring: str
    oom_score: str
    copied: tuple[_Taken, ...]
    limits: tuple[_Taken, ...]
    by_stub: bool


@record
class Wish:
    """What one shape of exec wants. ``ids``: (uid, gid, additional gids), or None for those of the container; ``cwd``: "" for
    its; ``all_caps``: with ``privileged``; ``namespaces``: CLONE_NEW* of those that differ from the engine's; ``follows``: the
    program ends with the process that started it; ``drops_groups``: the engine may change its groups before it joins."""

    namespaces: int
    v1_cgroups: int
    v2_cgroup: bool
    ids: tuple[int, int, tuple[int, ...]] | None = None
    cwd: str = ""
    privileged: bool = False
    all_caps: int = 0
    terminal: bool = False
    console_size: tuple[int, int] = (0, 0)
    follows: bool = True
    drops_groups: bool = True
    maps: tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]] = ((), ())


@record
class OwnCgroup:
    """One that the Plan itself opens: a Plan that is kept for many execs is given none. ``version`` 1 or 2; ``make``: it makes it
    first, below one of the container's, and its finish section ends what is in it."""

    path: str
    version: int
    make: bool


def _ops(plan: bytes) -> list[_Taken]:
    head = HEADER.unpack_from(plan)
    strings = head[10]

    def text(offset: int) -> str:
        start = strings + offset
        return plan[start : plan.index(b"\0", start)].decode("utf-8", "surrogateescape")

    found = []
    for i in range(head[8]):
        code, _, _, _, s1, s2, s3, n, x, y, z = OP.unpack_from(plan, HEADER.size + (head[7] + i) * OP.size)
        blob = plan[strings + s3 : strings + s3 + n] if code in _BLOBS else b""
        found.append(_Taken(code=code, s1=text(s1), s2=text(s2), blob=blob, n=n, x=x, y=y, z=z))
    return found


def _words(plan: bytes, offset: int, count: int) -> tuple[str, ...]:
    words = plan[offset:].split(b"\0", count)[:count]
    return tuple(word.decode("utf-8", "surrogateescape") for word in words)


def inherited(plan: bytes) -> Inherited:
    """Of the start's Plan, which this engine has made."""
    head = HEADER.unpack_from(plan)
    last: dict[int, _Taken] = {}
    taken = _ops(plan)
    for op in taken:
        last[op.code] = op  # of IDS and CHDIR the last: what came before it was on the way
    ids, caps = last[Op.IDS], last[Op.CAPS]
    return Inherited(
        args=_words(plan, head[10] + head[12], head[13]),
        env=_words(plan, head[10] + head[14], head[15]),
        cwd=last[Op.CHDIR].s1,
        uid=ids.x,
        gid=ids.y,
        gids=struct.unpack(f"<{len(ids.blob) // 4}I", ids.blob),
        umask=last[Op.UMASK].x,
        bounding=last[Op.CAP_BOUND].x,
        caps=(caps.x, caps.y, caps.z),
        ambient=last[Op.CAP_AMBIENT].x if Op.CAP_AMBIENT in last else 0,
        no_new_privs=Op.NO_NEW_PRIVS in last,
        filter=last.get(Op.LISTENER) or last.get(Op.SECCOMP),
        label=last.get(Op.EXEC_LABEL),
        keyring=last[Op.KEYRING].s1,
        oom_score=next((op.s2 for op in taken if op.s1 in _OOM_FILES), ""),
        copied=tuple(op for op in taken if op.code in _COPIED),
        limits=tuple(op for op in taken if op.code == Op.RLIMIT),
        by_stub=bool(head[3] & PLAN_STUB),
    )


def plan_exec(
    of: Inherited, wish: Wish, *, args: tuple[str, ...], env: tuple[str, ...], own: tuple[OwnCgroup, ...] = ()
) -> Plan:
    """The Plan of an exec. ``own``: its cgroups, when it is not given any. Raises: Unsupported: a filter whose notifications
    somebody wants."""
    if of.filter is not None and of.filter.code == Op.LISTENER and not wish.privileged:
        raise Unsupported(
            "its seccomp profile sends notifications to a listener: exec into such a container comes later"
        )
    b = Builder()
    slots = b.give(2 + wish.v2_cgroup + wish.v1_cgroups)
    enter, container = slots[0], slots[1]
    v2 = slots[2] if wish.v2_cgroup else NO_SLOT
    v1: list[int] = list(slots[2 + wish.v2_cgroup :])
    for each in sorted(
        own, key=lambda each: not each.make
    ):  # first: one that cannot be made is another exec's, and stays
        slot = b.slot()
        b.add(P, Op.CGROUP_MAKE if each.make else Op.CGROUP_OPEN, s1=each.path, slot=slot)
        if each.make:
            b.add(F, Op.CGROUP_REMOVE, s1=each.path)
        if each.version == 2:
            v2 = slot
        else:
            v1.append(slot)
    uid, gid, gids = wish.ids or (of.uid, of.gid, of.gids)
    _own_pipes(b, wish, uid)
    _join(b, of, wish, container, v1)
    forks = bool(wish.namespaces & CLONE_NS["pid"])
    # Not dumpable, the new process is out of reach for everybody in there but who has CAP_SYS_PTRACE in the engine's own user
    # namespace. Where that can be, it appears in there only once it has no more power than they.
    late = (
        forks and bool(of.bounding >> _SYS_PTRACE & 1) and not wish.namespaces & CLONE_NS["user"] and of.label is None
    )
    if forks and not late:
        b.add(C, Op.FORK)
    b.add(C, Op.KEYRING, s1=of.keyring)
    if not late:
        _session(b, wish, uid)
    for op in of.copied:
        b.add(C, op.code, s3=b.blob(op.blob) if op.blob else 0, n=op.n, x=op.x, y=op.y, z=op.z)
    if of.label is not None and not wish.privileged:
        b.add(C, Op.EXEC_LABEL, s1=of.label.s1, s2=of.label.s2)
    b.add(C, Op.UMASK, x=of.umask)
    for op in of.limits:
        b.add(C, Op.RLIMIT, n=op.n, x=op.x, y=op.y)
    cwd = wish.cwd or of.cwd
    if uid != 0:
        b.add(C, Op.CHDIR, s1=cwd, flags=F_OPTIONAL)
    _become(b, of, wish, uid, gid, gids)
    if late:
        b.add(C, Op.FORK)
        _session(b, wish, uid)
    if wish.follows:
        b.add(C, Op.PDEATHSIG, x=9)
    if of.no_new_privs:
        b.add(C, Op.NO_NEW_PRIVS)
        _filter(b, of, wish)
    b.add(C, Op.CHDIR, s1=cwd)
    return b.build(
        flags=PLAN_ENTER | (PLAN_STUB if of.by_stub else 0), clone_flags=CLONE_NS["into_cgroup"] if v2 != NO_SLOT else 0,
        cgroup_slot=v2, enter_slot=enter, args=args, env=env,
    )  # fmt: skip


def _own_pipes(b: Builder, wish: Wish, uid: int) -> None:
    """As for a start: the program's user may open /dev/stdin, /dev/stdout and /dev/stderr anew."""
    outside = host_id(wish.maps[0], uid) if wish.maps[0] else uid
    group = host_id(wish.maps[1], 0) if wish.maps[1] else None
    if outside and not wish.terminal:
        for slot in (STDIN, STDOUT, STDERR):
            b.add(P, Op.PIPE_OWNER, slot=slot, x=outside, y=0xFFFFFFFF if group is None else group)


def _join(b: Builder, of: Inherited, wish: Wish, container: int, cgroups: list[int]) -> None:
    """Into everything that is the container's, and out of all that is not. Who is seen in there has the streams left, the
    report socket and the sealed stub: no descriptor of the host's."""
    b.add(C, Op.STDIO, slot=STDIN, slot2=STDOUT, n=STDERR)
    if of.oom_score:
        b.add(C, Op.PARENT_WRITE, s1="oom_score_adj", s2=of.oom_score)
    for slot in cgroups:
        b.add(C, Op.CGROUP_JOIN, slot=slot)
    user = bool(wish.namespaces & CLONE_NS["user"])
    if user and wish.drops_groups:  # inside, setgroups may be forbidden: nothing of ours comes along
        b.add(C, Op.IDS, x=0, y=0, s3=b.blob(b""), n=0)
    b.add(C, Op.SETNS, slot=container, x=wish.namespaces)
    b.add(C, Op.CLOSE_FDS, x=3)
    if user:
        b.add(C, Op.IDS, x=0, y=0, s3=b.blob(b""), n=0)


def _session(b: Builder, wish: Wish, uid: int) -> None:
    b.add(C, Op.SESSION)
    if wish.terminal:
        b.add(C, Op.TTY, n=1, x=wish.console_size[0], y=wish.console_size[1], z=uid)


def _filter(b: Builder, of: Inherited, wish: Wish) -> None:
    if of.filter is not None and not wish.privileged:
        b.add(C, Op.SECCOMP, s3=b.blob(of.filter.blob), n=len(of.filter.blob), x=of.filter.x)


def _become(b: Builder, of: Inherited, wish: Wish, uid: int, gid: int, gids: tuple[int, ...]) -> None:
    """Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is loaded before the capabilities go."""
    bounding = wish.all_caps if wish.privileged else of.bounding
    b.add(C, Op.CAP_BOUND, x=bounding)
    if not of.no_new_privs:
        _filter(b, of, wish)
    data = struct.pack(f"<{len(gids)}I", *gids)
    b.add(C, Op.IDS, x=uid, y=gid, s3=b.blob(data), n=len(data))
    if uid == of.uid and not wish.privileged:
        effective, permitted, inheritable = of.caps
        ambient = of.ambient
    else:  # what execve would make of them; nothing inheritable (2022-24769)
        effective = permitted = bounding if uid == 0 else 0
        inheritable = ambient = 0
    b.add(C, Op.CAPS, x=effective, y=permitted, z=inheritable)
    if ambient:
        b.add(C, Op.CAP_AMBIENT, x=ambient)
