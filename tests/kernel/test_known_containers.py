"""`pycontain ps`, `kill`, `stop`, `pause`, `unpause`, `top`: containers that run in the foreground of another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import census
import pytest

from pycontain import host
from pycontain.engine import containers
from pycontain.errors import Conflict
from pycontain.record import replaced
from pycontain.runtime import foreground, stillness
from pycontain.runtime.roots import Roots, default_roots

pytestmark = pytest.mark.kernel

PYCONTAIN = [sys.executable, "-m", "pycontain"]


class Started:
    """A `pycontain run` of this test, which has said "up"."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen([*PYCONTAIN, "run", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        assert self.first == b"up\n", self.first + self.process.stdout.read()

    def ended(self) -> int:
        return self.process.wait(timeout=20)


@pytest.fixture
def started(roots: Roots) -> Iterator[list[Started]]:
    made: list[Started] = []
    yield made
    for each in made:
        if each.process.poll() is None:
            each.process.send_signal(signal.SIGTERM)
        each.process.communicate(timeout=20)


def run(started: list[Started], *words: str) -> Started:
    """It is known to other processes when this returns: a moment after its program has begun."""
    before = len(foreground.list_all(default_roots()))
    started.append(Started(*words))
    assert census.poll_until(lambda: len(foreground.list_all(default_roots())) > before)
    return started[-1]


