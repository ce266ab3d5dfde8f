"""``pycontain exec`` from outside: words, streams, exit codes, terminal, ends; root's containers and an ordinary user's."""

from __future__ import annotations

import contextlib
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ordinary_user import OrdinaryUser
from probes import cgroup_dirs, namespace, runs, until

from pycontain.errors import Conflict
from pycontain.record import replaced
from pycontain.runtime import foreground
from pycontain.runtime.entry import entry_of_found
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

PROGRAM = [sys.executable, "-c", "from pycontain.cli.main import console; console()"]
DEADLINE_S = 20.0
NAME = "inside"


@contextlib.contextmanager
def container(*words: str) -> Iterator[subprocess.Popen[str]]:
    """One that runs in the foreground of another process, and is known."""
    argv = [*PROGRAM, "run", "--init", "--name", NAME, *(words or ("host", "sleep", "600"))]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            until(lambda: execute("true").returncode == 0, "a container that takes an exec")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM


def execute(
    *words: str, options: tuple[str, ...] = (), name: str = NAME, **given: Any
) -> subprocess.CompletedProcess[str]:
    argv = [*PROGRAM, "exec", *options, name, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=DEADLINE_S, **given)


def test_exit_codes_and_messages() -> None:
    cases: list[tuple[tuple[str, ...], tuple[str, ...], int, str]] = [
        ((), ("sh", "-c", "exit 7"), 7, ""),
        ((), ("sh", "-c", "kill -9 $$"), 137, ""),
        ((), ("no-such-program",), 127, "executable file not found"),
        ((), ("/etc/passwd",), 126, "cannot execute"),
        (("-w", "/nowhere"), ("true",), 126, "working directory /nowhere: No such file or directory"),
        (("-w", "x"), ("true",), 1, "not an absolute path"),
        (("-u", "no-such-user"), ("true",), 1, "unable to find user no-such-user"),
        (("--detach-keys", "hyper-a"), ("true",), 125, "there is no key"),
        ((), (), 1, "requires at least 2 arguments"),
        (("-it",), ("true",), 1, "the input device is not a TTY"),
    ]
    with container():
        for options, words, code, phrase in cases:
            done = execute(*words, options=options)
            assert (done.returncode, len(done.stderr.splitlines())) == (code, 1 if phrase else 0), (words, done)
            assert phrase in done.stderr
        assert execute("true", name="no-such").returncode == 1


