"""HostFacts: what this kernel and this process can do. Probed once, then only data: planning does no I/O."""

from __future__ import annotations

import os

from .hierarchies import Controller, cgroup_controllers, survey
from .record import factory, record

__all__ = ["Controller", "HostFacts", "cgroup_controllers", "id_map", "probe"]


@record
class HostFacts:
    """``controllers``: by v1 name, and ``io`` for v2's block I/O. ``unified``: the cgroup v2 mount, or "" when there is
    none; ``cgroup_base``: the path below it where we may make cgroups, ``cgroup_obstacle`` why we may not.
    ``capabilities``: the effective set of this process as a bit mask."""

    kernel: tuple[int, int] = (0, 0)
    machine: str = "x86_64"
    controllers: dict[str, Controller] = factory(default_factory=dict)
    unified: str = ""
    unified_options: str = ""  # of its file system: "nsdelegate,memory_recursiveprot"
    cgroup_base: str = ""
    cgroup_obstacle: str = ""
    capabilities: int = 0
    last_cap: int = 40
    cpuset_cpus: str = "0"
    cpuset_mems: str = "0"
    swap_accounting: bool = False
    # this process's own user namespace: (inside, outside, count) each; empty in the first one, where every id is itself
    uid_map: tuple[tuple[int, int, int], ...] = ()
    gid_map: tuple[tuple[int, int, int], ...] = ()
    missing_namespaces: frozenset[str] = frozenset()  # types that this kernel lacks
    lsms: frozenset[str] = frozenset()  # security modules that are on
    # optional files of the memory and block I/O controllers that a cgroup below the top has here
    memory_files: frozenset[str] = frozenset()

    @property
    def mount_setattr(self) -> bool:
        """Attributes of a mount that is not attached yet, and of all below it (5.12). Before: by mount(2), once it is."""
        return self.kernel >= (5, 12)

    @property
    def overlay_layer_fds(self) -> bool:
        """Overlay takes every layer as a file descriptor (6.13)."""
        return self.kernel >= (6, 13)

    @property
    def overlay_layer_plus(self) -> bool:
        """Overlay takes lower layers one by one, so that a path may be long (6.5)."""
        return self.kernel >= (6, 5)

    @property
    def detached_templates(self) -> bool:
        """A detached mount may be an overlay layer, and may be cloned from another mount namespace (6.15)."""
        return self.kernel >= (6, 15)

    @property
    def open_tree_attr(self) -> bool:
        """A copy of a mount and its attributes in one call (6.15)."""
        return self.kernel >= (6, 15)

    @property
    def in_user_namespace(self) -> bool:
        """This process is not in the first user namespace: its root is somebody's ordinary user."""
        return bool(self.uid_map)

    @property
    def pure_v2(self) -> bool:
        """Every controller that there is lives in cgroup v2."""
        return bool(self.unified) and all(c.version == 2 for c in self.controllers.values())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except OSError:
        return ""


def _kernel(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    digits = ""
    for ch in rest:
        if not ch.isdigit():
            break
        digits += ch
    return (int(major), int(digits or "0")) if major.isdigit() else (0, 0)


def _status_mask(status: str, key: str) -> int:
    at = status.find(key)
    return int(status[at + len(key) :].split(None, 1)[0], 16) if at >= 0 else 0


# file of a cgroup -> a file that stands at the hierarchy's root when there is the other below it (v1 hides bfq's weights
# at the root, but not its counters)
_V1_FILES = {
    "memory": {"memory.memsw.limit_in_bytes": "memory.memsw.limit_in_bytes"},
    "blkio": {"blkio.weight": "blkio.weight", "blkio.bfq.weight": "blkio.bfq.io_service_bytes"},
}
_V2_FILES = {"memory": ("memory.swap.max", "memory.peak"), "io": ("io.weight", "io.bfq.weight")}


def _optional_files(controllers: dict[str, Controller], own: str) -> frozenset[str]:
    """Files that depend on the kernel's configuration. v2 shows none of them at its top, only in a cgroup to which the
    controller was handed down, such as our own, often; elsewhere the kernel answers the write."""
    present: set[str] = set()
    for name, marks in _V1_FILES.items():
        where = controllers.get(name)
        if where is not None and where.version == 1:
            present.update(f for f, mark in marks.items() if os.path.exists(f"{where.mount}/{mark}"))
    for name, files in _V2_FILES.items():
        where = controllers.get(name)
        if where is not None and where.version == 2:
            present.update(f for f in files if os.path.exists(f"{where.mount}{own}/{f}"))
    return frozenset(present)


_NS_FILES = {
    "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "user": "user", "cgroup": "cgroup",
    "time": "time",
}  # fmt: skip
_WHOLE_RANGE = ((0, 0, 4294967295),)


def id_map(text: str) -> tuple[tuple[int, int, int], ...]:
    """The text of /proc/self/uid_map; () for the first user namespace's."""
    lines = (tuple(int(n) for n in line.split()) for line in text.splitlines())
    found = tuple((line[0], line[1], line[2]) for line in lines if len(line) == 3)
    return () if found == _WHOLE_RANGE else found


def _missing_namespaces() -> frozenset[str]:
    return frozenset(kind for kind, file in _NS_FILES.items() if not os.path.exists(f"/proc/self/ns/{file}"))


def _lsms() -> frozenset[str]:
    """The modules that can label a process. securityfs is often not mounted in a container: AppArmor says so itself."""
    found = {name for name in _read("/sys/kernel/security/lsm").strip().split(",") if name}
    if _read("/sys/module/apparmor/parameters/enabled").strip() == "Y":
        found.add("apparmor")
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.add("selinux")
    return frozenset(found)


_memo: HostFacts | None = None


def probe(*, fresh: bool = False) -> HostFacts:
    """The facts of this host, probed at the first call of the process."""
    global _memo
    if _memo is None or fresh:
        found = survey(
            _read("/proc/self/mountinfo"), _read("/proc/self/cgroup"), read=_read, pid=os.getpid(),
            writable=lambda path: os.access(path, os.W_OK),
        )  # fmt: skip
        controllers = found.controllers
        cpuset = controllers.get("cpuset")
        cpus = mems = ""
        if cpuset is not None:
            suffix = ".effective" if cpuset.version == 2 else ""
            cpus = _read(f"{cpuset.mount}{cpuset.base}/cpuset.cpus{suffix}").strip()
            mems = _read(f"{cpuset.mount}{cpuset.base}/cpuset.mems{suffix}").strip()
        uname = os.uname()
        files = _optional_files(controllers, found.own)
        _memo = HostFacts(
            kernel=_kernel(uname.release),
            machine=uname.machine,
            controllers=controllers,
            unified=found.unified,
            unified_options=found.options,
            cgroup_base=found.base,
            cgroup_obstacle=found.obstacle,
            capabilities=_status_mask(_read("/proc/self/status"), "CapEff:"),
            last_cap=int(_read("/proc/sys/kernel/cap_last_cap") or "40"),
            cpuset_cpus=cpus or "0",
            cpuset_mems=mems or "0",
            swap_accounting="memory" in controllers
            and (controllers["memory"].version == 2 or "memory.memsw.limit_in_bytes" in files),
            memory_files=files,
            uid_map=id_map(_read("/proc/self/uid_map")),
            gid_map=id_map(_read("/proc/self/gid_map")),
            missing_namespaces=_missing_namespaces(),
            lsms=_lsms(),
        )
    return _memo
