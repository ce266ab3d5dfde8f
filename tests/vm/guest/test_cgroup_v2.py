"""Limits, accounting and devices on cgroup v2, kernel 6.1: asked of the kernel, inside the VM."""

from __future__ import annotations

import os

import pytest

import pycontain
from pycontain.host import probe

ASKED = {
    "memory.max": str(64 << 20),
    "memory.low": str(32 << 20),
    "memory.swap.max": str(64 << 20),
    "cpu.max": "50000 100000",
    "cpu.weight": "59",
    "pids.max": "20",
    "cpuset.cpus": "0",
    "io.weight": "default 2930",
}


def test_facts_say_pure_v2() -> None:
    facts = probe(fresh=True)
    assert facts.pure_v2
    assert {"memory", "cpu", "io", "pids", "cpuset"} <= set(facts.controllers)


def _cgroup_of(pid: int) -> str:
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as f:
        return "/sys/fs/cgroup" + f.read().strip().removeprefix("0::")


def _line(path: str) -> str:
    with open(path, encoding="ascii") as f:
        return f.read().splitlines()[0]


def test_files_have_what_was_asked() -> None:
    with pycontain.Container(
        "host", ["sleep", "1000"], stop_timeout=0, memory="64m", memory_reservation="32m", cpus=0.5, cpu_shares=512, pids=20,
        cpuset_cpus="0", blkio_weight=300, device_read_bps={"/dev/vda": "5mb"}, device_write_iops={"/dev/vda": 100},
    ) as c:  # fmt: skip
        group = _cgroup_of(c.pid)
        assert {file: _line(f"{group}/{file}") for file in ASKED} == ASKED
        assert f"rbps={5 << 20}" in _line(f"{group}/io.max") and "wiops=100" in _line(f"{group}/io.max")
        assert 0 < (c.stats().memory_peak_bytes or 0) <= 64 << 20


def test_cgroup_namespace_shows_the_container_as_root() -> None:
    r = pycontain.run(
        "host",
        ["sh", "-c", "cat /proc/self/cgroup; cat /sys/fs/cgroup/memory.max; echo 1 > /sys/fs/cgroup/pids.max"],
        text=True,
        memory="64m",
    )
    assert r.stdout == f"0::/\n{64 << 20}\n"
    assert r.exit_code != 0 and "Read-only" in str(r.stderr)


def test_out_of_memory_is_reported_as_such() -> None:
    r = pycontain.run("host", ["python3", "-c", "x = bytearray(200 << 20)"], memory="64m", memory_swap="64m")
    assert (r.exit_code, r.oom_killed, r.signal) == (137, True, 9)
    assert r.usage.memory_peak_bytes is None or r.usage.memory_peak_bytes <= 64 << 20


def test_half_a_cpu_within_ten_percent() -> None:
    r = pycontain.run("host", ["sh", "-c", "while :; do :; done"], cpus=0.5, timeout=4)
    assert r.timed_out
    assert r.usage.cpu_s / r.usage.wall_s == pytest.approx(0.5, rel=0.1)


def test_fork_bomb_stops_at_the_pids_limit() -> None:
    bomb = """
import os, time
n = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        n += 1
except OSError as e:
    print(n, e.errno, flush=True)
    os._exit(0)
"""
    r = pycontain.run("host", ["python3", "-c", bomb], pids=16, text=True, timeout=60)
    n, errno = str(r.stdout).splitlines()[-1].split()
    assert (int(n) <= 16, errno) == (True, "11")


@pytest.mark.parametrize("flags", [["oflag=direct"], ["conv=fsync"]], ids=["direct", "buffered"])
def test_ten_megabytes_a_second_of_disk(flags: list[str]) -> None:
    r = pycontain.run(
        "host",
        ["dd", "if=/dev/zero", "of=/usr/out", "bs=1M", "count=30", *flags],
        device_write_bps={"/dev/vda": "10mb"},
        text=True,
    )
    assert r.exit_code == 0, r.stderr
    assert 30 / r.usage.wall_s <= 11.5  # MB/s
    assert r.usage.io_write_bytes is not None and r.usage.io_write_bytes >= 30 << 20


def test_device_rules_are_enforced_by_the_program() -> None:
    script = "mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk; echo $?; head -c 1 /dev/zero | wc -c"
    r = pycontain.run("host", ["sh", "-c", script], text=True)
    assert str(r.stdout).split() == ["1", "1"]
    assert "Operation not permitted" in str(r.stderr)


def test_a_device_that_was_given_can_be_read_only() -> None:
    script = "head -c 4 /dev/vda | wc -c; dd if=/dev/zero of=/dev/vda bs=1 count=1 conv=notrunc"
    r = pycontain.run("host", ["sh", "-c", script], text=True, devices=["/dev/vda:/dev/vda:r"])
    assert str(r.stdout).split() == ["4"]
    assert r.exit_code != 0 and "not permitted" in str(r.stderr)


def test_usage_counts_every_descendant() -> None:
    script = """
import os, time
if os.fork() == 0:
    os.setsid()
    while time.process_time() < 0.5: pass
    os._exit(0)
os.wait()
"""
    r = pycontain.run("host", ["python3", "-c", script])
    assert r.usage.cpu_s >= 0.5


def test_what_is_hidden_of_the_host() -> None:
    r = pycontain.run(
        "host", ["sh", "-c", "cat /etc/shadow; ls -A /root /home /run /tmp /job; touch /usr/canary"], text=True
    )
    assert "No such file" in str(r.stderr)
    assert not os.path.exists("/usr/canary")
    assert "vm" not in str(r.stdout)


def test_masks_without_detached_templates() -> None:
    assert not probe().detached_templates  # this kernel takes the other way
    r = pycontain.run(
        "host",
        ["sh", "-c", "wc -c < /proc/kcore; ls /sys/firmware | wc -l; echo x > /proc/sys/kernel/hostname"],
        text=True,
    )
    assert str(r.stdout).split() == ["0", "0"]
    assert "Read-only" in str(r.stderr)


def test_init_and_read_only_root() -> None:
    r = pycontain.run(
        "host", ["sh", "-c", "echo $$; touch /usr/x || touch /dev/shm/x; exit 3"], text=True, init=True, read_only=True
    )
    assert (r.exit_code, str(r.stdout).strip()) == (3, "2")


def test_the_hosts_options_stay() -> None:
    """A mount in the host's own cgroup namespace sets the options of the file system itself."""

    def options() -> str:
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return next(line.split()[-1] for line in f if " - cgroup2 " in line)

    before = options()
    assert "nsdelegate" in before and "memory_recursiveprot" in before
    r = pycontain.run("host", ["cat", "/sys/fs/cgroup/cgroup.controllers"], cgroupns="host", text=True)
    assert r.exit_code == 0 and "memory" in str(r.stdout).split()
    assert options() == before
