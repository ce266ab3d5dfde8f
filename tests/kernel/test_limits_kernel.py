"""Limits: the files that the kernel keeps them in, what happens at each of them, and the accounts afterwards."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from probes import cgroup_dirs, living, refused, runs, status, until

import pycontain
from pycontain import host
from pycontain.errors import InvalidArgument, SetupFailed, Unsupported
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

MB = 1 << 20
PYTHON = ("python3", "-I", "-S", "-c")


def run_python(source: str, **options: Any) -> pycontain.CompletedContainer:
    return pycontain.run("host", [*PYTHON, source], text=True, timeout=20, **options)


def needs(*controllers: str) -> None:
    missing = set(controllers) - set(host.probe().controllers)
    if missing:
        pytest.skip(f"this host has no {', '.join(sorted(missing))} controller")


def setting(pid: int, controller: str, v1: str, v2: str) -> str:
    """What the kernel says of the container's cgroup."""
    where = host.probe().controllers[controller]
    directory = cgroup_dirs(pid)["" if where.version == 2 else controller]
    assert "/pycontain/" in str(directory)
    return (directory / (v2 if where.version == 2 else v1)).read_text().strip()


# --- settings ---------------------------------------------------------------------------------------------------------


def test_memory_settings() -> None:
    needs("memory")
    with living(memory="64m", memory_reservation="32m") as c:
        assert setting(c.pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MB)
        assert setting(c.pid, "memory", "memory.soft_limit_in_bytes", "memory.low") == str(32 * MB)


@pytest.mark.parametrize(
    ("asked", "together", "swap"),
    [(None, 128 * MB, 64 * MB), ("64m", 64 * MB, 0), ("100m", 100 * MB, 36 * MB)],
)
def test_swap_settings(asked: str | None, together: int, swap: int) -> None:
    needs("memory")
    if not host.probe().swap_accounting:
        pytest.skip("this kernel does not account swap")
    options: dict[str, Any] = {} if asked is None else {"memory_swap": asked}
    with living(memory="64m", **options) as c:
        found = setting(c.pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert found == str(together if host.probe().controllers["memory"].version == 1 else swap)


def test_unlimited_swap() -> None:
    needs("memory")
    if not host.probe().swap_accounting:
        pytest.skip("this kernel does not account swap")
    with living(memory="64m", memory_swap=-1) as c:
        found = setting(c.pid, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert found == "max" or int(found) > 1 << 60


def test_cpu_settings() -> None:
    needs("cpu")
    with living(cpus=0.5, cpu_shares=512) as c:
        if host.probe().controllers["cpu"].version == 1:
            assert setting(c.pid, "cpu", "cpu.cfs_quota_us", "") == "50000"
            assert setting(c.pid, "cpu", "cpu.cfs_period_us", "") == "100000"
            assert setting(c.pid, "cpu", "cpu.shares", "") == "512"
        else:
            assert setting(c.pid, "cpu", "", "cpu.max") == "50000 100000"
            assert setting(c.pid, "cpu", "", "cpu.weight") == "20"


def test_pids_setting() -> None:
    needs("pids")
    with living(pids=7) as c:
        assert setting(c.pid, "pids", "pids.max", "pids.max") == "7"
    with living(pids=-1) as c:
        assert setting(c.pid, "pids", "pids.max", "pids.max") == "max"


def test_a_cpuset_confines() -> None:
    needs("cpuset")
    last = status("self")["Cpus_allowed_list"].replace("-", ",").split(",")[-1]
    with living(cpuset_cpus=last) as c:
        assert status(c.pid)["Cpus_allowed_list"] == last
        assert setting(c.pid, "cpuset", "cpuset.cpus", "cpuset.cpus") == last


def test_a_cpu_that_does_not_exist_is_refused() -> None:
    needs("cpuset")
    with pytest.raises(SetupFailed, match=r"set cpuset.cpus to '9999'.*\(E(INVAL|ACCES|RANGE|2BIG|OVERFLOW)\)"):
        pycontain.run("host", ["true"], cpuset_cpus="9999")


def test_two_containers_do_not_share_a_limit() -> None:
    needs("memory", "pids")
    with living(memory="64m", pids=5) as c, living(memory="32m", pids=6) as d:
        assert setting(c.pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MB)
        assert setting(d.pid, "memory", "memory.limit_in_bytes", "memory.max") == str(32 * MB)
        assert cgroup_dirs(c.pid)["pids"] != cgroup_dirs(d.pid)["pids"]


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [False, True])
def test_above_the_memory_limit_it_is_killed(init: bool) -> None:
    needs("memory")
    r = run_python("b = bytearray(200 << 20); print('alive')", memory="32m", memory_swap="32m", init=init)
    assert (r.exit_code, r.oom_killed, r.timed_out, r.stdout) == (137, True, False, "")
    assert r.usage.memory_peak_bytes is not None
    assert 24 * MB < r.usage.memory_peak_bytes <= 33 * MB


def test_a_child_above_the_limit_is_reported_though_the_first_process_lives() -> None:
    needs("memory")
    script = "python3 -I -S -c 'bytearray(200 << 20)'; echo $?"
    r = pycontain.run("host", ["sh", "-c", script], memory="32m", memory_swap="32m", text=True, timeout=20)
    assert (r.exit_code, r.oom_killed, r.stdout) == (0, True, "137\n")


def test_just_below_the_memory_limit_it_runs() -> None:
    needs("memory")
    r = run_python("b = bytearray(40 << 20); print('alive')", memory="64m")
    assert (r.exit_code, r.oom_killed, r.stdout) == (0, False, "alive\n")
    assert r.usage.memory_peak_bytes is not None and 40 * MB < r.usage.memory_peak_bytes <= 64 * MB


def test_a_tmpfs_counts_as_memory() -> None:
    needs("memory")
    script = "head -c 60000000 /dev/zero >/dev/shm/x; echo $?"
    r = pycontain.run("host", ["sh", "-c", script], memory="16m", memory_swap="16m", text=True, timeout=20)
    assert r.oom_killed


# --- CPU --------------------------------------------------------------------------------------------------------------

SPIN = "import time; end = time.monotonic() + 1.0\nwhile time.monotonic() < end: pass"


def share(r: pycontain.CompletedContainer) -> float:
    return r.usage.cpu_s / r.usage.wall_s


def test_half_a_cpu() -> None:
    needs("cpu")
    assert share(run_python(SPIN, cpus=0.5)) == pytest.approx(0.5, rel=0.2)


def test_half_a_cpu_each_for_two_at_once() -> None:
    needs("cpu")
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(share(run_python(SPIN, cpus=0.5)))) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 2 and all(0.3 < s <= 0.6 for s in found), found


