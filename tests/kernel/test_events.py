"""Events of real containers: their order is Docker's, whoever writes them; many writers, rotation, killed writers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import census
import pytest
from ordinary_user import OrdinaryUser
from staying import PYCONTAIN, SLEEPER, command, monitor_pid, run
from terminals import Session

from pycontain import journal
from pycontain.engine.events import Event, Events, events
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel


def known(roots: Roots) -> list[Event]:
    with events(roots, since=0, until=time.time()) as found:
        return list(found)


def actions(roots: Roots, of: str = "") -> list[str]:
    return [each.action for each in known(roots) if each.id.startswith(of)]


def attribute(event: Event, name: str) -> str | None:
    return dict(event.attributes).get(name)


def until(roots: Roots, action: str, times: int = 1) -> None:
    assert census.poll_until(lambda: actions(roots).count(action) >= times), actions(roots)


def test_a_whole_life_in_dockers_order(staying: Roots) -> None:
    it = command("create", "--name", "it", "-l", "tier=front", *SLEEPER).stdout.strip()
    command("start", "it")
    command("rename", "it", "web")
    command("pause", "web")
    command("unpause", "web")
    command("exec", "web", "sh", "-c", "exit 4", code=4)
    command("restart", "-t", "20", "web")
    command("kill", "web")
    until(staying, "die", 2)
    command("start", "web")
    command("stop", "-t", "20", "web")
    command("start", "web")
    command("rm", "-f", "web")
    assert actions(staying) == [
        "create", "start", "rename", "pause", "unpause", "exec_create: sh -c exit 4", "exec_start: sh -c exit 4", "exec_die",
        "kill", "die", "stop", "start", "restart", "kill", "die", "start", "kill", "die", "stop", "start", "kill", "die", "destroy",
    ]  # fmt: skip
    every = known(staying)
    assert {each.id for each in every} == {it} and {each.kind for each in every} == {"container"}
    assert {(attribute(each, "image"), attribute(each, "tier")) for each in every} == {("host", "front")}
    # its monitor knows of the new name
    assert [attribute(each, "name") for each in every] == ["it", "it", *["web"] * (len(every) - 2)]
    assert attribute(every[2], "oldName") == "/it" and attribute(every[7], "exitCode") == "4"
    assert len({attribute(each, "execID") for each in every[5:8]}) == 1
    assert [attribute(each, "signal") for each in every if each.action == "kill"] == ["15", "9", "15", "9"]
    codes = [attribute(each, "exitCode") for each in every if each.action == "die"]
    assert codes == ["7", "137", "7", "137"]
    assert sorted(each.time_ns for each in every) == [each.time_ns for each in every]


def test_a_restart_policy(staying: Roots) -> None:
    it = run("--restart", "on-failure:2", "host", "sh", "-c", "exit 5")
    until(staying, "die", 3)
    command("rm", "-f", it)
    assert actions(staying) == ["create", *["start", "die"] * 3, "destroy"]
    assert {attribute(each, "exitCode") for each in known(staying) if each.action == "die"} == {"5"}


def test_out_of_memory(staying: Roots) -> None:
    run("-m", "16m", "host", "sh", "-c", "x=a; while :; do x=$x$x; done")
    until(staying, "die")
    assert actions(staying) == ["create", "start", "oom", "die"]


def test_one_that_removes_itself(staying: Roots) -> None:
    it = run("--rm", "--name", "brief", "host", "sh", "-c", "exit 3")
    until(staying, "destroy")
    every = known(staying)
    assert [each.action for each in every] == ["create", "start", "die", "destroy"]
    assert {(each.id, attribute(each, "name")) for each in every} == {(it, "brief")}


def test_attached_and_detached(staying: Roots) -> None:
    command("create", "--name", "it", "host", "true")
    command("start", "-a", "it")
    assert actions(staying) == ["create", "attach", "start", "die"]


def test_attached_to_in_a_terminal(staying: Roots, sessions: Callable[..., Session]) -> None:
    run("-it", "--name", "it", "host", "sh")
    session = sessions("attach", "it")
    assert census.poll_until(session.is_raw)
    session.type(b"\x10\x11")
    assert session.end() == 1
    every = actions(staying)
    assert every[:3] == ["create", "start", "attach"] and every[-1] == "detach"
    assert set(every[3:-1]) == {"resize"}
    sizes = [
        (attribute(each, "height"), attribute(each, "width")) for each in known(staying) if each.action == "resize"
    ]
    assert all(size[0] and size[0].isdigit() and size[1] and size[1].isdigit() for size in sizes)


def test_images(staying: Roots, busybox_root: str, tmp_path: Path) -> None:
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "bin", "etc"], capture_output=True, check=True).stdout
    (tmp_path / "root.tar").write_bytes(tar)
    image = command("import", "-c", "LABEL a=b", str(tmp_path / "root.tar"), "one:1").stdout.strip()
    command("tag", "one:1", "two:1")
    command("save", "-o", str(tmp_path / "saved.tar"), "one:1")
    run("--name", "it", "one:1", "sleep", "1000")
    child = command("commit", "-m", "why", "it", "child:1").stdout.strip()
    command("export", "-o", str(tmp_path / "exported.tar"), "it")
    command("top", "it")
    command("rm", "-f", "it")
    command("rmi", "one:1", "two:1", "child:1")
    command("load", "-i", str(tmp_path / "saved.tar"))
    command("image", "prune", "-af")
    every = known(staying)
    images = [(each.action, each.id) for each in every if each.kind == "image"]
    assert images == [
        ("import", image), ("tag", image), ("save", image), ("untag", image), ("untag", image), ("delete", image), ("untag", child),
        ("delete", child), ("load", image), ("untag", image), ("delete", image), ("prune", ""),
    ]  # fmt: skip
    by_action = {each.action: each for each in every}
    assert attribute(by_action["tag"], "name") == "two:1" and attribute(by_action["import"], "a") == "b"
    assert (
        dict(by_action["commit"].attributes).items()
        >= {"imageID": child, "imageRef": "child:1", "comment": "why"}.items()
    )
    assert int(attribute(by_action["prune"], "reclaimed") or 0) > 1000
    containers = [each.action for each in every if each.kind == "container"]
    assert containers == ["create", "start", "commit", "export", "top", "kill", "die", "destroy"]


def test_in_the_foreground(staying: Roots) -> None:
    command("run", "--name", "fore", "-l", "a=b", "host", "sh", "-c", "exit 6", code=6)
    every = known(staying)
    assert [each.action for each in every] == ["create", "attach", "start", "die", "destroy"]
    assert {(attribute(each, "name"), attribute(each, "a")) for each in every} == {("fore", "b")}
    assert attribute(every[3], "exitCode") == "6"
    command("run", "host", "/nothing", code=127)
    assert len(known(staying)) == 5


def test_a_monitor_that_was_killed(staying: Roots) -> None:
    it = run(*SLEEPER)
    os.kill(monitor_pid(staying, it), signal.SIGKILL)
    command("ps", "-a")
    command("ps", "-a")
    assert actions(staying) == ["create", "start", "die"]
    assert attribute(known(staying)[-1], "exitCode") == "255"


def test_the_command(staying: Roots) -> None:
    words = [
        *PYCONTAIN,
        "events",
        "--since",
        "1h",
        "--format",
        "{{.Action}}",
        "-f",
        "container=it",
        "-f",
        "event=start",
        "-f",
        "event=die",
    ]
    following = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert following.stdout is not None
        run("--name", "it", "host", "true")
        run("--name", "other", "host", "true")
        assert [following.stdout.readline() for _ in range(2)] == ["start\n", "die\n"]
    finally:
        following.send_signal(signal.SIGINT)
        rest, _ = following.communicate(timeout=20)
    assert rest == "" and following.returncode == 130
    out = command("system", "events", "--since", "1h", "--until", "0s", "-f", "container=other").stdout
    assert [line.split()[1:3] for line in out.splitlines()] == [
        ["container", each] for each in ("create", "start", "die")
    ]
    assert (
        json.loads(command("events", "--since", "1h", "--until", "0s", "--format", "json").stdout.splitlines()[0])[
            "from"
        ]
        == "host"
    )
    assert "invalid filter 'x'" in command("events", "-f", "x=y", code=1).stderr
    assert "--since: invalid time 'soon'" in command("events", "--since", "soon", code=1).stderr


def test_what_is_done_to_one(staying: Roots, tmp_path: Path) -> None:
    run(
        "--name",
        "it",
        "--health-cmd",
        "test -e /tmp/good",
        "--health-interval",
        "50ms",
        "--health-retries",
        "1",
        "host",
        "sleep",
        "1000",
    )
    said = ("events", "--since", "1h", "--until", "0s", "-f", "container=it", "--format", "{{.Action}}")
    assert census.poll_until(lambda: "health_status: unhealthy" in command(*said).stdout)
    (tmp_path / "good").touch()
    command("cp", str(tmp_path / "good"), "it:/tmp/good")
    assert census.poll_until(lambda: "health_status: healthy" in command(*said).stdout)
    command("cp", "it:/tmp/good", str(tmp_path / "back"))
    command("update", "--pids-limit", "50", "it")
    actions = command(*said).stdout.splitlines()
    assert [each for each in actions if each not in ("create", "start")] == [
        "health_status: unhealthy", "extract-to-dir", "health_status: healthy", "archive-path", "update",
    ] or "extract-to-dir" in actions[2:4], actions  # fmt: skip
    assert actions[-2:] == ["archive-path", "update"] and actions.count("health_status: healthy") == 1


def test_an_ordinary_users(user: OrdinaryUser, nothing_of_the_user_left: None) -> None:
    """His monitor lives in a user namespace, and `events` outside of it."""
    since = f"{time.time():.9f}"  # what he did in other tests is his as well
    shown = ("events", "--since", since, "--until", "0s", "--format", "{{.Action}}")
    made = user.pycontain(
        "run", "-d", "--name", "it", "host", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done"
    )
    assert made.returncode == 0, made.stderr
    df = user.pycontain("system", "df", "--format", "{{.Type}}={{.Active}}").stdout.split("\n")
    assert "Containers=1" in df
    assert user.pycontain("info", "-f", "{{.ContainersRunning}} {{json .SecurityOptions}}").stdout.endswith(
        '"name=rootless"]\n'
    )
    assert user.pycontain("system", "stop-all").stdout == "it\n"
    assert user.pycontain("system", "prune", "-f").stdout.startswith("Deleted Containers:\n")
    said = user.pycontain(*shown)
    assert said.stdout.split() == ["create", "start", "kill", "die", "stop", "destroy", "prune", "prune"], said.stderr
    # others' are not his to read
    refused = user.pycontain("--data-root", str(user.directory), *shown)
    assert refused.returncode == 1 and "cannot read the events" in refused.stderr
    (user.run_root / "containers").rmdir()


# --- the monitor at a segment's end -------------------------------------------------------------------------------------


def _full(roots: Roots, number: int, but: int = 0) -> Path:
    """A segment with room for so many bytes."""
    path = Path(journal.ready(roots.data_root), f"journal.{number}")
    path.write_bytes(b"\n" * (journal.SEGMENT_BYTES - but))
    return path


def test_a_monitor_begins_the_next_segment(staying: Roots) -> None:
    _full(staying, 9, but=10)
    for old in (5, 6, 7, 8):
        _full(staying, old, but=journal.SEGMENT_BYTES)
    with events(staying) as following:
        run("host", "true")  # the engine's "create" is the last that counts
        until(staying, "die")
        assert [each.action for each in following.read()] == ["create", "start", "die"]
        assert (following.damaged, following.missed) == (0, 0)
    directory = Path(journal.directory_of(staying.data_root))
    assert journal.segments(str(directory)) == [7, 8, 9, 10]
    # written once where it does not count, then where it does
    assert (directory / "journal.9").read_bytes().count(b'"start"') == 1
    assert (directory / "journal.10").read_bytes().count(b'"start"') == 1
    assert actions(staying) == ["create", "start", "die"]


def test_a_monitor_with_no_journal_yet(staying: Roots) -> None:
    command("create", "--name", "it", "host", "true")
    os.unlink(f"{journal.directory_of(staying.data_root)}/journal.1")
    command("start", "it")
    until(staying, "die")
    assert actions(staying) == ["start", "die"]


def test_a_journal_that_was_removed_meanwhile(staying: Roots) -> None:
    run("--name", "it", *SLEEPER)
    shutil.rmtree(journal.directory_of(staying.data_root))
    command("kill", "it")
    command("wait", "it")
    command("start", "it")
    command("rm", "-f", "it")
    assert actions(staying) == ["start", "kill", "die", "destroy"]


def test_a_monitor_with_nowhere_to_write(staying: Roots) -> None:
    Path(staying.data_root).mkdir(parents=True, exist_ok=True)
    Path(staying.data_root, "events").write_text("no directory")
    run("--name", "it", "host", "sh", "-c", "exit 3")
    assert command("wait", "it").stdout == "3\n"
    os.unlink(f"{staying.data_root}/events")


# --- many at once -------------------------------------------------------------------------------------------------------

WRITER = """
import sys, time
from pycontain import journal
for at in range(int(sys.argv[3])):
    time.sleep(float(sys.argv[4]))
    journal.emit(sys.argv[1], "container", str(at), sys.argv[2], {"image": "x" * 150})
