"""The process `pycontain.run()` is measured in, so that its size and its mounts can be chosen.

Commands on stdin, one JSON answer a line on stdout: `facts`, `once`, `exec`, `floor`, `parallel P N`, `soak N`.
The time of the exchange itself is in no figure.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

PAGE = os.sysconf("SC_PAGE_SIZE")
MS_BIND = 4096


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def add_mounts(count: int, below: Path) -> None:
    """Bind mounts in this process's own mount namespace, as a busy host has them."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(count):
        target = below / str(number)
        target.mkdir()
        if libc.mount(os.fsencode(below), os.fsencode(target), None, MS_BIND, None) != 0:
            raise OSError(ctypes.get_errno(), f"bind mount {target}")


class Worker:
    def __init__(self, rootfs: str, ballast_mb: int) -> None:
        self.rootfs = rootfs
        # By name: the benchmark must also start, and say what is missing, where pycontain is not built.
        self.pycontain: Any = importlib.import_module("pycontain")
        _ = self.pycontain.run
        self.native: Any = importlib.import_module("pycontain._native")
        self.inside: Any = None
        # Not bytearray(n): its zero pages would never be resident.
        self.ballast = bytearray(b"\x01") * max(0, (ballast_mb << 20) - rss_bytes())

    def once(self) -> dict[str, float]:
        started = time.perf_counter()
        result = self.pycontain.run(self.rootfs, ["/bin/true"], network="none")
        whole_s = time.perf_counter() - started
        if result.exit_code != 0:
            raise RuntimeError(f"/bin/true exited with {result.exit_code}")
        phases = result.phases
        until_exec_s = phases["plan"] + phases["spawn"]
        return {"whole_s": whole_s, "until_exec_s": until_exec_s, "until_exit_s": until_exec_s + phases["run"]}

    def exec(self) -> dict[str, float]:
        """Into one container, which is started with the first and ends with this process."""
        if self.inside is None:
            self.inside = self.pycontain.Container(self.rootfs, ["/bin/busybox", "sleep", "36000"], network="none")
        started = time.perf_counter()
        result = self.inside.exec(["/bin/true"])
        whole_s = time.perf_counter() - started
        if result.exit_code != 0:
            raise RuntimeError(f"/bin/true exited with {result.exit_code}")
        until_exec_s = result.phases["plan"] + result.phases["spawn"]
        return {"whole_s": whole_s, "until_exec_s": until_exec_s, "until_exit_s": until_exec_s + result.phases["run"]}

    def close(self) -> None:
        if self.inside is not None:
            self.inside.close()

    def floor(self) -> dict[str, float]:
        """Here and not in the benchmark's own process: both have to come out of the same sleep."""
        until_exec_ns, until_exit_ns = self.native.spawn_floor([f"{self.rootfs}/bin/busybox", "true"])
        exit_s = until_exit_ns / 1e9
        return {"whole_s": exit_s, "until_exec_s": until_exec_ns / 1e9, "until_exit_s": exit_s}

    def parallel(self, threads: int, starts: int) -> dict[str, Any]:
        latencies: list[float] = []
        errors: list[str] = []
        tickets = iter(range(starts))
        lock = threading.Lock()

        def loop() -> None:
            while True:
                with lock:
                    if next(tickets, None) is None:
                        return
                try:
                    latencies.append(self.once()["whole_s"])
                except Exception as error:  # the boundary of the worker: any failure is a result here
                    errors.append(f"{type(error).__name__}: {error}")

        pool = [threading.Thread(target=loop) for _ in range(threads)]
        started = time.perf_counter()
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        return {"wall_s": time.perf_counter() - started, "latencies_s": latencies, "errors": errors}

    def soak(self, runs: int) -> dict[str, int]:
        before = {"rss_before": rss_bytes(), "fds_before": open_fds()}
        for _ in range(runs):
            self.once()
        return {"runs": runs, **before, "rss_after": rss_bytes(), "fds_after": open_fds()}

    def facts(self) -> dict[str, Any]:
        version = getattr(self.pycontain, "__version__", "unknown")
        return {"version": version, "rss_bytes": rss_bytes(), "fds": open_fds()}

    def answer(self, line: str) -> dict[str, Any]:
        command, *words = line.split()
        numbers = [int(word) for word in words]
        if command == "once":
            return self.once()
        if command == "exec":
            return self.exec()
        if command == "floor":
            return self.floor()
        if command == "parallel":
            return self.parallel(*numbers)
        if command == "soak":
            return dict(self.soak(*numbers))
        if command == "facts":
            return self.facts()
        raise ValueError(f"unknown command {command!r}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.worker")
    parser.add_argument("--rootfs", required=True)
    parser.add_argument("--ballast-mb", type=int, default=0)
    parser.add_argument("--mounts", type=int, default=0)
    parser.add_argument("--mount-dir", type=Path)
    options = parser.parse_args()
    worker: Worker | None = None
    problem = ""
    try:
        if options.mount_dir is not None:
            add_mounts(options.mounts, options.mount_dir)
        worker = Worker(options.rootfs, options.ballast_mb)
    except Exception as error:  # reported as the reason why this peer is missing
        problem = f"{type(error).__name__}: {error}"
    for line in sys.stdin:
        try:
            answer = {"error": problem} if worker is None else worker.answer(line)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    if worker is not None:
        worker.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
