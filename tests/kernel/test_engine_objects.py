"""`pycontain.Engine` and its objects: containers that stay, looked after from Python."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import census
import pytest
from staying import PYCONTAIN, command, monitor_pid
from test_commit import BASE

import pycontain
from pycontain import EngineContainer
from pycontain.errors import (
    Conflict,
    ContainerExited,
    ContainerNotFound,
    ImageNotFound,
    InvalidArgument,
    ProgramNotFound,
    PycontainError,
    SetupFailed,
    TimeoutExpired,
)  # fmt: skip
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

LOOP = "while :; do sleep 0.05; done"
SLEEPER = ["sh", "-c", f"trap 'exit 7' TERM; echo up; {LOOP}"]


@pytest.fixture
def eng(roots: Roots) -> pycontain.Engine:
    return pycontain.Engine()


@pytest.fixture
def web(eng: pycontain.Engine) -> Iterator[EngineContainer]:
    """One that runs, is called web, and has said that it is up."""
    with eng.containers.run("host", SLEEPER, detach=True, name="web", labels={"tier": "front"}) as made:
        assert next(made.logs(text=True, follow=True)) == "up\n"
        yield made


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What they answer, or raise, each in a thread of its own."""
    answers: list[Any] = [None] * len(calls)

    def one(at: int) -> None:
        try:
            answers[at] = calls[at]()
        except Exception as error:
            answers[at] = error

    threads = [threading.Thread(target=one, args=(at,)) for at in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
        assert not each.is_alive()
    return answers


# --- a life -----------------------------------------------------------------------------------------------------------


def test_a_life(eng: pycontain.Engine, roots: Roots) -> None:
    before = datetime.now(timezone.utc)
    made = eng.containers.create("host", SLEEPER, name="web", stop_timeout=3)
    assert (len(made.id), made.short_id, made.name, made.image, made.image_id) == (64, made.id[:12], "web", "host", "")
    assert (made.status, made.exit_code, made.started_at, made.finished_at, made.pid, made.ports) == (
        "created", None, None, None, 0, {},
    )  # fmt: skip
    assert before - timedelta(seconds=1) < made.created < datetime.now(timezone.utc) + timedelta(seconds=1)
    made.start()
    made.start()  # it runs: nothing to do
    assert made.status == "running" and made.exit_code is None and Path(f"/proc/{made.pid}").exists()
    assert made.started_at is not None and made.started_at.tzinfo is not None and made.started_at > before
    assert next(made.logs(follow=True)) == b"up\n"
    made.pause()
    assert made.status == "paused"
    made.unpause()
    first = made.pid
    made.restart()
    assert made.status == "running" and made.pid not in (0, first)
    made.rename("other")
    assert made.name == "other" and eng.containers.get("other") == made
    made.stop()
    assert [made.status, made.exit_code, made.wait(), made.pid] == ["exited", 7, 7, 0]
    assert made.finished_at is not None and made.finished_at > made.started_at
    made.stop()
    made.reload()
    made.remove()
    assert not Path(detached.directory_of(roots, made.id)).exists()
    for call in (made.reload, made.start, made.wait, made.remove, made.stats, lambda: made.status, lambda: made.logs()):
        with pytest.raises(ContainerNotFound):
            call()
    assert eng.containers.list(all=True) == []


def test_leaving_the_block_removes_it_whatever_happened(eng: pycontain.Engine) -> None:
    with pytest.raises(KeyError), eng.containers.run("host", SLEEPER, detach=True) as made:
        raise KeyError
    with pytest.raises(ContainerNotFound):
        made.reload()
    with eng.containers.run("host", SLEEPER, detach=True) as made:
        made.remove(force=True)


def test_not_detached_it_is_pycontain_run(eng: pycontain.Engine) -> None:
    r = eng.containers.run("host", ["sh", "-c", "cat; exit 3"], input="hi", text=True)
    assert (r.stdout, r.exit_code) == ("hi", 3)
    with pytest.raises(ContainerExited):
        eng.containers.run("host", ["false"], check=True, remove=True)
    assert eng.containers.list(all=True) == []


def test_what_cannot_be_started_leaves_nothing(eng: pycontain.Engine) -> None:
    with pytest.raises(ProgramNotFound):
        eng.containers.run("host", ["no-such"], detach=True, name="it")
    with pytest.raises(ImageNotFound):
        eng.containers.run("no-such-image", detach=True, name="it", pull="never")
    assert eng.containers.list(all=True) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"restart": "always"}, "restart is for a container that stays: add detach=True"),
        ({"remove": False}, "remove is for a container that stays"),
        ({"detach": True, "timeout": 3}, "timeout: nobody waits"),
        ({"detach": True, "input": b""}, "input: nobody waits"),
        ({"detach": True, "restart": "sometimes"}, "restart: .*no such policy"),
        ({"detach": True, "restart": "always", "remove": True}, "restart and remove contradict"),
        ({"detach": True, "log_driver": "syslog"}, "log_driver: there is no driver 'syslog'"),
        ({"detach": True, "log_opts": {"size": 1}}, "log_opts: unknown option 'size=1'"),
        ({"detach": True, "memory": "x"}, "invalid size 'x'"),
        ({"detach": True, "name": "no/name"}, "name"),
    ],
)
def test_options_that_make_no_sense(eng: pycontain.Engine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        eng.containers.run("host", ["true"], **options)
    assert eng.containers.list(all=True) == []


def test_an_option_that_there_is_none_of(eng: pycontain.Engine) -> None:
    with pytest.raises(TypeError, match="did you mean 'memory'"):
        eng.containers.run("host", ["true"], detach=True, memry="1g")  # type: ignore[call-overload]


def test_what_it_is_given(eng: pycontain.Engine) -> None:
    made = eng.containers.run(
        "host", ["sh", "-c", "echo $WORD; exit 4"], detach=True, env={"WORD": "hi"}, restart="on-failure:2", memory="64m",
        log_opts={"max-size": "1m", "max-file": 3}, stop_timeout=5, tty=True, stdin_open=True,
    )  # fmt: skip
    assert made.wait(timeout=30) == 4
    assert list(made.logs(text=True)) == ["hi\r\n"] * 3
    document = made.inspect()
    assert document["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert (
        document["HostConfig"]["Memory"] == 64 << 20
        and document["HostConfig"]["LogConfig"]["Config"]["max-file"] == "3"
    )
    assert (document["Config"]["Tty"], document["Config"]["OpenStdin"], document["Config"]["StopTimeout"]) == (
        True,
        True,
        5,
    )
    assert document["RestartCount"] == 2 == made.info.restart_count


# --- which ------------------------------------------------------------------------------------------------------------


def test_lists_and_look_ups(eng: pycontain.Engine, web: EngineContainer) -> None:
    ended = eng.containers.run("host", ["sh", "-c", "exit 3"], detach=True, name="ended")
    assert ended.wait(timeout=20) == 3
    assert eng.containers.list() == [web] and eng.containers.list(all=True) == [ended, web]
    assert eng.containers.list(filters={"label": ["tier", "tier=front"]}) == [web]
    assert eng.containers.list(filters={"exited": 3}) == [ended] == eng.containers.list(filters={"status": ["exited"]})
    assert eng.containers.list(all=True, filters={"name": "^e", "since": "web"}) == [ended]
    with pytest.raises(InvalidArgument, match=r"invalid filter 'lable'.*label"):
        eng.containers.list(filters={"lable": "x"})
    with pytest.raises(InvalidArgument, match="filter"):
        eng.containers.list(filters={"exited": "x"})
    assert (
        eng.containers.get("web") == web == eng.containers.get(web.id[:10])
        and len({web, eng.containers.get("web")}) == 1
    )
    with pytest.raises(ContainerNotFound, match="No such container: nobody"):
        eng.containers.get("nobody")
    assert eng.containers.prune() == [ended.id] and eng.containers.list(all=True) == [web]


def test_the_documents_are_the_commands(eng: pycontain.Engine, web: EngineContainer) -> None:
    import json

    assert json.loads(command("inspect", "web").stdout) == [web.inspect()]
    assert "SizeRw" in web.inspect(size=True)
    assert command("ps", "--no-trunc", "-q").stdout == f"{web.id}\n"


def test_one_of_a_command_in_the_foreground(eng: pycontain.Engine) -> None:
    words = [*PYCONTAIN, "run", "--name", "front", "host", *SLEEPER]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline() == b"up\n"
        assert census.poll_until(lambda: len(eng.containers.list()) == 1)
        (front,) = eng.containers.list()
        assert (front.name, front.status, front.info.stays, front.exit_code) == ("front", "running", False, None)
        assert front.exec(["echo", "hi"]).stdout == b"hi\n" and front.stats().pids
        for refused in (front.wait, front.logs, front.start, front.remove, lambda: front.rename("other")):
            with pytest.raises(Conflict, match="in the foreground of another command"):
                refused()
        front.stop()
        assert running.wait(20) == 7


# --- its end ----------------------------------------------------------------------------------------------------------


def test_a_wait_that_times_out(web: EngineContainer) -> None:
    with pytest.raises(TimeoutExpired, match=r"container web still runs after 0\.05 seconds") as caught:
        web.wait(timeout=0.05)
    assert caught.value.result.id == web.id and web.status == "running"


def test_twenty_wait_and_one_stops(web: EngineContainer) -> None:
    """More than a monitor has clients: it can still be stopped."""
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(web.wait())) for _ in range(20)]
    for each in threads:
        each.start()
    web.exec(["true"])
    web.stop()
    for each in threads:
        each.join(20)
    assert answers == [7] * 20


