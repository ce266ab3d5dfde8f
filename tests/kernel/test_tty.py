"""A terminal: a pty of the container's own as standard streams, controlling terminal and /dev/console."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterator
from typing import Any

import pytest
from probes import DEADLINE_S, mounts

from pycontain.request import RunRequest
from pycontain.runtime.roots import Roots
from pycontain.runtime.running import Running, start

pytestmark = pytest.mark.kernel


@contextlib.contextmanager
def terminal(roots: Roots, *args: str, size: tuple[int, int] = (0, 0), **options: Any) -> Iterator[Running]:
    request = RunRequest(image="host", args=args, terminal=True, **options)
    null = os.open("/dev/null", os.O_RDWR)
    try:
        running = start(request, roots=roots, stdin=null, stdout=null, stderr=null, console_size=size)
    finally:
        os.close(null)
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        running.close_tty()
    assert running.tty_fd == -1


def read(fd: int, until: str = "") -> str:
    """What comes from the pty until ``until`` is in it or, as it is a pty, EIO says that the last user has closed it."""
    got, end = b"", time.monotonic() + DEADLINE_S
    while not until or until.encode() not in got:
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"deadline: {got!r}"
        try:
            got += os.read(fd, 65536)
        except OSError as e:
            assert e.errno == 5
            break
    return got.decode().replace("\r\n", "\n")


def sh(roots: Roots, script: str, **options: Any) -> str:
    with terminal(roots, "sh", "-c", script, **options) as running:
        return read(running.tty_fd)


def test_all_three_streams_are_the_terminal(roots: Roots) -> None:
    out = sh(roots, "for n in 0 1 2; do test -t $n && readlink /proc/self/fd/$n; done; tty; echo error >&2")
    assert out == "/dev/pts/0\n" * 4 + "error\n"


def test_the_size_is_what_was_asked(roots: Roots) -> None:
    assert sh(roots, "stty size", size=(50, 132)) == "50 132\n"


def test_it_is_the_controlling_terminal(roots: Roots) -> None:
    # pgrp, session, tty_nr (136:0), tpgid: proc(5)
    assert sh(roots, "cut -d ' ' -f 5-8 /proc/1/stat; echo x >/dev/tty") == f"1 1 {136 << 8} 1\nx\n"


def test_console_is_the_terminal(roots: Roots) -> None:
    assert sh(roots, "stat -c %t:%T /dev/console /dev/pts/0; echo hello >/dev/console") == "88:0\n88:0\nhello\n"
    with terminal(roots, "sleep", "600") as running:
        root, kind, _ = mounts(running.pid)["/dev/console"]
    assert (root, kind) == ("/0", "devpts")


@pytest.mark.parametrize(("user", "owner"), [(None, 0), ("1000", 1000), ("4242:7", 4242)])
def test_the_terminal_belongs_to_the_user(user: str | None, owner: int, roots: Roots) -> None:
    assert (
        sh(roots, "stat -c %u:%g:%a /dev/pts/0; echo >/dev/console && echo ok", user=user) == f"{owner}:5:620\n\nok\n"
    )


@pytest.mark.parametrize("options", [{"read_only": True}, {"init": True}, {"privileged": True}, {"pid": "host"}])
def test_with_other_options(options: dict[str, Any], roots: Roots) -> None:
    assert sh(roots, "test -t 0 && test -t 2 && tty && echo x >/dev/console", **options) == "/dev/pts/0\nx\n"


def test_the_environment_has_term(roots: Roots) -> None:
    assert sh(roots, "echo $TERM") == "xterm\n"
    assert sh(roots, "echo $TERM", env=(("TERM", "dumb"),)) == "dumb\n"


def test_what_is_typed_arrives_and_control_c_interrupts(roots: Roots) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; read line; echo got $line; while :; do sleep 0.01; done"
    with terminal(roots, "sh", "-c", script) as running:
        read(running.tty_fd, "ready")
        os.write(running.tty_fd, b"hello\n")
        read(running.tty_fd, "got hello")
        os.write(running.tty_fd, b"\x03")
        assert "caught\n" in read(running.tty_fd)
        outcome = running.wait(DEADLINE_S)
    assert outcome is not None and outcome.exit_code == 5


def test_closing_the_master_hangs_up(roots: Roots) -> None:
    with terminal(roots, "sh", "-c", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.01; done") as running:
        read(running.tty_fd, "ready")
        running.close_tty()
        outcome = running.wait(DEADLINE_S)
    assert outcome is not None and outcome.exit_code == 9


def test_the_pty_is_of_the_containers_devpts(roots: Roots) -> None:
    with terminal(roots, "sleep", "600") as running, terminal(roots, "sleep", "600") as other:
        assert os.fstat(running.tty_fd).st_dev != os.fstat(other.tty_fd).st_dev
        assert sorted(os.listdir(f"/proc/{running.pid}/root/dev/pts")) == ["0", "ptmx"]


def test_without_a_terminal_there_is_none(roots: Roots) -> None:
    reader, writer = os.pipe()
    request = RunRequest(image="host", args=("sh", "-c", "test -t 0 || echo none; ls /dev/console; cat </dev/tty"))
    null = os.open("/dev/null", os.O_RDWR)
    running = start(request, roots=roots, stdin=null, stdout=writer, stderr=writer)
    os.close(writer)
    running.wait(DEADLINE_S)
    assert running.tty_fd == -1
    with os.fdopen(reader) as f:
        said = f.read()
    os.close(null)
    assert said.startswith("none\n") and "'/dev/console': No such file" in said and "/dev/tty: No such device" in said
