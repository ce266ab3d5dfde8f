"""Commands on terminals of their own, and through pipes. The fixture `sessions` is in conftest.py."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

PROGRAM = [sys.executable, "-m", "pycontain"]
DEADLINE_S = 30.0
LEAVE = b"\x10\x11"
SAID = b"read escape sequence\r\n"


class Session:
    """A command on a terminal of its own, 31 by 91."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 91, 0, 0))
            os.execv(PROGRAM[0], [*PROGRAM, *words])
        self.seen = b""
        self.code: int | None = None

    def until(self, found: bytes | Callable[[bytes], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        met = found if callable(found) else lambda seen: found in seen
        while not met(self.seen):
            assert select.select([self.fd], [], [], max(0.0, end - time.monotonic()))[0], self.seen
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:  # EIO: everybody has left
                assert met(self.seen), self.seen
                return

    def type(self, data: bytes) -> None:
        os.write(self.fd, data)

    def is_raw(self) -> bool:
        return not termios.tcgetattr(self.fd)[3] & termios.ICANON

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def end(self) -> int:
        """The exit code, after all that it says."""
        if self.code is None:
            pidfd = os.pidfd_open(self.pid)
            try:
                deadline = time.monotonic() + DEADLINE_S
                while not select.select([pidfd], [], [], 0)[0]:
                    assert time.monotonic() < deadline, self.seen
                    self._read(0.05)
                while self._read(0):
                    pass
            finally:
                os.close(pidfd)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.fd)
        return self.code

    def _read(self, within_s: float) -> bool:
        if not select.select([self.fd], [], [], within_s)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += data
        return bool(data)


Sessions = Callable[..., Session]


def attached(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PROGRAM, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def said(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line