def test_one_that_removes_itself(eng: pycontain.Engine, tmp_path: Path) -> None:
    script = "while [ ! -e /here/go ]; do sleep 0.02; done; exit 5"
    made = eng.containers.run("host", ["sh", "-c", script], detach=True, remove=True, mounts=[f"{tmp_path}:/here"])
    threading.Timer(0.1, (tmp_path / "go").touch).start()
    assert made.wait(timeout=20) == 5
    assert census.poll_until(lambda: eng.containers.list(all=True) == [])
    with pytest.raises(ContainerNotFound):
        made.wait()


def test_signals(eng: pycontain.Engine) -> None:
    script = f"trap 'echo hup' HUP; trap 'exit 9' USR1; echo up; {LOOP}"
    with eng.containers.run("host", ["sh", "-c", script], detach=True) as made:
        said = made.logs(text=True, follow=True)
        assert next(said) == "up\n"
        made.kill("HUP")
        assert next(said) == "hup\n"
        made.kill(signal.SIGHUP)
        assert next(said) == "hup\n"
        made.stop(timeout=20, signal=signal.SIGUSR1)
        assert made.exit_code == 9 and list(said) == []
        with pytest.raises(Conflict, match="is not running"):
            made.kill()
        made.start()
        made.kill()
        assert made.wait(timeout=20) == 137 == made.exit_code
    with pytest.raises(InvalidArgument):
        made.kill("NOSUCH")