def test_options_are_dockers(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("FILE=f\nBOTH=file\n")
    with container("-e", "GIVEN=g", "-w", "/usr", "host", "sleep", "600"):
        out = execute(
            "sh", "-c", "pwd; id -u; env", options=("--env-file", str(tmp_path / "env"), "-e", "BOTH=e", "-u", "nobody")
        )
        assert {"/usr", "65534", "GIVEN=g", "FILE=f", "BOTH=e"} <= set(out.stdout.splitlines())
        assert execute("cat", input="hello").stdout == ""
        assert execute("cat", options=("-i",), input="hello").stdout == "hello"
        assert execute("sh", "-c", "echo err >&2").stderr == "err\n"
        flags = "grep -E '^(CapEff|Seccomp):' /proc/self/status"
        plain, privileged = (
            execute("sh", "-c", flags).stdout,
            execute("sh", "-c", flags, options=("--privileged",)).stdout,
        )
        assert "Seccomp:\t2" in plain and "Seccomp:\t0" in privileged and plain != privileged


def test_it_is_in_the_same_namespaces_and_cgroups() -> None:
    with container("--memory", "256m", "--userns", "auto", "host", "sleep", "600"):
        found = foreground.find(roots_now(), NAME)
        with subprocess.Popen([*PROGRAM, "exec", NAME, "sleep", "601"]) as command:
            pid = until(lambda: child_of(command.pid), "the program")
            kinds = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup")
            until(lambda: namespace(pid, "pid") == namespace(found.pid, "pid"))
            assert [namespace(pid, kind) for kind in kinds] == [namespace(found.pid, kind) for kind in kinds]
            assert cgroup_dirs(pid) == cgroup_dirs(found.pid)
            command.kill()
        until(lambda: not runs(pid))  # with the command that waits for it


def roots_now() -> Roots:
    return Roots(data_root=os.environ["PYCONTAIN_DATA_ROOT"], run_root=os.environ["PYCONTAIN_RUN_ROOT"])


def child_of(pid: int) -> int:
    """The program that it has started: no longer the one that enters."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            with contextlib.suppress(OSError):
                if "sleep" in os.readlink(f"/proc/{child}/exe"):
                    return int(child)
    return 0


def test_detached_it_outlives_its_command() -> None:
    with container():
        done = execute("sleep", "602", options=("-d",))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "sleep 602" in execute("ps", "ax").stdout
        execute("pkill", "-f", "sleep 602")


def test_signals_reach_it() -> None:
    with container(), subprocess.Popen(
        [*PROGRAM, "exec", NAME, "sh", "-c", "trap 'echo got; exit 5' TERM; echo up; while :; do sleep 0.05; done"],
        stdout=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None and command.stdout.readline() == "up\n"
        command.send_signal(signal.SIGTERM)
        assert command.stdout.read() == "got\n"
        assert command.wait(DEADLINE_S) == 5


def read(fd: int, until_: str) -> str:
    got, end = "", time.monotonic() + DEADLINE_S
    while until_ not in got:
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"deadline: {got!r}"
        got += os.read(fd, 4096).decode()
    return got


def test_a_terminal_has_our_size_and_follows_it() -> None:
    with container():
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 30, 90, 0, 0))
        script = "stty size; trap 'stty size; exit 4' WINCH; echo ready; while :; do sleep 0.05; done"
        command = subprocess.Popen(
            [*PROGRAM, "exec", "-it", NAME, "sh", "-c", script],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        try:
            before = termios.tcgetattr(slave)
            assert "30 90" in read(master, "ready")
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 40, 100, 0, 0))
            command.send_signal(signal.SIGWINCH)
            read(master, "40 100")
            assert command.wait(DEADLINE_S) == 4
            assert termios.tcgetattr(slave) == before  # not raw any more
        finally:
            command.kill()
            command.wait()
            os.close(slave)
            os.close(master)


def test_the_end_of_the_container_ends_it() -> None:
    with container() as process, subprocess.Popen([*PROGRAM, "exec", NAME, "sleep", "603"]) as command:
        until(lambda: child_of(command.pid), "the program")
        process.send_signal(signal.SIGTERM)
        assert command.wait(DEADLINE_S) == 137
        process.wait(DEADLINE_S)
        done = execute("true")
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


def test_another_process_with_its_number_is_not_it() -> None:
    with container():
        found = foreground.find(roots_now(), NAME)
        assert found.begun == foreground.begun_at(found.pid) > 0
        for wrong in (
            replaced(found, begun=found.begun - 1),
            replaced(found, pid=os.getpid()),
            replaced(found, pid=2**22 - 1),
        ):
            with pytest.raises(Conflict, match=f"container {NAME} has ended"):
                entry_of_found(wrong, (-1, -1))


@pytest.mark.usefixtures("nothing_of_the_user_left")
def test_an_ordinary_users(user: OrdinaryUser) -> None:
    """From outside of the user namespace in which it runs."""
    with user.start(
        user.cli("run", "--init", "--name", NAME, "host", "sleep", "600"), stdin=subprocess.DEVNULL
    ) as process:
        try:
            until(lambda: user.pycontain("exec", NAME, "true").returncode == 0, "a container that takes an exec")
            done = user.pycontain(
                "exec", NAME, "sh", "-c", "id -u; grep CapEff /proc/self/status; cat /proc/self/uid_map | wc -l; exit 3"
            )
            assert (done.returncode, done.stderr, done.stdout.split()[0]) == (3, "", "0"), done
            assert user.pycontain("exec", "-u", "nobody", NAME, "id", "-u").stdout == "65534\n"
            assert user.pycontain("exec", "-i", NAME, "cat", stdin="hello").stdout == "hello"
            assert user.pycontain("exec", "-t", NAME, "tty").stdout == "/dev/pts/0\n"
            one = user.pycontain("exec", "-u", "70000", NAME, "true")
            assert (one.returncode, len(one.stderr.splitlines())) == (1, 1)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE_S)