def test_cpu_time_is_exact() -> None:
    r = run_python("import time\nwhile time.process_time() < 0.3: sum(range(10000))")
    assert r.usage.cpu_s == pytest.approx(0.3, abs=0.1)
    assert r.usage.cpu_user_s > r.usage.cpu_system_s
    assert r.usage.wall_s > 0.25


ORPHAN_BURNS = """
import os, time
r, w = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 0.3: pass
        os.write(w, b'x')
    os._exit(0)
os.wait()
os.read(r, 1)
"""


@pytest.mark.parametrize("init", [False, True])
def test_cpu_time_of_an_orphan_counts(init: bool) -> None:
    assert run_python(ORPHAN_BURNS, init=init).usage.cpu_s == pytest.approx(0.3, abs=0.12)


def test_cpu_time_of_who_is_killed_at_the_end_counts() -> None:
    source = ORPHAN_BURNS.replace("os.write(w, b'x')", "os.write(w, b'x'); time.sleep(60)")
    r = run_python(source)
    assert r.usage.cpu_s == pytest.approx(0.3, abs=0.12)
    assert r.usage.wall_s < 10


# --- processes --------------------------------------------------------------------------------------------------------

BOMB = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""


def refusals(directory: Path) -> int:
    return int((directory / "pids.events").read_text().split()[1])


def test_a_fork_bomb_stops_at_the_limit() -> None:
    needs("pids")
    with living(*PYTHON, BOMB, pids=32, cpus=0.5) as c:
        directory = cgroup_dirs(c.pid)["pids"]
        until(lambda: refusals(directory) > 0, "the limit is reached")
        pids = [int(p) for p in (directory / "cgroup.procs").read_text().split()]
        assert 30 <= len(pids) <= 32
    assert not any(runs(p) for p in pids)


def test_a_fork_bomb_ends_with_its_timeout() -> None:
    needs("pids")
    begun = time.monotonic()
    r = pycontain.run("host", ["sh", "-c", "b() { b | b & }; b; sleep 60"], pids=32, cpus=0.5, timeout=1)
    assert (r.timed_out, r.exit_code) == (True, 137)
    assert time.monotonic() - begun < 5


