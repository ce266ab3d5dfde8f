"""`linux.seccomp`: every action, argument comparison, default and flag, observed by making the calls."""

from __future__ import annotations

import platform
from typing import Any

import pytest

from .comparison import Case, Comparison, with_known
from .known import Known, crun, runc
from .runtimes import OURS

pytestmark = pytest.mark.kernel

_ARCHITECTURE = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}.get(
    platform.machine(), "SCMP_ARCH_NATIVE"
)
_TRY = ("call:getpriority", "call:getpgid:0")
# what the probe itself needs, and a runtime on its way to it
_NEEDED = """
    access arch_prctl brk capget capset chdir clock_gettime clone clone3 close close_range connect dup dup2 dup3
    epoll_create1 epoll_ctl epoll_pwait execve execveat exit exit_group faccessat faccessat2 fchdir fchown fcntl fstat
    fstatfs futex get_mempolicy getcwd getdents64 getegid geteuid getgid getpgid getpgrp getpid getppid getrandom getsid
    getuid gettid ioctl ioprio_get keyctl lseek lstat madvise mkdirat mmap mprotect munmap nanosleep newfstatat open
    openat openat2 personality pipe2 poll ppoll prctl pread64 prlimit64 read readlink readlinkat restart_syscall
    rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_getattr sched_yield seccomp sendmsg sendto
    set_robust_list set_tid_address setgid setgroups setregid setresgid setresuid setreuid setsid setuid sigaltstack
    socket stat statfs statx tgkill umask uname unlink vfork wait4 waitid write writev
"""


def _seccomp(action: str = "SCMP_ACT_ALLOW", *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "linux.seccomp": {"defaultAction": action, "architectures": [_ARCHITECTURE], "syscalls": list(rules), **more}
    }


