"""What the process becomes: session, terminal, limits, scheduling, labels, credentials, filter. Pure.

Spec: opencontainers/runtime-spec config.md, "Process", "Linux Process"; config-linux.md, "Seccomp", "Personality",
"Memory policy".
"""

from __future__ import annotations

import struct

from . import capabilities
from .errors import InvalidArgument, Unsupported
from .ops import F_OPTIONAL, F_REMOUNT, Op
from .plan_bytes import STDERR, STDIN, STDOUT, C, P
from .plan_namespaces import host_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostFacts
    from .plan_bytes import Builder
    from .plan_hooks import HooksInside
    from .spec.runtime import MemoryPolicy, Process, RuntimeSpec, Scheduler

__all__ = ["kernel_settings", "process"]

_RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        (
            "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING",
            "MSGQUEUE", "NICE", "RTPRIO", "RTTIME",
        )
    )
}  # fmt: skip
_SCHED = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
_SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08, "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
_IOPRIO = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_PERSONALITY = {"LINUX": 0x0000, "LINUX32": 0x0008}
_MPOL = {
    "MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4, "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}  # fmt: skip
_MPOL_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}


def _known(path: str, table: dict[str, int], word: str) -> int:
    if word not in table:
        raise InvalidArgument(f"{path}: expected one of {', '.join(table)}, found {word!r}")
    return table[word]


def kernel_settings(b: Builder, spec: RuntimeSpec, *, by_parent: bool) -> None:
    """``by_parent``: this process's own files in /proc belong to root outside, who must write them."""
    for name, value in spec.linux.sysctl:
        b.add(C, Op.PROC_WRITE, s1="sys/" + name.replace(".", "/"), s2=value)
    score = spec.process.oom_score_adj
    if score is not None and by_parent:
        b.add(C, Op.PARENT_WRITE, s1="oom_score_adj", s2=str(score))
    elif score is not None:
        b.add(C, Op.PROC_WRITE, s1="self/oom_score_adj", s2=str(score))


def process(
    b: Builder, spec: RuntimeSpec, facts: HostFacts, told: HooksInside | None, *, own_network: bool, own_uts: bool
) -> None:
    p = spec.process
    if p.cwd != "/":
        b.add(C, Op.MAKE_DIR, s1=p.cwd, x=0o755)
    b.add(C, Op.SESSION)
    if p.terminal:
        b.add(C, Op.TTY, x=p.console_size[0], y=p.console_size[1], z=p.user.uid)
    if spec.root.readonly:
        b.add(C, Op.ROOT_READONLY, flags=0 if facts.mount_setattr else F_REMOUNT)
    if spec.hostname and own_uts:
        b.add(C, Op.HOSTNAME, s1=spec.hostname)
    if spec.domainname and own_uts:
        b.add(C, Op.DOMAINNAME, s1=spec.domainname)
    if own_network:
        b.add(C, Op.LOOPBACK_UP)
    _scheduling(b, spec, p)
    _labels(b, p, facts)
    b.add(C, Op.UMASK, x=p.user.umask)
    if not p.terminal:
        _own_pipes(b, spec)
        b.add(C, Op.STDIO, slot=STDIN, slot2=STDOUT, n=STDERR)
    if told is not None:
        told.start_container(b, spec)
    b.add(C, Op.CLOSE_FDS, x=3)
    # after the last op that opens anything: the caller's own open files must not count against the program's nofile
    for i, limit in enumerate(p.rlimits):
        if limit.type not in _RLIMITS:
            raise InvalidArgument(f"process.rlimits[{i}].type: unknown limit {limit.type!r}")
        b.add(C, Op.RLIMIT, n=_RLIMITS[limit.type], x=limit.soft & (1 << 64) - 1, y=limit.hard & (1 << 64) - 1)
    if p.user.uid != 0:
        b.add(C, Op.CHDIR, s1=p.cwd, flags=F_OPTIONAL)
    _privileges(b, spec, p)
    b.add(C, Op.CHDIR, s1=p.cwd)


def _own_pipes(b: Builder, spec: RuntimeSpec) -> None:
    """The program's user, as he is known outside, may open /dev/stdin, /dev/stdout and /dev/stderr anew."""
    user, maps = spec.process.user, (spec.linux.uid_mappings, spec.linux.gid_mappings)
    uid = host_id(maps[0], user.uid) if maps[0] else user.uid
    gid = host_id(maps[1], 0) if maps[1] else None
    if uid:
        for slot in (STDIN, STDOUT, STDERR):
            b.add(P, Op.PIPE_OWNER, slot=slot, x=uid, y=0xFFFFFFFF if gid is None else gid)


