"""The systemd driver with a real systemd as PID 1: asked of systemctl and of the kernel."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from pycontain.errors import Conflict, SetupFailed
from pycontain.host import probe
from pycontain.runtime.session import close_all
from pycontain.runtime.systemd import Scope, running, unit_name
from pycontain.spec.runtime import CPU, Memory, Resources
from tests.own_documents import at_path

MB = 1 << 20
LIMITED = Resources(
    memory=Memory(limit=64 * MB, reservation=32 * MB, swap=96 * MB), pids_limit=9,
    cpu=CPU(quota=50000, period=100000, shares=512, cpus="0"), unified=(("memory.oom.group", "1"),),
)  # fmt: skip


def show(unit: str, *names: str) -> dict[str, str]:
    done = subprocess.run(
        ["systemctl", "show", unit, *(f"--property={n}" for n in names)], capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@contextlib.contextmanager
def scope(name: str, resources: Resources = LIMITED) -> Iterator[Scope]:
    made = Scope(unit_name(f"system.slice:pct:{name}", ""))
    made.start(resources, probe(), "a test's container")
    try:
        yield made
    finally:
        made.stop()
        close_all()


def test_systemd_runs_here() -> None:
    assert running() and Path("/proc/1/comm").read_text() == "systemd\n"


def test_a_scope_has_its_limits_and_its_container() -> None:
    with scope("one") as made:
        assert made.cgroups_path == "/system.slice/pct-one.scope"
        with at_path(made.cgroups_path, LIMITED, tolerated=made.holder) as (pid, claimed):
            made.settle()
            assert claimed.made == []
            assert Path(f"/proc/{pid}/cgroup").read_text() == "0::/system.slice/pct-one.scope\n"
            names = (
                "MemoryMax",
                "MemoryLow",
                "MemorySwapMax",
                "TasksMax",
                "CPUWeight",
                "CPUQuotaPerSecUSec",
                "AllowedCPUs",
            )
            assert show("pct-one.scope", "ActiveState", "Delegate", *names) == {
                "ActiveState": "active", "Delegate": "yes", "MemoryMax": str(64 * MB), "MemoryLow": str(32 * MB),
                "MemorySwapMax": str(32 * MB), "TasksMax": "9", "CPUWeight": "59", "CPUQuotaPerSecUSec": "500ms",
                "AllowedCPUs": "0",
            }  # fmt: skip
            directory = Path("/sys/fs/cgroup") / made.cgroups_path[1:]
            assert (directory / "memory.oom.group").read_text() == "1\n"


def test_a_reload_keeps_the_limits() -> None:
    with scope("two") as made, at_path(made.cgroups_path, LIMITED, tolerated=made.holder):
        made.settle()
        subprocess.run(["systemctl", "daemon-reload"], check=True)
        directory = Path("/sys/fs/cgroup") / made.cgroups_path[1:]
        assert (directory / "memory.max").read_text() == f"{64 * MB}\n"
        assert (directory / "pids.max").read_text() == "9\n"
        assert (directory / "cpu.max").read_text() == "50000 100000\n"


def test_the_scope_goes_with_its_last_process() -> None:
    with scope("three") as made:
        with at_path(made.cgroups_path, Resources(), tolerated=made.holder):
            made.settle()
        end = subprocess.run(
            [
                "sh",
                "-c",
                "for i in $(seq 200); do systemctl is-active -q pct-three.scope || exit 0; sleep 0.1; done; exit 1",
            ],
            check=False,
        )
        assert end.returncode == 0
        assert not (Path("/sys/fs/cgroup") / made.cgroups_path[1:]).exists()


def test_stop_ends_what_is_in_it() -> None:
    made = Scope(unit_name("system.slice:pct:four", ""))
    made.start(Resources(), probe(), "a test's container")
    directory = Path("/sys/fs/cgroup") / made.cgroups_path[1:]
    stray = subprocess.Popen(["sleep", "1000"])
    (directory / "cgroup.procs").write_text(str(stray.pid))
    made.stop()
    assert stray.wait(60) != 0


def test_a_name_that_is_taken_is_a_conflict() -> None:
    with scope("five"):
        second = Scope(unit_name("system.slice:pct:five", ""))
        with pytest.raises(Conflict, match=r"there is a unit pct-five\.scope already"):
            second.start(Resources(), probe(), "another")
        assert second.holder == 0


def test_what_systemd_refuses_is_said() -> None:
    wrong = Scope(unit_name("system.slice:pct:six", ""))
    asked = Resources(unified=(("memory.high", "nonsense"),))
    with pytest.raises(SetupFailed, match=r"systemd refuses StartTransientUnit of pct-six\.scope: "):
        wrong.start(asked, probe(), "a test's container")


def test_the_other_driver_works_beside_it() -> None:
    r = pycontain.run("host", ["cat", "/sys/fs/cgroup/memory.max"], memory="64m", text=True)
    close_all()
    assert r.stdout == f"{64 * MB}\n"


def test_a_bundle_names_its_unit(tmp_path: Path) -> None:
    document = {
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["cat", "/proc/self/cgroup"],
            "cwd": "/",
            "env": ["PATH=/usr/bin:/bin"],
        },
        "root": {"path": "/"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}],
            "cgroupsPath": "machine.slice:pct:bundle",
            "resources": {"memory": {"limit": 64 * MB}, "pids": {"limit": 9}},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    r = pycontain.run(f"bundle:{tmp_path}", text=True)
    assert (r.exit_code, r.stdout) == (0, "0::/machine.slice/pct-bundle.scope\n"), r.stderr
    assert show("pct-bundle.scope", "ActiveState")["ActiveState"] == "inactive"
