"""Hosts and documents that the tests of planning, disassembling and explaining share."""

from __future__ import annotations

from pycontain.capabilities import CAPABILITIES, DEFAULT
from pycontain.host import Controller, HostFacts
from pycontain.plan import Place
from pycontain.spec.runtime import (
    CPU,
    BlockIO,
    Capabilities,
    DeviceNode,
    DeviceRule,
    Linux,
    Memory,
    MountPoint,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    RuntimeSpec,
    ThrottleDevice,
    User,
)

ALL_CAPS = (1 << len(CAPABILITIES)) - 1
_V1 = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")

HYBRID = HostFacts(
    kernel=(6, 18),
    controllers={
        **{n: Controller(version=1, mount=f"/sys/fs/cgroup/{n}") for n in _V1},
        "hugetlb": Controller(version=2, mount="/sys/fs/cgroup/unified"),
    },
    unified="/sys/fs/cgroup/unified",
    capabilities=ALL_CAPS,
    cpuset_cpus="0-1",
    swap_accounting=True,
)


def pure_v2(*controllers: str, kernel: tuple[int, int] = (6, 1)) -> HostFacts:
    names = controllers or ("cpu", "cpuset", "io", "memory", "pids")
    return HostFacts(
        kernel=kernel,
        controllers={n: Controller(version=2, mount="/sys/fs/cgroup") for n in names},
        unified="/sys/fs/cgroup",
        capabilities=ALL_CAPS,
        cpuset_cpus="0-3",
        swap_accounting=True,
    )


HOSTS = {
    "hybrid-6.18": HYBRID,
    "v2-5.10": pure_v2(kernel=(5, 10)),
    "v2-5.15": pure_v2(kernel=(5, 15)),
    "v2-6.1": pure_v2(),
    "v2-6.6": pure_v2(kernel=(6, 6)),
    "v2-6.18": pure_v2(kernel=(6, 18)),
}
TOO_OLD = pure_v2(kernel=(5, 9))

_IDS = ((0, 1000, 1), (1, 100000, 65536))
_SCOPE = "/user.slice/user-1000.slice/user@1000.service/app.slice/run.scope"


def rootless(kernel: tuple[int, int], *, delegated: bool = True) -> HostFacts:
    """As an ordinary user's process finds it in his user namespace; ``delegated``: in a cgroup that systemd gave him."""
    why = "" if delegated else "this user may write to no cgroup between /sys/fs/cgroup and /sys/fs/cgroup/user.slice"
    base = _SCOPE if delegated else ""
    own = {"cpu", "memory", "pids"} if delegated else set[str]()
    return HostFacts(
        kernel=kernel,
        controllers={
            n: Controller(
                version=2, mount="/sys/fs/cgroup", base=base,
                obstacle="" if n in own else why or f"it is not delegated to /sys/fs/cgroup{base} (systemd: Delegate=yes)",
            )
            for n in ("cpu", "cpuset", "io", "memory", "pids")
        },
        unified="/sys/fs/cgroup", cgroup_base=base, cgroup_obstacle=why, capabilities=ALL_CAPS, swap_accounting=True,
        uid_map=_IDS, gid_map=_IDS,
    )  # fmt: skip


PLACE = Place(
    container_id="c0ffee" * 10 + "beef",
    directory="/var/lib/pycontain/ephemeral/OWNER/" + "c0ffee" * 10 + "beef",
    cgroup_parent="/pycontain/OWNER",
)

DEVICE_RULES = (
    DeviceRule(allow=False),
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="c", major=1, minor=3),
    DeviceRule(allow=True, type="c", major=136),
)

# BPF: load the call's number; getpid (39) is refused with EPERM, all others allowed
SMALL_FILTER = bytes.fromhex("200000000000000015000001270000000600000001000500060000000000ff7f")


def default_spec(args: tuple[str, ...] = ("sh", "-c", "echo hi")) -> RuntimeSpec:
    """What a plain ``pycontain run --memory 64m --cpus 0.5 --pids-limit 32`` comes to, made by hand."""
    caps = DEFAULT
    safe = ("nosuid", "noexec", "nodev")
    return RuntimeSpec(
        hostname="web",
        process=Process(
            args=args, env=("PATH=/usr/bin:/bin", "HOME=/root"),
            capabilities=Capabilities(bounding=caps, effective=caps, permitted=caps),
        ),
        root=Root(layers=("@top", "/var/lib/pycontain/layers/one", "/var/lib/pycontain/layers/two")),
        mounts=(
            MountPoint(destination="/proc", type="proc", options=safe),
            MountPoint(destination="/sys", type="sysfs", options=(*safe, "ro")),
            MountPoint(destination="/dev/shm", type="tmpfs", options=(*safe, "mode=1777", "size=67108864")),
            MountPoint(destination="/data", type="bind", source="/srv/data", options=("rbind", "rro", "rprivate")),
        ),
        linux=Linux(
            namespaces=tuple(Namespace(type=t) for t in ("mount", "pid", "network", "ipc", "uts", "cgroup")),
            resources=Resources(
                memory=Memory(limit=64 << 20, swap=128 << 20), cpu=CPU(quota=50000, period=100000), pids_limit=32,
                devices=DEVICE_RULES,
            ),
            masked_paths=("/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"),
            readonly_paths=("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
            seccomp=SMALL_FILTER,
        ),
    )  # fmt: skip


def everything_spec() -> RuntimeSpec:
    """Every field that a Plan can express."""
    rate = (ThrottleDevice(major=8, minor=0, rate=10 << 20),)
    caps = frozenset(("CAP_NET_RAW",))
    return RuntimeSpec(
        hostname="web",
        domainname="example.org",
        init="/sbin/docker-init",
        files=(("/etc/hosts", b"127.0.0.1\tlocalhost\n", 0o644), ("/etc/blob", b"\xff\x00\xfe", 0o600)),
        process=Process(
            args=("cat", "two words"), env=("A=1",), cwd="/work", terminal=True, console_size=(24, 80),
            user=User(uid=1000, gid=1000, additional_gids=(27, 100), umask=0o077),
            capabilities=Capabilities(bounding=caps, permitted=caps, inheritable=caps, ambient=caps),
            rlimits=(Rlimit(type="RLIMIT_NOFILE", soft=64, hard=-1),), no_new_privileges=True, oom_score_adj=500,
        ),
        root=Root(readonly=True, layers=("@top", "/")),
        mounts=(
            MountPoint(destination="/proc", type="proc"),
            MountPoint(destination="/dev", type="tmpfs", options=("nosuid",)),
            MountPoint(destination="/etc/one", type="bind", source="/srv/one", options=("bind",), source_is_file=True),
        ),
        linux=Linux(
            namespaces=tuple(Namespace(type=t) for t in ("mount", "pid", "network", "ipc", "uts", "cgroup")),
            devices=(DeviceNode(path="/dev/fuse", type="c", major=10, minor=229, uid=5, gid=6),),
            resources=Resources(
                memory=Memory(limit=64 << 20, reservation=32 << 20), pids_limit=-1,
                cpu=CPU(shares=512, cpus="0"), block_io=BlockIO(throttle_read_bps_device=rate), devices=DEVICE_RULES,
            ),
            sysctl=(("net.ipv4.ip_forward", "1"),), masked_paths=("/proc/kcore",), readonly_paths=("/proc/sys",),
            seccomp=SMALL_FILTER,
        ),
    )  # fmt: skip