SLEEPER = ("host", "sh", "-c", "trap 'exit 7' TERM USR1; echo up; while :; do sleep 0.05; done")
DEAF = ("host", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done")


def command(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*PYCONTAIN, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_list_of_nothing(roots: Roots) -> None:
    assert command("ps").stdout == "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    assert command("ps", "-q").stdout == "" == command("container", "ls", "--format", "{{.ID}}").stdout


def test_a_list(started: list[Started], roots: Roots) -> None:
    run(started, "--name", "old", "-l", "tier=front", "-l", "x", *SLEEPER)
    run(started, "--name", "new", *SLEEPER)
    header, new, old = command("ps").stdout.splitlines()
    assert new.endswith("new") and old.endswith("old") and "   host      \"sh -c 'trap 'exit 7…\"   " in old
    assert header.index("NAMES") == old.index("old")
    rows = [json.loads(line) for line in command("ps", "--no-trunc", "--format", "json").stdout.splitlines()]
    assert [(row["Names"], row["State"], row["Labels"], len(row["ID"])) for row in rows] == [
        ("new", "running", "", 64),
        ("old", "running", "tier=front,x=", 64),
    ]
    assert rows[1]["Status"].startswith("Up ")
    for words, names in (
        (("--latest",), "new"), (("-n", "1"), "new"), (("-n", "5"), "new old"), (("-f", "name=^o"), "old"),
        (("-f", "label=tier"), "old"), (("-f", "label=tier=back"), ""), (("-f", "since=old"), "new"),
        (("-f", "before=new"), "old"), (("-f", "status=paused"), ""), (("-f", "status=paused", "-f", "status=running"), "new old"),
        (("-f", f"id={rows[0]['ID'][:5]}"), "new"), (("-f", "ancestor=host"), "new old"), (("-f", "ancestor=debian"), ""),
    ):  # fmt: skip
        assert command("ps", "--format", "{{.Names}}", *words).stdout.split() == names.split(), words
    assert command("ps", "--format", "table {{.Names}}\t{{.Image}}").stdout.startswith("NAMES     IMAGE\nnew")


@pytest.mark.parametrize(
    ("words", "wrong", "code"),
    [
        (("-f", "health=x"), "Unrecognised filter value for health: 'x'", 1),
        (("-f", "status=up"), "invalid filter 'status=up': write created, dead, exited", 1),
        (("-f", "name=["), "invalid filter 'name=['", 1),
        (("-f", "since=none"), "No such container: none", 1),
        (("-n", "x"), "--last: invalid number", 125),
        (("word",), "accepts no arguments", 1),
    ],
)
def test_a_list_of_what_cannot_be(words: tuple[str, ...], wrong: str, code: int, started: list[Started]) -> None:
    run(started, *SLEEPER)
    assert wrong in command("ps", *words, code=code).stderr


def test_kill(started: list[Started]) -> None:
    one, two = run(started, "--name", "one", *SLEEPER), run(started, "--name", "two", *SLEEPER)
    done = command("kill", "-s", "USR1", "one", "nothing", code=1)
    assert done.stdout == "one\n" and "No such container: nothing" in done.stderr
    assert one.ended() == 7
    assert command("container", "kill", "two").stdout == "two\n"
    assert two.ended() == 137
    assert "unknown signal" in command("kill", "-s", "NONE", "two", code=1).stderr


def test_stop(started: list[Started]) -> None:
    polite, deaf = run(started, "--name", "polite", *SLEEPER), run(started, "--name", "deaf", *DEAF)
    assert command("stop", "polite").stdout == "polite\n"
    assert polite.ended() == 7
    begun = time.monotonic()
    assert command("stop", "-t", "1", "deaf").stdout == "deaf\n"
    assert time.monotonic() - begun >= 1
    assert deaf.ended() == 137
    assert command("ps", "-q").stdout == ""
    usr = run(started, "--name", "usr", "--stop-signal", "USR1", *SLEEPER)
    command("stop", "usr")
    assert usr.ended() == 7
    assert "--timeout: invalid number" in command("stop", "-t", "soon", "usr", code=125).stderr


def test_pause(started: list[Started]) -> None:
    it = run(started, "--name", "it", *SLEEPER)
    assert command("pause", "it").stdout == "it\n"
    assert command("ps", "--format", "{{.State}} {{.Status}}").stdout.endswith("(Paused)\n")
    assert "is already paused" in command("pause", "it", code=1).stderr
    command("kill", "-s", "TERM", "it")
    time.sleep(0.2)
    assert it.process.poll() is None  # who stands still does not hear
    assert command("unpause", "it").stdout == "it\n"
    assert it.ended() == 7
    assert "No such container" in command("unpause", "it", code=1).stderr


@pytest.mark.parametrize("end", [("kill", "it"), ("stop", "it")])
def test_the_end_of_a_paused_one(started: list[Started], end: tuple[str, str]) -> None:
    it = run(started, "--name", "it", *SLEEPER)
    command("pause", "it")
    command(*end)
    assert it.ended() == (137 if end[0] == "kill" else 7)


def test_unpause_of_what_is_not_paused(started: list[Started]) -> None:
    run(started, "--name", "it", *SLEEPER)
    assert "is not paused" in command("unpause", "it", code=1).stderr


def test_by_cgroup_v1s_freezer(started: list[Started], roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = host.probe()
    if (
        "freezer" not in facts.controllers
        or facts.controllers["freezer"].version != 1
        or facts.controllers["freezer"].obstacle
    ):
        pytest.skip("needs cgroup v1's freezer")
    it = run(started, "--name", "it", *SLEEPER)
    found = foreground.find(roots, "it")
    only_v1 = tuple(member for member in found.members if member[1] == 1)
    monkeypatch.setattr(stillness, "probe", lambda: replaced(facts, unified=""))
    it_now = replaced(found, members=only_v1)
    monkeypatch.setattr(foreground, "find", lambda *_: it_now)
    containers.pause(roots, "it")
    assert stillness.is_paused(it_now)
    with pytest.raises(Conflict, match="already paused"):
        containers.pause(roots, "it")
    containers.kill(roots, "it")
    assert it.ended() == 137


def test_top(started: list[Started]) -> None:
    it = run(started, "--name", "it", *SLEEPER)
    header, *lines = command("top", "it").stdout.splitlines()
    assert header.split()[:3] == ["UID", "PID", "PPID"] and "trap" in lines[0]
    assert str(it.process.pid) not in {line.split()[1] for line in lines}
    header, *lines = command("top", "it", "-o", "pid,args").stdout.splitlines()
    assert header.split() == ["PID", "COMMAND"] and lines
    assert "has no column PID" in command("top", "it", "-o", "args", code=1).stderr
    assert command("top", "it", "--nonsense", code=1).stderr.startswith("pycontain: ps --nonsense: ")


def test_a_number_that_another_process_has_got(
    started: list[Started], roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is older than the process that now has its pid: it must not be killed."""
    run(started, "--name", "it", *SLEEPER)
    found = foreground.find(roots, "it")
    time.sleep(
        0.05
    )  # a number comes again after thousands of processes, not within the tick in which it was first given
    with subprocess.Popen(["sleep", "100"]) as other:
        try:
            monkeypatch.setattr(foreground, "find", lambda *_: replaced(found, pid=other.pid))
            for act in (containers.kill, containers.stop):
                with pytest.raises(Conflict, match="it has ended"):
                    act(roots, "it")
            assert other.poll() is None
        finally:
            other.kill()


def test_records_of_others_and_damaged_ones(started: list[Started], roots: Roots) -> None:
    run(started, "--name", "it", *SLEEPER)
    path = next(Path(roots.data_root, "ephemeral").glob("*/*/record"))
    whole = path.read_bytes()
    path.write_bytes(b"(1, ())")
    assert "was started by another version of pycontain" in command("ps", code=1).stderr
    path.write_bytes(b"(2, __import__('os'))")
    assert f"cannot read the record {path}: it is damaged" in command("ps", code=1).stderr
    path.write_bytes(whole)
    assert command("ps", "-q").stdout != ""


def test_many_at_once_while_they_come_and_go(started: list[Started], roots: Roots) -> None:
    script = f"for i in $(seq 15); do {' '.join(PYCONTAIN)} run host true; done"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL) as coming:
        while coming.poll() is None:
            containers.list_containers(roots)
            command("ps")
    assert containers.list_containers(roots) == []
    assert os.listdir(roots.data_root)  # it was this one


def test_a_signal_for_the_command_line_and_one_from_outside(started: list[Started]) -> None:
    it = run(started, "--name", "it", *SLEEPER)
    command("pause", "it")
    it.process.send_signal(signal.SIGTERM)  # goes on to the container, which stands still
    time.sleep(0.1)
    assert it.process.poll() is None
    command("unpause", "it")
    assert it.ended() == 7
