"""Containers that stay: what starting one, a thousand of them, their logs and looks at them cost.

    python -m bench.staying [--rounds N] [--count N] [--only PARTS] [--check]

Parts: start, exec, logs, many. In ``start`` and ``exec`` the peers take turns. ``many`` starts --count containers (1,000) and asks for
memory, `ps`, and the figures of 200 of them; nothing else may run on the machine meanwhile, for its memory is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pycontain
from bench import arena
from bench.arena import Arena
from bench.docker import IMAGE, Docker
from pycontain.engine import container_details
from pycontain.runtime import detached
from pycontain.runtime.roots import default_roots

_PYCONTAIN = str(Path(sys.executable).parent / "pycontain")
_LOG_LINES = 4_000_000
_LINE = "x" * 89  # and its end
_FOLLOWED = 200
_SAMPLED = 200
_IDLE_S = 5.0

Rows = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    met: bool
    text: str


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _run(*words: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:3])} exited with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def _ours(*words: str) -> str:
    return _run(_PYCONTAIN, *words)


@contextlib.contextmanager
def _docker(place: Arena) -> Iterator[Callable[..., str] | None]:
    """None: it is not installed."""
    peer = Docker(place)
    if peer.missing():
        yield None
        return
    peer.prepare()
    try:
        yield lambda *words: _run(peer.found(), *words, environment=dict(peer.environment()))
    finally:
        peer.close()


def _interleaved(rounds: int, peers: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of each, in seconds."""
    figures: dict[str, list[float]] = {name: [] for name in peers}
    order = list(peers)
    for each in peers.values():
        each()  # once for nothing
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            figures[name].append(peers[name]())
    return {name: statistics.median(each) for name, each in figures.items()}


# --- parts ------------------------------------------------------------------------------------------------------------


def measure_start(place: Arena, rounds: int, docker: Callable[..., str] | None) -> tuple[Rows, list[Verdict]]:
    root = str(place.rootfs)

    def until_running() -> float:
        made: list[str] = []
        passed = _timed(lambda: made.append(_ours("run", "-d", "--network", "none", root, "/bin/sleep", "600")))
        _ours("rm", "-f", made[0])
        return passed

    def command() -> float:
        return _timed(lambda: _ours("run", "--network", "none", root, "/bin/true"))

    def phases(*names: str) -> float:
        result = pycontain.run(root, ["/bin/true"], network="none")
        return sum(result.phases[name] for name in names)

    def by_docker() -> float:
        assert docker is not None
        made: list[str] = []
        passed = _timed(lambda: made.append(docker("run", "-d", "--network", "none", IMAGE, "/bin/sleep", "600")))
        docker("rm", "-f", made[0])
        return passed

    peers: dict[str, Callable[[], float]] = {
        "run -d": until_running, "run": command, "until exit": lambda: phases("plan", "spawn", "run"),
        "started": lambda: phases("plan", "spawn"),
    }  # fmt: skip
    if docker is not None:
        peers["docker"] = by_docker
    found = _interleaved(rounds, peers)
    own = found["run"] - found["until exit"]
    limit = 1.5 * (own + found["started"])
    rows = [
        ("`pycontain run -d` until it runs", f"{found['run -d'] * 1e3:.1f} ms"),
        (
            "the command line's own start, and a start in process",
            f"{own * 1e3:.1f} + {found['started'] * 1e3:.1f} ms",
        ),
    ]
    if docker is not None:
        rows.append(("`docker run -d` until it runs", f"{found['docker'] * 1e3:.1f} ms"))
    text = (
        f"run -d: {found['run -d'] * 1e3:.1f} ms, at most 1.5 x (command line + start in process): {limit * 1e3:.1f} ms"
    )
    return rows, [Verdict(met=found["run -d"] <= limit, text=text)]


