"""What is done to the cgroups of a running container: pause, kill, new limits, events; v1's freezer and v2's."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import forks
import pytest
from census import poll_until
from probes import cgroup_dirs, living, runs, until

import pycontain
from pycontain import _native, aio, host
from pycontain.errors import Conflict, InvalidArgument, Unsupported
from pycontain.runtime import cgroups
from pycontain.runtime.roots import Roots
from pycontain.spec.runtime import CPU, DeviceRule, Memory, Resources

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

MB = 1 << 20
COUNT = "i=0; while :; do i=$((i+1)); echo $i > /count/$NAME; done"
FAMILY = "for n in 1 2 3 4; do (while :; do :; done) & done; while :; do :; done"


def needs(*controllers: str) -> None:
    missing = set(controllers) - set(host.probe().controllers)
    if missing:
        pytest.skip(f"this host has no {', '.join(sorted(missing))} controller")


def without_v2(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host as one with v1 only."""
    facts = host.probe()
    v1 = {n: c for n, c in facts.controllers.items() if c.version == 1}
    if "freezer" not in v1 or "devices" not in v1:
        pytest.skip("this host has no v1 freezer controller")
    monkeypatch.setattr(host, "_memo", dataclasses.replace(facts, controllers=v1, unified=""))


@pytest.fixture(params=["v1", "v2"])
def freezer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tests with it run once with v1's freezer and once with cgroup v2's."""
    if request.param == "v1":
        without_v2(monkeypatch)
    elif not host.probe().unified:
        pytest.skip("this host has no cgroup v2")
    return str(request.param)


# --- pause ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def counting(directory: Path, name: str) -> Iterator[tuple[pycontain.Container, Callable[[], int]]]:
    """A container that counts in a file of ours, and how far it is."""
    with living("sh", "-c", COUNT, env={"NAME": name}, mounts=[f"{directory}:/count"]) as c:
        yield c, lambda: int((directory / name).read_text() or 0) if (directory / name).exists() else 0


def test_paused_it_makes_no_progress(freezer: str, tmp_path: Path) -> None:
    with counting(tmp_path, "paused") as (c, far), counting(tmp_path, "clock") as (_, clock):
        until(far, "it counts")
        c.pause()
        at, now = far(), clock()
        until(lambda: clock() > now + 300, "another one counts on")
        assert c.paused and far() == at
        c.unpause()
        until(lambda: far() > at, "it goes on")
        assert not c.paused


def test_every_process_of_it_stands_still(freezer: str) -> None:
    with living("sh", "-c", FAMILY) as c:
        inside = until(lambda: len(p := cgroups.pids(c._running.members())) == 5 and p, "it has five processes")
        c.pause()
        member = c._running.members()[-1]
        assert (member.version == 2) == (freezer == "v2")
        assert cgroups.is_frozen(member) and cgroups.pids((member,)) == inside
        c.unpause()
        assert not cgroups.is_frozen(member)


def test_a_paused_one_can_be_killed(freezer: str) -> None:
    with living("sh", "-c", FAMILY) as c:
        c.pause()
        c.kill()
        assert c.wait(timeout=10) == 137


def test_a_paused_one_ends_with_its_block(freezer: str) -> None:
    with living("sh", "-c", FAMILY) as c:
        c.pause()
        inside = cgroups.pids(c._running.members())
    assert not any(runs(p) for p in inside)


def test_a_paused_one_ends_with_its_owner(freezer: str, roots: Roots) -> None:
    def body(say: Callable[[object], None]) -> None:
        kept = pycontain.Container("host", ["sh", "-c", FAMILY], data_root=roots.data_root, run_root=roots.run_root)
        kept.pause()
        say(kept.pid)
        signal.pause()

    def scenario() -> tuple[bool, list[str]]:
        owner = forks.Owner(body)
        pid = int(owner.hears())
        owner.end()
        return poll_until(lambda: not runs(pid)), forks.orphans_left()

    assert forks.in_helper(scenario) == (True, [])


def test_pausing_twice_or_too_late_is_a_conflict(freezer: str) -> None:
    with living() as c:
        with pytest.raises(Conflict, match="is not paused"):
            c.unpause()
        c.pause()
        with pytest.raises(Conflict, match="is already paused"):
            c.pause()
        c.kill()
        c.wait()
        for verb in (c.pause, c.events, c.pressure):
            with pytest.raises(Conflict, match="has ended"):
                verb()


def test_a_second_pause_finds_the_newcomers_too(freezer: str) -> None:
    with living("sh", "-c", "read x; sleep 600 & wait", stdin=pycontain.PIPE) as c:
        c.pause()
        c.unpause()
        assert c.stdin is not None
        c.stdin.write(b"go\n")
        both = until(lambda: len(p := cgroups.pids(c._running.members()[:1])) == 2 and p, "its child is there")
        c.pause()
        assert cgroups.pids(c._running.members()[-1:]) == both


# --- kill and removal -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def own_freezer() -> Iterator[Path]:
    """A v1 freezer cgroup of the test's own with a cgroup below it."""
    if "freezer" not in host.probe().controllers:
        pytest.skip("this host has no v1 freezer controller")
    top = Path(host.probe().controllers["freezer"].mount) / f"pct-{os.getpid()}"
    (top / "below").mkdir(parents=True)
    try:
        yield top
    finally:
        for directory in (top / "below", top):
            if directory.exists():
                (directory / "freezer.state").write_text("THAWED")
        _native.remove_cgroup(str(top))