UNTIL_EAGAIN = """
import os, signal
children = 0
try:
    while children < 20:
        if os.fork() == 0: signal.pause()
        children += 1
except BlockingIOError:
    print(children)
"""


def test_the_program_sees_eagain() -> None:
    needs("pids")
    assert run_python(UNTIL_EAGAIN, pids=8).stdout == "7\n"


# --- block I/O --------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(roots: Roots) -> str:
    """The data root's directory, when it is on a block device whose I/O this host counts."""
    directory = os.path.dirname(roots.data_root)
    if os.major(os.stat(directory).st_dev) == 0:
        pytest.skip(f"the data root {directory} is not on a block device")
    if not {"io", "blkio"} & set(host.probe().controllers):
        pytest.skip("this host has no blkio or io controller")
    return directory


def dd(*words: str, **options: Any) -> pycontain.CompletedContainer:
    r = pycontain.run("host", ["dd", "status=none", *words], text=True, timeout=20, **options)
    assert r.exit_code == 0, r.stderr
    return r


WRITE = ("if=/dev/zero", "of=/file", "oflag=direct")


def test_bytes_written_a_second(disk: str) -> None:
    free = dd(*WRITE, "bs=1M", "count=20")
    if free.usage.wall_s > 1.0:
        pytest.skip(f"the disk below {disk} takes {free.usage.wall_s:.1f} s for 20 MB without a limit")
    assert dd(*WRITE, "bs=1M", "count=20", device_write_bps={disk: "10m"}).usage.wall_s >= 1.5


def test_bytes_read_a_second(disk: str) -> None:
    file = Path(disk) / "file"
    file.write_bytes(b"x" * (5 * MB))
    with open(file, "rb") as f:
        os.fsync(f)
    r = dd("if=/b", "of=/dev/null", "iflag=direct", "bs=1M", device_read_bps={disk: "5m"}, mounts=[f"{file}:/b"])
    assert r.usage.wall_s >= 0.7
    assert r.usage.io_read_bytes is not None and 5 * MB <= r.usage.io_read_bytes < 7 * MB


def test_operations_a_second(disk: str) -> None:
    assert dd(*WRITE, "bs=4k", "count=60", device_write_iops={disk: 100}).usage.wall_s >= 0.4
    file = Path(disk) / "file"
    file.write_bytes(b"x" * (60 << 12))
    with open(file, "rb") as f:
        os.fsync(f)
    r = dd("if=/b", "of=/dev/null", "iflag=direct", "bs=4k", device_read_iops={disk: 100}, mounts=[f"{file}:/b"])
    assert r.usage.wall_s >= 0.4


def test_bytes_that_reach_the_disk_are_counted(disk: str) -> None:
    r = dd(*WRITE, "bs=1M", "count=4")
    assert r.usage.io_write_bytes is not None
    assert 4 * MB <= r.usage.io_write_bytes < 5 * MB


def test_block_io_settings(disk: str) -> None:
    number = os.stat(disk).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    with living(device_read_bps={disk: 1000000}, device_write_iops={disk: 50}) as c:
        if "io" in host.probe().controllers:
            text = setting(c.pid, "io", "", "io.max")
            assert "rbps=1000000" in text and "wiops=50" in text
        else:
            assert setting(c.pid, "blkio", "blkio.throttle.read_bps_device", "").split()[1] == "1000000"
            found = setting(c.pid, "blkio", "blkio.throttle.write_iops_device", "").split()
            assert found[1] == "50"
            if not os.path.exists(f"/sys/dev/block/{device}/partition"):
                assert found[0] == device


def test_a_rate_needs_a_block_device() -> None:
    message = refused(InvalidArgument, device_read_bps={"/proc": "1m"})
    assert message.startswith("cannot limit block I/O on /proc: it is not on a block device")


