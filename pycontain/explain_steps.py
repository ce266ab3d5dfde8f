"""What each op of a Plan does and why, in the words of someone who has just read what a container is.

One function per kind of op: it gets the ops that are told together (one, or all neighbours of that kind) and answers
with a Step. The tables are joined, and complete by test, in
:mod:`pycontain.explain_table`; the layout is :mod:`pycontain.explain`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import capabilities
from .disassemble import clone_names, seccomp_summary
from .errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .disassemble import DecodedOp, DecodedPlan
    from .host import HostFacts

__all__ = ["GROUPS", "STEPS", "Scene", "Step", "clone_step", "exec_step"]

SEE, USE, ROOT, BE, BECOME, AFTER = GROUPS = ("see less", "use less", "own root", "be less", "become", "afterwards")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a step's words may depend on beside its own ops."""

    plan: DecodedPlan
    facts: HostFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One line. ``items`` follow the call, as many as there is room for."""

    group: str
    call: str
    why: str
    items: tuple[str, ...] = ()


def many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun[:-1]}ies" if noun.endswith("ry") else f"{count} {noun}s"


def size(number: int) -> str:
    """64 MB for 67108864: binary multiples under the names people use."""
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return f"{number} bytes"


_OWN = {
    "NEWPID": "process numbers", "NEWNS": "mounts", "NEWNET": "network", "NEWUTS": "name", "NEWIPC": "shared memory",
    "NEWCGROUP": "cgroup view", "NEWUSER": "user ids", "NEWTIME": "boot clock",
}  # fmt: skip


def clone_step(scene: Scene) -> Step:
    names = clone_names(scene.plan.clone_flags)
    own = [_OWN[n] for n in names if n in _OWN]
    born = "; born inside its limits" if "INTO_CGROUP" in names else ""
    why = f"a process with its own {', '.join(own)}{born}" if own else f"a process{born}"
    return Step(group=SEE, call=f"clone3({'|'.join(names)})", why=why)


def exec_step(scene: Scene) -> Step:
    words = [w if w and not set(w) & set(" \t\n'\"$") else repr(w) for w in scene.plan.args]
    return Step(group=BECOME, call=f"execve {' '.join(words)}", why="the program starts; all of the above holds for it")


# --- prepare -----------------------------------------------------------------------------------------------------


def _dir_make(ops: list[DecodedOp], scene: Scene) -> Step:
    # the others lie below the first
    return Step(group=ROOT, call=f"mkdir {ops[0].s1}", why="where on the host the files go that it will write")


def _controllers(path: str, facts: HostFacts) -> str:
    """What the cgroup at ``path`` counts: one v1 hierarchy's controllers, or all of v2's."""
    if facts.unified and path.startswith(facts.unified + "/"):
        return "cgroup v2"
    return "+".join(n for n, c in sorted(facts.controllers.items()) if path.startswith(c.mount + "/")) or path


def _cgroup_make(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=USE, call=f"mkdir {many(len(ops), 'cgroup')}:",
        items=tuple(_controllers(op.s1, scene.facts) for op in ops),
        why="where the kernel counts and limits what this container uses",
    )  # fmt: skip


def _cgroup_open(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=BE, call="open shared cgroup", items=tuple(op.s1.rpartition("/")[2] for op in ops),
        why="holds the device rules: only devices on a list may be opened",
    )  # fmt: skip


def _cgroup_devices(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=BE, call=f"device rules: a kernel program of {len(ops[0].blob) // 8} instructions",
        why="only devices on a list may be opened",
    )  # fmt: skip


def _cpus(quota: str, period: str) -> str:
    if quota in ("max", "-1"):
        return "as much CPU time as there is"
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return "a fixed share of CPU time, then it waits"
    share = int(quota) / int(period)
    amount = {0.25: "a quarter of one CPU", 0.5: "half of one CPU", 1.0: "one CPU"}.get(share)
    return f"at most {amount or f'{share:.3g} CPUs'}; when it is used up, it waits"


def _bytes_or_all(value: str, limited: str, free: str) -> str:
    return limited.format(size(int(value))) if value.isdigit() else free


_WEIGHT = "its share when others want {} too; alone it gets all"
_RATES = {
    "rbps": "read at most {} a second", "wbps": "write at most {} a second", "riops": "read at most {} times a second",
    "wiops": "write at most {} times a second", "read_bps": "read at most {} a second",
    "write_bps": "write at most {} a second", "read_iops": "read at most {} times a second",
    "write_iops": "write at most {} times a second",
}  # fmt: skip


def _io_rate(file: str, value: str) -> str:
    disk, _, rate = value.partition(" ")
    kind = file.removeprefix("blkio.throttle.").removesuffix("_device")
    if "=" in rate:
        kind, _, rate = rate.partition("=")
    words = _RATES.get(kind)
    if words is None or not rate.isdigit():
        return f"a speed limit for disk {disk}"
    return f"disk {disk}: {words.format(size(int(rate)) if kind.endswith('bps') else rate)}"


def _why_write(file: str, value: str) -> str:
    if file in ("memory.max", "memory.limit_in_bytes"):
        return _bytes_or_all(value, "more than {}: the kernel kills it", "no limit on memory, only counted")
    if file in ("memory.low", "memory.soft_limit_in_bytes"):
        return _bytes_or_all(value, "when memory is short, up to {} is left to it", "nothing is kept for it")
    if file == "memory.swap.max":
        return _bytes_or_all(value, "at most {} of its memory goes to swap", "no limit on swap")
    if file == "memory.memsw.limit_in_bytes":
        return _bytes_or_all(value, "memory and swap together: at most {}", "no limit on swap")
    if file == "pids.max":
        endless = "no limit on processes, only counted"
        return f"at most {value} processes and threads: no fork bomb" if value.isdigit() else endless
    if file in ("cpu.weight", "cpu.shares"):
        return _WEIGHT.format("the CPU")
    if file in ("io.weight", "blkio.weight", "blkio.bfq.weight"):
        return _WEIGHT.format("the disk")
    if file == "cpuset.cpus":
        return f"runs only on CPU {value}"
    if file == "io.max" or file.startswith("blkio.throttle."):
        return _io_rate(file, value)
    return "a limit of this container"


def _cgroup_write(ops: list[DecodedOp], scene: Scene) -> Step:
    values = {op.s1: op.s2 for op in ops}
    call = ", ".join(f"{op.s1} = {op.s2}" for op in ops)
    if "cpu.max" in values:
        why = _cpus(*values["cpu.max"].split(" ", 1)) if " " in values["cpu.max"] else _cpus("max", "")
    elif "cpu.cfs_quota_us" in values:
        why = _cpus(values["cpu.cfs_quota_us"], values.get("cpu.cfs_period_us", "100000"))
    else:
        why = _why_write(ops[0].s1, ops[0].s2)
    return Step(group=USE, call=call, why=why)


def _overlay(ops: list[DecodedOp], scene: Scene) -> Step:
    op = ops[0]
    lower = ":".join(_layer(item, scene) for item in op.items)
    upper = ".../" + op.s1.rpartition("/")[2] if op.s1 else "none"
    return Step(
        group=ROOT, call=f"overlay upper={upper} lower={lower if len(lower) < 40 else many(len(op.items), 'layer')}",
        why="reads the image's files, writes only to copies of its own",
    )  # fmt: skip


def _layer(item: str, scene: Scene) -> str:
    number = item[1:]
    if item.startswith("@") and number.isdigit() and int(number) < len(scene.plan.slots):
        return f"<{scene.plan.slots[int(number)]}>"
    return item


def _tree_clone(ops: list[DecodedOp], scene: Scene) -> Step:
    read_only = ", read-only" if ops[0].x & 1 else ""
    volume = "NOSYMLINK" in ops[0].flags
    why = (
        "a volume made ready to appear inside; no link leads to it"
        if volume
        else "a host path made ready to appear inside"
    )
    return Step(group=ROOT, call=f"open_tree(CLONE) {ops[0].s1}{read_only}", why=why)


# --- child: seeing less, the root --------------------------------------------------------------------------------


def _cgroup_join(ops: list[DecodedOp], scene: Scene) -> Step:
    names = tuple(scene.plan.slots[op.slot].removeprefix("cgroup ") for op in ops)
    where = tuple(_controllers(n, scene.facts) for n in names)
    return Step(
        group=USE, call=f"join {many(len(ops), 'cgroup')}:", items=where,
        why="from here on its use is counted and its limits hold",
    )  # fmt: skip


def _unshare(ops: list[DecodedOp], scene: Scene) -> Step:
    names = clone_names(ops[0].x)
    own = ", ".join(_OWN.get(n, n) for n in names)
    why = "sees its own cgroup as the top one, none of the others" if names == ("NEWCGROUP",) else f"gets its own {own}"
    return Step(group=SEE, call=f"unshare({'|'.join(names)})", why=why)


def _setns(ops: list[DecodedOp], scene: Scene) -> Step:
    names = clone_names(ops[0].x)
    shared = ", ".join(_OWN.get(n, n) for n in names) or "the namespace"
    return Step(group=SEE, call=f"setns({'|'.join(names)})", why=f"joins another container: shares its {shared}")


def _root_attach(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=ROOT, call="move_mount, chroot", why="/ is now its own: no path leads to the host's files")


def _root_readonly(ops: list[DecodedOp], scene: Scene) -> Step:
    call = "mount(REMOUNT)(/, RDONLY)" if "REMOUNT" in ops[0].flags else "mount_setattr(/, RDONLY)"
    return Step(group=ROOT, call=call, why="nothing in its root can be changed, not even by root")


_FILE_SYSTEMS = {
    "proc": (SEE, "shows its own processes only, with their own numbers"),
    "sysfs": (ROOT, "hardware and drivers, to look at"),
    "devpts": (ROOT, "its own terminals, apart from the host's"),
    "mqueue": (ROOT, "its own message queues"),
    "cgroup2": (ROOT, "its limits and its use, to read"),
    "cgroup": (ROOT, "its limits and its use, to read"),
}
_TMPFS = {
    "/dev": "an empty /dev: it gets only the devices made below",
    "/dev/shm": "memory that its own processes share",
}


def _mount(ops: list[DecodedOp], scene: Scene) -> Step:
    op = ops[0]
    options = f" ({op.s3})" if op.s3 and op.s2 == "tmpfs" else ""
    group, why = _FILE_SYSTEMS.get(op.s2, (ROOT, "another file system in its tree"))
    if op.s2 == "tmpfs":
        hides = "OPTIONAL" in op.flags  # a directory of the host that is covered, if it is there
        usual = "covers the host's files there" if hides else "empty, kept in memory, gone at the end"
        group, why = (SEE if hides else ROOT), _TMPFS.get(op.s1, usual)
    if op.s2 in ("sysfs", "cgroup", "cgroup2") and not op.x & 1:
        why = "open for writing: the container can change this kernel" if op.s2 == "sysfs" else "its own limits and use"
    return Step(group=group, call=f"mount {op.s2} on {op.s1}{options}", why=why)


def _mount_tree(ops: list[DecodedOp], scene: Scene) -> Step:
    source = scene.plan.slots[ops[0].slot].removeprefix("tree ")
    return Step(
        group=ROOT, call=f"move_mount {source} on {ops[0].s1}", why="the very files of the host, under this path",
    )  # fmt: skip


def _mask(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=SEE, call=f"mask {many(len(ops), 'path')}:", items=tuple(op.s1 for op in ops),
        why="covered by nothing: files that tell about the whole machine",
    )  # fmt: skip


def _readonly(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=BE, call=f"read-only {many(len(ops), 'path')}:", items=tuple(op.s1 for op in ops),
        why="settings of the one kernel all share: to read, not to change",
    )  # fmt: skip


def _make_dir(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=ROOT, call=f"mkdir {ops[0].s1}", why="the directory to start in, if the image lacks it")


def _make_node(ops: list[DecodedOp], scene: Scene) -> Step:
    harmless = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/console"}
    extra = [op.s1 for op in ops if op.s1 not in harmless]
    return Step(
        group=ROOT, call=f"mknod {many(len(ops), 'device')}:", items=tuple(op.s1 for op in ops),
        why="host devices given to it" if extra else "the few that programs expect",
    )  # fmt: skip


def _make_link(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=ROOT, call=f"symlink {many(len(ops), 'path')}:", items=tuple(f"{op.s1} -> {op.s2}" for op in ops),
        why="names that programs expect",
    )  # fmt: skip


def _write_file(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=ROOT, call=f"write {many(len(ops), 'file')}:", items=tuple(op.s1 for op in ops),
        why="its own version of these files, not the image's",
    )  # fmt: skip


def _proc_write(ops: list[DecodedOp], scene: Scene) -> Step:
    op = ops[0]
    if op.s1.endswith("oom_score_adj"):
        sooner = op.s2.lstrip("-").isdigit() and int(op.s2) > 0
        return Step(
            group=USE, call=f"oom_score_adj = {op.s2}",
            why=f"when the whole machine runs out of memory, it dies {'sooner' if sooner else 'later'} than others",
        )  # fmt: skip
    return Step(group=SEE, call=f"/proc/{op.s1} = {op.s2}", why="a kernel setting of its own; the host keeps its value")


def _hostname(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=SEE, call=f"sethostname({ops[0].s1})", why="a host name of its own")


def _domainname(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=SEE, call=f"setdomainname({ops[0].s1})", why="a domain name of its own")


def _loopback_up(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=SEE, call="ip link set lo up", why="its network reaches only itself: 127.0.0.1")


# --- child: being less, becoming the program ---------------------------------------------------------------------

_RLIMITS = (
    "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending",
    "msgqueue", "nice", "rtprio", "rttime",
)  # fmt: skip
_ENDLESS = (1 << 64) - 1


def _rlimit(ops: list[DecodedOp], scene: Scene) -> Step:
    def text(value: int) -> str:
        return "unlimited" if value == _ENDLESS else str(value)

    named = tuple(f"{_RLIMITS[op.n] if op.n < len(_RLIMITS) else op.n}={text(op.x)}:{text(op.y)}" for op in ops)
    return Step(group=BE, call="setrlimit", items=named, why="limits of each single process, as ulimit shows them")


def _session(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call="setsid()", why="cannot type into the terminal that started it")


def _stdio(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call="dup3 -> 0, 1, 2", why="its input, output and errors are the streams you gave it")


def _tty(ops: list[DecodedOp], scene: Scene) -> Step:
    call = f"open /dev/ptmx ({ops[0].x} rows, {ops[0].y} columns)"
    return Step(group=BECOME, call=call, why="a terminal of its own for input and output, apart from yours")


def _pdeathsig(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call=f"prctl(PDEATHSIG, {ops[0].x})", why="if pycontain dies, it dies too")


def _umask(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call=f"umask({ops[0].x:03o})", why="who may use the files it makes, by default")


def _ids(ops: list[DecodedOp], scene: Scene) -> Step:
    op = ops[0]
    more = f", {many(len(op.gids), 'more group')}" if op.gids else ""
    root = "root inside, as far as its capabilities reach" if op.x == 0 else "an ordinary user, not root"
    return Step(group=BE, call=f"setresuid({op.x}), setresgid({op.y}){more}", why=root)


def _capabilities(ops: list[DecodedOp], scene: Scene) -> Step:
    """The bounding set (what it can ever have), the sets it starts with, the ambient set."""
    by_name = {op.name: op for op in ops}
    total = scene.facts.last_cap + 1
    have = by_name["CAP_BOUND"].x if "CAP_BOUND" in by_name else ops[-1].x
    have &= (1 << total) - 1
    kept = tuple(n.removeprefix("CAP_") for n in capabilities.names(have))
    if len(kept) >= total:
        why = "nothing is dropped: as powerful as root on the host"
    elif "CAPS" in by_name and not by_name["CAPS"].x:
        why = "an ordinary user has none; setuid programs get these few at most"
    else:
        why = "root's power comes in pieces: it keeps these few, for ever"
    call = f"drop {total - len(kept)} of {total} capabilities; keep"
    return Step(group=BE, call=call, items=kept or ("none",), why=why)


def _no_new_privs(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BE, call="prctl(NO_NEW_PRIVS)", why="sudo and the like do not work: no program gives more power")


def _seccomp(ops: list[DecodedOp], scene: Scene) -> Step:
    filter = ops[0].blob
    why = "fewer doors into the kernel, the way most break-outs go"
    try:
        summary = seccomp_summary(filter, scene.facts.machine)
    except InvalidArgument:  # somebody's own program
        return Step(group=BE, call=f"seccomp: a filter of {len(filter) // 8} instructions", why=why)
    return Step(group=BE, call=f"seccomp: {summary.allowed} calls allowed, the rest {summary.refusal}", why=why)


def _chdir(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call=f"chdir {ops[0].s1}", why="where it starts, checked to be inside its root")


def _close_fds(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=BECOME, call=f"close_range({ops[0].x}, ~0, CLOEXEC)", why="no open file of the host comes along")


def _usage(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=AFTER, call="read the cgroups' counters", why="the CPU time, memory and I/O of all its processes")


def _cgroup_remove(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(
        group=AFTER, call=f"rmdir {many(len(ops), 'cgroup')}:",
        items=tuple(_controllers(op.s1, scene.facts) for op in ops),
        why="whatever still runs in them is killed first",
    )  # fmt: skip


def _tree_remove(ops: list[DecodedOp], scene: Scene) -> Step:
    return Step(group=AFTER, call=f"remove {ops[0].s1}", why="the files it wrote go with it")


STEPS = {
    "DIR_MAKE": _dir_make, "CGROUP_MAKE": _cgroup_make, "CGROUP_OPEN": _cgroup_open, "CGROUP_WRITE": _cgroup_write,
    "CGROUP_DEVICES": _cgroup_devices, "OVERLAY": _overlay, "TREE_CLONE": _tree_clone, "CGROUP_JOIN": _cgroup_join,
    "UNSHARE": _unshare, "SETNS": _setns, "ROOT_ATTACH": _root_attach,
    "ROOT_READONLY": _root_readonly, "MOUNT": _mount, "MOUNT_TREE": _mount_tree, "MASK": _mask, "READONLY": _readonly,
    "MAKE_DIR": _make_dir, "MAKE_NODE": _make_node, "MAKE_LINK": _make_link, "WRITE_FILE": _write_file,
    "PROC_WRITE": _proc_write, "HOSTNAME": _hostname, "DOMAINNAME": _domainname, "LOOPBACK_UP": _loopback_up,
    "RLIMIT": _rlimit, "SESSION": _session, "STDIO": _stdio, "TTY": _tty, "PDEATHSIG": _pdeathsig, "UMASK": _umask,
    "CAP_BOUND": _capabilities, "IDS": _ids, "CAPS": _capabilities, "CAP_AMBIENT": _capabilities,
    "NO_NEW_PRIVS": _no_new_privs, "SECCOMP": _seccomp, "CHDIR": _chdir, "CLOSE_FDS": _close_fds, "USAGE": _usage,
    "CGROUP_REMOVE": _cgroup_remove, "TREE_REMOVE": _tree_remove,
}  # fmt: skip