@pytest.mark.parametrize("where", ["", "below"])
@pytest.mark.parametrize("frozen", [[""], ["below"], ["", "below"]])
def test_a_frozen_v1_cgroup_is_removed_with_what_is_in_it(where: str, frozen: list[str]) -> None:
    with own_freezer() as top:
        process = subprocess.Popen(["sleep", "600"])
        (top / where / "cgroup.procs").write_text(str(process.pid))
        for name in frozen:
            (top / name / "freezer.state").write_text("FROZEN")
        _native.remove_cgroup(str(top))
        assert not top.exists()
        assert process.wait(10) == -signal.SIGKILL


def test_kill_ends_a_fork_bomb_in_a_frozen_v1_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    without_v2(monkeypatch)
    needs("pids")
    bomb = "import os\nwhile True:\n try: os.fork()\n except OSError: pass"
    with living("python3", "-I", "-S", "-c", bomb, pids=24, cpus=0.5) as c:
        until(lambda: len(cgroups.pids(c._running.members())) > 20, "it has grown")
        c.pause()
        members = c._running.members()
        inside = cgroups.pids(members)
        cgroups.kill(members)
        assert cgroups.pids(members) == []
        until(lambda: not any(runs(p) for p in inside), "the last of them has left its cgroup and ends")
        c._running.paused = False


# --- new limits -------------------------------------------------------------------------------------------------------


def value(c: pycontain.Container, controller: str, v1: str, v2: str) -> str:
    where = host.probe().controllers[controller]
    directory = cgroup_dirs(c.pid)["" if where.version == 2 else controller]
    return (directory / (v2 if where.version == 2 else v1)).read_text().strip()


