"""What two commands, a full disk or a kill at the wrong moment make of containers that stay."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from pathlib import Path

import census
import pytest
from staying import PYCONTAIN, SLEEPER, command, monitor_pid, run, saying, state

import pycontain
from pycontain import _native
from pycontain.engine import containers
from pycontain.errors import Conflict, InvalidArgument, PycontainError
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


def test_an_id_is_no_others_name() -> None:
    one = command("create", "host", "true").stdout.strip()
    run("--name", one, *SLEEPER)
    command("rm", "-f", one)
    assert command("ps", "-aq", "--no-trunc").stdout.strip() != one and state(one) == "running"


def test_the_name_of_one_in_the_foreground(roots: Roots) -> None:
    command("create", "--name", "mine", "host", "true")
    with subprocess.Popen([*PYCONTAIN, "run", "--name", "front", *SLEEPER], stdout=subprocess.PIPE) as front:
        assert front.stdout is not None and front.stdout.readline() == b"up\n"
        assert "already in use" in command("rename", "mine", "front", code=1).stderr
        assert command("ps", "-a", "--format", "{{.Names}}").stdout.split().count("front") == 1
        front.send_signal(signal.SIGTERM)
    command("rename", "mine", "front")  # it is free again


def test_a_restart_removes_nothing(roots: Roots) -> None:
    container_id = run(
        "--rm", "--name", "it", "host", "sh", "-c", "cat /tmp/f 2>/dev/null || echo first >/tmp/f; echo up; sleep 600"
    )
    saying("it", "up")
    command("restart", "-t", "0", "it")
    saying("it", "first")
    assert state("it") == "running"
    web = pycontain.Engine(roots.data_root, roots.run_root).containers.get("it")
    web.restart(timeout=0)
    assert web.id == container_id and web.status == "running"
    command("stop", "-t", "0", "it")  # and now it does
    assert census.poll_until(lambda: not os.path.lexists(detached.directory_of(roots, container_id)))
    assert not [each for each in os.listdir(f"{roots.data_root}/containers") if each.endswith(".gone")]


def test_what_a_killed_monitor_has_removed_by_half(roots: Roots) -> None:
    container_id = command("create", "host", "true").stdout.strip()
    directory = detached.directory_of(roots, container_id)
    os.rename(directory, f"{directory}.gone")  # as it does before anything else
    assert command("ps", "-aq").stdout == ""
    command("create", "--name", "next", "host", "true")
    assert not os.path.lexists(f"{directory}.gone")


def test_a_full_disk_and_a_killed_monitor(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    container_id = run("--name", "it", *SLEEPER)
    saying("it", "up")

    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(detached, "replace_file", full)
    os.kill(monitor_pid(roots, container_id), signal.SIGKILL)
    assert census.poll_until(lambda: containers.find_container(roots, "it").state == "exited")
    containers.remove(roots, "it", force=True)
    assert containers.list_containers(roots, all=True) == []


def test_a_rename_that_fails(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    command("create", "--name", "old", "host", "true")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(detached, "write", fail)
        with pytest.raises(OSError, match="no room"):
            containers.rename(roots, "old", "new")
    assert containers.find_container(roots, "old").name == "old"
    os.symlink(containers.find_container(roots, "old").id, f"{roots.data_root}/containers/names/new")  # by a kill
    containers.rename(roots, "old", "new")
    assert containers.find_container(roots, "new").name == "new"


def test_one_that_is_damaged_hides_no_other(roots: Roots) -> None:
    command("create", "--name", "good", "host", "true")
    bad = command("create", "host", "true").stdout.strip()
    Path(detached.directory_of(roots, bad), "config").write_text("{")
    shown = command("ps", "-a", "--format", "{{.Names}}", code=1)
    assert shown.stdout == "good\n" and bad in shown.stderr and "rm -f" in shown.stderr
    pruned = command("container", "prune", "-f", code=1)
    assert "Deleted Containers:" in pruned.stdout and bad in pruned.stderr
    assert os.path.isdir(detached.directory_of(roots, bad))
    command("rm", "-f", bad)


@pytest.mark.parametrize("grace", [1e12, float("nan"), float("inf")])
def test_a_grace_that_is_none(roots: Roots, grace: float) -> None:
    run("--name", "it", *SLEEPER)
    with pytest.raises(PycontainError) as caught:
        pycontain.Engine(roots.data_root, roots.run_root).containers.get("it").stop(grace)
    assert isinstance(caught.value, (InvalidArgument, Conflict))


def test_one_in_the_foreground_is_removed_by_force(roots: Roots) -> None:
    with subprocess.Popen([*PYCONTAIN, "run", "--name", "front", *SLEEPER], stdout=subprocess.PIPE) as front:
        assert front.stdout is not None and front.stdout.readline() == b"up\n"
        assert "runs in the foreground of another command" in command("rm", "front", code=1).stderr
        assert command("rm", "-f", "front").stdout == "front\n"
        assert front.wait(20) == 137
    assert "No such container: front" in command("rm", "front", code=1).stderr
    assert command("container", "run", "host", "echo", "hi").stdout == "hi\n"


def test_a_template_while_another_thread_starts_a_process(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose child has, until it executes its program, a copy of the descriptor that a file was written by: EBUSY for a moment."""
    real, asked = _native.superblock_readonly, []

    def busy(fd: int) -> None:
        asked.append(fd)
        if len(asked) < 4:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(fd)

    monkeypatch.setattr(_native, "superblock_readonly", busy)
    made = pycontain.Engine(roots.data_root, roots.run_root).containers.run("host", ["true"], detach=True)
    assert made.wait(timeout=20) == 0 and len(asked) == 4
