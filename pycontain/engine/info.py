"""What this host and this data root are, in the words of ``docker info``."""

from __future__ import annotations

import os

from .._version import __version__
from ..errors import PycontainError
from ..host import probe
from ..image.records import list_images
from ..record import record
from .containers import list_containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..runtime.roots import Roots

__all__ = ["Info", "info"]

_FILE_SYSTEMS = {"ext2": "extfs", "ext3": "extfs", "ext4": "extfs"}  # as Docker calls them


@record
class Info:
    """``security``: as Docker's, "name=seccomp,profile=builtin"; ``limits``: which resources this host can limit, by Docker's
    names; ``warnings``: what it cannot."""

    containers: int
    running: int
    paused: int
    images: int
    version: str
    backing_file_system: str
    cgroup_driver: str
    cgroup_version: str
    kernel: str
    operating_system: str
    os_version: str
    architecture: str
    cpus: int
    memory_bytes: int
    name: str
    data_root: str
    run_root: str
    security: tuple[str, ...]
    limits: tuple[tuple[str, bool], ...]
    warnings: tuple[str, ...]

    @property
    def stopped(self) -> int:
        return self.containers - self.running - self.paused


def info(roots: Roots) -> Info:
    """What cannot be read of the data root counts as nothing, and is a warning."""
    warnings: list[str] = []
    states: list[str] = []
    images = 0
    try:
        states = [each.state for each in list_containers(roots, all=True)]
    except (PycontainError, OSError) as error:
        warnings.append(f"WARNING: the containers cannot be listed: {error}")
    try:
        images = len(list_images(roots.data_root))
    except (PycontainError, OSError) as error:
        warnings.append(f"WARNING: the images cannot be listed: {error}")
    facts = probe()
    limits = _limits(facts)
    warnings += [f"WARNING: No {_WORDS[name]}" for name, there in limits if not there and name in _WORDS]
    release = _os_release()
    uname = os.uname()
    return Info(
        containers=len(states), running=states.count("running") + states.count("restarting"), paused=states.count("paused"),
        images=images,
        version=__version__, backing_file_system=_file_system(roots.data_root), cgroup_driver="cgroupfs",
        cgroup_version="2" if facts.pure_v2 else "1", kernel=uname.release,
        operating_system=release.get("PRETTY_NAME", "Linux"), os_version=release.get("VERSION_ID", ""), architecture=uname.machine,
        cpus=len(os.sched_getaffinity(0)), memory_bytes=_memory(), name=uname.nodename, data_root=roots.data_root,
        run_root=roots.run_root, security=_security(facts), limits=limits, warnings=tuple(warnings),
    )  # fmt: skip


_WORDS = {
    "MemoryLimit": "memory limit support", "SwapLimit": "swap limit support", "CpuCfsQuota": "cpu cfs quota support",
    "CpuCfsPeriod": "cpu cfs period support", "CPUShares": "cpu shares support", "CPUSet": "cpuset support",
    "PidsLimit": "pids limit support", "OomKillDisable": "oom kill disable support",
}  # fmt: skip


def _limits(facts: HostFacts) -> tuple[tuple[str, bool], ...]:
    have = facts.controllers.keys()
    memory = facts.controllers.get("memory")
    found = [
        ("MemoryLimit", "memory" in have), ("SwapLimit", facts.swap_accounting), ("CpuCfsPeriod", "cpu" in have),
        ("CpuCfsQuota", "cpu" in have), ("CPUShares", "cpu" in have), ("CPUSet", "cpuset" in have), ("PidsLimit", "pids" in have),
    ]  # fmt: skip
    if memory is not None and memory.version == 1:  # v2 has no such thing, and nobody is warned of that
        found.append(("OomKillDisable", True))
    return tuple(found)


def _security(facts: HostFacts) -> tuple[str, ...]:
    found = ["name=apparmor"] if "apparmor" in facts.lsms else []
    found.append("name=seccomp,profile=builtin")
    if "selinux" in facts.lsms:
        found.append("name=selinux")
    if os.geteuid() != 0 or facts.in_user_namespace:
        found.append("name=rootless")
    if facts.pure_v2:
        found.append("name=cgroupns")
    return tuple(found)


def _os_release() -> dict[str, str]:
    """Spec: os-release(5)."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                pairs = [line.strip().partition("=") for line in file if "=" in line and not line.startswith("#")]
        except OSError:
            continue
        return {name: value.strip("\"'") for name, _, value in pairs}
    return {}


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _file_system(path: str) -> str:
    """The type of what the directory, or what will be above it, lies on."""
    while path != "/" and not os.path.exists(path):
        path = os.path.dirname(path)
    path = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.split()
                point = words[4].replace("\\040", " ")
                if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
                    best, kind = point, words[words.index("-") + 1]
    except (OSError, ValueError, IndexError):
        pass
    return _FILE_SYSTEMS.get(kind, kind or "unknown")
