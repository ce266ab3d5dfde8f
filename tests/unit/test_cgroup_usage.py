"""What stats reads of cgroups v2, v1 and hybrid ones, and how it shows it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pycontain.cli.stats import usage_row
from pycontain.cli.units import binary_size
from pycontain.engine.containers import ContainerInfo
from pycontain.runtime.cgroup_usage import Usage, read_usage
from pycontain.runtime.cgroups import Member

V2 = {
    "cpu.stat": "usage_usec 1500\nuser_usec 1000\n", "memory.current": "5000000\n", "memory.max": "67108864\n",
    "memory.stat": "anon 1\ninactive_file 1000000\n", "pids.current": "3\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n",
}  # fmt: skip
V1 = {
    "cpuacct": {"cpuacct.usage": "1500000\n"},
    "memory": {
        "memory.usage_in_bytes": "5000000\n", "memory.limit_in_bytes": "67108864\n",
        "memory.stat": "inactive_file 7\ntotal_inactive_file 1000000\n",
    },
    "blkio": {"blkio.throttle.io_service_bytes_recursive": "8:0 Read 11\n8:0 Write 22\n8:0 Total 33\nTotal 33\n"},
    "pids": {"pids.current": "3\n"},
}  # fmt: skip
ALL = {
    "cpu_ns": 1_500_000, "memory_bytes": 4_000_000, "memory_limit_bytes": 67_108_864, "read_bytes": 11, "write_bytes": 22, "pids": 3,
}  # fmt: skip


def member(directory: Path, version: int, *controllers: str, files: dict[str, str]) -> Member:
    directory.mkdir()
    for name, text in files.items():
        (directory / name).write_text(text)
    return Member(controllers=controllers, version=version, directory=str(directory))


def values(usage: Usage | None) -> dict[str, object]:
    assert usage is not None
    return {name: getattr(usage, name) for name in ALL}


def test_v2(tmp_path: Path) -> None:
    assert values(read_usage((member(tmp_path / "c", 2, files=V2),))) == ALL


def v1_members(tmp_path: Path) -> list[Member]:
    return [member(tmp_path / name, 1, name, files=files) for name, files in V1.items()]


def test_v1(tmp_path: Path) -> None:
    assert values(read_usage(tuple(v1_members(tmp_path)))) == ALL


def test_hybrid(tmp_path: Path) -> None:
    """v2 without controllers beside v1: what it has of its own, such as cpu.stat, does not count."""
    unified = member(tmp_path / "unified", 2, files={"cpu.stat": "usage_usec 9\n", "cgroup.procs": ""})
    assert values(read_usage((unified, *v1_members(tmp_path)))) == ALL


def test_controllers_that_are_not_there(tmp_path: Path) -> None:
    found = values(
        read_usage((member(tmp_path / "c", 2, files={"cpu.stat": "usage_usec 1\n", "cgroup.procs": "5\n6\n"}),))
    )
    assert found == {**dict.fromkeys(ALL), "cpu_ns": 1000, "pids": 2}


def test_no_limit_is_what_the_machine_has(tmp_path: Path) -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for at, limit in enumerate(("max\n", "9223372036854771712\n")):
        usage = read_usage((member(tmp_path / str(at), 2, files={**V2, "memory.max": limit}),))
        assert usage is not None and usage.memory_limit_bytes == total


def test_one_that_has_ended(tmp_path: Path) -> None:
    assert read_usage((Member(controllers=(), version=2, directory=str(tmp_path / "gone")),)) is None


def test_nobody_counts() -> None:
    assert values(read_usage(())) == dict.fromkeys(ALL)


# --- the row ------------------------------------------------------------------------------------------------------------

INFO = ContainerInfo(
    id="ab" * 32, name="web", image="host", image_id="", command="sh", created=0.0, state="running", pid=1, labels=()
)


def usage(at_s: float, cpu_s: float | None, **more: int | None) -> Usage:
    fields = {
        "memory_bytes": 1536 << 10,
        "memory_limit_bytes": 64 << 20,
        "read_bytes": 4096,
        "write_bytes": 0,
        "pids": 2,
        **more,
    }
    return Usage(at_ns=int(at_s * 1e9), cpu_ns=None if cpu_s is None else int(cpu_s * 1e9), **fields)


@pytest.mark.parametrize(
    ("used", "earlier", "cpu"),
    [
        (usage(11, 5), usage(10, 4), "100.00%"), (usage(12, 8.003), usage(10, 4), "200.15%"), (usage(11, 4), usage(10, 4), "0.00%"),
        (usage(11, 1), usage(10, 4), "0.00%"), (usage(11, 1), None, "--"), (usage(11, None), usage(10, None), "--"),
    ],
)  # fmt: skip
def test_cpu(used: Usage, earlier: Usage | None, cpu: str) -> None:
    assert usage_row(INFO, "web", used, earlier, False)["CPUPerc"] == cpu


def test_row() -> None:
    row = usage_row(INFO, "w", usage(11, 5), usage(10, 5), False)
    assert row == {
        "Container": "w", "ID": "abababababab", "Name": "web", "CPUPerc": "0.00%", "MemUsage": "1.5MiB / 64MiB",
        "MemPerc": "2.34%", "NetIO": "0B / 0B", "BlockIO": "4.1kB / 0B", "PIDs": "2",
    }  # fmt: skip
    unknown = usage(11, 5, memory_bytes=None, memory_limit_bytes=None, read_bytes=None, write_bytes=None, pids=None)
    row = usage_row(INFO, "w", unknown, None, True)
    assert (row["MemUsage"], row["MemPerc"], row["BlockIO"], row["PIDs"]) == ("-- / --", "--", "--", "--")
    assert row["ID"] == INFO.id


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1536 << 10, "1.5MiB"), (25276530688, "23.54GiB"), (2**60, "1EiB")],
)
def test_binary_size(size: int, text: str) -> None:
    assert binary_size(size) == text
