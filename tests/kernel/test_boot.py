"""`system start-all` after a boot, which is: no monitor lives, and the run root is gone. `system stop-all` before one."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import census
import pytest
from staying import SLEEPER, command, monitor_pid, run, saying, state

from pycontain.engine import containers
from pycontain.runtime import detached, monitor
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

SECOND_TIME = ("host", "sh", "-c", "echo up; sleep 1000")


def power_cut(roots: Roots) -> None:
    """All monitors at once, and whatever does not outlive a boot."""
    every = [each for each in detached.ids(roots) if monitor.is_alive(detached.run_directory_of(roots, each))]
    for each in every:
        os.kill(monitor_pid(roots, each), signal.SIGKILL)
    directories = [detached.run_directory_of(roots, each) for each in every]
    assert census.poll_until(lambda: not any(monitor.is_alive(each) for each in directories))
    shutil.rmtree(roots.run_root)


def found(roots: Roots, name: str) -> detached.State:
    kept = detached.find(roots, name)
    assert kept is not None
    return detached.state_of(roots, kept)


def test_what_ran_has_ended_with_255(staying: Roots) -> None:
    run("--name", "it", *SLEEPER)
    command("pause", "it")
    power_cut(staying)
    read = found(staying, "it")
    assert (read.status, read.exit_code, read.pid) == ("exited", 255, 0)
    assert command("ps", "-q").stdout == ""


def test_exactly_the_right_ones(staying: Roots) -> None:
    run("--name", "no", *SLEEPER)
    run("--name", "always", "--restart", "always", *SLEEPER)
    run("--name", "always-stopped", "--restart", "always", *SLEEPER)
    run("--name", "unless", "--restart", "unless-stopped", *SLEEPER)
    run("--name", "unless-stopped", "--restart", "unless-stopped", *SLEEPER)
    run("--name", "failed", "--restart", "on-failure:1", *SLEEPER)
    run("--name", "gave-up", "--restart", "on-failure:1", "host", "sh", "-c", "exit 3")
    run("--name", "well", "--restart", "on-failure", "host", "true")
    run("--name", "gone", "--rm", *SLEEPER)
    command("create", "--name", "never", "--restart", "always", *SLEEPER)
    command("stop", "-t", "20", "always-stopped", "unless-stopped")
    assert census.poll_until(lambda: [state(each) for each in ("gave-up", "well")] == ["exited"] * 2)
    power_cut(staying)
    done = command("system", "start-all")
    right = ["always", "always-stopped", "unless", "failed"]
    assert done.stdout.split() == right and done.stderr == ""
    assert sorted(command("ps", "--format", "{{.Names}}").stdout.split()) == sorted(right)
    assert "gone" not in command("ps", "-a", "--format", "{{.Names}}").stdout.split()
    pids = [found(staying, each).pid for each in right]
    assert command("system", "start-all").stdout == ""  # they run
    assert [found(staying, each).pid for each in right] == pids


def test_one_that_cannot_be_started(staying: Roots, busybox_root: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(busybox_root, root, symlinks=True)
    run("--name", "broken", "--restart", "always", "--rootfs", str(root), "sleep", "1000")
    run("--name", "damaged", "--restart", "always", *SLEEPER)
    run("--name", "good", "--restart", "always", *SLEEPER)
    power_cut(staying)
    shutil.rmtree(root)
    damaged = detached.find_id(staying, "damaged")
    config = Path(detached.directory_of(staying, damaged), "config")
    whole = config.read_bytes()
    config.write_text("{")
    done = command("system", "start-all", "-j", "1", code=1)
    assert done.stdout == "good\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and damaged[:12] in lines[0] and "broken" in lines[1] and "No such file" in lines[1]
    config.write_bytes(whole)
    command("rm", "-f", "broken", "damaged")


def test_a_shutdown_in_order(staying: Roots) -> None:
    run("--name", "first", "--restart", "unless-stopped", *SLEEPER)
    program = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    run("--name", "second", "--restart", "unless-stopped", "--stop-signal", "USR1", "host", "sh", "-c", program)
    run("--name", "third", *SLEEPER)
    for each in ("first", "second"):
        saying(each, "up")
    command("pause", "third")
    assert command("system", "stop-all", "-j", "1").stdout.split() == ["third", "second", "first"]
    assert [found(staying, each).exit_code for each in ("first", "second")] == [7, 9]
    assert [found(staying, each).stopped_by_request for each in ("first", "second")] == [False, False]
    assert command("ps", "-q").stdout == "" and command("system", "stop-all").stdout == ""
    shutil.rmtree(staying.run_root)
    assert command("system", "start-all").stdout.split() == ["first", "second"]
    command("stop", "-t", "20", "first")  # by somebody, this time
    command("system", "stop-all")
    assert command("system", "start-all").stdout.split() == ["second"]


def test_many(staying: Roots) -> None:
    for at in range(12):
        containers.start(
            staying, command("create", "--name", f"n{at}", "--restart", "always", *SECOND_TIME).stdout.strip()
        )
    power_cut(staying)
    assert command("system", "start-all").stdout.split() == [f"n{at}" for at in range(12)]
    assert len(command("ps", "-q").stdout.split()) == 12
