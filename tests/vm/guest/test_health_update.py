"""Health checks and `update` on cgroup v2: a check has a cgroup below the container's, which CLONE_INTO_CGROUP joins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PYCONTAIN = [sys.executable, "-m", "pycontain"]
SLEEPER = ("host", "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.2; done")
MIB = 1 << 20


def command(*words: str, code: int = 0) -> str:
    done = subprocess.run([*PYCONTAIN, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def document(name: str) -> dict[str, Any]:
    return dict(json.loads(command("inspect", name))[0])


def until(name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + 120
    while not wanted(found := document(name)):
        assert time.monotonic() < end, found["State"]
        time.sleep(0.2)
    return found


@pytest.fixture(autouse=True)
def removed() -> Iterator[None]:
    yield
    for name in command("ps", "-aq").split():
        command("rm", "-f", name)


def cgroup_of(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
        return "/sys/fs/cgroup" + f.read().strip().removeprefix("0::")


def test_a_check_and_what_it_leaves_behind() -> None:
    script = "cat /proc/self/cgroup; setsid sleep 601 & sleep 602 & test -e /ok"
    command(
        "run",
        "-d",
        "--name",
        "web",
        "--health-cmd",
        script,
        "--health-interval",
        "1s",
        "--health-retries",
        "1",
        *SLEEPER,
    )
    found = until("web", lambda it: it["State"]["Health"]["Status"] == "unhealthy")
    assert found["State"]["Health"]["Log"][0]["Output"] == "0::/pycontain-health\n"
    command("exec", "web", "touch", "/ok")
    found = until("web", lambda it: it["State"]["Health"]["Status"] == "healthy")
    command("pause", "web")
    group = cgroup_of(found["State"]["Pid"])
    command("unpause", "web")
    assert os.listdir("/proc") and "pycontain" in group
    command("stop", "-t", "5", "web")
    assert not os.path.exists(group)


def test_a_check_that_never_ends_and_is_paused_with_its_container() -> None:
    options = ("--health-interval", "1s", "--health-timeout", "2s", "--health-retries", "1")
    command("run", "-d", "--name", "deaf", "--health-cmd", "trap '' TERM; sleep 601 & sleep 602", *options, *SLEEPER)
    found = until("deaf", lambda it: bool(it["State"]["Health"]["Log"]))
    assert found["State"]["Health"]["Log"][0]["Output"] == "Health check exceeded timeout (2s)"
    command("pause", "deaf")
    count = len(document("deaf")["State"]["Health"]["Log"])
    time.sleep(3)
    assert len(document("deaf")["State"]["Health"]["Log"]) == count
    command("unpause", "deaf")
    until("deaf", lambda it: len(it["State"]["Health"]["Log"]) > count or count == 5)


def files(pid: int) -> dict[str, str]:
    group = cgroup_of(pid)
    found = {}
    for name in ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "pids.max", "cpuset.cpus"):
        with open(f"{group}/{name}", encoding="ascii") as f:
            found[name] = f.read().strip()
    return found


def test_update_now_after_a_restart_by_policy_and_at_the_next_start() -> None:
    command("run", "-d", "--name", "web", "--restart", "always", *SLEEPER)
    pid = document("web")["State"]["Pid"]
    limits = (
        "-m",
        "64m",
        "--memory-swap",
        "96m",
        "--memory-reservation",
        "32m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--cpuset-cpus",
        "0",
    )
    assert command("update", *limits, "web") == "web\n"
    wanted = {
        "memory.max": str(64 * MIB), "memory.swap.max": str(32 * MIB), "memory.low": str(32 * MIB), "cpu.max": "50000 100000",
        "pids.max": "50", "cpuset.cpus": "0",
    }  # fmt: skip
    assert files(pid) == wanted
    os.kill(pid, 9)
    found = until("web", lambda it: it["State"]["Pid"] not in (0, pid))
    assert files(found["State"]["Pid"]) == wanted
    command("update", "-m", "80m", "web")  # memory and swap together stay
    wanted.update({"memory.max": str(80 * MIB), "memory.swap.max": str(16 * MIB)})
    assert files(found["State"]["Pid"]) == wanted
    command("restart", "-t", "5", "web")
    assert files(document("web")["State"]["Pid"]) == wanted
