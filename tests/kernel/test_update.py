"""`pycontain update`: the kernel's own files say what has become of a limit, now, after a restart by policy, and at the next start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import census
import pytest
from staying import PYCONTAIN, SLEEPER, command, monitor_pid, run, saying, state

from pycontain.engine import updates
from pycontain.errors import SetupFailed
from pycontain.host import probe
from pycontain.image.workspace import replace_file
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

MIB = 1 << 20


def document(name: str) -> dict[str, Any]:
    (found,) = json.loads(command("inspect", name).stdout)
    return dict(found)


def cgroup_file(pid: int, name: str) -> str:
    """As the process's own cgroup of that controller has it."""
    where = probe().controllers[name.partition(".")[0]]
    if where.version == 2:
        pytest.skip("this host's controllers are in cgroup v2: tests/vm")
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if name.partition(".")[0] in names.split(","):
            return Path(f"{where.mount}{path}/{name}").read_text().strip()
    raise AssertionError(f"process {pid} is in no cgroup of {name}")


def limits_of(pid: int) -> dict[str, str]:
    names = (
        "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us",
        "cpu.cfs_period_us", "pids.max", "cpuset.cpus",
    )  # fmt: skip
    return {name: cgroup_file(pid, name) for name in names}


EVERYTHING = (
    "-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m", "-c", "512", "--cpus", "0.5", "--pids-limit", "50",
    "--cpuset-cpus", "0",
)  # fmt: skip
SET = {
    "memory.limit_in_bytes": str(64 * MIB), "memory.memsw.limit_in_bytes": str(96 * MIB), "memory.soft_limit_in_bytes": str(32 * MIB),
    "cpu.shares": "512", "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "pids.max": "50", "cpuset.cpus": "0",
}  # fmt: skip
SHOWN = {
    "Memory": 64 * MIB, "MemorySwap": 96 * MIB, "MemoryReservation": 32 * MIB, "CpuShares": 512, "NanoCpus": 500_000_000, "PidsLimit": 50,
    "CpusetCpus": "0",
}  # fmt: skip


def shown(name: str) -> dict[str, Any]:
    host_config = document(name)["HostConfig"]
    return {key: host_config[key] for key in SHOWN}


def pid_of(name: str) -> int:
    return int(document(name)["State"]["Pid"])


def next_pid(name: str, before: int) -> int:
    assert census.poll_until(lambda: pid_of(name) not in (0, before), 20)
    return pid_of(name)


# --- whatever it is doing ---------------------------------------------------------------------------------------------


def test_all_limits_of_one_that_runs_had_none_and_is_started_again(roots: Roots) -> None:
    container_id = run(
        "--name",
        "web",
        "--restart",
        "always",
        "--health-cmd",
        "cat /proc/self/cgroup",
        "--health-interval",
        "100ms",
        *SLEEPER,
    )
    pid = pid_of("web")
    assert command("update", *EVERYTHING, "web").stdout == "web\n"
    assert limits_of(pid) == SET and shown("web") == SHOWN
    os.kill(pid, signal.SIGKILL)  # by its monitor
    pid = next_pid("web", pid)
    assert limits_of(pid) == SET

    def checked_within() -> bool:
        """As its own cgroup namespace shows it: the top of it, or somewhere above."""
        return any(":pids:/\n" in each["Output"] for each in document("web")["State"]["Health"]["Log"])

    assert census.poll_until(checked_within, 20)
    command("restart", "-t", "1", "web")  # by the engine
    assert limits_of(pid_of("web")) == SET and shown("web") == SHOWN
    command("rm", "-f", "web")
    assert not [where for where, _, _ in os.walk("/sys/fs/cgroup") if container_id in where]


def test_created_stopped_and_paused() -> None:
    command("create", "--name", "new", "-m", "1g", *SLEEPER)
    command("update", *EVERYTHING, "new")
    assert shown("new") == SHOWN and state("new") == "created"
    command("start", "new")
    assert limits_of(pid_of("new")) == SET
    command("stop", "-t", "5", "new")
    command("update", "--pids-limit", "-1", "--cpus", "1", "new")
    command("start", "new")
    assert limits_of(pid_of("new")) == {**SET, "pids.max": "max", "cpu.cfs_quota_us": "100000"}
    command("pause", "new")
    command("update", "-m", "80m", "--pids-limit", "60", "new")
    assert state("new") == "paused"
    after = {**SET, "pids.max": "60", "cpu.cfs_quota_us": "100000", "memory.limit_in_bytes": str(80 * MIB)}
    assert limits_of(pid_of("new")) == after
    command("unpause", "new")


def test_lower_and_higher_in_whatever_order_the_kernel_takes_them() -> None:
    run("--name", "it", "-m", "64m", "--memory-swap", "64m", *SLEEPER)
    pid = pid_of("it")
    for memory, swap in (
        ("128m", "256m"),
        ("32m", "32m"),
        ("512m", "-1"),
        ("16m", "32m"),
        ("16m", "16m"),
        ("64m", "64m"),
    ):
        command("update", "-m", memory, "--memory-swap", swap, "it")
        assert cgroup_file(pid, "memory.limit_in_bytes") == str(int(memory[:-1]) * MIB)
        memsw = int(cgroup_file(pid, "memory.memsw.limit_in_bytes"))
        assert memsw == int(swap[:-1]) * MIB if swap != "-1" else memsw > 1 << 60


