"""``pycontain start -a``, ``-i``: attached from the first word."""

from __future__ import annotations

from pathlib import Path

import census
import pytest
from staying import command, run, saying, state
from terminals import Sessions

from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


def test_started_and_attached_from_the_first_word() -> None:
    command("create", "--name", "it", "host", "sh", "-c", "echo first; echo second >&2; exit 12")
    for _ in range(10):
        done = command("start", "-a", "it", code=12)
        assert (done.stdout, done.stderr) == ("first\n", "second\n")
    assert "multiple containers at once" in command("start", "-a", "it", "it", code=1).stderr
    assert command("logs", "it").stdout == "first\n" * 10


def test_start_of_one_that_runs_attaches() -> None:
    run("-i", "--name", "it", "host", "sh", "-c", "echo up; read x; exit $x")
    saying("it", "up")
    done = command("start", "-i", "it", input="7\n", code=7)
    assert done.stdout == ""


def test_started_on_our_terminal(sessions: Sessions) -> None:
    command("create", "-it", "--name", "it", "host", "sh", "-c", "stty size; exec sh")
    session = sessions("start", "-ai", "it")
    session.until(b"31 91\r\n")  # from the beginning
    session.until(lambda seen: seen.rstrip().endswith(b"#"))
    session.type(b"exit 5\r")
    assert session.end() == 5
    session = sessions("start", "-a", "-i", "--detach-keys=ctrl-a", "it")
    session.until(lambda seen: seen.rstrip().endswith(b"#"))
    session.type(b"\x01")
    assert session.end() == 0 and b"escape" not in session.seen  # as docker's, unlike attach
    assert state("it") == "running"


def test_a_start_that_fails() -> None:
    command("create", "--name", "it", "host", "nosuchprogram")
    assert "executable file not found" in command("start", "-a", "it", code=1).stderr


def test_rm_with_start(roots: Roots, tmp_path: Path) -> None:
    container_id = command("create", "--rm", "host", "sh", "-c", "echo hi; exit 3").stdout.strip()
    assert command("start", "-a", container_id, code=3).stdout == "hi\n"
    assert census.poll_until(lambda: not Path(detached.directory_of(roots, container_id)).exists())
