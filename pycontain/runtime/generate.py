"""RunRequest + what was looked up -> RuntimeSpec: Docker's defaults made explicit. Pure, but for the seccomp cache.

Spec: opencontainers/runtime-spec config.md; the defaults are Docker's (docs.docker.com, "docker container run").
"""

from __future__ import annotations

from .. import capabilities
from ..errors import InvalidArgument, Unsupported
from ..image.rootfs import DEFAULT_PATH
from ..mount_options import ATTRIBUTE_WORDS
from ..plan_namespaces import host_id
from ..record import replaced
from ..request import Mount
from ..spec.runtime import (
    BlockIO,
    Capabilities,
    DeviceNode,
    DeviceRule,
    Linux,
    MountPoint,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    RuntimeSpec,
    User,
)
from .look import has_dev_volume
from .request_limits import limits_of
from .userns import check_mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..request import RunRequest
    from .look import Resolved
    from .userns import Mappings

__all__ = ["DEFAULT_SHM", "MASKED_PATHS", "READONLY_PATHS", "environment", "generate", "init_target", "program_args"]

_INIT_TARGET = "/sbin/docker-init"
_INIT_TARGET_SHOWN = "/run/docker-init"  # where /sbin is this machine's own, and read-only

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DEFAULT_SHM = 64 << 20
_SAFE = ("nosuid", "noexec", "nodev")
_SEEN = ("rbind", "rprivate", "rnosuid", "rnoexec", "rnodev")

# mknod of anything, use of these only (Docker's list)
DEVICE_RULES = (
    DeviceRule(allow=False),
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(
        DeviceRule(allow=True, type="c", major=a, minor=b)
        for a, b in ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))
    ),
    DeviceRule(allow=True, type="c", major=136),
)
NODES = tuple(
    DeviceNode(path=f"/dev/{name}", type="c", major=a, minor=b)
    for name, a, b in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
)


def program_args(request: RunRequest, found: Resolved) -> tuple[str, ...]:
    """Entrypoint and arguments. Spec: image-spec config.md, `Entrypoint`, `Cmd`. Raises InvalidArgument."""
    config = found.rootfs.config
    overridden = request.entrypoint is not None  # then the image's Cmd, made for its own entrypoint, goes too
    args = (
        (*(request.entrypoint or ()), *request.args)
        if overridden
        else (*config.entrypoint, *(request.args or config.cmd))
    )
    if not args:
        raise InvalidArgument(
            f"no command: the image {request.image} has none of its own. Give a program after the image"
        )
    return args


def init_target(found: Resolved) -> str:
    """The path inside of what --init makes process 1."""
    return _INIT_TARGET_SHOWN if found.rootfs.shown else _INIT_TARGET


def environment(request: RunRequest, found: Resolved, hostname: str) -> tuple[str, ...]:
    """The image's variables, then Docker's own, then the caller's; a later one replaces an earlier of its name."""
    merged = {"PATH": DEFAULT_PATH}
    if hostname:
        merged["HOSTNAME"] = hostname
    if request.terminal:
        merged["TERM"] = "xterm"
    for item in found.rootfs.config.env:
        name, _, value = item.partition("=")
        merged[name] = value
    merged.update(request.env)
    merged.setdefault("HOME", found.home or "/")
    return tuple(f"{name}={value}" for name, value in merged.items())


def _namespaces(request: RunRequest, maps: Mappings) -> tuple[Namespace, ...]:
    kinds = ["mount"]
    if maps[0]:
        kinds.append("user")
    if request.pid == "private":
        kinds.append("pid")
    if request.network != "host":
        kinds.append("network")
    if request.ipc != "host":
        kinds.append("ipc")
    if request.uts == "private":
        kinds.append("uts")
    if request.cgroupns == "private":
        kinds.append("cgroup")
    return tuple(Namespace(type=k) for k in kinds)


def _own_dev(request: RunRequest, found: Resolved, facts: HostFacts) -> bool:
    """/dev is a tmpfs with nodes of its own, rather than part of the root's topmost layer. A volume on /dev is the caller's:
    nodes made there would be the host's."""
    wanted = request.read_only or request.privileged or facts.in_user_namespace
    return wanted and not has_dev_volume((*request.mounts, *found.declared))


