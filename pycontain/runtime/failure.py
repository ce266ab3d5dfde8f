"""A report of the C core becomes a sentence: what was tried, why it failed, what to do."""

from __future__ import annotations

import os

from ..errors import InvalidArgument, NotExecutable, ProgramNotFound, SetupFailed, Unsupported, errno_name
from ..ops import CLONE_NS, F_NOSYMLINK, OP_NAMES
from ..plan_bytes import HEADER, OP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from .._native import StartFailure
    from ..errors import PycontainError
    from ..plan_bytes import Plan

    class _Facts(TypedDict):
        step: str
        errno: int
        arg: int


__all__ = ["describe", "hook_of"]

_ENOSYS = 38
_EPERM, _ENOENT, _ENOEXEC, _EACCES, _EEXIST, _ENOTDIR, _EISDIR, _EINVAL, _ENOSPC, _E2BIG, _ELOOP = (
    1,
    2,
    8,
    13,
    17,
    20,
    21,
    22,
    28,
    7,
    40,
)

_EAGAIN, _EBUSY, _EXDEV, _ENODEV, _EOPNOTSUPP = 11, 16, 18, 19, 95


_RENAMED = "the file system that was mounted there is not there any more: something renames directories in the root"
_OUTER = "An outer container or a security module forbids it: `pycontain doctor` shows what can be seen of that"


def _facts(failure: StartFailure) -> _Facts:
    return {"step": failure.step, "errno": failure.errno, "arg": failure.arg}


class _Failed:
    """The op that failed, with its strings."""

    def __init__(self, plan: bytes, section: int, index: int) -> None:
        head = HEADER.unpack_from(plan)
        before = sum(head[7 : 7 + section])
        fields = OP.unpack_from(plan, HEADER.size + (before + index) * OP.size)
        self._plan, self._strings = plan, head[10]
        self.name = OP_NAMES[fields[0]]
        self.flags = fields[1]
        self.s1, self.s2 = self.text(fields[4]), self.text(fields[5])
        self.s3 = fields[6]  # an offset: a string, a list or bytes
        self.slot, self.slot2 = fields[2], fields[3]
        self.n, self.x, self.y = fields[7], fields[8], fields[9]

    def text(self, offset: int) -> str:
        start = self._strings + offset
        return self._plan[start : self._plan.index(b"\0", start)].decode("utf-8", "surrogateescape")


def _bind_target(plan: bytes, slot: int) -> str:
    return next((op.s1 for op in _child_ops(plan) if op.name == "MOUNT_TREE" and op.slot == slot), "?")


def _child_ops(plan: bytes) -> list[_Failed]:
    return [_Failed(plan, 1, i) for i in range(HEADER.unpack_from(plan)[8])]


def hook_of(plan: bytes, index: int) -> tuple[int, int]:
    """Of the HOOK op ``index``: its kind (ops.SYNC_*), and the how manieth of that kind it is."""
    ops = _child_ops(plan)[: index + 1]
    return ops[-1].x, sum(op.name == "HOOK" and op.x == ops[-1].x for op in ops) - 1


def _program(failure: StartFailure, plan: bytes, program: str, env_path: str | None, who: str) -> PycontainError:
    number = failure.errno
    facts = _facts(failure)
    name = errno_name(number)
    if failure.step == "execve" and number == _ENOENT:
        return ProgramNotFound(
            f"cannot start {who}: {program!r} is there, but the interpreter that it names (its #! line, or its ELF loader) "
            "is not in the image (ENOENT)",
            **facts,
        )
    if number in (_ENOENT, _ENOTDIR):
        if "/" in program:
            return ProgramNotFound(f"cannot start {who}: no such file in the image: {program!r} ({name})", **facts)
        where = f"PATH is {env_path}" if env_path is not None else "the environment has no PATH"
        return ProgramNotFound(
            f"cannot start {who}: executable file not found in $PATH: {program!r} ({name}; {where})", **facts
        )
    why = {
        _EACCES: "permission denied: it has no execute permission for this user, or lies on a noexec mount",
        _EISDIR: "it is a directory",
        _ENOEXEC: "exec format error: neither an ELF file of this machine nor a script with a #! line",
        _ELOOP: "its path, or its #! line, leads through a link of /proc to a program outside the image, or in a circle",
        _E2BIG: "arguments and environment together are larger than the kernel takes",
    }.get(number, os.strerror(number))
    ops = _child_ops(plan) if failure.step == "execve" and number in (_EACCES, _EPERM) else []
    if number == _EPERM and any(op.name == "EXEC_LABEL" for op in ops) and any(op.name == "NO_NEW_PRIVS" for op in ops):
        why = "no_new_privs: the policy must allow nnp_transition to its label; leave one of the two out"
    elif any(op.name == "EXEC_LABEL" for op in ops):
        why = f"{why}, or the policy that is loaded does not let it enter the label with this program"
    return NotExecutable(f"cannot start {who}: cannot execute {program!r}: {why} ({name})", **facts)


