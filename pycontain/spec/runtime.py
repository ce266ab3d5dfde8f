"""The OCI runtime-spec document (``config.json``) as typed records, field names as in the specification.

Spec: opencontainers/runtime-spec 1.3, config.md and config-linux.md. Python names: ``noNewPrivileges`` ->
``no_new_privileges``; nothing else is renamed. Every field here is either expressed by the Plan or refused with its
JSON path: one that would be ignored is worse than one that is missing.
"""

from __future__ import annotations

from ..record import record

__all__ = [
    "BlockIO",
    "CPU",
    "CPUAffinity",
    "Capabilities",
    "DeviceNode",
    "DeviceRule",
    "Hook",
    "Hooks",
    "HugepageLimit",
    "IDMapping",
    "IOPriority",
    "IntelRdt",
    "InterfacePriority",
    "Linux",
    "Memory",
    "MemoryPolicy",
    "MountPoint",
    "Namespace",
    "NetDevice",
    "Network",
    "Personality",
    "Process",
    "Rdma",
    "Resources",
    "Rlimit",
    "Root",
    "RuntimeSpec",
    "Scheduler",
    "ThrottleDevice",
    "TimeOffset",
    "User",
    "WeightDevice",
]


@record
class IDMapping:
    """``size`` ids from ``container_id`` on are, outside, those from ``host_id`` on."""

    container_id: int
    host_id: int
    size: int


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
class Scheduler:
    """sched_setattr(2). Times in nanoseconds. ``flags``: "SCHED_FLAG_RESET_ON_FORK", ..."""

    policy: str  # "SCHED_OTHER"
    nice: int = 0
    priority: int = 0
    flags: tuple[str, ...] = ()
    runtime: int = 0
    deadline: int = 0
    period: int = 0


@record
class IOPriority:
    """ioprio_set(2). ``class_``: "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE" or "IOPRIO_CLASS_IDLE"."""

    class_: str
    priority: int = 0


@record
class CPUAffinity:
    """For processes that join a container later (exec). CPU lists: "0-3,7"."""

    initial: str = ""
    final: str = ""


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
    scheduler: Scheduler | None = None
    io_priority: IOPriority | None = None
    exec_cpu_affinity: CPUAffinity | None = None
    apparmor_profile: str = ""
    selinux_label: str = ""


@record
class Root:
    """Either ``path``, a directory of the host that becomes the root as it is, or ``layers`` (ours, not the
    specification's): overlay lower directories, topmost first, below an upper one of the container's own; ``@top`` is the
    template layer."""

    path: str = ""
    readonly: bool = False
    layers: tuple[str, ...] = ()


@record
class MountPoint:
    """Spec: config.md, "Mounts". ``source_is_file`` spares the planner a look at the host.

    A bind has type "bind", whatever the document called it. With mappings, or with the options idmap and ridmap, the
    mount translates owners.
    """

    destination: str
    type: str
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    source_is_file: bool = False
    source_strict: bool = False  # a directory, and no symbolic link on the way to it is followed


@record
class Namespace:
    """``path``: of the namespace to join; empty: a new one. A type that is absent stays the runtime's own."""

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
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


@record
class CPU:
    shares: int | None = None
    quota: int | None = None  # microseconds in each period
    burst: int | None = None  # microseconds
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: int | None = None


@record
class WeightDevice:
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


@record
class ThrottleDevice:
    major: int
    minor: int
    rate: int


@record
class BlockIO:
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


@record
class HugepageLimit:
    page_size: str  # "2MB"
    limit: int  # bytes


@record
class InterfacePriority:
    name: str
    priority: int


@record
class Network:
    """The network controllers of cgroup v1."""

    class_id: int | None = None
    priorities: tuple[InterfacePriority, ...] = ()


@record
class Rdma:
    device: str
    hca_handles: int | None = None
    hca_objects: int | None = None


@record
class Resources:
    """``unified``: files of cgroup v2 as they are, (name, value)."""

    memory: Memory = Memory()
    cpu: CPU = CPU()
    pids_limit: int | None = None  # -1 unlimited
    block_io: BlockIO = BlockIO()
    devices: tuple[DeviceRule, ...] = ()
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: Network = Network()
    rdma: tuple[Rdma, ...] = ()
    unified: tuple[tuple[str, str], ...] = ()


@record
class NetDevice:
    """A link of the host that moves into the container's network namespace, there under ``name``."""

    host_name: str
    name: str = ""


@record
class IntelRdt:
    clos_id: str = ""
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    enable_monitoring: bool = False


@record
class MemoryPolicy:
    """set_mempolicy(2). ``mode``: "MPOL_BIND", ...; ``nodes``: "0-1,3"."""

    mode: str
    nodes: str = ""
    flags: tuple[str, ...] = ()


@record
class Personality:
    domain: str  # "LINUX" or "LINUX32"
    flags: tuple[str, ...] = ()


@record
class TimeOffset:
    clock: str  # "monotonic" or "boottime"
    secs: int = 0
    nanosecs: int = 0


@record
class Linux:
    """``seccomp``: compiled, an array of struct sock_filter, None is unconfined; ``seccomp_source``: the document's own
    object as JSON, which the runtime compiles before it plans."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    time_offsets: tuple[TimeOffset, ...] = ()
    devices: tuple[DeviceNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    resources: Resources = Resources()
    cgroups_path: str = ""  # relative to each controller's base
    rootfs_propagation: str = ""  # "private", "slave", "shared", "unbindable", with or without "r"; "" is rprivate
    sysctl: tuple[tuple[str, str], ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None
    memory_policy: MemoryPolicy | None = None
    intel_rdt: IntelRdt | None = None
    seccomp: bytes | None = None
    seccomp_flags: int = 0
    seccomp_source: bytes | None = None
    seccomp_listener_path: str = ""
    seccomp_listener_metadata: str = ""


@record
class Hook:
    """``timeout``: seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


@record
class Hooks:
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


@record
class RuntimeSpec:
    process: Process
    root: Root
    linux: Linux
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[MountPoint, ...] = ()
    hooks: Hooks = Hooks()
    annotations: tuple[tuple[str, str], ...] = ()
    oci_version: str = "1.3.0"
    # files written into the root before the program starts: (path, content, mode)
    files: tuple[tuple[str, bytes, int], ...] = ()
    # host program made visible read-only as /sbin/docker-init's equivalent, run as PID 1
    init: str = ""