_TTY_GROUP = 5


def _has_tty_group(maps: Mappings, facts: HostFacts) -> bool:
    """A namespace of few ids may have none for it; terminals then belong to the group of whoever opens them."""
    if maps[1]:
        return host_id(maps[1], _TTY_GROUP) is not None
    return not facts.gid_map or any(inside <= _TTY_GROUP < inside + n for inside, _, n in facts.gid_map)


def _kernel_mounts(request: RunRequest, found: Resolved, facts: HostFacts, maps: Mappings) -> list[MountPoint]:
    mapped = bool(maps[0])
    lesser = mapped or facts.in_user_namespace  # root of it may mount the proc and sys of its own namespaces only
    mounts = [
        MountPoint(destination="/proc", type="bind", source="/proc", options=_SEEN)
        if lesser and request.pid == "host"
        else MountPoint(destination="/proc", type="proc", options=_SAFE)
    ]
    if _own_dev(request, found, facts):
        # elsewhere /dev comes with the root's topmost layer; a read-only root still has a /dev that can be written
        mounts.append(
            MountPoint(destination="/dev", type="tmpfs", options=("nosuid", "strictatime", "mode=755", "size=65536k"))
        )
    mounts.append(
        MountPoint(
            destination="/dev/pts",
            type="devpts",
            options=(
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                *((f"gid={_TTY_GROUP}",) if _has_tty_group(maps, facts) else ()),
            ),
        )
    )
    writable = () if request.privileged else ("ro",)
    if lesser and request.network == "host":
        readable = () if request.privileged else ("rro",)
        mounts.append(MountPoint(destination="/sys", type="bind", source="/sys", options=(*_SEEN, *readable)))
    else:
        mounts.append(MountPoint(destination="/sys", type="sysfs", options=(*_SAFE, *writable)))
    if facts.pure_v2:
        mounts.append(MountPoint(destination="/sys/fs/cgroup", type="cgroup2", options=(*_SAFE, "relatime", *writable)))
    # shows the queues of the ipc namespace that it is mounted in, so the host's with --ipc=host, mounted there or not; a
    # lesser root may not mount the host's: the queues are there all the same, by mq_open(3)
    if not (lesser and request.ipc == "host"):
        mounts.append(MountPoint(destination="/dev/mqueue", type="mqueue", options=_SAFE))
    if request.ipc == "host":
        mounts.append(MountPoint(destination="/dev/shm", type="bind", source="/dev/shm", options=("rbind",)))
    if request.ipc == "private":
        size = request.shm_size_bytes or DEFAULT_SHM
        mounts.append(MountPoint(destination="/dev/shm", type="tmpfs", options=(*_SAFE, "mode=1777", f"size={size}")))
    return mounts


def _user_mount(m: Mount, bind: tuple[str, bool] | None, facts: HostFacts, *, mapped: bool) -> MountPoint:
    if bind is not None:
        words = m.options or ("rbind", "rprivate")
        if "bind" not in words:  # what is said of a tree holds for all of it, as -v and --mount of Docker have it
            words = tuple(f"r{w}" if w in ATTRIBUTE_WORDS else w for w in words)
        options = (*words, *((("ro" if "bind" in words else "rro"),) if m.read_only else ()))
        if (
            mapped and not facts.in_user_namespace and "noidmap" not in words
        ):  # its files have the owners inside that they have outside
            options = (*options, "idmap" if "bind" in words else "ridmap")
        return MountPoint(destination=m.target, type="bind", source=bind[0], options=options, source_is_file=bind[1])
    given = {o.partition("=")[0] for o in m.options}
    defaults = tuple(o for o in _SAFE if {"nosuid": "suid", "noexec": "exec", "nodev": "dev"}[o] not in given)
    extra = list(m.options)
    if m.size_bytes is not None:
        extra.append(f"size={m.size_bytes}")
    if m.mode is not None or "mode" not in given:
        extra.append(f"mode={m.mode if m.mode is not None else 0o1777:o}")
    return MountPoint(
        destination=m.target, type="tmpfs", options=(*defaults, *extra, *(("ro",) if m.read_only else ()))
    )


