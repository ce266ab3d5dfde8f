"""What a caller asks for, parsed and typed: the one record that the command line and the Python API both fill.

Nothing here looks at the host; :mod:`pycontain.runtime.generate` turns a request and an image into a RuntimeSpec.
"""

from __future__ import annotations

from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .image.rootfs import Healthcheck
    from .spec.runtime import IDMapping

__all__ = ["Device", "DeviceRate", "Mount", "RunRequest", "Ulimit"]


@record
class Mount:
    """One mount. ``type`` is ``bind``, ``tmpfs`` or ``volume``; ``options`` are OCI mount options beside what the fields say.

    The ``source`` of a volume is its name; "": an anonymous one, to be made.
    """

    type: str
    target: str
    source: str = ""
    read_only: bool = False
    create_source: bool = False  # docker -v creates a missing host directory; --mount does not
    size_bytes: int | None = None  # tmpfs
    mode: int | None = None  # tmpfs
    options: tuple[str, ...] = ()
    anonymous: bool = False  # a volume that goes with its container; it may have got its name by now
    copy: bool = True  # an empty volume begins as the image's directory
    subpath: str = ""  # of a volume: what of it is mounted
    inherited: bool = False  # --volumes-from or the image brought it


@record
class Ulimit:
    """``name`` as in ``ulimit`` lists ("nofile"); -1 is unlimited."""

    name: str
    soft: int
    hard: int


@record
class Device:
    """A host device node made available inside; ``access`` is a subset of "rwm"."""

    source: str
    target: str
    access: str = "rwm"


@record
class DeviceRate:
    """A block I/O limit: ``rate`` in bytes or operations a second on the device node (or file's device) ``path``."""

    path: str
    rate: int


@record
class RunRequest:
    """Everything ``pycontain run`` can ask. ``None`` means unset: the image's or Docker's default applies.

    Sizes in bytes, times in seconds.
    """

    image: str  # "host", "/dir", "./dir", "oci:DIR[:REF]", an image's name or id
    pull: str = "missing"  # "missing" | "always" | "never": when a registry is asked for a name
    platform: str = ""  # "linux/arm64": of the image; "": this machine's
    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None  # None: the image's; (): cleared
    env: tuple[tuple[str, str], ...] = ()
    workdir: str | None = None
    user: str | None = None  # "uid", "name", "uid:gid", "name:group"
    group_add: tuple[str, ...] = ()
    name: str | None = None
    hostname: str | None = None
    domainname: str | None = None
    add_host: tuple[tuple[str, str], ...] = ()  # (host, address)
    labels: tuple[tuple[str, str], ...] = ()
    terminal: bool = False
    init: bool = False
    read_only: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()  # "NET_ADMIN", "CAP_NET_ADMIN", "ALL"
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str | None = (
        None  # None: the default profile; "unconfined"; else the path of a profile in Docker's JSON form
    )
    apparmor: str | None = None  # a profile; "unconfined"; None: none
    selinux_label: str = ""  # of the process: USER:ROLE:TYPE:LEVEL
    masked_paths: bool = True  # --security-opt systempaths=unconfined clears it
    network: str = "none"  # "none" | "host"
    pid: str = "private"  # "private" | "host"
    ipc: str = "private"  # "private" | "host" | "none"
    uts: str = "private"  # "private" | "host"
    cgroupns: str = "private"  # "private" | "host"
    userns: str = "host"  # "host" | "auto" | "auto:size=N" | "keep-id" | "CONTAINER:HOST:SIZE,..."
    uid_mappings: tuple[IDMapping, ...] = ()  # instead of what userns says
    gid_mappings: tuple[IDMapping, ...] = ()
    mounts: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()  # "CONTAINER[:ro|rw]": its binds and volumes as well
    devices: tuple[Device, ...] = ()
    shm_size_bytes: int | None = None
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None  # memory + swap together, as in Docker; -1 unlimited
    memory_reservation_bytes: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_period_us: int | None = None  # of cpu_quota_us; not beside cpus
    cpu_quota_us: int | None = None  # -1 unlimited
    cpu_rt_period_us: int | None = None
    cpu_rt_runtime_us: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None  # -1 unlimited
    blkio_weight: int | None = None  # 10 to 1000
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    oom_score_adj: int | None = None
    stop_signal: str | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    healthcheck: Healthcheck | None = None  # what it leaves open is the image's; only of one that stays
