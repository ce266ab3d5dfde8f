"""What the escape tests share: attack code that runs inside a container, and looks at the host that must not change.

An attack is Python source for the image "host" (``attack``) or a shell script for a busybox root. It tells what it could
do; the test then asks the host. Nothing here harms a host on which it succeeds: what could be opened for writing gets its
own first byte back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from probes import DEADLINE_S, canary, listing, living, py, until

import pycontain
from pycontain import _native
from pycontain.disassemble import decode
from pycontain.errors import SetupFailed

# --- inside: Python ---------------------------------------------------------------------------------------------------

PRELUDE = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NEW = dict(time=0x80, mnt=0x20000, cgroup=0x2000000, uts=0x4000000, ipc=0x8000000, user=0x10000000, pid=0x20000000, net=0x40000000)
def why(number): return errno.errorcode.get(number, str(number))
def call(result): return 'ok' if result >= 0 else why(ctypes.get_errno())
def sys_(number, *args): return call(libc.syscall(ctypes.c_long(number), *(a if isinstance(a, bytes) else ctypes.c_long(a) for a in args)))
def mount(source, target, kind, flags=0, data=None): return call(libc.mount(source, target, kind, flags, data))
def attempt(function, *args):
    try: function(*args)
    except OSError as e: return why(e.errno)
    return 'ok'
def touch(path, flags=os.O_WRONLY):
    # opened for writing, its first byte written back as it was
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    os.close(fd)
def in_child(function):
    reader, writer = os.pipe()
    if os.fork() == 0:
        try: answer = function()
        except OSError as e: answer = why(e.errno)
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as f: text = f.read()
    os.wait()
    return json.loads(text) if text else 'died'
def say(answer): print(json.dumps(answer), flush=True)
"""


def attack(source: str, **options: Any) -> Any:
    """What the attack, Python on the image "host", says it could do."""
    return json.loads(py(PRELUDE + source, **options))


@contextlib.contextmanager
def attacker(source: str, **options: Any) -> Iterator[Callable[[str], Any]]:
    """A container with a long-lived attack that answers each line it is sent with a line of JSON."""
    args = ("python3", "-I", "-S", "-c", PRELUDE + source)
    with living(*args, stdin=pycontain.PIPE, stdout=pycontain.PIPE, text=True, **options) as c:

        def ask(line: str) -> Any:
            assert c.stdin is not None and c.stdout is not None
            c.stdin.write(line + "\n")
            return json.loads(c.stdout.readline())

        yield ask


# Exchanges two names as fast as it can; asked, it answers how often it has, and why it last could not.
SWAPPER = """
import select
a, b = sys.argv[1].encode(), sys.argv[2].encode()
swaps, failure = 0, 'none'
while True:
    for _ in range(64):
        if libc.syscall(316, -100, a, -100, b, 2) == 0:  # renameat2, RENAME_EXCHANGE
            swaps += 1
        else:
            failure = why(ctypes.get_errno())
    if select.select([0], [], [], 0)[0]:
        if not os.read(0, 4096): break
        say([swaps, failure])
"""


@contextlib.contextmanager
def swapper(volume: Path, a: str, b: str) -> Iterator[Callable[[], int]]:
    """A container that swaps ``a`` and ``b`` of the host directory ``volume``, which it has as /s; answers the count.

    Swapping has begun, and the swapper must live until the block ends.
    """
    args = ("python3", "-I", "-S", "-c", PRELUDE + SWAPPER, f"/s/{a}", f"/s/{b}")
    mounts = [pycontain.bind(str(volume), "/s")]
    with living(*args, mounts=mounts, stdin=pycontain.PIPE, stdout=pycontain.PIPE, text=True) as c:
        failure = "none"

        def swaps() -> int:
            nonlocal failure
            assert c.stdin is not None and c.stdout is not None
            c.stdin.write("count\n")
            count, failure = json.loads(c.stdout.readline())
            return int(count)

        def begun() -> bool:
            count = swaps()
            assert count or failure == "none", f"nothing can be swapped: {failure}"
            return count > 0

        until(begun, "the first swap")
        yield swaps