def _volume(m: Mount, path: str, strict: bool, volumes_dir: str, facts: HostFacts, *, mapped: bool) -> MountPoint:
    """Its files have the owners inside that they have in the volume, whatever the container's id map."""
    source = f"{volumes_dir}/{path[1:]}/_data" if path.startswith("@") else path
    return replaced(_user_mount(m, (source, False), facts, mapped=mapped), source_strict=strict)


def _mounts(
    request: RunRequest, found: Resolved, facts: HostFacts, init_source: str, maps: Mappings, volumes_dir: str
) -> tuple[MountPoint, ...]:
    mapped = bool(maps[0])
    shown = [
        MountPoint(destination=path, type="bind", source=path, options=("rbind", "rprivate", "rro"))
        for path in found.rootfs.shown
    ]
    mounts = [*shown, *_kernel_mounts(request, found, facts, maps)]
    binds, sources = iter(found.binds), iter(found.sources)
    own = [
        _volume(m, *next(sources), volumes_dir, facts, mapped=mapped)
        if m.type == "volume"
        else _user_mount(m, next(binds) if m.type == "bind" else None, facts, mapped=mapped)
        for m in (*request.mounts, *found.declared)
    ]
    taken = {m.destination for m in own}
    mounts = [m for m in mounts if m.destination not in taken]  # `--tmpfs /dev/shm:size=1g` replaces the default
    own.sort(key=lambda m: m.destination.count("/"))  # stable: a mount below another comes after it
    if request.init:
        own.append(
            MountPoint(
                destination=init_target(found),
                type="bind",
                source=init_source,
                options=("rbind", "ro", "rprivate"),
                source_is_file=True,
            )
        )
    return (*mounts, *own)


def _capabilities(request: RunRequest, facts: HostFacts, uid: int, *, mapped: bool) -> Capabilities:
    # the first process of a user namespace has all of them, over what belongs to that namespace
    available = frozenset(capabilities.names((2 << facts.last_cap) - 1 if mapped else facts.capabilities))
    base = frozenset(capabilities.CAPABILITIES) if request.privileged else capabilities.DEFAULT
    add = frozenset(capabilities.parse(c) for c in request.cap_add)
    drop = frozenset(capabilities.parse(c) for c in request.cap_drop)
    missing = add - available - {"ALL"}
    if missing:
        raise Unsupported(
            f"cannot add {', '.join(sorted(missing))}: this process does not have it itself. `pycontain doctor` lists what it has"
        )
    if "ALL" in add:
        base = frozenset(capabilities.CAPABILITIES)
    if "ALL" in drop:
        base = frozenset()
    kept = ((base | add) - drop - {"ALL"}) & available
    held = kept if uid == 0 else frozenset()
    # inheritable stays empty: a file capability must not bring back what was dropped (2022-24769)
    return Capabilities(bounding=kept, effective=held, permitted=held)


def _resources(request: RunRequest, found: Resolved) -> Resources:
    read_bps, write_bps, read_iops, write_iops = found.rates
    return replaced(
        limits_of(request),
        block_io=BlockIO(
            weight=request.blkio_weight, throttle_read_bps_device=read_bps, throttle_write_bps_device=write_bps,
            throttle_read_iops_device=read_iops, throttle_write_iops_device=write_iops,
        ),
        devices=() if request.privileged else (*DEVICE_RULES, *found.device_rules),
    )  # fmt: skip


def _as_far_as_possible(r: Resources, request: RunRequest, facts: HostFacts) -> Resources:
    """Without what nobody asked for and this host cannot do: swap that is not accounted; our own device rules in a user
    namespace, which has no device nodes but those that are bound into it."""
    if facts.in_user_namespace:
        r = replaced(r, devices=())
    if request.memory_swap_bytes is None and not facts.swap_accounting:
        r = replaced(r, memory=replaced(r.memory, swap=None))
    return r


