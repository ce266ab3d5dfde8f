"""The OCI runtime-spec document (``config.json``) as typed records, field names as in the specification.

Spec: opencontainers/runtime-spec 1.2, config.md and config-linux.md. Python names: ``noNewPrivileges`` ->
``no_new_privileges``; nothing else is renamed. What a Plan cannot yet express is the next step's work, and is not here:
a field that would be ignored is worse than one that is missing.
"""

from __future__ import annotations

from ..record import record

__all__ = [
    "BlockIO",
    "CPU",
    "Capabilities",
    "DeviceNode",
    "DeviceRule",
    "Linux",
    "Memory",
    "MountPoint",
    "Namespace",
    "Process",
    "Resources",
    "Rlimit",
    "Root",
    "RuntimeSpec",
    "ThrottleDevice",
    "User",
]


@record
class User:
    uid: int = 0
    gid: int = 0
    additional_gids: tuple[int, ...] = ()
    umask: int = 0o022


@record
class Capabilities:
    """Each a set of names ("CAP_CHOWN"). Spec: config.md, "Linux Process", `capabilities`."""

    bounding: frozenset[str] = frozenset()
    effective: frozenset[str] = frozenset()
    inheritable: frozenset[str] = frozenset()
    permitted: frozenset[str] = frozenset()
    ambient: frozenset[str] = frozenset()


@record
class Rlimit:
    type: str  # "RLIMIT_NOFILE"
    soft: int
    hard: int


@record
class Process:
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    terminal: bool = False
    console_size: tuple[int, int] = (0, 0)  # height, width
    user: User = User()
    capabilities: Capabilities = Capabilities()
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    oom_score_adj: int | None = None


@record
class Root:
    """``layers`` (ours, not the specification's): overlay lower directories, topmost first; ``@top`` is the template
    layer. ``path`` is for a root without an overlay."""

    path: str = ""
    readonly: bool = False
    layers: tuple[str, ...] = ()


@record
class MountPoint:
    """Spec: config.md, "Mounts". ``source_is_file`` spares the planner a look at the host."""

    destination: str
    type: str
    source: str = ""
    options: tuple[str, ...] = ()
    source_is_file: bool = False


@record
class Namespace:
    type: str  # pid network mount ipc uts user cgroup time
    path: str = ""


@record
class DeviceNode:
    path: str
    type: str  # c b p
    major: int = 0
    minor: int = 0
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


@record
class DeviceRule:
    allow: bool
    type: str = "a"  # a c b
    major: int | None = None  # None: all
    minor: int | None = None
    access: str = "rwm"


@record
class Memory:
    """Bytes; -1 is unlimited. ``swap`` is memory and swap together, as in the specification."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None


@record
class CPU:
    shares: int | None = None
    quota: int | None = None  # microseconds in each period
    period: int | None = None
    cpus: str | None = None
    mems: str | None = None


@record
class ThrottleDevice:
    major: int
    minor: int
    rate: int


@record
class BlockIO:
    weight: int | None = None
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


@record
class Resources:
    memory: Memory = Memory()
    cpu: CPU = CPU()
    pids_limit: int | None = None  # -1 unlimited
    block_io: BlockIO = BlockIO()
    devices: tuple[DeviceRule, ...] = ()


@record
class Linux:
    namespaces: tuple[Namespace, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    resources: Resources = Resources()
    cgroups_path: str = ""  # relative to each controller's base
    sysctl: tuple[tuple[str, str], ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    seccomp: bytes | None = None  # compiled: an array of struct sock_filter; None is unconfined
    seccomp_flags: int = 0


@record
class RuntimeSpec:
    process: Process
    root: Root
    linux: Linux
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[MountPoint, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    oci_version: str = "1.2.0"
    # files written into the root before the program starts: (path, content, mode)
    files: tuple[tuple[str, bytes, int], ...] = ()
    # host program made visible read-only as /sbin/docker-init's equivalent, run as PID 1
    init: str = ""