def measure_exec(place: Arena, rounds: int, docker: Callable[..., str] | None) -> tuple[Rows, list[Verdict]]:
    root = str(place.rootfs)
    with contextlib.ExitStack() as stack:
        inside = stack.enter_context(pycontain.Container(root, ["/bin/sleep", "36000"], network="none"))

        def in_process() -> float:
            result = inside.exec(["/bin/true"])
            return sum(result.phases[name] for name in ("plan", "spawn", "run"))

        kept = _ours("run", "-d", "--network", "none", root, "/bin/sleep", "36000")
        stack.callback(_ours, "rm", "-f", kept)
        peers = {
            "in process": in_process,
            "command": lambda: _timed(lambda: _ours("exec", kept, "/bin/true")),
        }
        if docker is not None:
            theirs = docker("run", "-d", "--network", "none", IMAGE, "/bin/sleep", "36000")
            stack.callback(docker, "rm", "-f", theirs)
            peers["docker"] = lambda: _timed(lambda: docker("exec", theirs, "/bin/true"))
        found = _interleaved(rounds, peers)
    rows = [
        ("exec in process, until exit", f"{found['in process'] * 1e3:.2f} ms"),
        ("`pycontain exec`", f"{found['command'] * 1e3:.1f} ms"),
    ]
    if docker is None:
        return rows, [Verdict(met=False, text="exec: docker is not installed (tests/peers/install.sh)")]
    rows.append(("`docker exec`", f"{found['docker'] * 1e3:.1f} ms"))
    text = f"exec in process: {found['in process'] * 1e3:.2f} ms, at most `docker exec` / 25: {found['docker'] * 40:.2f} ms"
    return rows, [Verdict(met=found["in process"] <= found["docker"] / 25, text=text)]


def measure_logs(place: Arena) -> tuple[Rows, list[Verdict]]:
    root = str(place.rootfs)
    script = f"yes {_LINE} | head -n {_LOG_LINES}"
    engine = pycontain.Engine()
    speeds = []
    for _ in range(3):
        kept = _ours("run", "-d", "--network", "none", "--log-opt", "max-size=1g", root, "/bin/sh", "-c", script)
        _ours("wait", kept)
        ended = engine.containers.get(kept)
        assert ended.started_at is not None and ended.finished_at is not None
        speeds.append(_LOG_LINES * 90 / (ended.finished_at - ended.started_at).total_seconds() / 1e6)
        if len(speeds) < 3:
            _ours("rm", kept)
    speed = statistics.median(speeds)
    with subprocess.Popen([_PYCONTAIN, "logs", kept], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        lines = sum(1 for line in reader.stdout if line == f"{_LINE}\n".encode())
    _ours("rm", kept)
    behind = _follow(root)
    rows = [
        (f"{_LOG_LINES:,} lines of 90 bytes into the log", f"{speed:.0f} MB/s, {lines:,} lines read back"),
        ("`logs -f`, a line's way until it is read", f"{statistics.median(behind) * 1e3:.2f} ms, {max(behind) * 1e3:.2f} at most"),
    ]  # fmt: skip
    verdicts = [
        Verdict(met=speed >= 200 and lines == _LOG_LINES, text=f"logs: {speed:.0f} MB/s, at least 200, no line lost"),
        Verdict(
            met=statistics.median(behind) < 0.02,
            text=f"logs -f: {statistics.median(behind) * 1e3:.2f} ms behind, less than 20",
        ),
    ]
    return rows, verdicts


def _follow(root: str) -> list[float]:
    """How long each line, in which the program writes what the clock says, is under way; seconds."""
    script = "while :; do /bin/stamp; sleep 0.02; done"
    kept = _ours("run", "-d", "--network", "none", root, "/bin/sh", "-c", script)
    try:
        with subprocess.Popen([_PYCONTAIN, "logs", "-f", "--tail", "0", kept], stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            found = []
            for line in reader.stdout:
                found.append((time.monotonic_ns() - int(line)) / 1e9)
                if len(found) == _FOLLOWED:
                    break
            reader.kill()
    finally:
        _ours("rm", "-f", kept)
    return found[5:]  # the first ones were there before it looked


def measure_many(place: Arena, count: int) -> tuple[Rows, list[Verdict]]:
    root = str(place.rootfs)
    roots = default_roots()
    before = _available()
    kept = []
    passed = []
    try:
        for _ in range(count):
            passed.append(
                _timed(lambda: kept.append(_ours("run", "-d", "--network", "none", root, "/bin/sleep", "36000")))
            )
        time.sleep(2)
        taken = (before - _available()) / 1024
        monitors = [_monitor_of(roots, each) for each in kept]
        pss = [_pss_kib(pid) for pid in monitors]
        woken = _switches(monitors)
        time.sleep(_IDLE_S)
        woken = _switches(monitors) - woken
        shown = statistics.median(_timed(lambda: _ours("ps", "-q")) for _ in range(7))
        assert len(_ours("ps", "-q").splitlines()) == count
        some = kept[:_SAMPLED]
        sample = statistics.median(
            _timed(lambda: [container_details.usage(roots, each) for each in some]) for _ in range(7)
        )
    finally:
        for at in range(0, len(kept), 100):
            _ours("rm", "-f", *kept[at : at + 100])
    first, last = statistics.median(passed[:50]), statistics.median(passed[-50:])
    rows = [
        (f"{count:,} containers that stay, all told", f"{taken:.0f} MB, {taken / count * 1024:.0f} kB each"),
        ("their monitors, PSS", f"{statistics.mean(pss):.1f} kB each, {max(pss)} at most"),
        (f"all monitors, wake-ups in {_IDLE_S:.0f} s", f"{woken}"),
        ("`run -d`, the first 50 and the last", f"{first * 1e3:.1f} and {last * 1e3:.1f} ms"),
        (f"`pycontain ps` of {count:,}", f"{shown * 1e3:.0f} ms"),
        (f"a sample of the usage of {len(some)}", f"{sample * 1e3:.0f} ms"),
    ]
    verdicts = [
        Verdict(met=taken <= 1024 * count / 1000, text=f"{count:,} containers: {taken:.0f} MB, at most {1024 * count // 1000}"),
        Verdict(met=max(pss) <= 60, text=f"monitor: {max(pss)} kB PSS, at most 60"),
        Verdict(met=woken == 0, text=f"idle monitors: {woken} wake-ups, none"),
        Verdict(met=shown < 0.15, text=f"ps: {shown * 1e3:.0f} ms, less than 150"),
        Verdict(met=sample < 0.1, text=f"usage of {len(some)}: {sample * 1e3:.0f} ms, less than 100"),
    ]  # fmt: skip
    return rows, verdicts


def _available() -> int:
    """KiB."""
    text = Path("/proc/meminfo").read_text()
    return int(text.partition("MemAvailable:")[2].split()[0])


def _monitor_of(roots: object, container_id: str) -> int:
    """Who holds the lock."""
    lock = os.stat(f"{detached.run_directory_of(default_roots(), container_id)}/lock")
    with open("/proc/locks", encoding="ascii") as locks:
        mark = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino} "
        return next(int(line.split()[4]) for line in locks if mark in line)


def _pss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0])


