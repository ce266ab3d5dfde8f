"""What one run of bench.startup found, as it is reported and written to JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from bench.stats import Sample, Summary, summarize


@dataclass(kw_only=True, slots=True)
class PeerResult:
    """One row. Grows while it is measured, so it is not frozen."""

    name: str
    title: str
    options: str = ""
    version: str = ""
    missing: str | None = None
    failures: list[str] = field(default_factory=list)
    until_exec_s: list[float] = field(default_factory=list)
    until_exit_s: list[float] = field(default_factory=list)
    whole_s: list[float] = field(default_factory=list)

    def add(self, sample: Sample) -> None:
        self.whole_s.append(sample.whole_s)
        self.add_exec(sample)
        if sample.until_exit_s is not None:
            self.until_exit_s.append(sample.until_exit_s)

    def add_exec(self, sample: Sample) -> None:
        if sample.until_exec_s is not None:
            self.until_exec_s.append(sample.until_exec_s)

    @property
    def until_exec(self) -> Summary | None:
        return summarize(self.until_exec_s)

    @property
    def until_exit(self) -> Summary | None:
        return summarize(self.until_exit_s)

    @property
    def whole(self) -> Summary | None:
        return summarize(self.whole_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelResult:
    name: str
    title: str
    threads: int
    starts: int
    per_second: float
    p50_s: float | None
    errors: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Growth:
    """The parent process before and after many runs."""

    runs: int
    rss_before: int
    rss_after: int
    fds_before: int
    fds_after: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    cpu: str
    cpus: int
    memory_mb: int
    kernel: str
    python: str
    date: str
    loadavg: tuple[float, float, float]
    data: str  # the filesystem under rootfs, bundles and states
    cgroups: str


@dataclass(kw_only=True, slots=True)
class Results:
    machine: Machine
    notes: list[str]
    peers: list[PeerResult]
    parallel: list[ParallelResult] = field(default_factory=list)
    growth: Growth | None = None
    growth_missing: str | None = None
    # Across processes or namespaces of one run, by peer name.
    targets: Mapping[str, bool] = field(default_factory=dict)

    def find(self, name: str) -> PeerResult | None:
        return next((peer for peer in self.peers if peer.name == name), None)


def describe_machine(data: str) -> Machine:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    hierarchies = Path("/proc/self/mountinfo").read_text()
    v1, v2 = " - cgroup cgroup " in hierarchies, " - cgroup2 " in hierarchies
    return Machine(
        cpu=models[0].split(":", 1)[1].strip() if models else platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        kernel=platform.release(),
        python=platform.python_version(),
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        loadavg=os.getloadavg(),
        data=data,
        cgroups="hybrid" if v1 and v2 else "v2" if v2 else "v1",
    )
