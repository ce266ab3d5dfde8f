"""Bundles: the document of `runc spec` with changes by path, and a small root of its own for every run."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["DELETE", "Bundle", "base_document", "change"]

DELETE = object()
_BASE_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_APPLETS = ("cat", "ls", "sh", "sleep", "true")


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    made: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    return {**made, "options": list(options)} if options else made


def base_document() -> dict[str, Any]:
    """What `runc spec` of runc 1.1.5 prints, without the terminal, with the probe as the program."""
    shm = ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    sets = ("bounding", "effective", "permitted", "ambient")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/probe"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {name: list(_BASE_CAPABILITIES) for name in sets},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "comparison",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", *pts),
            _mount("/dev/shm", "tmpfs", "shm", *shm),
            _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
            _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
        ],
        "linux": {
            "cgroupsPath": "/@id@",
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": [
                *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list"),
                *("/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"),
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _child(owner: Any, word: str) -> Any:
    """The key to use on ``owner``: a name, or for "[x]" the index of the list's element that x names."""
    if not word.startswith("["):
        return word
    wanted = word[1:-1]
    if wanted == "+":
        owner.append({})
        return len(owner) - 1
    for index, element in enumerate(owner):
        if isinstance(element, dict) and wanted in (element.get("type"), element.get("destination")):
            return index
    raise KeyError(f"no element {wanted}")


def change(document: dict[str, Any], path: str, value: Any) -> None:
    """Sets (or with DELETE removes) what ``path`` names: "process.user.uid", "mounts[/proc].options", "mounts[+]"."""
    words = re.findall(r"\[[^\]]*\]|[^.\[\]]+", path)
    owner: Any = document
    for word in words[:-1]:
        key = _child(owner, word)
        owner = owner.setdefault(key, {}) if isinstance(owner, dict) else owner[key]
    if words[-1].startswith("[") and isinstance(owner, dict):
        raise TypeError(f"{path}: not a list")
    key = _child(owner, words[-1])
    if value is DELETE:
        del owner[key]
    else:
        owner[key] = copy.deepcopy(value)


@dataclass
class Bundle:
    """A directory with config.json and rootfs. ``words``: what @name@ stands for in the document. ``before``: shell
    commands to run before the runtime, in its mount namespace."""

    directory: Path
    document: dict[str, Any]
    words: dict[str, str] = field(default_factory=dict)
    before: list[str] = field(default_factory=list)
    cleanup: ExitStack = field(default_factory=ExitStack)

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def rootfs(self) -> Path:
        return self.directory / "rootfs"

    @property
    def terminal(self) -> bool:
        return bool(self.document["process"].get("terminal"))

    @property
    def console_size(self) -> tuple[int, int]:
        size = self.document["process"].get("consoleSize", {})
        return size.get("height", 0), size.get("width", 0)

    def source(self, name: str, content: str | None = None, mode: int = 0o755) -> Path:
        """A directory, or a file with ``content``, beside the root: something to bind from."""
        made = self.directory / "src" / name
        made.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            made.mkdir(exist_ok=True)
        else:
            made.write_text(content)
        made.chmod(mode)
        return made

    def write(self) -> None:
        """The document as it is now, to config.json."""
        text = json.dumps(self.document)
        for name, value in {"id": self.id, "bundle": str(self.directory), **self.words}.items():
            text = text.replace(f"@{name}@", value)
        (self.directory / "config.json").write_text(text)


def make(directory: Path, probe: Path, busybox: str) -> Bundle:
    """A bundle with the base document; the files of its root are links, so that it costs no copying."""
    root = directory / "rootfs"
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    directory.chmod(0o711)
    (root / "tmp").chmod(0o1777)
    os.link(probe, root / "probe")
    os.link(busybox, root / "bin/busybox")
    for name in _APPLETS:
        os.symlink("busybox", root / "bin" / name)
    return Bundle(directory=directory, document=base_document())


def remove(bundle: Bundle) -> None:
    """After the run. Never through a mount that is still there: that would empty the mount's source."""
    bundle.cleanup.close()
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        below = [line.split()[4] for line in f if line.split()[4].startswith(f"{bundle.directory}/")]
    assert not below, f"left mounted: {below}"
    shutil.rmtree(bundle.directory)