def test_what_is_not_named_stays() -> None:
    run("--name", "it", *EVERYTHING, *SLEEPER)
    pid = pid_of("it")
    command("update", "-c", "700", "it")
    assert limits_of(pid) == {**SET, "cpu.shares": "700"}
    command("update", "-m", "48m", "it")  # swap does not go with it
    assert limits_of(pid) == {**SET, "cpu.shares": "700", "memory.limit_in_bytes": str(48 * MIB)}
    command("update", "--cpus", "0", "-m", "0", "it")  # 0 is: not named
    assert limits_of(pid) == {**SET, "cpu.shares": "700", "memory.limit_in_bytes": str(48 * MIB)}
    assert shown("it") == {**SHOWN, "CpuShares": 700, "Memory": 48 * MIB}


def test_swap_that_nobody_has_named_stays_as_well() -> None:
    run("--name", "it", "-m", "64m", *SLEEPER)
    command("update", "-m", "100m", "it")
    assert cgroup_file(pid_of("it"), "memory.memsw.limit_in_bytes") == str(128 * MIB)
    assert document("it")["HostConfig"]["MemorySwap"] == 128 * MIB
    done = command("update", "-m", "200m", "it", code=1)
    assert (
        "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        in done.stderr
    )
    command("update", "-m", "200m", "--memory-swap", "300m", "it")
    assert cgroup_file(pid_of("it"), "memory.memsw.limit_in_bytes") == str(300 * MIB)


def test_period_and_quota() -> None:
    run("--name", "it", "--cpu-period", "50000", "--cpu-quota", "20000", "--cpuset-mems", "0", *SLEEPER)
    pid = pid_of("it")
    assert (cgroup_file(pid, "cpu.cfs_period_us"), cgroup_file(pid, "cpu.cfs_quota_us")) == ("50000", "20000")
    command("update", "--cpu-quota", "30000", "--cpuset-mems", "0", "it")
    assert (cgroup_file(pid, "cpu.cfs_period_us"), cgroup_file(pid, "cpu.cfs_quota_us")) == ("50000", "30000")
    host_config = document("it")["HostConfig"]
    assert (host_config["CpuPeriod"], host_config["CpuQuota"], host_config["CpusetMems"]) == (50000, 30000, "0")
    done = command("update", "--cpus", "1", "it", code=1)
    assert "Conflicting options: NanoCPUs cannot be updated as CPU Period has already been set" in done.stderr


def test_between_two_restarts() -> None:
    script = "echo x >>/runs; test $(wc -l </runs) -ge 6 && exec sleep 600; exit 1"  # three seconds, nearly all of them waiting
    run("--name", "crash", "--restart", "always", "host", "sh", "-c", script)
    assert census.poll_until(lambda: document("crash")["RestartCount"] >= 2 and state("crash") == "restarting", 20)
    assert command("update", "--pids-limit", "33", "crash").stdout == "crash\n"
    assert census.poll_until(
        lambda: "sleep 600" in command("top", "crash").stdout if state("crash") == "running" else False, 20
    )
    assert cgroup_file(pid_of("crash"), "pids.max") == "33"


# --- restart policies -------------------------------------------------------------------------------------------------


def test_a_restart_policy_holds_at_once() -> None:
    run("--name", "it", "host", "sh", "-c", "trap 'exit 1' TERM; echo up; while :; do sleep 0.05; done")
    saying("it", "up")
    pid = pid_of("it")
    assert command("update", "--restart", "on-failure:5", "it").stdout == "it\n"
    assert document("it")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    os.kill(pid, signal.SIGTERM)
    pid = next_pid("it", pid)
    command("container", "update", "--restart", "no", "it")
    os.kill(pid, signal.SIGKILL)
    assert census.poll_until(lambda: state("it") == "exited")
    assert document("it")["RestartCount"] == 1


def test_a_restart_policy_of_one_that_is_removed_at_its_end() -> None:
    run("--name", "it", "--rm", *SLEEPER)
    done = command("update", "--restart", "always", "-m", "64m", "it", code=1)
    assert "Restart policy cannot be updated because AutoRemove is enabled for the container" in done.stderr
    assert document("it")["HostConfig"]["Memory"] == 0
    command("update", "--restart", "no", "it")


# --- all or nothing ---------------------------------------------------------------------------------------------------


def test_a_memory_limit_below_what_is_in_use_changes_nothing(roots: Roots) -> None:
    hog = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo up; while :; do sleep 0.05; done"
    container_id = run("--name", "hog", "-m", "256m", "--memory-swap", "256m", "host", "sh", "-c", hog)
    saying("hog", "up")
    directory = detached.directory_of(roots, container_id)
    before = {name: Path(directory, name).read_bytes() for name in ("plan", "place", "config")}
    was = memory_of(pid_of("hog"))
    done = command("update", "-c", "300", "-m", "8m", "--memory-swap", "8m", "--pids-limit", "20", "hog", code=1)
    assert "more than that is in use (EBUSY). Nothing was changed" in done.stderr and done.stdout == ""
    assert {name: Path(directory, name).read_bytes() for name in before} == before
    assert memory_of(pid_of("hog")) == was
    command("update", "--pids-limit", "20", "hog")