def _rule(action: str, *names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": f"SCMP_ACT_{action}", **more}


def _argument(index: int, op: str, value: int, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{op}"}


def _action(name: str, answer: str, **more: Any) -> Case:
    rules = _rule(name, "getpriority", **more)
    suffix = "-with-number" if more else ""
    return Case(
        f"action-{name}{suffix}",
        _seccomp("SCMP_ACT_ALLOW", rules),
        _TRY,
        {"call:getpriority": answer, "call:getpgid:0": "ok"},
    )


def _compared(op: str, second: int, matching: tuple[int, ...], others: tuple[int, ...]) -> Case:
    """sched_yield takes no argument, so that it may be given any."""
    rule = _rule("ERRNO", "sched_yield", errnoRet=5, args=[_argument(1, op, 8, second)])
    answers = {f"call:sched_yield:0:{n}": "EIO" for n in matching} | {f"call:sched_yield:0:{n}": "ok" for n in others}
    return Case(f"compare-{op}", _seccomp("SCMP_ACT_ALLOW", rule), tuple(answers), answers)


_TWICE = [_argument(0, "EQ", 1), _argument(0, "EQ", 2)]
_BIG = 0x100000008  # the high half counts too
_RULE = _rule("ERRNO", "getpriority")
_FLAGS = ("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW")

SECCOMP = (
    _action("ALLOW", "ok"),
    _action("ERRNO", "EPERM"),
    _action("ERRNO", "EIO", errnoRet=5),
    _action("KILL", "killed by SIGSYS"),
    _action("KILL_THREAD", "killed by SIGSYS"),
    _action("KILL_PROCESS", "killed by SIGSYS"),
    _action("TRAP", "killed by SIGSYS"),
    _action("TRACE", "ENOSYS"),
    _action("LOG", "ok"),
    Case("action-unknown", _seccomp("SCMP_ACT_ALLOW", _rule("WORRY", "getpriority")), expect={"started": "no"}),
    Case("action-notify-without-listener", _seccomp("SCMP_ACT_ALLOW", _rule("NOTIFY", "getpriority")), expect={"started": "no"}),
    Case("errno-zero", _seccomp("SCMP_ACT_ALLOW", _rule("ERRNO", "getpriority", errnoRet=0)), _TRY),
    Case("errno-of-allow", _seccomp("SCMP_ACT_ALLOW", _rule("ALLOW", "getpriority", errnoRet=5)), _TRY),
    Case("default-errno", _seccomp("SCMP_ACT_ERRNO", _rule("ALLOW", *_NEEDED.split())), ("call:sync", "call:getpid"),
         {"call:sync": "EPERM", "call:getpid": "ok", "status Seccomp": "2"}),
    Case("default-errno-with-number", _seccomp("SCMP_ACT_ERRNO", _rule("ALLOW", *_NEEDED.split()), defaultErrnoRet=38),
         ("call:sync", "call:getpid"), {"call:sync": "ENOSYS", "call:getpid": "ok"}),
    Case("default-only", _seccomp(), _TRY),
    _compared("EQ", 0, (8,), (7, 9, _BIG)),
    _compared("NE", 0, (7, 9, _BIG), (8,)),
    _compared("LT", 0, (0, 7), (8, 9, _BIG)),
    _compared("LE", 0, (0, 8), (9, _BIG)),
    _compared("GT", 0, (9, _BIG), (0, 8)),
    _compared("GE", 0, (8, 9, _BIG), (0, 7)),
    _compared("MASKED_EQ", 8, (8, 9, 15, _BIG), (0, 7, 16)),
    Case("compare-unknown", _seccomp("SCMP_ACT_ALLOW", _rule("ERRNO", "sync", args=[_argument(0, "ALMOST", 1)])),
         expect={"started": "no"}),
    Case("two-arguments", _seccomp("SCMP_ACT_ALLOW", _rule("ERRNO", "sched_yield", args=[_argument(0, "EQ", 1), _argument(1, "EQ", 2)])),
         ("call:sched_yield:1:2", "call:sched_yield:1:3", "call:sched_yield:3:2"),
         {"call:sched_yield:1:2": "EPERM", "call:sched_yield:1:3": "ok", "call:sched_yield:3:2": "ok"}),
    Case("one-argument-twice", _seccomp("SCMP_ACT_ALLOW", _rule("ERRNO", "sched_yield", args=_TWICE)),
         ("call:sched_yield:1", "call:sched_yield:2", "call:sched_yield:3")),
    Case("one-argument-twice-range",
         _seccomp("SCMP_ACT_ALLOW", _rule("ERRNO", "sched_yield", args=[_argument(0, "GT", 1), _argument(0, "LT", 5)])),
         ("call:sched_yield:0", "call:sched_yield:3", "call:sched_yield:9")),
    Case("call-unknown", _seccomp("SCMP_ACT_ALLOW", _rule("ERRNO", "no_such_call", "getpriority")), _TRY, {"call:getpriority": "EPERM"}),
    Case("call-of-other-architecture", _seccomp("SCMP_ACT_ALLOW", _rule("ERRNO", "arm_sync_file_range", "getpriority")), _TRY,
         {"call:getpriority": "EPERM"}),
    Case("two-rules", _seccomp("SCMP_ACT_ALLOW", _RULE, _rule("ERRNO", "getpriority", errnoRet=5)), _TRY),
    Case("rule-like-default", _seccomp("SCMP_ACT_ALLOW", _rule("ALLOW", "getpriority"), _rule("ERRNO", "getpgid")), _TRY),
    Case("architectures-none", {"linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [_RULE]}}, _TRY,
         {"call:getpriority": "EPERM"}),
    Case("architectures-more", {"linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [_RULE],
         "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM", _ARCHITECTURE]}}, _TRY, {"call:getpriority": "EPERM"}),
    Case("architectures-unknown", {"linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [_RULE],
         "architectures": ["SCMP_ARCH_ABACUS"]}}, expect={"started": "no"}),
    *(Case(f"flag-{flag.rpartition('FLAG_')[2]}", _seccomp("SCMP_ACT_ALLOW", _RULE, flags=[flag]), _TRY, {"call:getpriority": "EPERM"})
      for flag in _FLAGS),
    Case("flags-none", _seccomp("SCMP_ACT_ALLOW", _RULE, flags=[]), _TRY, {"call:getpriority": "EPERM"}),
    Case("flag-unknown", _seccomp("SCMP_ACT_ALLOW", _RULE, flags=["SECCOMP_FILTER_FLAG_FUN"]), expect={"started": "no"}),
    Case("seccomp-new-privileges", {**_seccomp("SCMP_ACT_ALLOW", _RULE), "process.noNewPrivileges": False}, _TRY,
         {"call:getpriority": "EPERM", "status NoNewPrivs": "0"}),
    Case("seccomp-new-privileges-user", {**_seccomp("SCMP_ACT_ALLOW", _RULE), "process.noNewPrivileges": False,
         "process.user": {"uid": 1000, "gid": 1000}}, _TRY, {"call:getpriority": "EPERM", "status NoNewPrivs": "0"}),
    Case("killed-itself", {**_seccomp("SCMP_ACT_ALLOW", _rule("KILL_PROCESS", "getcwd"))}, expect={"started": "no"}),
)  # fmt: skip

_NO_FLAGS = runc("started", "supports no flags")

KNOWN: dict[str, tuple[Known, ...]] = {
    "action-notify-without-listener": (crun("started", "starts, and leaves the call without a listener"),),
    "errno-of-allow": (crun("started", "refuses a number where there can be none"),),
    "flag-LOG": (_NO_FLAGS,),
    "flag-TSYNC": (_NO_FLAGS,),
    "flag-SPEC_ALLOW": (_NO_FLAGS,),
}

CASES = with_known(SECCOMP, KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
