"""The real docker and podman, each with a store of its own, for tests that give them our images and take theirs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest

__all__ = ["Docker", "Podman"]

ROOT = Path(__file__).parents[2]
_ARENA = [sys.executable, "-m", "tests.clients.in_arena"]
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Docker:
    """A dockerd without network, and its client. Use as a context manager."""

    def __init__(self) -> None:
        for program in ("/usr/sbin/dockerd", "/usr/bin/docker"):
            if not os.access(program, os.X_OK):
                pytest.skip(f"{program} is not installed (tests/peers/install.sh)")
        self._own = Path(tempfile.mkdtemp(prefix="docker-", dir="/tmp"))  # a socket's path may have 107 bytes
        self._socket = self._own / "docker.sock"
        self._log = self._own / "dockerd.log"
        daemon = (
            "mount --make-rshared / && exec /usr/sbin/dockerd --bridge none --iptables=false --ip-forward=false "
            f"--data-root {self._own}/data --exec-root {self._own}/exec --pidfile {self._own}/pid "
            f"--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /$ARENA -H unix://{self._socket}"
        )
        with self._log.open("wb") as sink:
            self._process = subprocess.Popen(
                [*_ARENA, "sh", "-c", daemon], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=ROOT, env=self.environment()
            )  # fmt: skip

    def environment(self) -> dict[str, str]:
        own = {"HOME": str(self._own), "DOCKER_CONFIG": f"{self._own}/client", "DOCKER_HOST": f"unix://{self._socket}"}
        return {**os.environ, **own, "PATH": _PATH}

    def __enter__(self) -> Docker:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(self._socket))
                return self
            except OSError:
                time.sleep(0.05)
        log = self._log.read_text(errors="replace")[-2000:]
        self.__exit__(None, None, None)
        raise AssertionError(f"dockerd did not start:\n{log}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        assert f" {self._own}" not in Path("/proc/self/mountinfo").read_text()  # its mounts went with its namespaces
        shutil.rmtree(self._own)

    def __call__(self, *words: str, input: bytes | None = None) -> str:
        """What the client prints; an exit code other than 0 fails the test."""
        done = subprocess.run(
            ["/usr/bin/docker", *words], input=input, capture_output=True, env=self.environment(), timeout=100, check=False
        )  # fmt: skip
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode()


class Podman:
    """podman with storage of its own; each call is a whole podman that leaves nothing running. Use as a context manager."""

    def __init__(self) -> None:
        if not os.access("/usr/bin/podman", os.X_OK):
            pytest.skip("podman is not installed (tests/peers/install.sh)")
        self._own = Path(tempfile.mkdtemp(prefix="podman-", dir="/tmp"))  # its runroot may have 50 characters at most

    def __enter__(self) -> Podman:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        assert f" {self._own}" not in Path("/proc/self/mountinfo").read_text()  # its mounts went with its namespaces
        shutil.rmtree(self._own)

    def __call__(self, *words: str, input: bytes | None = None) -> str:
        storage = f"--root {self._own}/root --runroot {self._own}/run --tmpdir {self._own}/tmp --storage-driver overlay"
        manager = "--cgroup-manager cgroupfs --runtime runc --events-backend none"
        options = ""
        if words[0] == "run":
            options = "--network none --cgroup-parent /$ARENA --ulimit nofile=1024:1024 --ulimit nproc=1000:1000"
        script = f'verb=$1; shift; exec podman {storage} {manager} "$verb" {options} "$@"'
        done = subprocess.run(
            [*_ARENA, "sh", "-c", script, "podman", *words], input=input, capture_output=True, cwd=ROOT, timeout=100,
            env={**os.environ, "HOME": str(self._own), "PATH": _PATH}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.stderr.decode(errors='replace')}"
        return done.stdout.decode()
