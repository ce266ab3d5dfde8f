"""The default filter, loaded: what the running kernel then denies and allows.

Each call is made in a child that loads the filter and reports the call's result through a pipe. Arguments are such
that the kernel would answer something other than EPERM without a filter, or do nothing.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import select
import signal
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from pycontain.seccomp import names
from pycontain.seccomp.cache import default_filter

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers here are x86_64's"),
]

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
DEADLINE_S = 20
# Docker's default set, as far as the profile asks about it.
DEFAULT_CAPS = frozenset({"CAP_SYS_CHROOT"})
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
MEMORY = ctypes.create_string_buffer(256)
AT = ctypes.addressof(MEMORY)


@pytest.fixture(scope="module")
def program() -> Iterator[bytes]:
    """The default filter; libseccomp through ctypes stands in for the native module."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp.so.2 is not installed")

    def number(name: str, token: int) -> int:
        found: int = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(token), name.encode())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_native_number", number)
        yield default_filter(DEFAULT_CAPS, "x86_64", (6, 1), None)


def load(program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_void_p(ctypes.addressof(header)), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def raw(number: int, *args: int) -> int:
    """The call's result, or -errno."""
    ctypes.set_errno(0)
    result: int = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(arg) for arg in args))
    return -ctypes.get_errno() if result == -1 else result