def _scheduling(b: Builder, spec: RuntimeSpec, p: Process) -> None:
    if p.scheduler is not None:
        attr = _sched_attr(p.scheduler)
        b.add(C, Op.SCHEDULER, s3=b.blob(attr), n=len(attr))
    if p.io_priority is not None:
        kind = _known("process.ioPriority.class", _IOPRIO, p.io_priority.class_)
        if not 0 <= p.io_priority.priority <= 7:
            raise InvalidArgument(f"process.ioPriority.priority: expected 0 to 7, found {p.io_priority.priority}")
        b.add(C, Op.IO_PRIORITY, x=kind << 13 | p.io_priority.priority)
    if spec.linux.personality is not None:
        if spec.linux.personality.flags:
            raise InvalidArgument("linux.personality.flags: the specification knows none yet")
        b.add(C, Op.PERSONALITY, x=_known("linux.personality.domain", _PERSONALITY, spec.linux.personality.domain))
    if spec.linux.memory_policy is not None:
        mode, mask = _memory_policy(spec.linux.memory_policy)
        b.add(C, Op.MEMORY_POLICY, x=mode, s3=b.blob(mask), n=len(mask))


def _sched_attr(s: Scheduler) -> bytes:
    flags = 0
    for i, word in enumerate(s.flags):
        flags |= _known(f"process.scheduler.flags[{i}]", _SCHED_FLAGS, word)
    policy = _known("process.scheduler.policy", _SCHED, s.policy)
    return struct.pack("<IIQiIQQQ", 48, policy, flags, s.nice, s.priority, s.runtime, s.deadline, s.period)


def _memory_policy(m: MemoryPolicy) -> tuple[int, bytes]:
    mode = _known("linux.memoryPolicy.mode", _MPOL, m.mode)
    for i, word in enumerate(m.flags):
        mode |= _known(f"linux.memoryPolicy.flags[{i}]", _MPOL_FLAGS, word)
    mask = 0
    for part in m.nodes.split(",") if m.nodes else ():
        first, dash, last = part.strip().partition("-")
        numbers = (first, last) if dash else (first, first)
        if not all(n.isascii() and n.isdigit() and len(n) < 5 and int(n) < 1024 for n in numbers):
            raise InvalidArgument(f"linux.memoryPolicy.nodes: expected ranges such as 0-1,3, found {m.nodes!r}")
        for node in range(int(numbers[0]), int(numbers[1]) + 1):
            mask |= 1 << node
    return mode, mask.to_bytes((mask.bit_length() + 63) // 64 * 8, "little")


def _labels(b: Builder, p: Process, facts: HostFacts) -> None:
    """For the next execve. A label that this kernel cannot give is an error, never left out."""
    for path, label, lsm in (
        ("process.apparmorProfile", p.apparmor_profile, "apparmor"),
        ("process.selinuxLabel", p.selinux_label, "selinux"),
    ):
        if not label:
            continue
        if lsm not in facts.lsms:
            offers = ", ".join(sorted(facts.lsms)) or "none"
            raise Unsupported(
                f"{path}: cannot apply {label!r}: this kernel runs without {lsm} (security modules: {offers}). "
                f"Boot with lsm=...,{lsm}, or leave the label out"
            )
        file = "self/attr/apparmor/exec" if lsm == "apparmor" and facts.kernel >= (5, 1) else "self/attr/exec"
        b.add(C, Op.EXEC_LABEL, s1=file, s2=f"exec {label}" if lsm == "apparmor" else label)


def _filter(b: Builder, spec: RuntimeSpec) -> None:
    program = spec.linux.seccomp
    if program is not None:
        op = Op.LISTENER if spec.linux.seccomp_listener_path else Op.SECCOMP
        flags = spec.linux.seccomp_flags | (1 << 3 if op == Op.LISTENER else 0)  # SECCOMP_FILTER_FLAG_NEW_LISTENER
        b.add(C, op, s3=b.blob(program), n=len(program), x=flags)


def _privileges(b: Builder, spec: RuntimeSpec, p: Process) -> None:
    """Last of all. Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is loaded before the capabilities go."""
    caps = p.capabilities
    b.add(C, Op.CAP_BOUND, x=capabilities.mask(caps.bounding))
    if not p.no_new_privileges:
        _filter(b, spec)
    gids = struct.pack(f"<{len(p.user.additional_gids)}I", *p.user.additional_gids)
    b.add(C, Op.IDS, x=p.user.uid, y=p.user.gid, s3=b.blob(gids), n=len(gids))
    b.add(
        C, Op.CAPS, x=capabilities.mask(caps.effective), y=capabilities.mask(caps.permitted),
        z=capabilities.mask(caps.inheritable),
    )  # fmt: skip
    if caps.ambient:
        b.add(C, Op.CAP_AMBIENT, x=capabilities.mask(caps.ambient))
    b.add(C, Op.PDEATHSIG, x=9)
    if p.no_new_privileges:
        b.add(C, Op.NO_NEW_PRIVS)
        _filter(b, spec)