def test_a_killed_monitor(eng: pycontain.Engine, web: EngineContainer, roots: Roots) -> None:
    answers: list[int] = []
    waiting = [threading.Thread(target=lambda: answers.append(web.wait(timeout=60))) for _ in range(6)]
    said: list[bytes] = []
    waiting.append(threading.Thread(target=lambda: said.extend(web.logs(follow=True))))
    for each in waiting:
        each.start()
    pid = web.pid
    os.kill(monitor_pid(roots, web.id), signal.SIGKILL)
    for each in waiting:
        each.join(60)
        assert not each.is_alive()
    assert answers == [255] * 6 and said == [b"up\n"]
    assert (web.status, web.exit_code) == ("exited", 255) and "monitor was killed" in web.info.error
    assert census.poll_until(lambda: not Path(f"/proc/{pid}").exists())
    web.start()
    assert web.status == "running"


def test_two_remove_it_at_once(eng: pycontain.Engine) -> None:
    for _ in range(5):
        made = eng.containers.run("host", SLEEPER, detach=True, name="it")
        waiting = threading.Thread(target=at_once, args=(made.wait,))
        waiting.start()
        answers = at_once(*[partial(made.remove, force=True)] * 4)
        assert all(each is None or isinstance(each, ContainerNotFound) for each in answers) and None in answers
        assert eng.containers.list(all=True) == []
        waiting.join(20)
        assert not waiting.is_alive()