def in_child(program: bytes | None, call: Callable[[], int]) -> int:
    """``call``'s result in a child under the filter (none: without); -1000 - signal if a signal ended it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if program is not None:
                load(program)
            os.write(writer, struct.pack("q", call()))
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], DEADLINE_S)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        content = os.read(reader, 8)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(reader)
    if os.WIFSIGNALED(status):
        return -1000 - os.WTERMSIG(status)
    assert len(content) == 8, "the child failed before it could report"
    result: int = struct.unpack("q", content)[0]
    return result


DENIED = [
    ("mount", 165, (0, 0, 0, 0, 0)),
    ("umount2", 166, (0, 0)),
    ("unshare(NEWUSER)", 272, (CLONE_NEWUSER,)),
    ("setns", 308, (2**31, 0)),
    ("clone(NEWNS)", 56, (CLONE_NEWNS | 0x200, 0, 0, 0, 0)),  # CLONE_FS with it is EINVAL, were it let through
    ("keyctl", 250, (9999,)),
    ("add_key", 248, (0, 0, 0, 0, 0)),
    ("request_key", 249, (0, 0, 0, 0)),
    ("bpf", 321, (9999, 0, 0)),
    ("kexec_load", 246, (0, 0, 0, 0xFFFFFFFF)),
    ("open_by_handle_at", 304, (2**31, 0, 0)),
    ("personality(NO_RANDOMIZE)", 135, (0x40000,)),
    ("personality(READ_IMPLIES_EXEC)", 135, (0x400000,)),
    ("io_uring_setup", 425, (0, 0)),
    ("socket(VSOCK)", 41, (40, 1, 0)),
    ("socket(VSOCK), garbage above", 41, (2**32 + 40, 1, 0)),
    ("socket(ALG)", 41, (38, 5, 0)),
    ("userfaultfd", 323, (0xFFFF0000,)),
    ("perf_event_open", 298, (0, 0, 0, 0, 0)),
    ("init_module", 175, (0, 0, 0)),
    ("pivot_root", 155, (0, 0)),
    ("swapon", 167, (0, 0)),
    ("fsopen", 430, (0, 0)),
    ("move_mount", 429, (2**31, 0, 2**31, 0, 0xFFFFFFFF)),
    ("syslog", 103, (9999, 0, 0)),
    ("reboot", 169, (0, 0, 0, 0)),
    ("iopl", 172, (99,)),
]


@pytest.mark.parametrize(("number", "args"), [row[1:] for row in DENIED], ids=[row[0] for row in DENIED])
def test_denied(program: bytes, number: int, args: tuple[int, ...]) -> None:
    assert in_child(program, lambda: raw(number, *args)) == -errno.EPERM


# Where the kernel checks a capability first, or EPERM is its own answer to these arguments.
OWN_EPERM = ("pivot_root", "swapon")


@pytest.mark.skipif(os.geteuid() != 0, reason="without root the kernel itself answers EPERM")
@pytest.mark.parametrize(
    ("name", "number", "args"), [r for r in DENIED if r[0] not in OWN_EPERM], ids=lambda v: str(v)[:20]
)
def test_denial_is_the_filters(name: str, number: int, args: tuple[int, ...]) -> None:
    assert in_child(None, lambda: raw(number, *args)) != -errno.EPERM


@pytest.mark.parametrize("number", [435, 467, 1000, 0x3FFFFFFF, 0x40000027, 0xFFFFFFFF])
def test_clone3_and_unknown_numbers_get_enosys(program: bytes, number: int) -> None:
    assert in_child(program, lambda: raw(number, AT, 0)) == -errno.ENOSYS


ALLOWED = [
    ("read", 0, (2**31, 0, 0), -errno.EBADF),
    ("write", 1, (2**31, 0, 0), -errno.EBADF),
    ("futex(WAKE)", 202, (AT, 1, 1, 0, 0, 0), 0),
    ("statx", 332, (2**32 - 100, 0, 0xFFFF, 0, 0), -errno.EINVAL),
    ("getrandom", 318, (AT, 16, 0), 16),
    ("rseq", 334, (0, 0, 99, 0), -errno.EINVAL),
    ("ptrace", 101, (16, 0, 0, 0), -errno.ESRCH),
    ("unlinkat", 263, (2**31, AT, 0), -errno.ENOENT),
    ("fchmodat2", 452, (2**31, AT, 0, 0xFFFF), -errno.EINVAL),
]  # fmt: skip


@pytest.mark.parametrize(("number", "args", "result"), [row[1:] for row in ALLOWED], ids=[row[0] for row in ALLOWED])
def test_allowed(program: bytes, number: int, args: tuple[int, ...], result: int) -> None:
    without = in_child(None, lambda: raw(number, *args))
    assert in_child(program, lambda: raw(number, *args)) == without
    assert without in (result, -errno.ENOSYS)


@pytest.mark.parametrize(
    ("number", "args"),
    [
        pytest.param(324, (0, 0, 0), id="membarrier"),
        pytest.param(135, (0xFFFFFFFF,), id="personality(query)"),
        pytest.param(41, (2, 1, 0), id="socket(INET)"),
        pytest.param(41, (1, 1, 0), id="socket(UNIX)"),
    ],
)
def test_allowed_and_succeeds(program: bytes, number: int, args: tuple[int, ...]) -> None:
    assert in_child(program, lambda: raw(number, *args)) >= 0


def test_fork_and_exec(program: bytes) -> None:
    def fork_and_exec() -> int:
        pid = os.fork()
        if pid == 0:
            os.execv("/bin/sh", ["sh", "-c", "exit 7"])
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(program, fork_and_exec) == 7


def test_threads_fall_back_from_clone3_to_clone(program: bytes) -> None:
    def run_a_thread() -> int:
        seen: list[int] = []
        thread = threading.Thread(target=seen.append, args=(5,))
        thread.start()
        thread.join()
        return seen[0]

    assert in_child(program, run_a_thread) == 5


def i386_call(number: int, argument: int) -> int:
    """A 32-bit call from this 64-bit process: mov eax, edi; mov rbx, rsi; int 0x80."""
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("53 89f8 4889f3 31c9 31d2 31f6 31ff cd80 5b c3"))
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    result: int = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_ulong)(address)(number, argument)
    return result


def test_32_bit_calls_have_their_own_rules(program: bytes) -> None:
    if in_child(None, lambda: i386_call(20, 0)) <= 0:
        pytest.skip("the kernel lacks IA32_EMULATION")
    assert in_child(program, lambda: i386_call(20, 0)) > 0  # getpid
    assert in_child(program, lambda: i386_call(359, 2**32 + 40)) == -errno.EPERM  # socket(AF_VSOCK)
    assert in_child(program, lambda: i386_call(310, CLONE_NEWUSER)) == -errno.EPERM  # unshare
    assert in_child(program, lambda: i386_call(1000, 0)) == -errno.ENOSYS
