"""The section ``process`` of config.json. Spec: config.md, "Process"."""

from __future__ import annotations

from .. import parse
from ..capabilities import CAPABILITIES
from .node import ID, UINT64, Node, Whole, complaint
from .runtime import Capabilities, CPUAffinity, IOPriority, Process, Rlimit, Scheduler, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["parse_environment", "parse_process"]

_RLIMITS = frozenset((
    "RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS", "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_RSS", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING", "RLIMIT_STACK",
))  # fmt: skip
_POLICIES = frozenset((
    "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE",
))  # fmt: skip
_SCHEDULER_FLAGS = frozenset((
    "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
))  # fmt: skip
_IO_CLASSES = frozenset(("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"))

_CHARACTERS = Whole(0, 65535, "a number of characters")  # struct winsize has unsigned shorts
_UMASK = Whole(0, 0o777, "a umask in decimal")
_OOM = Whole(-1000, 1000)
_NICE = Whole(-20, 19, "a nice value")
_PRIORITY = Whole(0, 99, "a static priority")
_IO_LEVEL = Whole(0, 7, "a priority")
_TIME = Whole(0, 2**64 - 1, "an integer of nanoseconds")


def parse_process(node: Node, warn: Callable[[str], None] | None) -> Process:
    """Raises: InvalidArgument, also for a section that is missing: a container that cannot start is of no use here."""
    node.as_object("an object that says what to run")
    cwd = node.child("cwd").as_path()
    args = node.items("args")
    if not args:
        raise node.child("args").bad("an array that begins with a program")
    args[0].as_filled("the name of a program")
    terminal = bool(node.flag("terminal"))
    size = _console_size(node.child("consoleSize"))
    return Process(
        args=node.texts("args"),
        env=parse_environment(node),
        cwd=cwd,
        terminal=terminal,
        console_size=size if terminal else (0, 0),  # the specification: MUST be ignored without a terminal
        user=_user(node.child("user")),
        capabilities=_capabilities(node.child("capabilities"), warn),
        rlimits=_rlimits(node),
        no_new_privileges=bool(node.flag("noNewPrivileges")),
        oom_score_adj=node.whole("oomScoreAdj", _OOM),
        scheduler=_scheduler(node.child("scheduler")),
        io_priority=_io_priority(node.child("ioPriority")),
        exec_cpu_affinity=_affinity(node.child("execCPUAffinity")),
        apparmor_profile=node.text("apparmorProfile"),
        selinux_label=node.text("selinuxLabel"),
    )


def parse_environment(node: Node) -> tuple[str, ...]:
    """The member ``env``: each NAME=VALUE, as environ(7) has it."""
    for item in node.items("env"):
        if item.as_text("NAME=VALUE").find("=") < 1:
            raise item.bad("NAME=VALUE")
    return node.texts("env")


def _console_size(node: Node) -> tuple[int, int]:
    if not node.given:
        return (0, 0)
    return (node.child("height").as_whole(_CHARACTERS), node.child("width").as_whole(_CHARACTERS))


def _user(node: Node) -> User:
    if not node.given:
        return User()
    umask = node.whole("umask", _UMASK)
    return User(
        uid=node.child("uid").as_whole(ID),
        gid=node.child("gid").as_whole(ID),
        additional_gids=tuple(item.as_whole(ID) for item in node.items("additionalGids")),
        # unset, the umask would depend on who calls us; runc and crun take this one
        umask=0o022 if umask is None else umask,
    )


def _capabilities(node: Node, warn: Callable[[str], None] | None) -> Capabilities:
    def held(name: str) -> frozenset[str]:
        known = set()
        for item in node.items(name):
            capability = item.as_text("a capability")
            if capability in CAPABILITIES:
                known.add(capability)
                continue
            hint = parse.nearest(capability[:64], CAPABILITIES, "capabilities(7) has the names")
            error = item.bad("a capability, such as CAP_CHOWN", hint)
            if warn is None:
                raise error
            warn(str(error))
        return frozenset(known)

    return Capabilities(
        bounding=held("bounding"),
        effective=held("effective"),
        inheritable=held("inheritable"),
        permitted=held("permitted"),
        ambient=held("ambient"),
    )


def _rlimits(node: Node) -> tuple[Rlimit, ...]:
    limits: dict[str, Rlimit] = {}
    for item in node.items("rlimits"):
        kind = item.child("type")
        name = kind.one_of(_RLIMITS, "a limit of getrlimit(2)")
        if name in limits:
            raise complaint(kind.path, "each limit once", f"{name} again")
        limit = Rlimit(type=name, soft=item.child("soft").as_whole(UINT64), hard=item.child("hard").as_whole(UINT64))
        if limit.soft > limit.hard:
            raise item.child("soft").bad(f"at most the hard limit ({limit.hard})")
        limits[name] = limit
    return tuple(limits.values())


def _scheduler(node: Node) -> Scheduler | None:
    if not node.given:
        return None
    policy = node.child("policy").one_of(_POLICIES, "a scheduling policy")
    made = Scheduler(
        policy=policy,
        nice=node.whole("nice", _NICE) or 0,
        priority=node.whole("priority", _PRIORITY) or 0,
        flags=tuple(item.one_of(_SCHEDULER_FLAGS, "a scheduler flag") for item in node.items("flags")),
        runtime=node.whole("runtime", _TIME) or 0,
        deadline=node.whole("deadline", _TIME) or 0,
        period=node.whole("period", _TIME) or 0,
    )
    # what sched_setattr(2) answers with EINVAL
    realtime = policy in ("SCHED_FIFO", "SCHED_RR")
    if realtime != (made.priority > 0):
        raise node.child("priority").bad(f"1 to 99 for {policy}" if realtime else f"no priority for {policy}")
    for name, value in (("runtime", made.runtime), ("deadline", made.deadline), ("period", made.period)):
        if value and policy != "SCHED_DEADLINE":
            raise node.child(name).bad(f"no {name} for {policy}")
    if policy == "SCHED_DEADLINE" and not 0 < made.runtime <= made.deadline <= (made.period or made.deadline):
        raise complaint(
            node.path,
            "0 < runtime <= deadline <= period for SCHED_DEADLINE",
            f"{made.runtime}, {made.deadline} and {made.period}",
        )
    return made


def _io_priority(node: Node) -> IOPriority | None:
    if not node.given:
        return None
    return IOPriority(
        class_=node.child("class").one_of(_IO_CLASSES, "an I/O scheduling class"),
        priority=node.child("priority").as_whole(_IO_LEVEL),
    )


def _affinity(node: Node) -> CPUAffinity | None:
    if not node.given:
        return None

    def cpus(name: str) -> str:
        return node.child(name).as_numbers("a list of CPUs") if node.text(name) else ""

    return CPUAffinity(initial=cpus("initial"), final=cpus("final"))
