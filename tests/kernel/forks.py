"""Processes for tests that kill their owner: a helper that adopts every orphan below it, and owners that it forks.

The helper is a child subreaper, so that whatever an owner leaves (guardian, container) becomes the helper's child: what
is left cannot hide. Forking from the test process is quicker than a fresh Python, and pycontain must bear it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from census import poll_until

from pycontain.runtime.roots import Roots

__all__ = ["Owner", "children", "in_helper", "make_roots", "orphans_left"]

T = TypeVar("T")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None)


def make_roots(base: str) -> Roots:
    """A data root and a run root of their own below ``base``, not made yet."""
    directory = tempfile.mkdtemp(prefix="", dir=base)
    os.chmod(directory, 0o711)
    return Roots(data_root=f"{directory}/data", run_root=f"{directory}/run")


def children() -> list[int]:
    """The children of this process, its zombies too."""
    found = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children", encoding="ascii") as f:
            found += [int(pid) for pid in f.read().split()]
    return found


def name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
            return f.read().replace("\0", " ")[:100].strip()
    except OSError:
        return "?"


def orphans_left(deadline_s: float = 5.0) -> list[str]:
    """Reaps every child until there is none; what has not ended by the deadline is named, then killed."""

    def none_left() -> bool:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        return False

    if poll_until(none_left, deadline_s):
        return []
    left = [f"process {pid} {name_of(pid)}" for pid in children()]
    for pid in children():
        os.kill(pid, signal.SIGKILL)
    poll_until(none_left, deadline_s)
    return left


def _serve(function: Callable[[], Any], write: int) -> None:
    try:
        answer = (True, function())
    except BaseException:
        answer = (False, traceback.format_exc())
    with os.fdopen(write, "wb") as f:
        pickle.dump(answer, f)


def _fork(body: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            body()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def in_helper(function: Callable[[], T], timeout_s: float = 100.0) -> T:
    """What ``function`` returns in a forked child that is a subreaper; its exception fails the test."""
    read, write = os.pipe2(os.O_CLOEXEC)

    def body() -> None:
        os.close(read)
        assert _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
        _serve(function, write)

    pid = _fork(body)
    os.close(write)
    data = b""
    until = time.monotonic() + timeout_s
    try:
        while select.select([read], [], [], max(0.0, until - time.monotonic()))[0]:
            chunk = os.read(read, 1 << 16)
            if not chunk:
                break
            data += chunk
        else:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"the helper said nothing for {timeout_s} seconds")
    finally:
        os.waitpid(pid, 0)
        os.close(read)
    assert data, "the helper was killed"
    good, value = pickle.loads(data)
    assert good, value
    result: T = value
    return result


class Owner:
    """A forked process that executes ``body`` with a function to say things (one line each), then waits to be killed."""

    def __init__(self, body: Callable[[Callable[[object], None]], None]) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)

        def run() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a failing test leaves no owner waiting
            os.close(read)

            def say(word: object) -> None:
                os.write(write, f"{word}\n".encode())

            body(say)
            while True:
                signal.pause()

        self.pid = _fork(run)
        os.close(write)
        self._said = read

    def hears(self, timeout_s: float = 20.0) -> str:
        """The next line that it says."""
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self._said], [], [], timeout_s)[0], "the owner said nothing in time"
            byte = os.read(self._said, 1)
            assert byte, f"the owner has ended after {line!r}"
            line += byte
        return line.decode().strip()

    def end(self, number: int = signal.SIGKILL) -> int:
        """Kills it; its wait status."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        status = os.waitpid(self.pid, 0)[1]
        os.close(self._said)
        return status