def _label(failure: StartFailure, plan: bytes, who: str) -> PycontainError:
    """The security module that the label is for has not taken it."""
    number = failure.errno
    op = next(op for op in _child_ops(plan) if op.name == "EXEC_LABEL")
    if "apparmor" in op.s1:
        what, name = "AppArmor profile", op.s2.removeprefix("exec ")
        why = {
            _ENOENT: "no such profile is loaded (ENOENT). Load it with apparmor_parser -r FILE; aa-status lists those that are",
            _EACCES: "the profile that this process is confined by does not allow the change (EACCES)",
            _EPERM: "the profile that this process is confined by, or no_new_privs, does not allow the change (EPERM)",
        }
    else:
        what, name = "SELinux label", op.s2
        why = {
            _EINVAL: "the policy that is loaded knows no such label (EINVAL). seinfo lists its users, roles and types",
            _EACCES: "the policy that is loaded does not allow this process to change it (EACCES: process setexec)",
        }
    reason = why.get(number, f"{os.strerror(number)} ({errno_name(number)})")
    return SetupFailed(f"cannot start {who}: {what} {name!r}: {reason}", **_facts(failure))


def _prepare(op: _Failed, failure: StartFailure, plan: bytes) -> str:
    number, name, why = failure.errno, errno_name(failure.errno), os.strerror(failure.errno)
    if op.name == "TREE_CLONE":
        on = _bind_target(plan, op.slot)
        if op.flags & F_NOSYMLINK:
            hint = {
                _ENOENT: "it has been removed",
                _ELOOP: "a symbolic link is on the way, which is never followed",
                _ENOTDIR: "it is no directory",
            }.get(number)
            return f"mount the volume {op.s1} on {on}: {why} ({name})" + (f": {hint}" if hint else "")
        if number == _ENOENT:
            return f"bind {op.s1} on {on}: no such file or directory on this host (ENOENT). Create it first"
        return f"bind {op.s1} on {on}: {why} ({name})"
    if op.name == "TREE_ATTR" and number == _EINVAL and op.slot2 >= 0:
        return (
            f"translate the owners of the mount on {_bind_target(plan, op.slot)}: its file system, or one below it, cannot be "
            f"id-mapped ({name}; a tmpfs can since Linux 6.3). Add :noidmap to the volume: owners outside the map are nobody then"
        )
    if op.name == "CGROUP_WRITE":
        hint = {
            _EINVAL: "the kernel does not take this value",
            _ENOENT: "this kernel has no such setting",
            _EACCES: "permission denied",
            _EPERM: "permission denied",
            6: "no such block device",
            19: "no such block device",
            34: "out of range",
            _EOPNOTSUPP: "nothing weighs this device: enable io.cost on it, or select the bfq scheduler"
            if "weight" in op.s1
            else why,
        }.get(number, why)
        return f"set {op.s1} to {op.s2!r}: {hint} ({name})"
    if op.name == "CGROUP_OPEN" and number == _ENOENT:
        return f"open the cgroup {op.s1}: it has been removed meanwhile (ENOENT)"
    if op.name in ("CGROUP_MAKE", "CGROUP_OPEN"):
        return f"make cgroup {op.s1}: {why} ({name})"
    if op.name == "OVERLAY" and op.slot2 >= 0 and number == _EINVAL:
        return (
            f"mount overlay on translated layers: {why} ({name}): the file system of a layer cannot be id-mapped (overlay on overlay, "
            f"NFS), or that of {op.s1} cannot be an upper layer. Leave out --userns, or give an image and a --data-root on a disk"
        )
    if op.name == "OVERLAY":
        hint = (
            ". The file system of the data root cannot be an upper layer (overlay on overlay, NFS): give another --data-root"
            if number == _EINVAL
            else ""
        )
        return f"mount overlay with upper layer {op.s1}: {why} ({name}){hint}"
    if op.name == "NS_OPEN":
        if number == _EINVAL:
            kind = next((kind for kind, flag in CLONE_NS.items() if flag == op.x), "?")
            return f"join the {kind} namespace {op.s1}: it is no namespace of this kind (EINVAL). Give a path such as /proc/PID/ns/..."
        if number == _EBUSY:
            why = "it is the host's own mount namespace, whose root would become the container's. Give another one, or leave the path out"
        return f"join the namespace {op.s1}: {why} ({name})"
    if op.name == "TREE_ATTR" and number == _EINVAL:
        return (
            f"set attributes of the mount on {_bind_target(plan, op.slot)}: this file system cannot be id-mapped, or an attribute is "
            "not known to this kernel (EINVAL). Leave out idmap (-v ...:noidmap)"
        )
    if op.name in ("TREE_ATTR", "FS_MAKE"):
        what = "set attributes of the mount" if op.name == "TREE_ATTR" else f"make the file system {op.s1}"
        return f"{what} on {_bind_target(plan, op.slot)}: {why} ({name})"
    if op.name == "DIR_MAKE":
        return f"make directory {op.s1}: {why} ({name})"
    return f"{op.name.lower().replace('_', ' ')} {op.s1} {op.s2}".rstrip() + f": {why} ({name})"


