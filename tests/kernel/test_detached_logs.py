"""What detached containers have said: read back, over several files, followed."""

from __future__ import annotations

from pathlib import Path

import pytest
from staying import command, run

from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


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
