"""Unpack one gzipped layer onto a fresh ext4: ours, with both digests, beside `tar xzf`. Until all is on the disk.

    python -m bench.unpack [--rounds N] [--layer FILE] [--check]

Interleaved: in each round each gets a new loop-mounted ext4, the order changes from round to round. Without --layer it is the
first layer of the Debian image of tests/debian.py. Needs root.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import arena
from bench.images import fresh_disk
from tests.debian import debian_image

_OURS = """
import os, sys
from pycontain import _native
from pycontain.image.layers import HashingReader, unpack_stream
fd = os.open(sys.argv[2], os.O_RDONLY)
with open(sys.argv[1], "rb", buffering=0) as blob:
    raw = HashingReader(blob, "sha256")
    unpack_stream(raw, fd, "sha256")
    raw.digest
"""
_SYNC = "\n_native.syncfs(fd)\n"


def commands(layer: Path) -> dict[str, list[str]]:
    """By title; the destination comes last. "synced" until the data is on the disk."""
    return {
        "pycontain, both sha256": [sys.executable, "-c", _OURS, str(layer)],
        "pycontain, both sha256, synced": [sys.executable, "-c", _OURS + _SYNC, str(layer)],
        "tar xzf": ["tar", "-xzf", str(layer), "-C"],
        "tar xzf, synced": ["sh", "-ec", 'tar -xzf "$0" -C "$1"; sync -f "$1"', str(layer)],
    }


def measure(chosen: dict[str, list[str]], rounds: int, place: Path) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the clock and of processors, by title."""
    found: dict[str, list[tuple[float, float]]] = {title: [] for title in chosen}
    order, rng = list(chosen), random.Random(1)
    for number in range(rounds):
        rng.shuffle(order)
        for title in order:
            with fresh_disk(place) as disk:
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                start = time.monotonic()
                subprocess.run([*chosen[title], str(disk)], check=True, stderr=subprocess.DEVNULL)
                wall = time.monotonic() - start
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            found[title].append((wall, cpu))
            print(f"  round {number + 1}: {title}: {wall:.2f} s", file=sys.stderr)
    return found


def report(found: dict[str, list[tuple[float, float]]]) -> bool:
    print("| unpack | seconds, median | min | max | processor seconds |\n|---|---:|---:|---:|---:|")
    medians = {}
    for title, samples in found.items():
        walls = [wall for wall, _ in samples]
        medians[title] = statistics.median(walls)
        cpu = statistics.median(cpu for _, cpu in samples)
        print(f"| {title} | {medians[title]:.2f} | {min(walls):.2f} | {max(walls):.2f} | {cpu:.2f} |")
    pairs = (("pycontain, both sha256", "tar xzf"), ("pycontain, both sha256, synced", "tar xzf, synced"))
    met = all(medians[ours] <= medians[theirs] for ours, theirs in pairs)
    print(f"\n{'met   ' if met else 'missed'}  no slower than tar xzf")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.unpack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    parser.add_argument("--layer", help="a gzipped tar (the first layer of tests/debian.py's image)")
    parser.add_argument("--disk", default="/var/tmp", help="where the file of the fresh ext4 lies (/var/tmp)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when tar is faster")
    options = parser.parse_args()
    if os.environ.get(arena.MARK) is None:
        return arena.run_inside("bench.unpack", sys.argv[1:])
    place = Path(tempfile.mkdtemp(prefix="pycontain-bench-", dir=options.disk))
    try:
        layer = Path(options.layer) if options.layer else place / "layer.tar.gz"
        if not options.layer:
            packed = subprocess.run(["gzip", "-c", str(debian_image() / "layer1.tar")], check=True, capture_output=True)
            layer.write_bytes(packed.stdout)
        met = report(measure(commands(layer), options.rounds, place))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"{time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {os.cpu_count()} CPUs", file=sys.stderr)
    return 1 if options.check and not met else 0


if __name__ == "__main__":
    raise SystemExit(main())
