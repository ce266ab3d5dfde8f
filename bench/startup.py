"""How long a container takes to start: pycontain and its peers, measured in one interleaved run.

    python -m bench.startup [--runs N] [--quick] [--only NAMES] [--out DIR] [--check] ...

Every round runs each peer once, in an order of its own, so that a busy moment of the machine meets all of
them. The figures: *until exec* (the container's program starts), *until exit* (it has ended), *whole* (with
teardown, for a command line the whole process). Needs root for most peers; tests/peers/install.sh has them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import arena
from bench.inprocess import InProcess
from bench.peers import Peer, all_peers, close_all
from bench.process import PeerFailed
from bench.report import markdown_report, text_report, write_plot
from bench.results import Growth, ParallelResult, PeerResult, Results, describe_machine
from bench.stats import summarize
from bench.targets import check

# Until exec needs a run of its own for the command line peers: every second round is enough for a median.
STAMP_EVERY = 2
# A peer that cannot be started three times in a row is not going to.
FAILURES_IN_A_ROW = 3
PARALLEL_LEVELS = (1, 2, 4, 8, 16, 32, 64)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, metavar="N", help="rounds (200); slow peers join fewer")
    parser.add_argument("--quick", action="store_true", help="20 rounds, parallel 1,4, no VM: does it all work?")
    parser.add_argument("--only", metavar="NAMES", help="comma separated: see the first column of the table")
    parser.add_argument("--parallel", metavar="LEVELS", help="at once, comma separated (1,2,4,...,64); 0: none")
    parser.add_argument("--soak", action="store_true", help="watch the parent's memory and fds over 10,000 runs")
    parser.add_argument(
        "--data",
        choices=("tmpfs", "ext4", "plain"),
        default="tmpfs",
        help="what the data lies on (tmpfs); ext4: fresh, loop mounted",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything, with each single sample, as JSON")
    parser.add_argument("--out", metavar="DIR", help="write startup.md, .txt, .json, .svg and .png there")
    parser.add_argument("--check", action="store_true", help="compare with the targets; exit 1 when one is missed")
    options = parser.parse_args(arguments)
    if options.quick:
        options.runs = min(options.runs, 20)
    levels = options.parallel or ("1,4" if options.quick else ",".join(map(str, PARALLEL_LEVELS)))
    try:
        options.levels = [level for level in map(int, levels.split(",")) if level > 0]
    except ValueError:
        parser.error(f"--parallel takes numbers with commas, not {levels!r}")
    return options


def choose(peers: list[Peer], options: argparse.Namespace) -> list[Peer]:
    if not options.only:
        return [peer for peer in peers if not (options.quick and peer.name == "vm")]
    names = options.only.split(",")
    unknown = sorted(set(names) - {peer.name for peer in peers})
    if unknown:
        raise SystemExit(f"bench: unknown: {', '.join(unknown)}; known: {', '.join(peer.name for peer in peers)}")
    return [peer for peer in peers if peer.name in names]


def make_ready(peers: list[Peer], say: Any) -> list[tuple[Peer, PeerResult]]:
    """Prepare each peer and run it once uncounted; one that cannot says why in its row."""
    rows = []
    for peer in peers:
        row = PeerResult(name=peer.name, title=peer.title)
        row.missing = peer.missing()
        if row.missing is None:
            say(f"preparing {peer.name}")
            row.version = peer.version()
            try:
                peer.prepare()
                peer.once()
                if peer.stamps and peer.arena.stamp:
                    peer.once(stamped=True)
            except PeerFailed as error:
                row.missing = f"failed: {error}"
        row.options = peer.options
        rows.append((peer, row))
    return rows


def measure(rows: list[tuple[Peer, PeerResult]], runs: int, say: Any) -> None:
    """The interleaved rounds: each has every peer once, in an order of its own."""
    live = [(peer, row) for peer, row in rows if row.missing is None]
    # Runs for "until exec" are turns of their own: right behind its other run, a peer would meet its own wake.
    turns = [(peer, row, stamped) for peer, row in live for stamped in (False, True)]
    turns = [turn for turn in turns if not turn[2] or (turn[0].stamps and turn[0].arena.stamp)]
    in_a_row = dict.fromkeys((peer.name for peer, _ in live), 0)
    for number in range(runs):
        if number % 20 == 0:
            say(f"round {number} of {runs}")
        # Not merely rotated: then each peer would always run in the wake of the same one, and a network
        # namespace is still being freed when the next peer starts. Seeded, so that a run can be repeated.
        random.Random(number).shuffle(turns)
        for peer, row, stamped in turns:
            if row.missing is not None or number % (peer.every * (STAMP_EVERY if stamped else 1)):
                continue
            try:
                sample = peer.once(stamped=stamped)
            except PeerFailed as error:
                row.failures.append(str(error))
                in_a_row[peer.name] += 1
                if in_a_row[peer.name] == FAILURES_IN_A_ROW:
                    row.missing = f"given up after {FAILURES_IN_A_ROW} failures in a row: {error}"
                continue
            peer.settle()
            in_a_row[peer.name] = 0
            if stamped:
                row.add_exec(sample)
            else:
                row.add(sample)


def measure_parallel(rows: list[tuple[Peer, PeerResult]], levels: list[int], say: Any) -> list[ParallelResult]:
    found = []
    for level in levels:
        starts = max(32, 2 * level)
        for peer, row in rows:
            if not peer.parallel or row.missing is not None:
                continue
            say(f"{level} at once: {peer.name}")
            try:
                burst = peer.burst(level, starts)
            except PeerFailed as error:
                row.failures.append(f"{level} at once: {error}")
                continue
            latency = summarize(burst.latencies_s)
            found.append(
                ParallelResult(
                    name=peer.name,
                    title=peer.title,
                    threads=level,
                    starts=starts,
                    per_second=len(burst.latencies_s) / burst.wall_s,
                    p50_s=latency.p50_s if latency else None,
                    errors=burst.errors,
                )
            )
    return found


def measure_growth(rows: list[tuple[Peer, PeerResult]], runs: int) -> tuple[Growth | None, str | None]:
    for peer, row in rows:
        if isinstance(peer, InProcess) and peer.name == "pycontain":
            if row.missing is not None:
                return None, row.missing
            try:
                peer.ask("soak 20")  # what the first runs cache is no growth
                return Growth(**peer.ask(f"soak {runs}")), None
            except PeerFailed as error:
                return None, str(error)
    return None, "not chosen"


def run(options: argparse.Namespace) -> int:
    def say(text: str) -> None:
        # One line that overwrites itself, and nothing at all in a log file.
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    place = arena.enter(options.data)
    peers = choose(all_peers(place), options)
    machine = describe_machine(options.data if place.private else "plain")
    try:
        rows = make_ready(peers, say)
        results = Results(machine=machine, notes=list(place.notes), peers=[row for _, row in rows])
        measure(rows, options.runs, say)
        results.parallel = measure_parallel(rows, options.levels, say)
        results.growth, results.growth_missing = measure_growth(rows, 10_000 if options.soak else options.runs)
    finally:
        close_all(peers)
        say("")
    verdicts = check(results) if options.check else []
    text = text_report(results, verdicts)
    print(text)
    document = json.dumps({**asdict(results), "verdicts": [asdict(verdict) for verdict in verdicts]}, indent=1)
    if options.json:
        Path(options.json).write_text(document)
    if options.out:
        out = Path(options.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "startup.txt").write_text(text + "\n")
        (out / "startup.md").write_text(markdown_report(results, verdicts))
        (out / "startup.json").write_text(document)
        print(write_plot(results, out))
    return 0 if all(verdict.met for verdict in verdicts) else 1


def main() -> int:
    arguments = sys.argv[1:]
    options = parse_arguments(arguments)  # before anything is set up: a mistake costs nothing
    if arena.MARK not in os.environ:
        return arena.run_inside("bench.startup", arguments)
    return run(options)


if __name__ == "__main__":
    sys.exit(main())