"""


@contextmanager
def _writers(roots: Roots, count: int, each: int, pause_s: float = 0) -> Iterator[list[subprocess.Popen[bytes]]]:
    made = [
        subprocess.Popen([sys.executable, "-c", WRITER, roots.data_root, str(number), str(each), str(pause_s)])
        for number in range(count)
    ]
    try:
        yield made
    finally:
        for one in made:
            one.kill()
            one.wait()


def _follow(following: Events, made: list[subprocess.Popen[bytes]]) -> list[Event]:
    found: list[Event] = []
    while any(one.poll() is None for one in made):
        found += following.read()
    return found + following.read()


def test_sixteen_processes_at_once_across_rotations(roots: Roots) -> None:
    with events(roots) as first, events(roots) as second, _writers(roots, 16, 700) as made:
        found = _follow(first, made)
        assert [one.returncode for one in made] == [0] * 16
        for every in (found, second.read()):  # one that reads all the while, and one that comes late
            for number in range(16):
                assert [each.action for each in every if each.id == str(number)] == [str(at) for at in range(700)]
            assert len(every) == 16 * 700
        assert (first.damaged, first.missed, second.damaged, second.missed) == (0, 0, 0, 0)
    assert len(journal.segments(journal.directory_of(roots.data_root))) > 2


def test_writers_that_are_killed(roots: Roots) -> None:
    # not faster than one process can read
    with events(roots) as following, _writers(roots, 8, 100_000, 0.001) as made:
        found = following.read()
        while len(found) < 1500:
            assert all(one.poll() is None for one in made)
            found += following.read()
        for one in made[:7]:
            one.kill()
        found += following.read()
        before = len(found)
        while len(found) < before + 100:  # the one that is left goes on
            assert made[7].poll() is None
            found += following.read()
        made[7].kill()
        for one in made:
            one.wait()
        found += following.read()
        assert following.missed == 0 and following.damaged <= 8
        for number in range(8):
            own = [int(each.action) for each in found if each.id == str(number)]
            assert own == list(range(len(own))), number  # nothing lost, nothing twice, nothing in another order