def _seccomp(
    request: RunRequest, found: Resolved, caps: Capabilities, facts: HostFacts, cache_dir: str
) -> tuple[bytes | None, int]:
    if request.seccomp == "unconfined" or (request.privileged and request.seccomp is None):
        return None, 0
    from ..seccomp.cache import default_filter, profile_filter

    if found.seccomp_profile is None:
        return default_filter(caps.bounding, facts.machine, facts.kernel, cache_dir), 0
    from ..seccomp.profile import flag_bits, parse_docker_profile

    flags = flag_bits(parse_docker_profile(found.seccomp_profile, caps.bounding, facts.machine, facts.kernel))
    return profile_filter(found.seccomp_profile, caps.bounding, facts.machine, facts.kernel, cache_dir), flags


_LOCALHOST = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


def _files(request: RunRequest, found: Resolved, hostname: str) -> tuple[tuple[str, bytes, int], ...]:
    files = dict(found.host_files)
    if found.rootfs.shown and (request.add_host or request.hostname is not None):
        raise Unsupported(
            "cannot write the container's /etc/hosts and /etc/hostname: for an ordinary user the image host has this machine's own "
            "/etc, read-only. Leave out --hostname and --add-host, or use another image"
        )
    if request.hostname is not None:
        files["/etc/hostname"] = request.hostname.encode() + b"\n"
    if request.add_host or (request.hostname is not None and request.network != "host"):
        lines = files.get("/etc/hosts", b"" if request.network == "host" else _LOCALHOST.encode()).decode(
            "utf-8", "surrogateescape"
        )
        if request.hostname is not None and request.network != "host":
            lines += f"127.0.1.1\t{request.hostname}\n"
        lines += "".join(f"{address}\t{name}\n" for name, address in request.add_host)
        files["/etc/hosts"] = lines.encode("utf-8", "surrogateescape")
    return tuple((path, content, 0o644) for path, content in files.items())


def generate(
    request: RunRequest,
    found: Resolved,
    facts: HostFacts,
    maps: Mappings,
    *,
    short_id: str,
    console_size: tuple[int, int],
    cache_dir: str,
    init_source: str,
    volumes_dir: str = "",
) -> RuntimeSpec:
    """The document of the container that ``request`` asks for. Raises InvalidArgument, Unsupported."""
    hostname = request.hostname or ("" if request.uts == "host" else short_id)
    mapped = bool(maps[0])
    check_mapped(maps, facts, found.uid, found.gid, found.additional_gids)
    caps = _capabilities(request, facts, found.uid, mapped=mapped)
    filters, flags = _seccomp(request, found, caps, facts, cache_dir)
    covered = request.masked_paths and not request.privileged
    own_dev = _own_dev(request, found, facts)
    return RuntimeSpec(
        hostname=hostname,
        domainname=request.domainname or "",
        root=Root(readonly=request.read_only, layers=("@top", *found.rootfs.lower)),
        mounts=_mounts(request, found, facts, init_source, maps, volumes_dir),
        files=_files(request, found, hostname),
        init=init_target(found) if request.init else "",
        process=Process(
            args=program_args(request, found),
            env=environment(request, found, hostname),
            cwd=request.workdir or found.rootfs.config.working_dir or "/",
            terminal=request.terminal,
            console_size=console_size,
            user=User(uid=found.uid, gid=found.gid, additional_gids=found.additional_gids),
            capabilities=caps,
            rlimits=tuple(Rlimit(type=f"RLIMIT_{u.name.upper()}", soft=u.soft, hard=u.hard) for u in request.ulimits),
            no_new_privileges=request.no_new_privileges,
            oom_score_adj=request.oom_score_adj,
            # "unconfined" asks for nothing where there is no AppArmor to be unconfined by
            apparmor_profile="" if request.apparmor == "unconfined" and "apparmor" not in facts.lsms else request.apparmor or "",
            selinux_label=request.selinux_label,
        ),
        linux=Linux(
            namespaces=_namespaces(request, maps),
            uid_mappings=maps[0],
            gid_mappings=maps[1],
            devices=(*(NODES if own_dev else ()), *found.devices),
            resources=_as_far_as_possible(_resources(request, found), request, facts),
            sysctl=request.sysctls,
            masked_paths=MASKED_PATHS if covered else (),
            readonly_paths=READONLY_PATHS if covered else (),
            seccomp=filters,
            seccomp_flags=flags,
        ),
        annotations=request.annotations,
    )  # fmt: skip
