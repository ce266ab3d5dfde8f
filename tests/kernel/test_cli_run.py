"""``pycontain run`` from outside: streams, exit codes, signals, terminal, time."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(os.getuid() != 0, reason="needs root")]

PROGRAM = [sys.executable, "-c", "from pycontain.cli.main import console; console()"]
DEADLINE_S = 20.0


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, "run", *words], capture_output=True, text=True, check=False, timeout=DEADLINE_S, **options
    )


@pytest.mark.parametrize(
    ("words", "code", "phrase"),
    [
        (("host", "sh", "-c", "exit 7"), 7, ""),
        (("host", "sh", "-c", "kill -9 $$"), 0, ""),  # process 1 cannot kill itself
        (("host", "no-such-program"), 127, "executable file not found"),
        (("host", "/etc/passwd"), 126, "cannot execute"),
        (("--timeout", "0.2", "host", "sleep", "20"), 124, "ran longer than 0.2 s and was killed"),
        (("--workdir", "x", "host", "true"), 125, "not an absolute path"),
        (("-t", "host", "sh", "-c", "exit 3"), 3, ""),
    ],
)
def test_exit_code_and_message(words: tuple[str, ...], code: int, phrase: str) -> None:
    done = run(*words)
    assert done.returncode == code
    assert phrase in done.stderr
    assert len(done.stderr.splitlines()) == (1 if phrase else 0)


def test_out_of_memory_is_said() -> None:
    done = run("-m", "16m", "--memory-swap", "16m", "host", "tail", "/dev/zero")
    assert done.returncode == 137
    assert "out of memory: the container reached its limit of 16777216 bytes" in done.stderr


def test_stdin_is_empty_without_interactive() -> None:
    assert run("host", "cat", input="hello").stdout == ""
    assert run("-i", "host", "cat", input="hello").stdout == "hello"


def test_attach_chooses_streams() -> None:
    done = run("-a", "stderr", "host", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("", "err\n")


def test_cidfile_is_written_once_and_only_for_a_container(tmp_path: Path) -> None:
    file = tmp_path / "cid"
    assert run("--cidfile", str(file), "host", "no-such-program").returncode == 127
    assert not file.exists()
    assert run("--cidfile", str(file), "host", "true").returncode == 0
    assert len(file.read_text()) == 64
    assert "the file exists" in run("--cidfile", str(file), "host", "true").stderr


def test_signal_goes_on_to_the_program() -> None:
    script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([*PROGRAM, "run", "host", "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=DEADLINE_S)[0] == "got\n"
    assert process.returncode == 3


def test_third_interrupt_kills_what_ignores_them() -> None:
    with subprocess.Popen(
        [*PROGRAM, "run", "host", "sh", "-c", "trap 'echo again' INT; echo ready; while :; do sleep 0.05; done"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert lines == ["ready\n", "again\n", "again\n"]
    assert process.returncode == 137
    assert "killed after three interrupts" in errors


class Session:
    """``pycontain run`` on a terminal of its own, 31 by 91."""

    def __init__(self, *words: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 31, 91, 0, 0))
            os.execv(PROGRAM[0], [*PROGRAM, "run", *words])
        self.seen = b""

    def until(self, found: Callable[[bytes], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not found(self.seen):
            assert select.select([self.fd], [], [], max(0.0, end - time.monotonic()))[0], self.seen
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:  # EIO: everybody has left
                assert found(self.seen), self.seen
                return

    def type(self, data: bytes) -> None:
        os.write(self.fd, data)

    def exit_code(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code


def test_terminal_has_size_echo_and_an_end() -> None:
    session = Session("-it", "host", "sh")
    session.until(lambda seen: b"# " in seen)
    session.type(b"stty size\r")
    session.until(lambda seen: b"31 91" in seen)
    fcntl.ioctl(session.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    session.type(b"\x03")
    session.until(lambda seen: seen.rstrip().endswith(b"#") and b"^C" in seen)  # an interrupt drops what is typed
    session.type(b"while [ \"$(stty size)\" != '40 100' ]; do sleep 0.02; done; echo re''sized\r")
    session.until(lambda seen: b"resized" in seen)
    session.type(b"exit 5\r")
    assert session.exit_code() == 5


def test_terminal_is_as_before_afterwards() -> None:
    session = Session("-it", "--timeout", "1", "host", "sh", "-c", "echo ready; sleep 20")
    before = termios.tcgetattr(session.fd)
    session.until(lambda seen: b"ready" in seen)
    session.until(lambda seen: b"was killed" in seen)
    after = termios.tcgetattr(session.fd)
    assert session.exit_code() == 124
    assert before == after


def test_a_closed_terminal_ends_the_container() -> None:
    """A window that is closed, a connection that breaks: neither the command nor the container lives on unseen."""
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup: only the end of file tells
        os.execv(PROGRAM[0], [*PROGRAM, "run", "-it", "host", "sh", "-c", "echo here; exec sleep 1000"])
    seen = b""
    while b"here" not in seen:
        seen += os.read(master, 1000)
    os.close(master)
    pidfd = os.pidfd_open(pid)
    try:
        assert select.select([pidfd], [], [], 20)[0], "the command still runs"
    finally:
        os.close(pidfd)
        if os.waitpid(pid, os.WNOHANG)[0] == 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