def _child(op: _Failed, failure: StartFailure, plan: bytes) -> str:
    number, name, why = failure.errno, errno_name(failure.errno), os.strerror(failure.errno)
    if op.name == "CHDIR":
        if failure.step == "verify working directory":
            return f"working directory {op.s1}: it leads out of the container ({name})"
        return f"working directory {op.s1}: {why} ({name})"
    if op.name in ("MOUNT", "MOUNT_TREE", "MASK", "READONLY"):
        what = {"MOUNT": f"mount {op.s2} on", "MOUNT_TREE": "bind on", "MASK": "mask", "READONLY": "make read-only"}[
            op.name
        ]
        hints = {
            _ELOOP: "a symbolic link is in the way, which an image may not have there",
            _ENOTDIR: "a file and a directory cannot be mounted on each other",
            _EXDEV: _RENAMED,
        }
        label = op.text(op.s3).partition('context="')[2].rstrip('"') if op.name == "MOUNT" else ""
        if label:
            hints[_EINVAL] = f"the policy that is loaded knows no label {label}, or an option is not known"
        if op.name == "MOUNT_TREE":
            hints[_EINVAL] = hints[_ENOTDIR]  # so says move_mount where mount says ENOTDIR
        return f"{what} {op.s1}: {hints.get(number, why)} ({name})"
    if op.name == "TREE_ATTR":
        hints = {
            _EBUSY: "something is mounted over a mount below it, which cannot be reached without mount_setattr (Linux 5.12)",
            _E2BIG: "more than 1000 mounts are below it, which needs mount_setattr (Linux 5.12)",
        }
        on = _bind_target(plan, op.slot)
        return f"set attributes of the mount on {'/' if on == '?' else on}: {hints.get(number, why)} ({name})"
    if op.name == "NET_DEVICE":
        hints = {
            _ENODEV: "this host has no such network device",
            _EEXIST: f"the container's network namespace has a device {op.s2 or op.s1} already. Give it another name, or one with %d",
            _EINVAL: "this kind of device cannot leave its network namespace (lo; a bridge, a tunnel of the namespace's own)",
            _EBUSY: "the network namespace to join is the host's own",
            _EPERM: "moving one needs CAP_NET_ADMIN over both network namespaces, which this process does not have",
        }
        return f"linux.netDevices.{op.s1}: move it into the container: {hints.get(number, why)} ({name})"
    if op.name in ("PARENT_WRITE", "ID_MAPS"):
        shown = ", ".join((op.s2 if op.name == "PARENT_WRITE" else f"{op.s1}{op.s2}").split("\n")).rstrip(", ")
        file = op.s1 if op.name == "PARENT_WRITE" else "uid_map and gid_map"
        hints = {
            _EINVAL: "the kernel does not take this value",
            _EPERM: "permission denied: this process may not map these ids, or has not the power that the value needs",
            34: "out of range",
        }
        return f"write {shown!r} to the container's own /proc file {file}: {hints.get(number, why)} ({name})"
    if op.name == "FORK" and op.x == 0 and number == _EAGAIN:
        return "no more processes may be made in it: it has as many as its limit allows (EAGAIN)"
    if op.name == "FORK" and op.x == 0:
        return f"make a process in it: {why} ({name}): its seccomp profile may forbid clone"
    if op.name in ("SETNS", "UNSHARE", "FORK"):
        kinds = ", ".join(kind for kind, flag in CLONE_NS.items() if op.x & flag)
        return f"{'join' if op.name == 'SETNS' else 'make'} namespaces ({kinds}): {why} ({name})"
    if op.name == "RLIMIT" and number == _EPERM:
        return (
            "set a resource limit (--ulimit): the hard limit is above this process's own, and raising it needs "
            "CAP_SYS_RESOURCE (EPERM). Ask for less"
        )
    if op.name == "PROC_WRITE":
        return f"write {op.s2!r} to /proc/{op.s1}: {why} ({name})"
    if op.name in ("CAPS", "CAP_AMBIENT", "CAP_BOUND"):
        return f"set capabilities: {why} ({name}): this process does not have all that were asked for; `pycontain doctor` lists what it has"
    if op.name == "CGROUP_JOIN":
        gone = "it has been removed meanwhile" if number == _ENODEV else why
        return f"join a cgroup: {gone} ({name})"
    if op.name in ("MAKE_NODE", "MAKE_LINK") and number == _EXDEV:
        return f"make {op.s1}: {_RENAMED} (EXDEV)"
    return f"{op.name.lower().replace('_', ' ')} {op.s1} {op.s2}".rstrip() + f" ({failure.step}): {why} ({name})"