# --- a controller that is missing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("controller", "options", "what", "remedy"),
    [
        ("memory", {"memory": "64m"}, "memory", "--memory"),
        ("memory", {"memory_reservation": "64m"}, "memory", "--memory"),
        ("cpu", {"cpus": 0.5}, "CPU", "--cpus"),
        ("cpu", {"cpu_shares": 512}, "CPU", "--cpu-shares"),
        ("cpuset", {"cpuset_cpus": "0"}, "the CPUs used", "--cpuset-cpus"),
        ("pids", {"pids": 32}, "the number of processes", "--pids-limit"),
        ("blkio", {"device_read_bps": {"/dev": 1}}, "block I/O", "--device"),
        ("devices", {}, "devices", "--privileged"),
    ],
)
def test_a_limit_without_its_controller_is_an_error(
    controller: str, options: dict[str, Any], what: str, remedy: str, monkeypatch: pytest.MonkeyPatch, disk: str
) -> None:
    facts = host.probe()
    if "device_read_bps" in options:
        options = {"device_read_bps": {disk: "1m"}}
    left = {n: c for n, c in facts.controllers.items() if n != controller and (controller != "blkio" or n != "io")}
    # devices need no controller where there is cgroup v2
    unified = "" if controller == "devices" else facts.unified
    monkeypatch.setattr(host, "_memo", dataclasses.replace(facts, controllers=left, unified=unified))
    message = refused(Unsupported, **options)
    assert message.startswith(f"cannot limit {what}: this host has no {controller} controller (cgroup v")
    assert remedy in message


def test_without_any_controller_a_container_still_runs_and_cpu_time_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = dataclasses.replace(host.probe(), controllers={}, unified="")
    monkeypatch.setattr(host, "_memo", facts)
    r = run_python("import time\nwhile time.process_time() < 0.1: pass", privileged=True)
    assert r.usage.cpu_s == pytest.approx(0.1, abs=0.07)
    assert (r.usage.memory_peak_bytes, r.usage.io_read_bytes, r.usage.io_write_bytes) == (None, None, None)


def test_swap_without_accounting_is_an_error_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("memory")
    if host.probe().controllers["memory"].version == 2:
        pytest.skip("cgroup v2 always accounts swap")
    monkeypatch.setattr(host, "_memo", dataclasses.replace(host.probe(), swap_accounting=False))
    assert "swapaccount=1" in refused(Unsupported, memory="64m", memory_swap="64m")
    assert run_python("print(1)", memory="64m").stdout == "1\n"


def test_a_weight_without_a_scheduler_that_has_one_is_an_error(monkeypatch: pytest.MonkeyPatch, disk: str) -> None:
    if "blkio" not in host.probe().controllers:
        pytest.skip("cgroup v2 answers by itself")
    monkeypatch.setattr(host, "_memo", dataclasses.replace(host.probe(), memory_files=frozenset()))
    assert "cannot weigh block I/O: no I/O scheduler of this host has weights" in refused(Unsupported, blkio_weight=500)


@pytest.mark.parametrize(
    ("rule", "mode", "answer"),
    [
        ("rwm", "O_RDWR", "ok"),
        ("r", "O_RDONLY", "ok"),
        ("r", "O_WRONLY", "1"),
        ("r", "O_RDWR", "1"),
        ("w", "O_RDONLY", "1"),
    ],
)
def test_without_the_v1_controller_a_program_in_cgroup_v2_guards_devices(
    rule: str, mode: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = host.probe()
    if not facts.unified:
        pytest.skip("this host has no cgroup v2")
    left = {n: c for n, c in facts.controllers.items() if n != "devices"}
    monkeypatch.setattr(host, "_memo", dataclasses.replace(facts, controllers=left))
    path = next((d for d in ("/dev/fuse", "/dev/loop-control") if os.path.exists(d)), None)
    if path is None:
        pytest.skip("this host has neither /dev/fuse nor /dev/loop-control")
    source = f"import os\ntry: os.open({path!r}, os.{mode}); print('ok')\nexcept OSError as e: print(e.errno)"
    assert run_python(source, devices=[f"{path}:{path}:{rule}"]).stdout == answer + "\n"


def test_without_the_v1_controller_a_disk_stays_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = host.probe()
    disk = next((p for p in Path("/dev").iterdir() if p.is_block_device()), None)
    if not facts.unified or disk is None:
        pytest.skip("this host has no cgroup v2 or no block device")
    left = {n: c for n, c in facts.controllers.items() if n != "devices"}
    monkeypatch.setattr(host, "_memo", dataclasses.replace(facts, controllers=left))
    number = disk.stat().st_rdev
    script = f"mknod /tmp/d b {os.major(number)} {os.minor(number)} && head -c 1 /tmp/d; echo x >/dev/null && echo fine"
    r = pycontain.run("host", ["sh", "-c", script], text=True)
    assert r.stdout == "fine\n" and "Operation not permitted" in str(r.stderr)
