"""System call names and architectures as numbers.

libseccomp knows the numbers, and it is reached through the native module only. Two things are kept here because its
answer depends on its age or hides the number: the calls since Linux 5.1, which have one number on every architecture,
and the i386 socket and System V calls, for which libseccomp answers with the number of a call *inside* socketcall(2).
"""

from __future__ import annotations

from ..errors import Unsupported

__all__ = ["FAMILY", "MULTIPLEXED", "OCI_ARCHES", "TOKENS", "UNKNOWN", "is_known", "resolve"]

UNKNOWN = -1  # libseccomp: no such call anywhere; smaller numbers: the architecture lacks it

# AUDIT_ARCH_* of <linux/audit.h>: what the kernel puts in seccomp_data.arch. x32 shares x86_64's.
TOKENS = {
    "x86_64": 0xC000003E,
    "x86": 0x40000003,
    "aarch64": 0xC00000B7,
    "arm": 0x40000028,
    "riscv64": 0xC00000F3,
}

# Which architectures' calls a kernel of this architecture can be asked: the native one first.
FAMILY = {"x86_64": ("x86_64", "x86"), "aarch64": ("aarch64", "arm"), "riscv64": ("riscv64",)}

# Every architecture the OCI runtime specification names. Those without a token cannot occur on a host we run on.
OCI_ARCHES = {
    "SCMP_ARCH_X86": "x86",
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_ARM": "arm",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_RISCV64": "riscv64",
    "SCMP_ARCH_MIPS": "mips",
    "SCMP_ARCH_MIPS64": "mips64",
    "SCMP_ARCH_MIPS64N32": "mips64n32",
    "SCMP_ARCH_MIPSEL": "mipsel",
    "SCMP_ARCH_MIPSEL64": "mipsel64",
    "SCMP_ARCH_MIPSEL64N32": "mipsel64n32",
    "SCMP_ARCH_PPC": "ppc",
    "SCMP_ARCH_PPC64": "ppc64",
    "SCMP_ARCH_PPC64LE": "ppc64le",
    "SCMP_ARCH_S390": "s390",
    "SCMP_ARCH_S390X": "s390x",
    "SCMP_ARCH_PARISC": "parisc",
    "SCMP_ARCH_PARISC64": "parisc64",
    "SCMP_ARCH_LOONGARCH64": "loongarch64",
    "SCMP_ARCH_M68K": "m68k",
    "SCMP_ARCH_SH": "sh",
    "SCMP_ARCH_SHEB": "sheb",
}

# Linux 5.1 gave new calls one number everywhere, from 424 on (Documentation/process/adding-syscalls.rst). Having them
# here makes a filter the same whatever libseccomp the host has: an old one would deny what a new C library tries first.
_UNIFIED_FIRST = 424
_UNIFIED = (
    "pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount "
    "fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr "
    "quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret process_mrelease "
    "futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue "
    "statmount listmount lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat "
    "removexattrat open_tree_attr file_getattr file_setattr listns rseq_slice_yield"
)
_UNIFIED_NUMBERS = {name: _UNIFIED_FIRST + i for i, name in enumerate(_UNIFIED.split())}
_LACKING = {("memfd_secret", "arm")}

# i386 got direct numbers for most of these in Linux 4.3; before, they were only reachable inside socketcall(2) and
# ipc(2).
_X86_SOCKET = (
    "socket socketpair bind connect listen accept4 getsockopt setsockopt getsockname getpeername sendto sendmsg "
    "recvfrom recvmsg shutdown"
)
_X86_SYSV = "semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl"
_X86_DIRECT = {name: 359 + i for i, name in enumerate(_X86_SOCKET.split())}
_X86_DIRECT |= {"recvmmsg": 337, "sendmmsg": 345}
_X86_DIRECT |= {name: 393 + i for i, name in enumerate(_X86_SYSV.split())}

# SYS_* of <linux/net.h>, in order from 1.
_SOCKETCALL = (
    "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown "
    "setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"
)
# name -> (the i386 call that multiplexes it, its sub-call there)
MULTIPLEXED = {name: ("socketcall", i) for i, name in enumerate(_SOCKETCALL.split(), start=1)}
MULTIPLEXED |= {
    name: ("ipc", number)
    for name, number in (  # <linux/ipc.h>
        ("semop", 1), ("semget", 2), ("semctl", 3), ("semtimedop", 4),
        ("msgsnd", 11), ("msgrcv", 12), ("msgget", 13), ("msgctl", 14),
        ("shmat", 21), ("shmdt", 22), ("shmget", 23), ("shmctl", 24),
    )
}  # fmt: skip


def _native_number(name: str, token: int) -> int:
    # Imported here: planning and parsing must work without the native module.
    from .._native import seccomp_resolve

    try:
        return seccomp_resolve(name, token)
    except OSError as error:
        raise Unsupported(
            f"cannot build a seccomp filter: {error.strerror or error}; until then run without seccomp (unconfined)"
        ) from error


def resolve(name: str, arch: str) -> int | None:
    """The number of the call ``name`` on ``arch`` (a key of ``TOKENS``); None if there is none.

    Raises:
        Unsupported: libseccomp is not installed.
    """
    if name in _UNIFIED_NUMBERS:
        return None if (name, arch) in _LACKING else _UNIFIED_NUMBERS[name]
    if arch == "x86" and name in _X86_DIRECT:
        return _X86_DIRECT[name]
    number = _native_number(name, TOKENS[arch])
    return number if number >= 0 else None


def is_known(name: str, arch: str) -> bool:
    """False if no architecture has a call of that name, as far as the installed libseccomp knows."""
    return name in _UNIFIED_NUMBERS or _native_number(name, TOKENS[arch]) != UNKNOWN