def memory_of(c: pycontain.Container) -> tuple[int, int]:
    """Limit of memory, and of memory and swap together."""
    limit = int(value(c, "memory", "memory.limit_in_bytes", "memory.max"))
    swap = int(value(c, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max"))
    return limit, swap if host.probe().controllers["memory"].version == 1 else limit + swap


def test_memory_goes_up_and_down_in_whatever_order_the_kernel_needs() -> None:
    needs("memory")
    with living(memory="64m") as c:
        for limit, both in ((256, 300), (100, 100), (32, 64), (40, 50), (128, 256), (128, 128)):
            c.update(memory=limit * MB, memory_swap=both * MB)
            assert memory_of(c) == (limit * MB, both * MB)


def test_what_is_not_named_stays() -> None:
    needs("memory", "cpu")
    with living(memory="64m", memory_swap="64m", cpus=0.5, cpu_shares=512) as c:
        c.update(cpus=0.25)
        assert memory_of(c) == (64 * MB, 64 * MB)
        assert value(c, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"
        assert value(c, "cpu", "cpu.shares", "cpu.weight") in ("512", "59")


def test_a_limit_of_a_controller_that_it_was_not_in_yet() -> None:
    needs("pids", "cpuset", "cpu")
    with living("sh", "-c", FAMILY) as c:
        inside = until(lambda: len(p := cgroups.pids(c._running.members())) == 5 and p, "it has five processes")
        c.update(pids=5, cpuset_cpus="0", cpus=0.5)
        assert value(c, "pids", "pids.max", "pids.max") == "5"
        assert value(c, "pids", "pids.current", "pids.current") == "5"
        assert all(os.sched_getaffinity(p) == {0} for p in inside)
        assert value(c, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


def test_a_new_limit_of_processes_is_met() -> None:
    needs("pids")
    script = "read x; sleep 1 & sleep 1"
    with living("sh", "-c", script, stdin=pycontain.PIPE, stderr=pycontain.PIPE, pids=10) as c:
        c.update(pids=1)
        _, err = c.communicate(b"go\n", timeout=20)
        assert re.search(rb"[Cc]annot fork|[Rr]esource temporarily", err)


def test_one_that_is_refused_leaves_the_others_as_they_were() -> None:
    needs("memory", "pids")
    if host.probe().controllers["memory"].version == 2:
        pytest.skip("cgroup v2 takes a memory limit below the use, and kills")
    hold = "import time; b = bytearray(40 << 20); print('up', flush=True); time.sleep(600)"
    with living("python3", "-I", "-S", "-c", hold, stdout=pycontain.PIPE, memory="64m", memory_swap="64m", pids=9) as c:
        assert c.stdout is not None and c.stdout.readline() == b"up\n"
        with pytest.raises(InvalidArgument, match=r"more than that is in use \(EBUSY\)\. Nothing was changed"):
            c.update(memory="8m", memory_swap="8m", pids=20)
        assert (value(c, "pids", "pids.max", "pids.max"), memory_of(c)) == ("9", (64 * MB, 64 * MB))


def test_memory_above_the_swap_limit_is_refused() -> None:
    needs("memory")
    if host.probe().controllers["memory"].version == 2:
        pytest.skip("in cgroup v2 the two have nothing to do with each other")
    with living(memory="64m", memory_swap="64m") as c:
        with pytest.raises(InvalidArgument, match="not beside the other limits"):
            c.update(memory="128m")
        assert memory_of(c) == (64 * MB, 64 * MB)


def test_a_period_alone_keeps_the_quota_and_a_quota_the_period() -> None:
    needs("cpu")
    with living(cpus=0.5) as c:
        cgroups.update(c._running.members(), Resources(cpu=CPU(period=200000)), host.probe())
        cgroups.update(c._running.members(), Resources(cpu=CPU(quota=40000)), host.probe())
        found = value(c, "cpu", "cpu.cfs_quota_us", "cpu.max").split()
        assert found[0] == "40000" and value(c, "cpu", "cpu.cfs_period_us", "cpu.max").split()[-1] == "200000"


def test_a_burst_and_its_quota_in_either_order() -> None:
    needs("cpu")
    with living(cpus=0.5) as c:
        for quota, burst in ((50000, 20000), (10000, 5000), (90000, 90000)):
            cgroups.update(c._running.members(), Resources(cpu=CPU(quota=quota, burst=burst)), host.probe())
            assert value(c, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == str(burst)


def test_check_before_update() -> None:
    needs("memory")
    with living("sh", "-c", "head -c 20000000 /dev/zero > /dev/shm/x; echo up; sleep 600", stdout=pycontain.PIPE) as c:
        assert c.stdout is not None and c.stdout.readline() == b"up\n"
        new = Resources(memory=Memory(limit=8 * MB, check_before_update=True))
        with pytest.raises(Conflict, match="bytes are in use, and checkBeforeUpdate is set"):
            cgroups.update(c._running.members(), new, host.probe())


def test_what_cannot_be_updated() -> None:
    with living() as c:
        with pytest.raises(TypeError, match=r"update\(\) has no option 'privileged'"):
            c.update(privileged=True)  # type: ignore[call-arg]
        with pytest.raises(InvalidArgument):
            c.update(cpu_shares=1)
        with pytest.raises(Unsupported, match="device rules cannot be changed"):
            c._running.update(Resources(devices=(DeviceRule(allow=True),)))
    with pytest.raises(Conflict, match="has ended"):
        c.update(pids=3)


def test_an_update_of_a_cgroup_that_has_gone_says_so() -> None:
    gone = cgroups.Member(controllers=("pids",), version=1, directory="/sys/fs/cgroup/nowhere")
    facts = dataclasses.replace(
        host.probe(), controllers={"pids": host.Controller(version=1, mount="/sys/fs/cgroup")}, unified=""
    )
    with pytest.raises(Conflict, match="has gone, so it has ended"):
        cgroups.update((gone,), Resources(pids_limit=3), facts)


# --- events and pressure ----------------------------------------------------------------------------------------------


def test_events_count_kills_and_refused_forks() -> None:
    needs("memory", "pids")
    script = "python3 -I -S -c 'bytearray(200 << 20)'; sleep 600 & sleep 600 & sleep 600 & sleep 600"
    with living("sh", "-c", script, memory="32m", memory_swap="32m", pids=3, stderr=pycontain.DEVNULL) as c:
        until(lambda: c.events().oom_kill == 1, "the child is killed")
        # v1 counts only some of the refusals (memory.failcnt)
        assert c.events().max > 0 or host.probe().controllers["memory"].version == 1
        until(lambda: c.events().pids_max > 0, "a fork is refused")


def test_pressure_is_unknown_to_v1(monkeypatch: pytest.MonkeyPatch) -> None:
    without_v2(monkeypatch)
    with living() as c, pytest.raises(Unsupported, match="the kernel counts it in cgroup v2 only"):
        c.pressure()


def test_pressure_once_it_is_in_v2() -> None:
    facts = host.probe()
    if not facts.unified or not os.path.exists(f"{facts.unified}/cpu.pressure"):
        pytest.skip("this host has no cgroup v2 with pressure stall information (CONFIG_PSI)")
    busy = "for n in 1 2 3 4 5 6; do (while :; do :; done) & done; wait"
    with living("sh", "-c", busy) as c:
        c.pause()
        c.unpause()
        until(lambda: c.pressure().cpu.some.total_us > 10000, "six loops wait for each other")


def test_no_freezer_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    without_v2(monkeypatch)
    facts = host.probe()
    left = {n: c for n, c in facts.controllers.items() if n != "freezer"}
    monkeypatch.setattr(host, "_memo", dataclasses.replace(facts, controllers=left))
    with living() as c, pytest.raises(Unsupported, match="no freezer controller"):
        c.pause()


def test_pausing_from_a_loop() -> None:
    async def body() -> tuple[bool, bool, int]:
        async with aio.AsyncContainer("host", ["sleep", "600"]) as c:
            await c.pause()
            paused = c.container.paused
            await c.unpause()
            after = c.container.paused
            c.container.kill()
            return paused, after, await c.wait(timeout=20)

    assert asyncio.run(body()) == (True, False, 137)
