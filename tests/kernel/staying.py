"""Containers that stay, by the command line: what their tests have in common. The fixture `staying` is in conftest.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import census

from pycontain.engine import containers, volumes
from pycontain.errors import ContainerNotFound
from pycontain.runtime import detached, monitor
from pycontain.runtime.roots import Roots

PYCONTAIN = [sys.executable, "-m", "pycontain"]
SLEEPER = ("host", "sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")


def clear(roots: Roots) -> None:
    """Whatever a test has left of its containers is removed, and only their common directories stay."""
    for container_id in detached.ids(roots):
        try:
            containers.remove(roots, container_id, force=True, volumes=True)
        except ContainerNotFound:
            pass  # by its own monitor
    for each in volumes.list_volumes(roots):
        volumes.remove_volume(roots, each.name)
    ephemeral = Path(roots.data_root, "ephemeral")  # empty when the monitors have ended
    assert census.poll_until(lambda: not ephemeral.is_dir() or not any(ephemeral.iterdir()))
    for root in (roots.data_root, roots.run_root):
        for name in ("containers/names", "containers"):
            directory = Path(root, name)
            for link in directory.iterdir() if name.endswith("names") and directory.is_dir() else ():
                link.unlink()
            if directory.is_dir():
                directory.rmdir()


def command(*words: str, code: int = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*PYCONTAIN, *words], capture_output=True, text=True, timeout=60, **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def run(*words: str) -> str:
    return command("run", "-d", *words).stdout.strip()


def state(name: str) -> str:
    return command("ps", "-a", "--no-trunc", "-f", f"name=^{name}$", "--format", "{{.State}}").stdout.strip()


def saying(name: str, text: str) -> None:
    assert census.poll_until(lambda: text in command("logs", name).stdout)


def monitor_pid(roots: Roots, container_id: str) -> int:
    return int(monitor.read_state(detached.directory_of(roots, container_id))["monitor_pid"])