def test_used_by_many_threads(eng: pycontain.Engine) -> None:
    def live(number: int) -> tuple[Any, ...]:
        with eng.containers.run("host", ["sh", "-c", f"echo {number}; {LOOP}"], detach=True, name=f"n{number}") as made:
            said = next(made.logs(text=True, follow=True))
            r = made.exec(["sh", "-c", f"exit {number}"])
            made.stop(timeout=0)
            return said, r.exit_code, made.exit_code

    answers = at_once(*[lambda number=number: live(number) for number in range(12)])
    assert answers == [(f"{number}\n", number, 137) for number in range(12)]


def test_one_object_in_many_threads(web: EngineContainer) -> None:
    calls: list[Callable[[], Any]] = [lambda: web.exec(["echo", "hi"]).stdout, lambda: web.status, lambda: web.name]
    assert at_once(*(calls * 8)) == [b"hi\n", "running", "web"] * 8


# --- what it has said -------------------------------------------------------------------------------------------------


def test_lines_as_bytes_and_text(eng: pycontain.Engine) -> None:
    script = "echo one; echo two >&2; printf 'thr\\303\\244'; printf '\\377\\n'"
    with eng.containers.run("host", ["sh", "-c", script], detach=True) as made:
        made.wait()
        assert sorted(made.logs()) == [b"one\n", "thrä\ufffd\n".encode(), b"two\n"]
        assert list(made.logs(text=True, stdout=False)) == ["two\n"]
        assert list(made.logs(text=True, stderr=False)) == ["one\n", "thrä\ufffd\n"]
        assert list(made.logs(tail=2)) == list(made.logs())[1:] and list(made.logs(tail=0)) == []
        stamped = list(made.logs(text=True, stderr=False, timestamps=True))
        times = [line.partition(" ")[0] for line in stamped]
        assert all(len(each) == 30 and each.endswith("Z") for each in times) and stamped[0].endswith(" one\n")
        with pytest.raises(InvalidArgument, match="less than 0"):
            made.logs(tail=-1)


def test_since_and_until(eng: pycontain.Engine) -> None:
    with eng.containers.run("host", ["sh", "-c", "echo one; sleep 0.3; echo two"], detach=True) as made:
        made.wait()
        first = next(made.logs(text=True, timestamps=True)).partition(" ")[0]
        between = datetime.fromisoformat(first[:26] + "+00:00") + timedelta(seconds=0.15)
        assert list(made.logs(text=True, since=between)) == ["two\n"]
        assert list(made.logs(text=True, since=between.timestamp())) == ["two\n"]
        assert list(made.logs(text=True, until=between)) == ["one\n"]
        with pytest.raises(InvalidArgument, match="has no zone"):
            made.logs(since=datetime.now())


def test_following_until_a_moment(web: EngineContainer) -> None:
    """It goes on and says nothing: the moment itself ends it."""
    until = datetime.now(timezone.utc) + timedelta(seconds=0.3)
    assert list(web.logs(follow=True, until=until)) == [b"up\n"]
    assert datetime.now(timezone.utc) >= until and web.status == "running"


def test_no_line_of_a_chatty_one_is_lost(eng: pycontain.Engine) -> None:
    """Its log is rotated many times meanwhile; the files that are kept hold more than a follower can be behind."""
    script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done"
    with eng.containers.run(
        "host", ["sh", "-c", script], detach=True, log_opts={"max-size": "100k", "max-file": 100}
    ) as made:
        with made.logs(text=True, follow=True) as said:
            assert list(map(int, said)) == list(range(20000))
        assert len(list(Path(made.inspect()["LogPath"]).parent.glob("log.*"))) > 3
        assert list(map(int, made.logs())) == list(range(20000))


