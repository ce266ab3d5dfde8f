"""docker run against a dockerd of the benchmark's own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from bench.arena import Arena
from bench.peers import CommandPeer
from bench.process import PeerFailed

START_S = 60.0
IMAGE = "bench:latest"


class Docker(CommandPeer):
    name = "docker"
    title = "docker run"
    options = "--network none; dockerd, containerd, runc, overlay2, seccomp, cgroup"
    program = "docker"
    every = 5

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena)
        self._daemon: subprocess.Popen[bytes] | None = None
        self._own = arena.directory / "docker"
        self._socket = self._own / "docker.sock"

    def path(self) -> str | None:
        # The distribution's client first: a newer one in /usr/local refuses its older dockerd's API.
        own = "/usr/bin/docker"
        return own if os.access(own, os.X_OK) else super().path()

    def missing(self) -> str | None:
        if not any(os.access(path, os.X_OK) for path in ("/usr/sbin/dockerd", "/usr/bin/dockerd")):
            return "dockerd is not installed (tests/peers/install.sh)"
        return super().missing()

    def environment(self) -> Mapping[str, str]:
        own = {"DOCKER_HOST": f"unix://{self._socket}", "DOCKER_CONFIG": str(self._own / "client")}
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        return {**os.environ, **own, "HOME": str(self._own), "PATH": path}

    def prepare(self) -> None:
        self._own.mkdir()
        log = self._own / "dockerd.log"
        daemon = (
            "mount --make-rshared / && dockerd --bridge none --iptables=false --ip-forward=false "
            f"--data-root {self._own}/data --exec-root {self._own}/exec --pidfile {self._own}/dockerd.pid "
            f"--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{self.arena.token} -H unix://{self._socket}"
        )
        # A network namespace keeps its firewall off the host. A pid namespace: when its first process ends,
        # the kernel ends dockerd, containerd and every shim. That process is a shell which waits for the
        # end of its stdin, so this also happens when the benchmark is killed.
        argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = f"({daemon} </dev/null; : >{self._own}/failed) & read -r _"
        with log.open("wb") as sink:
            self._daemon = subprocess.Popen(
                [*argv, "sh", "-c", script],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                env=self.environment(),
            )
        self._wait_for_socket(log)
        tar = subprocess.Popen(["tar", "-c", "-C", str(self.arena.rootfs), "."], stdout=subprocess.PIPE)
        done = subprocess.run(
            [self.found(), "import", "-", IMAGE],
            stdin=tar.stdout,
            capture_output=True,
            text=True,
            env=self.environment(),
        )
        if tar.stdout is not None:
            tar.stdout.close()
        if tar.wait() != 0 or done.returncode != 0:
            raise PeerFailed(f"docker import: {done.stderr.strip()}")

    def _wait_for_socket(self, log: Path) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self._socket))
                return
            if self._daemon is None or self._daemon.poll() is not None or (self._own / "failed").exists():
                break
            time.sleep(0.05)
        lines = log.read_text(errors="replace").strip().splitlines()
        raise PeerFailed(f"dockerd did not start: {lines[-1] if lines else 'no log'}")

    def argv(self, container: str, program: str) -> list[str]:
        return [self.found(), "run", "--rm", "--name", container, "--network", "none", IMAGE, program]

    def close(self) -> None:
        if self._daemon is not None:
            assert self._daemon.stdin is not None
            self._daemon.stdin.close()
            self._daemon.wait()
            self._daemon = None
