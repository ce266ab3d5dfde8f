"""pycontain.run() in a process of a chosen size, with a chosen number of mounts on its host."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

from bench.arena import Arena
from bench.peers import Burst, Peer
from bench.process import PeerFailed
from bench.stats import Sample

ISOLATION = "all namespaces, overlay, mounts and masks, capabilities, seccomp, cgroup; network none"


class InProcess(Peer):
    """A worker process that is asked for one start at a time; it takes the time itself."""

    def __init__(
        self,
        arena: Arena,
        name: str,
        title: str,
        *,
        ballast_mb: int = 0,
        mounts: int | None = None,
        parallel: bool = False,
    ) -> None:
        super().__init__(arena)
        self.name, self.title, self.parallel = name, title, parallel
        self.options = ISOLATION
        self._ballast_mb, self._mounts = ballast_mb, mounts
        self._worker: subprocess.Popen[str] | None = None
        self._facts: dict[str, Any] = {}

    def missing(self) -> str | None:
        if self._mounts is not None and not self.arena.private:
            return "needs root"
        try:
            self._facts = self.ask("facts")
        except PeerFailed as error:
            return f"not built: {error}"
        return None

    def prepare(self) -> None:
        self.options = f"{ISOLATION}; parent of {self._facts['rss_bytes'] / 2**20:.0f} MB"

    def version(self) -> str:
        return str(self._facts.get("version", ""))

    def ask(self, command: str) -> dict[str, Any]:
        """One command of bench/worker.py. Raises: PeerFailed."""
        worker = self._started()
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(f"{command}\n")
            worker.stdin.flush()
            line = worker.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerFailed(f"the worker process died with status {worker.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(str(answer["error"]).splitlines()[-1])
        return answer

    def _started(self) -> subprocess.Popen[str]:
        if self._worker is None:
            argv = [sys.executable, "-m", "bench.worker", "--rootfs", str(self.arena.rootfs)]
            argv += ["--ballast-mb", str(self._ballast_mb)]
            if self._mounts is not None:
                directory = self.arena.directory / f"mounts-{self.name}"
                directory.mkdir()
                argv += ["--mounts", str(self._mounts), "--mount-dir", str(directory)]
                # Both of the pair run in one more namespace, so that only the mounts differ.
                argv = ["unshare", "--mount", "--propagation", "private", *argv]
            self._worker = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self._worker

    def once(self, *, stamped: bool = False) -> Sample:
        return Sample(**self.ask("once"))

    def burst(self, threads: int, starts: int) -> Burst:
        return Burst(**self.ask(f"parallel {threads} {starts}"))

    def close(self) -> None:
        if self._worker is not None:
            assert self._worker.stdin is not None and self._worker.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._worker.stdin.close()
            try:
                self._worker.wait(10)
            except subprocess.TimeoutExpired:
                self._worker.kill()
                self._worker.wait()
            self._worker.stdout.close()
            self._worker = None


class Exec(InProcess):
    """Container.exec() into a container that runs already."""

    def prepare(self) -> None:
        self.options = f"into a running container; {ISOLATION}"

    def once(self, *, stamped: bool = False) -> Sample:
        return Sample(**self.ask("exec"))


class Floor(InProcess):
    """What no container can be cheaper than: start the program and wait for it, from such a process."""

    def once(self, *, stamped: bool = False) -> Sample:
        return Sample(**self.ask("floor"))

    def prepare(self) -> None:
        self.options = "no isolation (CLONE_VM + execve in C)"


def in_process_peers(arena: Arena) -> list[Peer]:
    return [
        InProcess(arena, "pycontain", "pycontain.run()", parallel=True),
        Exec(arena, "exec", "Container.exec()"),
        InProcess(arena, "pycontain-20mb", "pycontain.run(), 20 MB parent", ballast_mb=20),
        InProcess(arena, "pycontain-500mb", "pycontain.run(), 500 MB parent", ballast_mb=500),
        InProcess(arena, "pycontain-0mounts", "pycontain.run(), no extra mounts", mounts=0),
        InProcess(arena, "pycontain-500mounts", "pycontain.run(), 500 host mounts", mounts=500),
    ]
