"""Many runs, many at once, cut short in every way: the process is as it was, and nothing waits that nobody ends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import census
import forks
import pytest

import pycontain
from pycontain import aio
from pycontain.errors import PycontainError, SetupFailed
from pycontain.runtime import session
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

PRIVATE_MOUNTS = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags, data):
    if libc.mount(source, target, kind, flags, data) != 0:
        raise OSError(ctypes.get_errno(), "mount")
if libc.unshare(0x20000) != 0:
    raise OSError(ctypes.get_errno(), "unshare")
mount(None, b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
root = os.environ["PYCONTAIN_DATA_ROOT"]
os.makedirs(root, exist_ok=True)
"""

INTERRUPTED = """
import os, signal, sys
import pycontain
from pycontain.runtime import session
sys.path.insert(0, os.environ["BESIDE"])
import census
roots = (os.environ["PYCONTAIN_DATA_ROOT"], os.environ["PYCONTAIN_RUN_ROOT"])
pycontain.run("host", ["true"])
before = census.take()
interrupted = 0
for i in range(ROUNDS):
    try:
        # again after 2 s: CPython misses a signal that arrives between its last look and the system call that waits
        signal.setitimer(signal.ITIMER_REAL, SECONDS(i), 2.0)
        pycontain.run("host", ["sleep", "600"])
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        interrupted += 1
    # 0.5 s is too short for the dead owners of another suite to be swept: of cgroups only our own count
    own = f"{os.getpid()}-"
    left = [item for item in census.gone(before, deadline_s=0.5) if own in item or "cgroup" not in item]
    # Python can be interrupted between the open of a file and the store of its number: a number is all that may be lost
    assert not [item for item in left if not item.startswith("fd ")], (i, left)
    if left:
        before = census.take()
session.close_all()
print(interrupted, census.left_by(*roots))
"""


def rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def script(text: str, roots: Roots, timeout_s: float = 60) -> str:
    """What a fresh Python says that executes ``text`` with these roots."""
    env = {**os.environ, "BESIDE": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_300_runs_leave_the_process_as_it_was(roots: Roots) -> None:
    def runs(count: int) -> None:
        for i in range(count):
            assert pycontain.run("host", ["echo", str(i)], text=True).stdout == f"{i}\n"

    runs(20)
    before, size, alive = census.take(), rss_bytes(), threads()
    runs(300)
    assert census.gone(before) == []
    assert threads() == alive
    assert rss_bytes() - size < 4 << 20


def test_16_threads_of_10_runs(roots: Roots) -> None:
    def runs(thread: int) -> list[object]:
        return [pycontain.run("host", ["echo", f"{thread}.{i}"], text=True).stdout for i in range(10)]

    with ThreadPoolExecutor(16) as threads:
        said = list(threads.map(runs, range(16)))
    assert said == [[f"{thread}.{i}\n" for i in range(10)] for thread in range(16)]


def test_100_concurrent_aio_runs(roots: Roots) -> None:
    async def together() -> list[pycontain.CompletedContainer]:
        return await asyncio.gather(*(aio.run("host", ["echo", str(i)], text=True) for i in range(100)))

    assert [r.stdout for r in asyncio.run(together())] == [f"{i}\n" for i in range(100)]


def test_a_storm_of_cancellations_leaves_nothing(roots: Roots) -> None:
    dice = random.Random(7)
    pycontain.run("host", ["true"])
    before = census.take()

    async def cancelled(after_s: float) -> bool:
        task = asyncio.ensure_future(aio.run("host", ["sleep", "600"], input=b"x" * 100_000))
        await asyncio.sleep(after_s)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    async def storm() -> list[bool]:
        return await asyncio.gather(*(cancelled(dice.random() * 0.1) for _ in range(60)))

    assert asyncio.run(storm()) == [True] * 60
    assert census.gone(before) == []


def test_a_task_cancelled_twice_leaves_nothing(roots: Roots) -> None:
    pycontain.run("host", ["true"])
    before = census.take()

    async def twice(turns: int) -> None:
        task = asyncio.ensure_future(aio.run("host", ["sleep", "600"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def all_of_them() -> None:
        for turns in range(1, 8):
            await twice(turns)

    asyncio.run(all_of_them())
    assert census.gone(before) == []


@pytest.mark.parametrize(
    "when",
    [
        "while it runs",
        "while it starts",
    ],
)
def test_keyboard_interrupts_leave_nothing(roots: Roots, when: str) -> None:
    text = "import signal\nsignal.signal(signal.SIGALRM, signal.default_int_handler)\n" + INTERRUPTED
    if when == "while it runs":
        text = text.replace("ROUNDS", "5").replace("SECONDS(i)", "0.05")
        assert script(text, roots) == "5 []"
    else:  # 0.1 to 8 ms, in steps smaller than any stage of a start
        text = text.replace("ROUNDS", "160").replace("SECONDS(i)", "0.0001 + i * 0.00005")
        assert script(text, roots) == "160 []"


def test_timeouts_leave_nothing(roots: Roots) -> None:
    pycontain.run("host", ["true"])
    before = census.take()
    for i in range(20):
        result = pycontain.run("host", ["sleep", "600"], timeout=i / 1000)
        assert (result.timed_out, result.signal) == (True, 9)
    assert census.gone(before) == []


def test_a_grandchild_that_holds_the_pipe_does_not_hold_up_run(roots: Roots) -> None:
    begun = time.monotonic()
    result = pycontain.run("host", ["sh", "-c", "sleep 600 & echo said"], text=True, timeout=30)
    assert (result.exit_code, result.stdout, result.timed_out) == (0, "said\n", False)
    assert time.monotonic() - begun < 10


def test_a_grandchild_in_the_hosts_pid_namespace_does_not_hold_up_run(roots: Roots) -> None:
    result = pycontain.run("host", ["sh", "-c", "setsid sleep 600 & echo said"], text=True, timeout=30, pid="host")
    assert (result.exit_code, result.stdout, result.timed_out) == (0, "said\n", False)


def test_50_mb_of_output(roots: Roots) -> None:
    result = pycontain.run("host", ["head", "-c", str(50_000_000), "/dev/zero"])
    assert isinstance(result.stdout, bytes)
    assert len(result.stdout) == 50_000_000
    assert result.stdout.count(0) == 50_000_000


def test_input_that_the_program_never_reads(roots: Roots) -> None:
    result = pycontain.run("host", ["sh", "-c", "exit 3"], input=b"x" * 1_000_000)
    assert result.exit_code == 3


def test_input_to_a_program_that_runs_on_without_reading(roots: Roots) -> None:
    result = pycontain.run("host", ["sh", "-c", "exec <&-; sleep 0.2; echo done"], input=b"x" * 1_000_000, text=True)
    assert (result.exit_code, result.stdout) == (0, "done\n")


def test_a_small_nofile_limit_is_the_programs_not_the_callers(roots: Roots) -> None:
    many = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(100)]
    try:
        result = pycontain.run("host", ["sh", "-c", "ulimit -n"], ulimits={"nofile": 32}, text=True)
    finally:
        for fd in many:
            os.close(fd)
    assert result.stdout == "32\n"


def test_sessions_opened_and_closed_from_threads(roots: Roots, base: str) -> None:
    before = threads()
    for _ in range(5):
        worker = threading.Thread(target=lambda: pycontain.run("host", ["true"]))
        worker.start()
        worker.join()
        session.close_all()
    assert threads() <= before + 1
    assert forks.children() == []


def test_a_container_outlives_the_thread_that_started_it(roots: Roots) -> None:
    made: list[pycontain.Container] = []
    worker = threading.Thread(
        target=lambda: made.append(pycontain.Container("host", ["cat"], stdin=pycontain.PIPE, stdout=pycontain.PIPE))
    )
    worker.start()
    worker.join()
    with made[0] as c:
        assert c.communicate(b"alive", timeout=10) == (b"alive", None)


# --- a data root that cannot be used ------------------------------------------------------------------------------------

SAYS_ERROR = """
import pycontain
from pycontain.errors import SetupFailed
from pycontain.runtime import session
try:
    print(pycontain.run("host", ["sh", "-c", "exit 0"]))
except SetupFailed as e:
    print(e.step, e.errno, e)
"""


def test_a_read_only_data_root(roots: Roots) -> None:
    Path(roots.data_root).mkdir()
    mounts = PRIVATE_MOUNTS + "b = root.encode()\nmount(b, b, None, 0x1000, None)\nmount(None, b, None, 0x1021, None)\n"
    said = script(mounts + SAYS_ERROR, roots)
    assert said.startswith(f"data root 30 cannot use the data root {roots.data_root}: Read-only file system (EROFS). ")
    assert "--data-root" in said
    assert "\n" not in said


@pytest.mark.parametrize("inodes", [2, 4, 5, 6, 7, 8])
def test_a_full_data_root(roots: Roots, inodes: int) -> None:
    """So many inodes are left: the root directory of the tmpfs is the first."""
    mounts = PRIVATE_MOUNTS + f"mount(b'tmpfs', root.encode(), b'tmpfs', 0, b'size=1m,nr_inodes={inodes}')\n"
    said = script(mounts + SAYS_ERROR + "session.close_all()\nprint(os.listdir(root + '/ephemeral'))\n", roots)
    error, _, left = said.partition("\n")
    assert " 28 " in error
    assert "No space left on device (ENOSPC)" in error
    assert left == "[]"


def test_a_data_root_below_a_file(roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupFailed, match=r"cannot use the data root .*: Not a directory \(ENOTDIR\)") as e:
        pycontain.run("host", ["true"], data_root=f"{tmp_path}/file/data")
    assert isinstance(e.value, PycontainError)
    assert (e.value.step, e.value.errno) == ("data root", 20)


def test_a_caller_without_free_descriptors_gets_an_error_and_keeps_nothing(roots: Roots) -> None:
    text = """
import resource
pycontain.run("host", ["true"])
before = set(os.listdir("/proc/self/fd"))
for free in range(0, 24):
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(before) - 1 + free, 4096))
    try:
        assert pycontain.run("host", ["true"]).exit_code == 0
        answer = "ran"
    except (pycontain.PycontainError, OSError) as e:
        answer = "refused"
        assert "EMFILE" in str(e) or getattr(e, "errno", 0) == 24, repr(e)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    now = set(os.listdir("/proc/self/fd"))
    assert now == before, (free, {f: os.readlink("/proc/self/fd/" + f) for f in now - before if os.path.exists("/proc/self/fd/" + f)})
print(answer)
session.close_all()
"""
    begin = "import os, pycontain\nfrom pycontain.runtime import session\n"
    assert script(begin + text, roots) == "ran"


def test_an_interrupt_is_not_swallowed(roots: Roots) -> None:
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        pycontain.run("host", ["sleep", "600"])
    timer.join()
