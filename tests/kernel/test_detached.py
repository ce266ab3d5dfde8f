"""Detached containers from the command line: made, started, looked at, stopped, removed; and when something dies in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import census
import pytest
from ordinary_user import OrdinaryUser

from pycontain.engine import containers
from pycontain.errors import Conflict, ContainerNotFound, InvalidArgument, SetupFailed
from pycontain.runtime import detached, monitor
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

PYCONTAIN = [sys.executable, "-m", "pycontain"]
SLEEPER = ("host", "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")


@pytest.fixture(autouse=True)
def cleared(roots: Roots) -> Iterator[None]:
    """Whatever a test leaves of its containers is removed, and only their common directories stay."""
    yield
    for container_id in detached.ids(roots):
        try:
            containers.remove(roots, container_id, force=True)
        except ContainerNotFound:
            pass  # by its own monitor
    ephemeral = Path(roots.data_root, "ephemeral")  # empty when the monitors have ended
    assert census.poll_until(lambda: not ephemeral.is_dir() or not any(ephemeral.iterdir()))
    for root in (roots.data_root, roots.run_root):
        for name in ("containers/names", "containers"):
            directory = Path(root, name)
            for link in directory.iterdir() if name.endswith("names") and directory.is_dir() else ():
                link.unlink()
            if directory.is_dir():
                directory.rmdir()


def command(*words: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*PYCONTAIN, *words], capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def run(*words: str) -> str:
    return command("run", "-d", *words).stdout.strip()


def state(name: str) -> str:
    return command("ps", "-a", "--no-trunc", "-f", f"name=^{name}$", "--format", "{{.State}}").stdout.strip()


def saying(name: str, text: str) -> None:
    assert census.poll_until(lambda: text in command("logs", name).stdout)


def monitor_pid(roots: Roots, container_id: str) -> int:
    return int(monitor.read_state(detached.directory_of(roots, container_id))["monitor_pid"])


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
    assert command("rm", "-f", "web").stdout == "web\n"  # nothing to do, as with Docker


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
    assert command("wait", "flaky").stdout == "4\n"
    assert command("logs", "flaky").stdout == "try\n" * 3
    assert containers.find_container(roots, "flaky").restart_count == 2
    run("--name", "ever", "--restart", "always", "host", "sh", "-c", "echo try; exit 0")
    assert census.poll_until(lambda: command("logs", "ever").stdout.count("try") >= 2)
    command("stop", "ever")
    assert state("ever") == "exited"


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
    assert sorted(command("container", "prune", "-f").stdout.split()[2:]) == sorted(ended)
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
    assert len(containers.prune(roots)) == 208


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
    assert "executable file not found" in command("start", "no", code=1).stderr
    command("run", "-d", "--rm", "--name", "nor", "host", "nosuchprogram", code=127)
    assert state("nor") == ""


# --- logs -------------------------------------------------------------------------------------------------------------


def test_logs() -> None:
    run("--name", "it", "host", "sh", "-c", "echo one; sleep 0.05; echo two >&2; sleep 0.05; printf three")
    command("wait", "it")
    done = command("logs", "it")
    assert (done.stdout, done.stderr) == ("one\nthree", "two\n")
    assert command("logs", "-n", "1", "it").stdout == "three"
    assert command("logs", "--tail", "0", "it").stdout == ""
    assert command("logs", "--tail=all", "it").stdout == "one\nthree"
    stamped = command("logs", "-t", "it").stdout.splitlines()
    assert stamped[0].endswith("Z one") and len(stamped[0]) == len("2026-11-25T09:41:13.123456789Z one")
    moment = stamped[0].split()[0]
    assert command("logs", "--since", moment, "it").stdout == "one\nthree"
    assert command("logs", "--until", moment, "it").stdout == "one\n"
    assert command("logs", "--since", "0s", "it").stdout == ""
    assert command("logs", "--since", "10m", "it").stdout == "one\nthree"
    assert "--since: 'soon' is no time" in command("logs", "--since", "soon", "it", code=1).stderr
    assert "--tail: invalid number" in command("logs", "--tail", "x", "it", code=1).stderr


def test_logs_in_several_files(roots: Roots) -> None:
    run(
        "--name", "it", "--log-opt", "max-size=20k", "--log-opt", "max-file=3", "host", "sh", "-c",
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done",
    )  # fmt: skip
    command("wait", "it")
    files = sorted(path.name for path in Path(detached.directory_of(roots, detached.find_id(roots, "it"))).glob("log*"))
    assert files == ["log", "log.1", "log.2"]
    lines = command("logs", "it").stdout.splitlines()
    first = int(lines[0].split()[1])
    assert lines == [f"line {n}" for n in range(first, 3000)]
    for count in (1, 10, 300, 500, 10_000):
        assert command("logs", "-n", str(count), "it").stdout.splitlines() == lines[-count:]


def test_following(roots: Roots) -> None:
    """Every line once, over rotations and restarts, until it has ended for good."""
    run(
        "--name", "it", "--restart", "on-failure:1", "--log-opt", "max-size=40k", "--log-opt", "max-file=100", "host", "sh", "-c",
        "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 1",
    )  # fmt: skip
    done = command("logs", "-f", "it")
    assert done.stdout.splitlines() == [f"line {n}" for n in range(2000)] * 2


def test_logs_that_are_not_kept() -> None:
    run("--name", "it", "--log-driver", "none", "host", "echo", "x")
    command("wait", "it")
    assert "keeps no log" in command("logs", "it", code=1).stderr


# --- what dies --------------------------------------------------------------------------------------------------------


def test_a_monitor_that_is_killed(roots: Roots) -> None:
    container_id = run(
        "--name", "it", "--restart", "always", "host", "sh", "-c", "trap '' TERM HUP; sleep 1000 & echo up; wait"
    )
    saying("it", "up")
    pids = containers.processes(roots, "it")
    os.kill(monitor_pid(roots, container_id), signal.SIGKILL)
    assert census.poll_until(lambda: state("it") == "exited")
    assert "Exited (255)" in command("ps", "-a").stdout
    assert census.poll_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    assert command("wait", "it").stdout == "255\n"
    assert command("logs", "it").stdout == "up\n"
    command("start", "it")  # its layer and its name are what they were
    assert state("it") == "running"


def test_one_that_has_escaped_its_monitors_death(roots: Roots) -> None:
    """prctl(PR_SET_PDEATHSIG, 0): the kernel does not end it, and nobody is its parent. The next look does."""
    program = "import ctypes, time; ctypes.CDLL(None).prctl(1, 0); print('up', flush=True); time.sleep(1000)"
    container_id = run("--name", "it", "host", "python3", "-c", program)
    saying("it", "up")
    pids = containers.processes(roots, "it")
    os.kill(monitor_pid(roots, container_id), signal.SIGKILL)
    assert census.poll_until(lambda: state("it") == "exited")
    assert census.poll_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_a_command_that_is_killed_while_it_starts_one(roots: Roots) -> None:
    """At whatever moment: every command understands what is left, and it can be removed."""
    for delay in range(0, 150, 15):
        with subprocess.Popen(
            [*PYCONTAIN, "run", "-d", "host", "sleep", "1000"], stdout=subprocess.DEVNULL
        ) as starting:
            time.sleep(0.05 + delay / 1000)
            starting.kill()
        shown = command("ps", "-a", "--no-trunc", "-q").stdout.split()
        assert sorted(shown) == sorted(detached.ids(roots))  # none that is there by half, and that nobody sees
        for container_id in shown:
            command("rm", "-f", container_id)
        assert detached.ids(roots) == []


def test_a_monitor_that_says_nothing(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    run("--name", "it", "host", "true")
    command("wait", "it")
    for program, wrong in (
        ("/bin/true", "without saying whether the container runs"),
        ("/no/such/monitor", "cannot start the monitor"),
    ):
        monkeypatch.setattr(monitor, "MONITOR", program)
        with pytest.raises(SetupFailed, match=wrong):
            containers.start(roots, "it")
    monkeypatch.undo()
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", roots.data_root)
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", roots.run_root)
    containers.start(roots, "it")
    assert containers.wait(roots, "it") == 0


def test_from_a_layout_elsewhere(roots: Roots, tmp_path: Path) -> None:
    """Its layers are no image's of the store; a removal leaves them alone as long as it runs."""
    import io

    from image_cases import member, tar

    import pycontain

    program = member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    pycontain.Image.import_tar(io.BytesIO(tar(program)), "x:1").save(tmp_path / "oci.tar", format="oci-archive")
    (tmp_path / "layout").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "oci.tar", "-C", tmp_path / "layout"], check=True)
    (image,) = pycontain.images()
    image.remove()
    run("--name", "it", f"oci:{tmp_path}/layout", "/bin/busybox", "sleep", "1000")
    command("image", "prune", "-af")
    command("kill", "it")
    command("wait", "it")
    command("start", "it")
    assert state("it") == "running"


