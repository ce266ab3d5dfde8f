"""What each protection costs: starts in one process, with and without it, in one interleaved run.

    python -m bench.protections [--runs N] [--check] [--markdown]

A protection's cost is how much later the program has ended (p50 of all rounds), given as a share of the floor, which is
clone + exec + wait of the same program with no isolation. The order within a round changes from round to round.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any

from bench import arena
from bench.arena import Arena

TRUE = "/bin/true"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """``options`` of pycontain.run; its figure is compared with that of the variant ``against``."""

    name: str
    title: str
    options: dict[str, Any] = field(default_factory=dict)
    program: str = TRUE
    against: str = "default"
    added: bool = True  # False: ``against`` has the protection, this one has not
    limit: float | None = None  # at most so many floors


VARIANTS = (
    Variant(name="default", title="everything that is on by default"),
    Variant(name="userns", title="user namespace, id maps, translated layers (`--userns auto`)", options={"userns": "auto"}, limit=0.3),
    Variant(name="seccomp", title="seccomp filter", options={"seccomp": "unconfined"}, added=False, limit=0.1),
    Variant(name="network", title="network namespace", options={"network": "host"}, added=False),
    Variant(name="ipc", title="IPC namespace, /dev/shm of its own", options={"ipc": "none"}, added=False),
    Variant(name="uts", title="UTS namespace", options={"uts": "host"}, added=False),
    Variant(name="cgroupns", title="cgroup namespace", options={"cgroupns": "host"}, added=False),
    Variant(name="read_only", title="read-only root, /dev of its own (`--read-only`)", options={"read_only": True}),
    Variant(name="nnp", title="no_new_privs", options={"no_new_privileges": True}),
    Variant(name="user", title="an ordinary user (`--user 1000`)", options={"user": "1000"}),
    Variant(name="caps", title="no capabilities (`--cap-drop ALL`)", options={"cap_drop": ["ALL"]}),
    Variant(name="memory", title="memory limit", options={"memory": "64m"}),
    Variant(name="pids", title="limit of processes", options={"pids": 64}),
    Variant(name="cpus", title="CPU limit", options={"cpus": 0.5}),
    Variant(name="stub", title="program on a volume, by the sealed stub", program="/vol/true", against="volume"),
    Variant(name="volume", title="a volume, id of its own mount"),
    Variant(name="init", title="init as process 1 (`--init`)", options={"init": True}),
)  # fmt: skip


def measure(place: Arena, runs: int) -> dict[str, list[float]]:
    """Seconds until the program has ended, by variant; "floor" beside them."""
    import pycontain
    from pycontain import _native

    volume = place.directory / "volume"
    volume.mkdir(exist_ok=True)
    (volume / "true").write_bytes((place.rootfs / "bin/busybox").read_bytes())
    (volume / "true").chmod(0o755)
    mounts = [pycontain.bind(str(volume), "/vol")]
    figures: dict[str, list[float]] = {name: [] for name in ("floor", *(v.name for v in VARIANTS))}
    order = list(VARIANTS)
    rng = random.Random(1)
    for round_ in range(-5, runs):
        rng.shuffle(order)
        floor = _native.spawn_floor([str(place.rootfs) + TRUE])[1] / 1e9
        if round_ >= 0:
            figures["floor"].append(floor)
        for v in order:
            options: Any = {**v.options, **({"mounts": mounts} if v.name in ("stub", "volume") else {})}
            result = pycontain.run(str(place.rootfs), [v.program], **options)
            if result.exit_code != 0:
                raise RuntimeError(f"{v.name}: {v.program} exited with {result.exit_code}: {result.stderr!r}")
            if round_ >= 0:
                figures[v.name].append(sum(result.phases[p] for p in ("plan", "spawn", "run")))
    return figures


def cost(figures: dict[str, list[float]], v: Variant) -> float:
    """Seconds that the protection adds: the median of the differences within each round."""
    with_it, without = figures[v.name], figures[v.against]
    sign = 1 if v.added else -1
    return sign * statistics.median(a - b for a, b in zip(with_it, without, strict=True))


def table(figures: dict[str, list[float]]) -> list[str]:
    floor = statistics.median(figures["floor"])
    rows = [
        "| protection | adds, us | x floor |",
        "|---|---:|---:|",
        f"| floor: clone + exec + wait of `true`, no isolation | {floor * 1e6:.0f} | 1.00 |",
        f"| everything that is on by default | {(statistics.median(figures['default']) - floor) * 1e6:.0f} | "
        f"{statistics.median(figures['default']) / floor - 1:.2f} |",
    ]
    for v in VARIANTS:
        if v.name not in ("default", "volume"):
            seconds = cost(figures, v)
            rows.append(f"| {v.title} | {seconds * 1e6:.0f} | {seconds / floor:.2f} |")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.protections", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="rounds (200)")
    parser.add_argument("--data", choices=("tmpfs", "ext4"), default="tmpfs", help="where layers are written (tmpfs)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a cost is above its limit")
    options = parser.parse_args()
    if os.environ.get(arena.MARK) is None:
        return arena.run_inside("bench.protections", sys.argv[1:])
    figures = measure(arena.enter(options.data), options.runs)
    print("\n".join(table(figures)))
    floor = statistics.median(figures["floor"])
    missed = [v for v in VARIANTS if v.limit is not None and cost(figures, v) > v.limit * floor]
    for v in VARIANTS:
        if v.limit is not None:
            print(
                f"{'missed' if v in missed else 'met   '}  {v.title}: {cost(figures, v) / floor:.2f} x floor, at most {v.limit}"
            )
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