def memory_of(pid: int) -> tuple[str, ...]:
    return tuple(cgroup_file(pid, name) for name in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"))


@pytest.mark.parametrize("nth", [0, 1, 2], ids=["plan", "place", "config"])
def test_a_disk_that_is_full_changes_nothing(roots: Roots, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    container_id = run("--name", "it", "-m", "64m", "--memory-swap", "96m", *SLEEPER)
    directory = detached.directory_of(roots, container_id)
    before = {name: Path(directory, name).read_bytes() for name in ("plan", "place", "config")}
    written = []

    def fail(path: str, data: bytes) -> None:
        written.append(path)
        if len(written) == nth + 1:
            raise OSError(28, "No space left on device")
        replace_file(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(updates, "replace_file", fail)
        patched.setattr(detached, "replace_file", fail)
        with pytest.raises(SetupFailed, match=r"No space left on device \(ENOSPC\)\. Nothing was changed"):
            updates.update(roots, "it", {"memory_bytes": 40 * MIB, "pids_limit": 40})
    assert {name: Path(directory, name).read_bytes() for name in before} == before
    assert memory_of(pid_of("it")) == (str(64 * MIB), str(96 * MIB))
    command("update", "-m", "40m", "--pids-limit", "40", "it")
    assert cgroup_file(pid_of("it"), "pids.max") == "40"


def test_several_of_which_some_cannot_be() -> None:
    run("--name", "one", *SLEEPER)
    run("--name", "two", *SLEEPER)
    done = command("update", "-m", "64m", "one", "nothing", "two", code=1)
    assert done.stdout == "one\ntwo\n" and done.stderr.count("\n") == 1 and "No such container: nothing" in done.stderr
    assert {document(name)["HostConfig"]["Memory"] for name in ("one", "two")} == {64 * MIB}


@pytest.mark.parametrize(
    ("words", "wrong", "code"),
    [
        (("it",), "you must provide one or more flags when using this command", 1),
        (("-m", "1g"), "requires at least 1 argument", 1),
        (("-m", "1m", "it"), "invalid memory limit 1048576: it is below 6 MB", 1),
        (("-m", "x", "it"), "--memory: invalid size 'x'", 125),
        (("--memory-swap", "1g", "it"), "it needs --memory as well", 1),
        (("--cpus", "1", "--cpu-quota", "5000", "it"), "Conflicting options: Nano CPUs and CPU Quota cannot both be set", 1),
        (("--cpu-quota", "5", "it"), "it cannot be less than 1ms (i.e. 1000)", 1),
        (("--cpu-period", "5", "it"), "it cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)", 1),
        (("--cpuset-cpus", "9999", "it"), "cannot set cpuset.cpus to '9999'", 1),
        (("--cpuset-mems", "a", "it"), "--cpuset-mems: invalid list of memory nodes 'a'", 125),
        (("--restart", "sometimes", "it"), "--restart: invalid policy 'sometimes'", 1),
        (("--kernel-memory", "1g", "it"), "cannot use --kernel-memory: the kernel no longer limits", 125),
        (("--cpu-rt-runtime", "2000000", "it"), "cpu real-time runtime cannot be higher than cpu real-time period", 1),
    ],
)  # fmt: skip
def test_what_cannot_be(words: tuple[str, ...], wrong: str, code: int) -> None:
    run("--name", "it", *SLEEPER)
    before = document("it")["HostConfig"]
    done = command("update", *words, code=code)
    assert wrong in done.stderr and done.stderr.count("\n") == 1
    assert document("it")["HostConfig"] == before


def test_one_that_ends_meanwhile(roots: Roots) -> None:
    container_id = run("--name", "it", *SLEEPER)
    os.kill(monitor_pid(roots, container_id), signal.SIGKILL)
    command("update", "-m", "64m", "it")
    assert (state("it"), document("it")["HostConfig"]["Memory"]) == ("exited", 64 * MIB)


# --- in the foreground of another command -----------------------------------------------------------------------------


@pytest.fixture
def front() -> Iterator[str]:
    process = subprocess.Popen([*PYCONTAIN, "run", "--name", "front", *SLEEPER], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    assert census.poll_until(lambda: "front" in command("ps", "--format", "{{.Names}}").stdout)
    yield "front"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)


def test_one_in_the_foreground(front: str) -> None:
    pid = pid_of(front)
    assert command("update", *EVERYTHING, front).stdout == "front\n"
    assert limits_of(pid) == SET
    command("update", "--pids-limit", "51", front)
    assert cgroup_file(pid, "pids.max") == "51"
    done = command("update", "--restart", "always", front, code=1)
    assert "it has no restart policy" in done.stderr