def test_damaged_files(roots: Roots) -> None:
    container_id = run("--name", "it", "host", "true")
    command("wait", "it")
    directory = Path(detached.directory_of(roots, container_id))
    for name, code in (("state", b"{"), ("config", b"[]"), ("config", b'{"format": 9}'), ("config", b"\xff")):
        whole = (directory / name).read_bytes()
        (directory / name).write_bytes(code)
        for words in (["ps", "-a"], ["rm", "it"], ["start", "it"]):
            done = command(*words, code=1)
            assert str(directory) in done.stderr and "rm -f" in done.stderr, done.stderr
        (directory / name).write_bytes(whole)
    (directory / "config").write_bytes(b"")
    command("rm", "-f", "it")
    assert detached.ids(roots) == []


def test_two_that_remove_it_at_once() -> None:
    for _ in range(5):
        container_id = run(*SLEEPER)
        both = [
            subprocess.Popen([*PYCONTAIN, "rm", "-f", container_id], stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for each in both:
            _, err = each.communicate(timeout=30)
            assert each.returncode == 0 or "No such container" in err, err
        assert command("ps", "-aq").stdout == ""


def test_stop_of_what_ignores_it(roots: Roots) -> None:
    run(
        "--name",
        "deaf",
        "--stop-timeout",
        "1",
        "host",
        "sh",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 0.1; done",
    )
    saying("deaf", "up")
    begun = time.monotonic()
    command("stop", "deaf")
    assert time.monotonic() - begun >= 1
    assert command("wait", "deaf").stdout == "137\n"


def test_nobody_else_reaches_what_it_writes(roots: Roots) -> None:
    """A setuid program in its layer, whose path is in the title of the monitor, would make every user of the host root."""
    run("--name", "it", "host", "sh", "-c", "cp /bin/busybox /tmp/su; chmod 4755 /tmp/su; echo made; sleep 1000")
    saying("it", "made")
    path = Path(detached.directory_of(roots, detached.find_id(roots, "it")), "layer/upper/tmp/su")
    assert path.stat().st_mode & 0o4777 == 0o4755
    assert Path(roots.data_root, "containers").stat().st_mode & 0o777 == 0o700
    tried = subprocess.run(["ls", path], user=65534, group=65534, extra_groups=[], capture_output=True, text=True)
    assert "Permission denied" in tried.stderr


def test_an_image_is_kept_while_it_runs(roots: Roots) -> None:
    import io

    from image_cases import member, tar

    import pycontain

    program = member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    pycontain.Image.import_tar(io.BytesIO(tar(program)), "x:1")
    run("--name", "it", "x:1", "/bin/busybox", "sleep", "1000")
    (image,) = pycontain.images()
    with pytest.raises(Conflict):
        image.remove()
    command("stop", "-t", "0", "it")
    command("rm", "it")
    image.remove()


def test_through_the_engine(roots: Roots) -> None:
    with pytest.raises(InvalidArgument, match="beginning of"):
        for _ in range(40):
            command("create", "host", "true")
            for digit in "0123456789abcdef":
                detached.find_id(roots, digit)


# --- an ordinary user's -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_of_the_user_left")
def test_an_ordinary_users(user: OrdinaryUser) -> None:
    def done(*words: str, code: int = 0) -> str:
        ended = user.pycontain(*words)
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout

    done(
        "run",
        "-d",
        "--name",
        "it",
        "host",
        "sh",
        "-c",
        "trap 'exit 7' TERM; touch /tmp/mine; id -u; while :; do sleep 0.05; done",
    )
    assert census.poll_until(lambda: done("logs", "it") == "0\n")
    assert done("ps", "--format", "{{.Names}} {{.State}}") == "it running\n"
    assert done("exec", "it", "ls", "/tmp/mine") == "/tmp/mine\n"
    done("stop", "it")
    assert done("wait", "it") == "7\n"
    done("start", "it")
    done("kill", "it")
    assert done("wait", "it") == "137\n"
    done("rm", "it")
    assert done("ps", "-aq") == ""
    for root, *names in ((user.data_root, "containers/names", "containers"), (user.run_root, "containers")):
        for name in names:
            Path(root, name).rmdir()
