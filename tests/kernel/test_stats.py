"""`pycontain stats`: what the kernel counts, by cgroup v1, v2 or both; containers that come and go; terminals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

import census
import pytest
from staying import PYCONTAIN, SLEEPER, command, run, saying

from pycontain.engine import container_details
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

HEADER = ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]


def rows(*words: str) -> dict[str, dict[str, str]]:
    lines = command("stats", "--no-stream", "--format", "json", *words).stdout.splitlines()
    return {row["Name"]: row for row in map(json.loads, lines)}


def test_what_is_used(roots: Roots) -> None:
    hungry = "x = bytearray(b'1') * (40 << 20); print('up', flush=True); import time; time.sleep(1000)"
    run("--name", "hungry", "-m", "64m", "host", "python3", "-c", hungry)
    run("--name", "busy", "host", "sh", "-c", "echo up; sleep 1000 & while :; do :; done")
    saying("hungry", "up")
    saying("busy", "up")
    found = rows()
    assert found["busy"]["CPUPerc"] not in ("0.00%", "--") and found["busy"]["PIDs"] == "2"
    assert found["hungry"]["CPUPerc"].endswith("%") and found["hungry"]["NetIO"] == "0B / 0B"
    used = container_details.usage(roots, "hungry")
    assert used is not None and used.memory_limit_bytes == 64 << 20
    assert used.memory_bytes is not None and 40 << 20 <= used.memory_bytes <= 64 << 20
    assert found["hungry"]["MemUsage"].endswith("MiB / 64MiB")
    assert 60 < float(found["hungry"]["MemPerc"].removesuffix("%")) <= 100


def test_which_ones() -> None:
    ids = [run("--name", name, *SLEEPER) for name in ("one", "two")]
    command("create", "--name", "made", *SLEEPER)
    assert set(rows()) == {"one", "two"} and set(rows("-a")) == {"one", "two", "made"}
    assert list(rows("two", "made", ids[0][:6])) == ["two", "made", "one"]
    made = rows("made")["made"]
    assert (made["CPUPerc"], made["MemUsage"], made["PIDs"], made["Container"]) == ("0.00%", "0B / 0B", "0", "made")
    assert rows("--no-trunc")["one"]["ID"] == ids[0] and rows()["one"]["ID"] == ids[0][:12]
    header, *lines = command("stats", "--no-stream").stdout.splitlines()
    assert " ".join(header.split()) == " ".join(HEADER) and len(lines) == 2
    assert command("stats", "--no-stream", "--format", "table {{.Name}}\t{{.PIDs}}", "one").stdout.startswith("NAME ")
    assert "template parsing error" in command("stats", "--no-stream", "--format", "{{.Nope}}", "one", code=1).stderr


def test_they_come_and_go() -> None:
    run("--name", "stays", *SLEEPER)
    with subprocess.Popen(
        [*PYCONTAIN, "stats", "--format", "{{.Name}}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as stats:
        assert stats.stdout is not None and stats.stderr is not None
        assert stats.stdout.readline() == "stays\n"
        run("--name", "comes", *SLEEPER)
        while stats.stdout.readline() != "comes\n":
            pass
        command("rm", "-f", "comes")
        for _ in range(2):  # two of the other one with nothing between
            while stats.stdout.readline() != "stays\n":
                pass
        stats.send_signal(signal.SIGINT)
        rest = stats.stdout.read()
        assert stats.wait(timeout=20) == 130 and stats.stderr.read() == ""
    assert set(rest.split()) <= {"stays"}


def test_the_end_of_those_that_were_asked_for() -> None:
    run("--name", "it", *SLEEPER)
    with subprocess.Popen([*PYCONTAIN, "stats", "it"], stdout=subprocess.PIPE, text=True) as stats:
        assert stats.stdout is not None and stats.stdout.readline().split() == " ".join(HEADER).split()
        command("rm", "-f", "it")
        stats.stdout.read()
        assert stats.wait(timeout=20) == 0


def test_one_in_the_foreground() -> None:
    started = subprocess.Popen([*PYCONTAIN, "run", "--name", "front", *SLEEPER], stdout=subprocess.PIPE)
    assert started.stdout is not None and started.stdout.readline() == b"up\n"
    try:
        assert census.poll_until(lambda: "front" in command("ps").stdout)
        assert rows("front")["front"]["MemUsage"] != "0B / 0B"
    finally:
        command("kill", "front")
        started.communicate(timeout=20)


def test_on_a_terminal() -> None:
    """Drawn again in place, as much as fits."""
    for name in ("one", "two"):
        run("--name", name, *SLEEPER)
    ours, theirs = pty.openpty()
    os.set_inheritable(theirs, True)
    subprocess.run(["stty", "rows", "3", "cols", "30"], stdin=theirs, check=True)
    with subprocess.Popen(
        [*PYCONTAIN, "stats"], stdout=theirs, stdin=theirs, env={**os.environ, "TERM": "xterm"}
    ) as stats:
        seen = b""
        while seen.count(b"\033[H") < 3:
            seen += os.read(ours, 4096)
        stats.send_signal(signal.SIGINT)
        assert stats.wait(timeout=20) == 130
    os.close(ours)
    os.close(theirs)
    assert seen.startswith(b"\033[2J\033[HCONTAINER ID   NAME      CPU %\033[K\r\n")
    screens = seen.split(b"\033[H")[1:3]
    assert [each.count(b"\n") for each in screens] == [2, 2] and all(b"\033[J" in each for each in screens)
