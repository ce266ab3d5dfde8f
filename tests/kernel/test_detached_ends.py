"""When something of a detached container dies, is damaged, or is removed; and an ordinary user's."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
from pathlib import Path

import census
import pytest
from ordinary_user import OrdinaryUser
from staying import PYCONTAIN, SLEEPER, command, monitor_pid, run, saying, state

from pycontain.engine import containers
from pycontain.errors import Conflict, InvalidArgument, SetupFailed
from pycontain.runtime import detached, monitor
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


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


def test_its_first_process_is_killed_from_outside(roots: Roots) -> None:
    """With --init it is not the program that dies, but everything in the container goes with it."""
    container_id = run("--name", "it", "--init", "host", "sh", "-c", "trap '' TERM HUP; sleep 1000 & echo up; wait")
    saying("it", "up")
    pids = containers.processes(roots, "it")
    assert len(pids) >= 3
    os.kill(int(monitor.read_state(detached.directory_of(roots, container_id))["pid"]), signal.SIGKILL)
    assert census.poll_until(lambda: state("it") == "exited")
    assert "Exited (137)" in command("ps", "-a").stdout
    assert census.poll_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_a_fork_bomb_is_stopped(roots: Roots) -> None:
    bomb = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    try: os.fork()
    except OSError: pass
"""
    run("--name", "bomb", "--pids-limit", "48", "host", "python3", "-I", "-S", "-c", bomb)
    saying("bomb", "up")
    assert census.poll_until(lambda: len(containers.processes(roots, "bomb")) == 48)
    pids = containers.processes(roots, "bomb")
    assert command("stop", "-t", "1", "bomb").stdout == "bomb\n"
    assert "Exited (137)" in command("ps", "-a").stdout
    assert census.poll_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
    command("start", "bomb")
    saying("bomb", "up")
    command("rm", "-f", "bomb")


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


def test_one_that_runs_and_whose_configuration_is_damaged(roots: Roots) -> None:
    container_id = run("--name", "it", "--restart", "always", *SLEEPER)
    pids = containers.processes(roots, "it")
    Path(detached.directory_of(roots, container_id), "config").write_bytes(b"{")
    assert "rm -f" in command("rm", "it", code=1).stderr
    assert all(os.path.exists(f"/proc/{pid}") for pid in pids[:1])
    command("rm", "-f", "it")
    assert detached.ids(roots) == []
    assert census.poll_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))


def test_a_paused_one_is_removed(roots: Roots) -> None:
    run("--name", "it", *SLEEPER)
    command("pause", "it")
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