def describe(failure: StartFailure, plan: Plan, *, who: str, program: str, env_path: str | None) -> PycontainError:
    """The exception for a failed start of the container ``who``."""
    from .forbidden import cause

    facts = _facts(failure)
    name, why = errno_name(failure.errno), os.strerror(failure.errno)
    if failure.step in ("find program", "execve"):
        return _program(failure, plan.data, program, env_path, who)
    if failure.step == "exec label":
        return _label(failure, plan.data, who)
    if failure.step == "clone3":
        if failure.errno == _EPERM:
            return Unsupported(
                f"cannot start {who}: this process may not make namespaces (EPERM). {cause(_EPERM) or _OUTER}"
            )
        if failure.errno == _ENOSYS:
            return Unsupported(f"cannot start {who}: clone3: {why} (ENOSYS). {cause(_ENOSYS)}")
        if failure.errno == _ENOSPC:
            return Unsupported(
                f"cannot start {who}: too many namespaces on this host (ENOSPC). See /proc/sys/user/max_*_namespaces"
            )
        why = {
            _EAGAIN: "no more processes may be made (pids.max of a cgroup above, or RLIMIT_NPROC)",
            _EBUSY: "its cgroup hands controllers down to others, so no process may be in it",
            _ENODEV: "its cgroup has been removed meanwhile",
            _EOPNOTSUPP: "its cgroup is threaded, or below a threaded one",
        }.get(failure.errno, why)
        return SetupFailed(f"cannot start {who}: clone3: {why} ({name})", **facts)
    if failure.step == "decode plan":
        return InvalidArgument(f"cannot start {who}: the Plan is malformed at byte {failure.arg}")
    if failure.step == "killed":
        return SetupFailed(
            f"cannot start {who}: it was killed before its program ran (out of memory, or kill -9 from outside)",
            **facts,
        )
    if failure.step == "deadline":
        return SetupFailed(
            f"cannot start {who}: it did not reach its program in time and was killed (a file system that does not answer?)",
            **facts,
        )
    if failure.section == "prepare" and failure.step == "op":
        what = _prepare(_Failed(plan.data, 0, failure.arg), failure, plan.data)
    elif failure.section == "child" and failure.step != "report":
        what = _child(_Failed(plan.data, 1, failure.arg), failure, plan.data)
    else:
        what = f"{failure.step}: {why} ({name})"
    reason = cause(failure.errno, what)
    return SetupFailed(f"cannot start {who}: {what}{'. ' if reason else ''}{reason}", **facts)
