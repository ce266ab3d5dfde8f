"""Leaving an exec on a terminal: by the detach keys, or from the beginning (-d -t); and a `run` that cannot be left."""

from __future__ import annotations

import pytest
from census import poll_until
from staying import command, run, saying
from terminals import LEAVE, SAID, Sessions

from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel]
# writes more than a terminal holds, and lives on
MUCH = "i=0; while [ $i -lt 3000 ]; do echo $word $i; i=$((i+1)); done"
PROGRAM = f"echo ready; read word; {MUCH}; tty > /tmp/tty; test -t 0 && echo done > /tmp/done; sleep 1000"


@pytest.fixture(autouse=True)
def container(staying: Roots) -> None:
    run("--name", "web", "host", "sh", "-c", "echo up; sleep 1000")
    saying("web", "up")


def file(path: str) -> str:
    return command("exec", "web", "sh", "-c", f"cat {path} 2>/dev/null || :").stdout


@pytest.mark.parametrize(("options", "keys"), [((), LEAVE), (("--detach-keys", "ctrl-x,y"), b"\x18y")])
def test_the_keys_leave_it_and_it_goes_on(options: tuple[str, ...], keys: bytes, sessions: Sessions) -> None:
    session = sessions("exec", "-it", *options, "web", "sh", "-c", PROGRAM)
    session.until(b"ready")
    assert session.is_raw()
    session.type(b"some\r" + keys)
    assert session.end() == 1 and session.seen.endswith(SAID) and b"\x1b" not in session.seen
    assert poll_until(lambda: file("/tmp/done") == "done\n")
    assert file("/tmp/tty").startswith("/dev/")
    assert "sleep 1000" in command("top", "web").stdout


def test_what_is_like_the_keys_is_passed_on(sessions: Sessions) -> None:
    session = sessions("exec", "-it", "web", "sh", "-c", "stty raw -echo; echo ready; head -c 4 | od -An -tx1; exit 3")
    session.until(b"ready")
    session.type(LEAVE[:1] + b"a" + LEAVE[:1] + b"b")
    assert session.end() == 3 and b"10 61 10 62" in session.seen


def test_a_command_that_ends_hangs_its_program_up(sessions: Sessions) -> None:
    """Without the keys nothing is left: the terminal goes with who has it."""
    import os
    import signal

    session = sessions("exec", "-it", "web", "sh", "-c", "echo ready; sleep 987")
    session.until(b"ready")
    os.kill(session.pid, signal.SIGKILL)
    os.waitpid(session.pid, 0)
    session.code = 137
    os.close(session.fd)
    assert poll_until(lambda: "987" not in command("top", "web").stdout)


@pytest.mark.parametrize("options", [("-dt",), ("-dit",), ("-d", "-i")])
def test_detached_from_the_beginning(options: tuple[str, ...]) -> None:
    done = command("exec", *options, "web", "sh", "-c", f"{MUCH}; (test -t 0 && tty; echo end) > /tmp/done; sleep 1")
    assert (done.stdout, done.stderr) == ("", "")
    assert poll_until(lambda: "end" in file("/tmp/done"))
    assert ("/dev/" in file("/tmp/done")) == ("t" in "".join(options))


def test_a_run_in_the_foreground_cannot_be_left() -> None:
    done = command("run", "-it", "--detach-keys", "ctrl-x", "host", "true", code=125)
    assert (
        "ends with its command and cannot be left: `pycontain run -dit" in done.stderr and done.stderr.count("\n") == 1
    )
    command("run", "-d", "--detach-keys", "ctrl-x", "--name", "other", "host", "true")
    assert "there is no key" in command("run", "-d", "--detach-keys", "hyper-x", "host", "true", code=125).stderr