# --- inside: hostile images -------------------------------------------------------------------------------------------


def evil_image(at: Path, busybox_root: str) -> Path:
    """A busybox root of the test's own, to be made hostile."""
    shutil.copytree(busybox_root, at, symlinks=True)
    return at


def plant(root: Path, at: str, target: str) -> None:
    """A symbolic link in place of whatever ``at`` is in the image."""
    path = root / at.lstrip("/")
    if not path.is_symlink() and path.is_dir():  # in this order: the link may lead anywhere
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def outcome(image: Path, script: str, **options: Any) -> str:
    """ "CODE OUTPUT", or "refused: ..." for a start that failed as it should: by SetupFailed, with one line."""
    try:
        r = pycontain.run(str(image), ["sh", "-c", script], timeout=DEADLINE_S, text=True, **options)
    except SetupFailed as e:
        assert "(E" in str(e) and "\n" not in str(e), repr(e)
        return f"refused: {e}"
    assert not r.timed_out
    return f"{r.exit_code} {r.stdout!s}{r.stderr!s}"


# x86_64 machine code: exit(42); exit(geteuid() & 255)
EXIT_42 = bytes.fromhex("b83c000000 bf2a000000 0f05")
EXIT_EUID = bytes.fromhex("b86b000000 0f05 89c7 b83c000000 0f05")


def elf(code: bytes, interpreter: str = "") -> bytes:
    """A static x86_64 program of one segment, with a PT_INTERP of its own choice."""
    base, headers = 0x400000, 64 + 2 * 56
    name = interpreter.encode() + b"\0"
    begin = (headers + len(name) + 15) & ~15
    total = begin + len(code)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base + begin, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    kind = 3 if interpreter else 0  # PT_INTERP, PT_NULL
    interp = struct.pack("<IIQQQQQQ", kind, 4, headers, base + headers, base + headers, len(name), len(name), 1)
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, base, base, total, total, 4096)
    return (head + interp + load + name).ljust(begin, b"\0") + code


def executable(path: Path, content: bytes | str, mode: int = 0o755) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


# --- outside ----------------------------------------------------------------------------------------------------------


def engine_files() -> list[str]:
    """Every program and library of the engine that this process runs."""
    package = Path(pycontain.__file__).parent
    files = {os.path.realpath(sys.executable), *(str(p) for p in package.glob("bin/pycontain-*"))}
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if ".so" in path and os.path.isfile(path):
            files.add(path)
    assert any("_ffi" in f for f in files) and any(f.endswith("pycontain-init") for f in files)
    return sorted(files)


def digests(files: list[str]) -> dict[str, str]:
    return {f: hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files}


# What an attack on the kernel would change. Writing to these is the end of the host.
SETTINGS = (
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/poweroff_cmd",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/vm/overcommit_memory",
    "/sys/kernel/uevent_helper",
    "/proc/self/oom_score_adj",
)


def settings() -> dict[str, str]:
    return {path: Path(path).read_text() for path in SETTINGS if os.path.exists(path)}


@contextlib.contextmanager
def host_unchanged() -> Iterator[None]:
    """Around an attack: the engine's files and the kernel's settings stay as they are. Mounts are the census's."""
    files = engine_files()
    before = digests(files), settings()
    yield
    assert (digests(files), settings()) == before


@contextlib.contextmanager
def decoys(directory: Path, *also: Path) -> Iterator[Path]:
    """A canary, around which the engine's files, the kernel's settings and the directories ``also`` stay as they are."""
    with host_unchanged(), canary(directory) as kept:
        before = [listing(d) for d in also]
        yield kept
        assert [listing(d) for d in also] == before


def child_op(plan: bytes, name: str) -> int:
    """The index of the child section's first op of that name, for a Fault that holds the child there."""
    return next(op.index for op in decode(plan).child if op.name == name)


def hold(op: int) -> _native.Fault:
    """Holds the child before ``op`` until the start's deadline kills it."""
    return _native.Fault(kind=4, section=1, op=op)