def _switches(pids: list[int]) -> int:
    """How often they have been scheduled."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.staying", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="rounds of starts and execs (40)")
    parser.add_argument("--count", type=int, default=1000, help="containers at once (1,000)")
    parser.add_argument("--only", default="", help="parts, by comma (all)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a limit is not kept")
    options = parser.parse_args()
    if os.environ.get(arena.MARK) is None:
        return arena.run_inside("bench.staying", sys.argv[1:])
    only = set(options.only.split(",")) if options.only else {"start", "exec", "logs", "many"}
    place = arena.enter("ext4")
    rows: Rows = []
    verdicts: list[Verdict] = []
    measured: list[tuple[Rows, list[Verdict]]] = []
    if only & {"start", "exec"}:
        with _docker(place) as docker:
            if "start" in only:
                measured.append(measure_start(place, options.rounds, docker))
            if "exec" in only:
                measured.append(measure_exec(place, options.rounds, docker))
    if "logs" in only:
        measured.append(measure_logs(place))
    if "many" in only:
        measured.append(measure_many(place, options.count))
    for some, judged in measured:
        rows += some
        verdicts += judged
    print("| containers that stay | median |\n|---|---:|")
    for name, figure in rows:
        print(f"| {name} | {figure} |")
    print()
    for each in verdicts:
        print(f"{'met   ' if each.met else 'missed'}  {each.text}")
    print(f"\n{time.strftime('%Y-%m-%d')}, Linux {os.uname().release}, {os.cpu_count()} CPUs", file=sys.stderr)
    return 1 if options.check and not all(each.met for each in verdicts) else 0


if __name__ == "__main__":
    raise SystemExit(main())
