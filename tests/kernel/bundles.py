"""OCI bundles of the tests' own: a small document, changed in places, over the busybox root."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycontain
from pycontain.errors import PycontainError
from tests.unit.documents import edited

__all__ = ["bundle", "deaf_agent", "holder", "notify", "ran", "refused_bundle", "user_namespace"]

SAFE = ["nosuid", "noexec", "nodev"]
BASE: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "root": {"path": "", "readonly": True},
    "hostname": "bundle",
    "process": {
        "args": ["sh", "-c", "true"],
        "cwd": "/",
        "env": ["PATH=/bin:/usr/bin"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {k: ["CAP_CHOWN", "CAP_KILL"] for k in ("bounding", "effective", "permitted")},
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": [*SAFE, "mode=1777"]},
    ],
    "linux": {"namespaces": [{"type": t} for t in ("mount", "pid", "ipc", "uts", "network")]},
}


def user_namespace(start: int = 300000) -> dict[str, Any]:
    """Changes that give the document a user namespace of its own."""
    map_ = [{"containerID": 0, "hostID": start, "size": 65536}]
    return {"linux.uidMappings": map_, "linux.gidMappings": map_, "linux.namespaces[5]": {"type": "user"}}


@contextlib.contextmanager
def bundle(root: str, script: str = "true", changes: dict[str, Any] | None = None) -> Iterator[str]:
    """The image name of a bundle with this shell script on the root file system ``root``."""
    with tempfile.TemporaryDirectory(prefix="pct-bundle-", dir="/var/tmp") as directory:
        wanted = {"root.path": root, "process.args": ["sh", "-c", script], **(changes or {})}
        Path(directory, "config.json").write_text(json.dumps(edited(BASE, wanted)))
        os.chmod(directory, 0o755)
        yield f"bundle:{directory}"


def ran(root: str, script: str, changes: dict[str, Any] | None = None) -> str:
    """What the script prints; it must succeed."""
    with bundle(root, script, changes) as image:
        r = pycontain.run(image, text=True, timeout=20)
    assert r.exit_code == 0, (r.exit_code, r.stdout, r.stderr)
    assert isinstance(r.stdout, str)
    return r.stdout


def refused_bundle(root: str, changes: dict[str, Any], script: str = "true") -> str:
    """The one line with which a start is refused."""
    with bundle(root, script, changes) as image, pytest.raises(PycontainError) as caught:
        pycontain.run(image, text=True, timeout=20)
    assert "\n" not in str(caught.value), caught.value
    return str(caught.value)


@contextlib.contextmanager
def holder(*flags: str, setup: str = "") -> Iterator[int]:
    """The pid of a process in new namespaces made by util-linux's unshare; it sleeps until the block ends."""
    script = f"{setup}\necho ready; exec sleep 600"
    with subprocess.Popen(["unshare", *flags, "sh", "-c", script], stdout=subprocess.PIPE) as p:
        try:
            assert p.stdout is not None
            assert p.stdout.readline() == b"ready\n"
            yield _below(p.pid) if "--fork" in flags else p.pid
        finally:
            for pid in _children(p.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
            p.kill()


def _children(pid: int) -> list[int]:
    return [int(w) for w in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _below(pid: int) -> int:
    return _children(pid)[0]


_AUDIT = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}


def notify(path: str | Path, *names: str) -> dict[str, Any]:
    """Changes with which calls of these names go to the agent at ``path``."""
    filter_ = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [_AUDIT[platform.machine()]],
        "listenerPath": str(path),
        "listenerMetadata": "for the agent",
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}],
    }
    return {"linux.seccomp": filter_}


@contextlib.contextmanager
def deaf_agent(path: str) -> Iterator[str]:
    """A seccomp agent that takes every listener and answers nothing, in a process of its own."""
    code = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(64); print(1, flush=True)\n"
        "while True:\n    peer = s.accept()[0]\n    while peer.recv(4096): pass\n    peer.close()"
    )
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", code, path], stdout=subprocess.PIPE) as p:
        try:
            assert p.stdout is not None
            assert p.stdout.readline() == b"1\n"
            yield path
        finally:
            p.kill()
