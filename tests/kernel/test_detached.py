"""Detached containers from the command line: made, started, looked at, stopped, removed; what they are given."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import census
import pytest
from detached import cgroups_of
from staying import PYCONTAIN, SLEEPER, command, run, saying, state

from pycontain.engine import containers
from pycontain.engine.pruning import prune_containers
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

# --- a life -----------------------------------------------------------------------------------------------------------


def test_a_life(roots: Roots) -> None:
    container_id = run("--name", "web", *SLEEPER)
    assert len(container_id) == 64
    saying("web", "up\n")
    assert command("ps", "--format", "{{.ID}} {{.Names}} {{.State}}").stdout == f"{container_id[:12]} web running\n"
    assert command("stop", "web").stdout == "web\n"
    assert command("ps", "-q").stdout == ""
    assert "Exited (7)" in command("ps", "-a").stdout
    assert command("wait", "web").stdout == "7\n"
    assert command("start", "web").stdout == "web\n"
    assert command("start", "web").stdout == "web\n"  # it runs: nothing to do
    assert census.poll_until(lambda: command("logs", "web").stdout == "up\nup\n")
    assert "container is running: stop the container before removing" in command("rm", "web", code=1).stderr
    assert command("rm", "-f", container_id[:8]).stdout == f"{container_id[:8]}\n"
    assert command("ps", "-aq").stdout == ""
    assert "No such container" in command("rm", "web", code=1).stderr
    gone = command("rm", "-f", "web")  # nothing to do: said, and no error, as with Docker
    assert gone.stdout == "" and "No such container: web" in gone.stderr


def test_what_it_writes_is_there_at_its_next_start() -> None:
    run("--name", "it", "host", "sh", "-c", "cat /tmp/count; echo x >> /tmp/count")
    for _ in range(2):
        command("wait", "it")
        command("start", "it")
    command("wait", "it")
    assert command("logs", "it").stdout.split() == ["x", "x", "x"]


def test_created_and_started_later() -> None:
    made = command(
        "create", "--name", "later", "-e", "WORD=hi", "host", "sh", "-c", "echo $WORD; exit 3"
    ).stdout.strip()
    assert state("later") == "created" and command("ps", "-q").stdout == ""
    assert command("logs", "later").stdout == ""
    assert "is not running" in command("kill", "later", code=1).stderr
    command("start", made[:5])
    assert command("wait", "later").stdout == "3\n"
    assert command("logs", "later").stdout == "hi\n"


def test_restart_and_rename() -> None:
    run("--name", "old", *SLEEPER)
    first = containers.find_container(_roots(), "old").pid
    command("restart", "old")
    assert containers.find_container(_roots(), "old").pid not in (0, first)
    command("rename", "old", "new")
    assert state("new") == "running" and state("old") == ""
    assert "same name" in command("rename", "new", "new", code=1).stderr
    run("--name", "other", *SLEEPER)
    assert "is already in use" in command("rename", "new", "other", code=1).stderr
    assert "invalid name" in command("rename", "new", "no/name", code=1).stderr
    command("stop", "new", "other")


def _roots() -> Roots:
    from pycontain.runtime.roots import default_roots

    return default_roots()


def test_rm_at_the_end(roots: Roots, tmp_path: Path) -> None:
    script = "echo hi; while [ ! -e /here/go ]; do sleep 0.05; done"
    container_id = run("--rm", "--name", "gone", "-v", f"{tmp_path}:/here", "host", "sh", "-c", script)
    with subprocess.Popen([*PYCONTAIN, "logs", "-f", "gone"], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None and following.stdout.readline() == "hi\n"
        (tmp_path / "go").touch()
        assert following.stdout.read() == ""
    assert following.returncode == 0
    assert census.poll_until(lambda: not Path(detached.directory_of(roots, container_id)).exists())
    assert command("ps", "-aq").stdout == ""
    run("--rm", "--name", "gone", "host", "true")  # the name is free again


def test_restart_policies(roots: Roots) -> None:
    run("--name", "flaky", "--restart", "on-failure:2", "host", "sh", "-c", "echo try; exit 4")
    assert containers.wait(roots, "flaky") == 4 and command("wait", "flaky").stdout == "4\n"
    assert command("logs", "flaky").stdout == "try\n" * 3
    assert containers.find_container(roots, "flaky").restart_count == 2
    run("--name", "ever", "--restart", "always", "host", "sh", "-c", "echo try; exit 0")
    assert census.poll_until(lambda: command("logs", "ever").stdout.count("try") >= 2)
    command("stop", "ever")
    assert state("ever") == "exited"


def test_each_start_is_counted_from_zero(roots: Roots) -> None:
    """Its cgroup, one in each hierarchy with no level of its own above it, stays from one start to the next."""
    script = (
        "[ -e /tmp/again ] && exec sleep 600; touch /tmp/again; head -c 60M /dev/zero | tail -c 60M >/dev/null; exit 1"
    )
    container_id = run("--name", "it", "--restart", "on-failure", "host", "sh", "-c", script)
    assert census.poll_until(lambda: containers.find_container(roots, "it").restart_count == 1)
    assert census.poll_until(lambda: state("it") == "running")
    own = [path for path in cgroups_of(container_id) if "/devices/" not in path]
    assert own and all(Path(path).parent.name == "pycontain" for path in own)
    for path in own:
        peak = Path(path, "memory.max_usage_in_bytes")
        assert not peak.exists() or int(peak.read_text()) < 30 << 20
    command("rm", "-f", "it")
    assert not cgroups_of(container_id)


def test_one_that_waits_for_its_next_start_is_removed_by_force() -> None:
    run("--name", "again", "--restart", "always", "host", "false")
    assert census.poll_until(lambda: state("again") == "restarting")
    command("rm", "-f", "again")
    assert state("again") == ""


def test_pause(roots: Roots) -> None:
    run("--name", "it", *SLEEPER)
    command("pause", "it")
    assert state("it") == "paused" and "(Paused)" in command("ps").stdout
    assert "already paused" in command("pause", "it", code=1).stderr
    assert "cannot start a paused container" in command("start", "it", code=1).stderr
    command("unpause", "it")
    assert state("it") == "running"
    command("pause", "it")
    command("stop", "it")
    assert state("it") == "exited"
    assert "is not running" in command("pause", "it", code=1).stderr


def test_a_prune() -> None:
    run("--name", "runs", *SLEEPER)
    ended = [run("host", "true") for _ in range(3)]
    for each in ended:
        command("wait", each)
    assert command("container", "prune", input="n\n").stdout.endswith("[y/N] ")
    assert sorted(command("container", "prune", "-f").stdout.splitlines()[1:-2]) == sorted(ended)
    assert command("ps", "-a", "--format", "{{.Names}}").stdout == "runs\n"


def test_names_are_given_and_unique(roots: Roots) -> None:
    ids = [run("host", "true") for _ in range(3)]
    names = command("ps", "-a", "--format", "{{.Names}}").stdout.split()
    assert len(set(names)) == 3 and all("_" in name for name in names)
    run("--name", "taken", *SLEEPER)
    for words in (("-d",), ("--rm",)):
        done = command("run", *words, "--name", "taken", "host", "true", code=125)
        assert "the name 'taken' is already in use by container" in done.stderr
    assert len(detached.ids(roots)) == len(ids) + 1  # nothing is left of those that could not be
    started = subprocess.Popen(
        [*PYCONTAIN, "run", "--name", "front", "host", "sh", "-c", "echo; sleep 100"], stdout=subprocess.PIPE
    )
    assert started.stdout is not None and started.stdout.readline()
    try:
        assert "already in use" in command("run", "-d", "--name", "front", "host", "true", code=125).stderr
    finally:
        command("kill", "front")
        started.communicate(timeout=20)


def test_two_hundred_at_once(roots: Roots) -> None:
    """From sixteen processes: all succeed, with names and ids of their own."""
    code = (
        "import sys; from pycontain.engine import containers as c; from pycontain.request import RunRequest\n"
        "from pycontain.runtime.roots import default_roots\n"
        "for _ in range(13): r = default_roots(); i = c.create(RunRequest(image='host', args=('true',)), r); c.start(r, i); print(i)"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(16)]
    ids = [line for each in started for line in each.communicate(timeout=120)[0].split()]
    assert [each.returncode for each in started] == [0] * 16 and len(set(ids)) == 208
    for each in ids:
        assert containers.wait(roots, each) == 0
    known = containers.list_containers(roots, all=True)
    assert {each.id for each in known} == set(ids) and len({each.name for each in known}) == 208
    assert len(prune_containers(roots)[0]) == 208


# --- what it is given -------------------------------------------------------------------------------------------------


def test_limits_users_and_mounts(roots: Roots, tmp_path: Path) -> None:
    run(
        "--name", "it", "--memory", "64m", "--pids-limit", "20", "-u", "1000:1000", "--read-only", "-v", f"{tmp_path}:/here:ro",
        "host", "sh", "-c", "id -u; cat /proc/self/cgroup | wc -l; touch /x || echo no; ls -d /here",
    )  # fmt: skip
    command("wait", "it")
    out = command("logs", "it").stdout.split()
    assert out[0] == "1000" and out[2:] == ["no", "/here"]


def test_killed_for_its_memory(roots: Roots) -> None:
    run("--name", "big", "--memory", "32m", "--memory-swap", "32m", "host", "python3", "-c", "bytearray(200 << 20)")
    assert command("wait", "big").stdout == "137\n"
    read = json.loads(Path(detached.directory_of(roots, detached.find_id(roots, "big")), "state").read_text())
    assert read["oom_killed"] is True


def test_ids_of_its_own(roots: Roots) -> None:
    run(
        "--name",
        "it",
        "--userns",
        "0:300000:65536",
        "host",
        "sh",
        "-c",
        "touch /tmp/mine; cat /proc/self/uid_map; stat -c %u /tmp/mine",
    )
    command("wait", "it")
    assert command("logs", "it").stdout.split() == ["0", "300000", "65536", "0"]
    command("start", "it")
    command("wait", "it")
    upper = Path(detached.directory_of(roots, detached.find_id(roots, "it")), "layer/upper")
    assert (upper / "tmp/mine").stat().st_uid == 300000
    assert (
        "is for containers that do not stay"
        in command("run", "-d", "--userns", "auto", "host", "true", code=125).stderr
    )


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("-d", "--rm", "--restart", "always", "host"), "--restart and --rm contradict each other"),
        (("-d", "--restart", "sometimes", "host"), "--restart: invalid policy 'sometimes'"),
        (("-d", "--restart", "always:3", "host"), "only on-failure has a number"),
        (("-d", "--log-driver", "syslog", "host"), "--log-driver: there is no driver 'syslog'"),
        (("-d", "--log-opt", "size=1", "host"), "--log-opt: unknown option 'size=1'"),
        (("-d", "--log-opt", "max-file=3", "host"), "max-file needs a max-size"),
        (("-d", "--timeout", "3", "host"), "-d and --timeout contradict"),
        (("--restart", "always", "host", "true"), "--restart is for a container that stays"),
        (("--log-opt", "max-size=1m", "host", "true"), "--log-opt is for a container that stays"),
        (("-d", "nosuchimage:1", "true"), "nosuchimage"),
        (("-d", "/no/such/dir", "true"), "no such"),
    ],
)
def test_what_cannot_be(words: tuple[str, ...], wrong: str, roots: Roots) -> None:
    done = subprocess.run([*PYCONTAIN, "run", "--pull=never", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 125 and wrong.lower() in done.stderr.lower(), done.stderr
    assert detached.ids(roots) == []


def test_a_program_that_is_not_there(roots: Roots) -> None:
    done = command("run", "-d", "--name", "no", "host", "nosuchprogram", code=127)
    assert "executable file not found in $PATH: 'nosuchprogram'" in done.stderr and done.stdout == ""
    assert state("no") == "created"  # as with Docker, it stays
    assert command("inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", "no").stdout.startswith("127 find program")
    assert "executable file not found" in command("start", "no", code=1).stderr
    command("run", "-d", "--rm", "--name", "nor", "host", "nosuchprogram", code=127)
    assert state("nor") == ""