def test_following_without_inotify(eng: pycontain.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user has 128 of them."""

    def refused(_: str) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("pycontain._native.watch_directory", refused)
    script = "i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done"
    with eng.containers.run(
        "host", ["sh", "-c", script], detach=True, log_opts={"max-size": "20k", "max-file": 100}
    ) as made:
        assert list(map(int, made.logs(follow=True))) == list(range(3000))


def test_another_way_to_the_same_place(web: EngineContainer, eng: pycontain.Engine, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(eng.data_root)
    same = pycontain.Engine(f"{tmp_path}/data/", f"{eng.run_root}/").containers.get("web")
    said = same.logs(follow=True)
    assert next(said) == b"up\n"
    waiting = [threading.Thread(target=same.wait) for _ in range(6)]
    for each in waiting:
        each.start()
    same.stop()
    assert list(said) == [] and web.exit_code == 7
    for each in waiting:
        each.join(20)
        assert not each.is_alive()


def test_following_costs_no_descriptor_once_it_is_over(web: EngineContainer) -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with web.logs(follow=True) as said:
            assert next(said) == b"up\n"
        web.logs(follow=True)  # never asked for a line
        assert list(web.logs()) == [b"up\n"]
        said.close()
    assert set(os.listdir("/proc/self/fd")) == before


def test_without_a_log(eng: pycontain.Engine) -> None:
    with (
        eng.containers.run("host", SLEEPER, detach=True, log_driver="none") as made,
        pytest.raises(Conflict, match="keeps no log"),
    ):
        made.logs()


# --- inside -----------------------------------------------------------------------------------------------------------


def test_one_more_program(web: EngineContainer) -> None:
    r = web.exec(
        ["sh", "-c", "cat; id -u; pwd; echo $A"], input="in\n", text=True, user="nobody", workdir="/tmp", env={"A": "b"}
    )
    assert r.stdout == "in\n65534\n/tmp\nb\n" and r.usage.wall_s > 0
    assert web.exec(["sh", "-c", "test -t 1 && echo tty"], tty=True, text=True).stdout == "tty\r\n"
    r = web.exec(["sh", "-c", "echo partial; sleep 600"], timeout=0.3, text=True)
    assert (r.timed_out, r.exit_code, r.stdout) == (True, 137, "partial\n")
    with pytest.raises(ContainerExited):
        web.exec(["false"], check=True)
    with pytest.raises(ProgramNotFound):
        web.exec(["no-such"])
    web.pause()
    with pytest.raises(Conflict, match="paused"):
        web.exec(["true"])
    web.unpause()
    web.stop()
    with pytest.raises(Conflict, match="not running"):
        web.exec(["true"])


def test_attached(eng: pycontain.Engine) -> None:
    with eng.containers.run("host", ["cat"], detach=True, stdin_open=True) as made:
        for said in (b"one\n", b"two\n"):
            with made.attach() as attached:
                attached.send(said)
                assert attached.receive() == (1, said)
                attached.detach()
        with made.attach() as attached:
            made.kill()
            assert attached.receive() is None and attached.exit_code() == 137
        with pytest.raises(Conflict, match="attach to a stopped container"):
            made.attach()


def test_execs_keep_no_descriptor(web: EngineContainer) -> None:
    web.exec(["true"])  # the sealed programs stay open
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        web.exec(["true"])
    assert set(os.listdir("/proc/self/fd")) == before


def test_processes(web: EngineContainer) -> None:
    found = web.top("-o pid,args")
    assert found.titles == ("PID", "COMMAND") and (str(web.pid), found.processes[0][1]) == found.processes[0]
    assert "trap" in found.processes[0][1]
    assert web.top().titles[0] == "UID"
    with pytest.raises(InvalidArgument, match="no column PID"):
        web.top(["-o", "args"])
    web.stop()
    with pytest.raises(Conflict, match="not running"):
        web.top()


def test_what_it_uses(eng: pycontain.Engine) -> None:
    script = "head -c 20000000 /dev/zero > /dev/null; x=$(head -c 3000000 /dev/zero | tr '\\0' x); echo up; while :; do :; done"
    with eng.containers.run("host", ["sh", "-c", script], detach=True, memory="64m") as made:
        next(made.logs(follow=True))
        first, *_, last = (usage for usage, _ in zip(made.stats(stream=True, interval=0.05), range(5), strict=False))
        assert last.cpu_s > first.cpu_s and last.wall_s >= first.wall_s + 0.2
        assert last.memory_bytes is not None and 3_000_000 < last.memory_bytes < 64 << 20
        assert last.memory_limit_bytes == 64 << 20 and last.pids == 1 and isinstance(last, pycontain.Usage)
        stream = made.stats(stream=True, interval=0.01)
        next(stream)
        made.stop(timeout=0)
        assert len(list(stream)) < 2  # it ends with the container
        with pytest.raises(Conflict, match="not running"):
            made.stats()


def test_stats_of_the_other_kind_are_the_same() -> None:
    with pycontain.Container("host", ["sleep", "60"], memory="64m") as c:
        assert c.stats().memory_limit_bytes == 64 << 20 and c.stats().pids == 1 and (c.stats().memory_bytes or 0) > 0
        c.kill()
        c.wait()
        assert c.stats().pids is None


# --- what it has written ----------------------------------------------------------------------------------------------


def test_changes_images_and_archives(tmp_path: Path) -> None:
    eng = pycontain.Engine(str(tmp_path / "data"), str(tmp_path / "run"))
    pycontain.Image.import_tar(io.BytesIO(BASE), "box:1", data_root=eng.data_root)
    box = eng.images.get("box:1")
    with eng.containers.run(box, ["sh", "-c", "echo hi > /new; echo up; exec sleep 600"], detach=True) as made:
        next(made.logs(follow=True))
        assert made.image_id == box.id and ("A", "/new") in made.diff()
        done = made.commit("box:2", message="why")
        assert done.names == ("box:2",) == eng.images.get("box:2").names
        out = io.BytesIO()
        made.export(out)
        out.seek(0)
        with tarfile.open(fileobj=out) as tar:
            assert "new" in tar.getnames()
    assert eng.containers.run(done, ["cat", "/new"], text=True).stdout == "hi\n"
    eng.images.save("box:2", tmp_path / "box.tar")
    assert eng.images.tag("box:2", "box:3").names == ("box:2", "box:3")
    eng.images.remove("box:2")
    assert {each.action for each in eng.images.remove("box:3")} == {"Untagged", "Deleted"}
    assert eng.images.list() == [box]
    assert [each.names for each in eng.images.load(tmp_path / "box.tar")] == [("box:2",)]
    eng.images.remove("box:2")
    removed, freed = eng.images.prune(all=True)
    assert {each.what for each in removed} >= {box.id} and freed > 0 and eng.images.list() == []


# --- errors -----------------------------------------------------------------------------------------------------------


def test_nothing_but_its_own_errors(tmp_path: Path) -> None:
    """A data root that is a file."""
    (tmp_path / "file").touch()
    eng = pycontain.Engine(str(tmp_path / "file"), str(tmp_path / "run"))
    calls: list[Callable[[], Any]] = [
        eng.containers.list, lambda: eng.containers.get("x"), lambda: eng.containers.create("host", ["true"]),
        eng.containers.prune, eng.images.list, lambda: eng.images.get("x"), lambda: eng.images.prune(all=True),
        lambda: eng.images.remove("x"), lambda: eng.images.load(tmp_path / "no-such"),
    ]  # fmt: skip
    for call in calls:
        try:
            call()
        except PycontainError as error:
            assert str(error) and "\n" not in str(error)
    with pytest.raises(SetupFailed, match="ENOTDIR"):
        eng.containers.create("host", ["true"])
    with pytest.raises(InvalidArgument, match="absolute"):
        pycontain.Engine("relative")


def test_damaged_files_are_named(eng: pycontain.Engine, roots: Roots) -> None:
    made = eng.containers.create("host", ["true"])
    Path(detached.directory_of(roots, made.id), "config").write_text("{")
    with pytest.raises(InvalidArgument, match="config"):
        _ = made.status
    made.remove(force=True)


def test_time_does_not_pass_in_a_wait_for_one_that_has_ended(eng: pycontain.Engine) -> None:
    made = eng.containers.run("host", ["true"], detach=True)
    made.wait()
    assert [made.wait(timeout=0) for _ in range(3)] == [0] * 3
    begun = time.monotonic()
    made.stop(timeout=60)
    assert time.monotonic() - begun < 30
