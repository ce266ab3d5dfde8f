"""Which cgroups a container is in, and in which order what is written there."""

from __future__ import annotations

from ..errors import InvalidArgument
from ..record import record
from .devices import device_group_name, device_program, device_writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import Resources

    Writes = list[tuple[str, str]]

__all__ = ["CGROUP_BASE", "Cgroup", "cgroups", "path_of", "writes_of"]

CGROUP_BASE = "/pycontain"  # of all owners, below each hierarchy's base
USAGE_CPU_V1, USAGE_CPU_V2, USAGE_MEMORY_V1, USAGE_MEMORY_V2, USAGE_IO_V1, USAGE_IO_V2 = range(6)
_USAGE_V1 = {"cpuacct": (USAGE_CPU_V1,), "memory": (USAGE_MEMORY_V1,), "blkio": (USAGE_IO_V1,)}


@record
class Cgroup:
    """One cgroup to be in. ``base``: where below the mount we may make cgroups. ``path``: below the mount, when the
    document names its own; made beforehand then. ``shared``: made beforehand, named ``name``, for it keeps nothing of a
    single container."""

    controllers: tuple[str, ...]
    version: int
    mount: str
    base: str = ""
    path: str = ""
    writes: tuple[tuple[str, str], ...] = ()
    usage: tuple[int, ...] = ()
    shared: bool = False
    name: str = ""
    device_program: bytes = b""

    @property
    def existing(self) -> bool:
        """Made before the Plan runs, and not removed by it."""
        return self.shared or bool(self.path)


def path_of(group: Cgroup, parent: str, container_id: str) -> str:
    """``container_id`` "": of a container that is alone in ``parent``, which is its own then."""
    if group.path:
        return group.mount + group.path
    leaf = group.name or container_id
    return f"{group.mount}{group.base}{parent}" + (f"/{leaf}" if leaf else "")


def _checked_path(cgroups_path: str) -> str:
    """linux.cgroupsPath without its last slashes. Raises InvalidArgument."""
    parts = cgroups_path.strip("/").split("/")
    if ".." in parts or "." in parts or "" in parts:
        raise InvalidArgument(
            f"linux.cgroupsPath: expected a path below each hierarchy without '..', '.' and '//', found {cgroups_path!r}"
        )
    if any(len(p.encode("utf-8", "surrogateescape")) > 255 or set(p) & set("\0\n") for p in parts):
        raise InvalidArgument(f"linux.cgroupsPath: {cgroups_path[:60]!r} has a part that is no name of a cgroup")
    return cgroups_path.rstrip("/")


def _version(name: str, what: str, remedy: str, facts: HostFacts) -> int:
    where = facts.controllers.get(name)
    if where is None or where.obstacle:
        from .refusals import missing

        raise missing(what, name, facts, remedy)
    return where.version


def writes_of(r: Resources, facts: HostFacts) -> dict[str, Writes]:
    """Controller -> (file, value), in order, for all that is asked for; "cgroup" is v2 itself.

    Raises: Unsupported for a limit without its controller or file; InvalidArgument for a value out of range.
    """
    wanted: dict[str, Writes] = {}
    if r.memory != type(r.memory)():
        from .memory import memory_asked, memory_writes

        if memory_asked(r.memory):
            remedy = "Boot with cgroup_enable=memory, or leave out --memory"
            wanted["memory"] = memory_writes(r.memory, facts, _version("memory", "memory", remedy, facts))
    if r.cpu != type(r.cpu)():
        _cpu(r, facts, wanted)
    if r.pids_limit is not None:
        from .counted import pids_writes

        _version("pids", "the number of processes", "Leave out --pids-limit", facts)
        wanted["pids"] = pids_writes(r.pids_limit)
    if r.block_io != type(r.block_io)():
        from .block_io import block_io_writes

        io = "io" if "io" in facts.controllers else "blkio"
        version = _version(io, "block I/O", "Leave out --blkio-weight and --device-*", facts)
        wanted[io] = block_io_writes(r.block_io, facts, version)
    if r.hugepage_limits or r.rdma or r.network != type(r.network)():
        _rarely(r, facts, wanted)
    if r.unified:
        from .unified import unified_writes

        for name, writes in unified_writes(r.unified, facts).items():
            wanted[name] = wanted.get(name, []) + writes  # after our own: it is the more exact wish
    return wanted


def _cpu(r: Resources, facts: HostFacts, wanted: dict[str, Writes]) -> None:
    from .cpu import cpu_asked, cpu_writes, cpuset_writes

    if cpu_asked(r.cpu):
        remedy = "Use a kernel with CONFIG_CFS_BANDWIDTH, or leave out --cpus and --cpu-shares"
        wanted["cpu"] = cpu_writes(r.cpu, facts, _version("cpu", "CPU", remedy, facts))
    if r.cpu.cpus or r.cpu.mems:
        version = _version("cpuset", "the CPUs used", "Leave out --cpuset-cpus", facts)
        wanted["cpuset"] = cpuset_writes(r.cpu, facts, version)


def _rarely(r: Resources, facts: HostFacts, wanted: dict[str, Writes]) -> None:
    if r.hugepage_limits:
        from .counted import hugetlb_writes

        version = _version("hugetlb", "huge pages", "Leave out linux.resources.hugepageLimits", facts)
        wanted["hugetlb"] = hugetlb_writes(r.hugepage_limits, facts, version)
    if r.rdma:
        from .counted import rdma_writes

        _version("rdma", "RDMA", "Leave out linux.resources.rdma", facts)
        wanted["rdma"] = rdma_writes(r.rdma)
    if r.network.class_id is not None or r.network.priorities:
        from .network import net_cls_writes, net_prio_writes

        remedy = "It is of cgroup v1 only: mount it, or leave out linux.resources.network"
        if r.network.class_id is not None:
            _version("net_cls", "network classes", remedy, facts)
            wanted["net_cls"] = net_cls_writes(r.network)
        if r.network.priorities:
            _version("net_prio", "network priorities", remedy, facts)
            wanted["net_prio"] = net_prio_writes(r.network)


def _accounted(facts: HostFacts, everywhere: bool) -> list[str]:
    """Controllers that a container is in though nothing is limited, as far as they can be used: for its accounts, and
    with a cgroup of its own choice, whose other users expect to find it in each, to be frozen and listed too."""
    names = ["cpuacct", "memory", "io" if "io" in facts.controllers else "blkio"]
    if facts.controllers.get("cpu") is not None and facts.controllers["cpu"].version == 2:
        names.append("cpu")  # v2 counts CPU time in every cgroup; the controller says who waited
    if everywhere:
        names += [n for n in ("freezer", "pids", "cpu") if n not in names]
    return [n for n in names if n in facts.controllers and not facts.controllers[n].obstacle]


def cgroups(r: Resources, facts: HostFacts, cgroups_path: str = "") -> tuple[Cgroup, ...]:
    """Every cgroup that a container with these resources is in; controllers mounted together share one.

    ``cgroups_path`` is the document's: absolute, that path below each mount; relative, below our own base; "", a place
    of our choice.
    Raises: Unsupported for a limit without its controller or file; InvalidArgument for a value or a path out of range.
    """
    path = _checked_path(cgroups_path) if cgroups_path else ""
    wanted = writes_of(r, facts)
    for name in _accounted(facts, bool(path)):
        wanted.setdefault(name, [])
    usable_v2 = bool(facts.unified) and not facts.cgroup_obstacle
    core = wanted.pop("cgroup", [])
    by_mount: dict[str, list[str]] = {}
    for name in wanted:
        by_mount.setdefault(facts.controllers[name].mount, []).append(name)
    v1_devices = facts.controllers.get("devices")
    if v1_devices is not None and v1_devices.obstacle:
        v1_devices = None
    if usable_v2 and (facts.pure_v2 or core or path or (r.devices and v1_devices is None)):
        # even without one wanted controller: a place for the device program, to count CPU time, to kill and to freeze
        by_mount.setdefault(facts.unified, [])
    shared_devices = v1_devices if r.devices else None
    if shared_devices is not None and (path or shared_devices.mount in by_mount):  # mounted with one that is limited
        wanted["devices"] = list(device_writes(r.devices))
        by_mount.setdefault(shared_devices.mount, []).append("devices")
        shared_devices = None
    program = (
        device_program(r.devices)
        if r.devices and v1_devices is None and by_mount.get(facts.unified) is not None
        else b""
    )
    if r.devices and v1_devices is None and not usable_v2:
        from .refusals import missing

        raise missing("devices", "devices", facts, "Mount cgroup v2 or the devices hierarchy, or run with --privileged")
    made = [
        _group(facts, mount, sorted(names), wanted, core if mount == facts.unified else [], path, program)
        for mount, names in sorted(by_mount.items())
    ]
    if shared_devices is not None:
        made.append(
            Cgroup(
                controllers=("devices",), version=1, mount=shared_devices.mount, base=shared_devices.base, shared=True,
                name=device_group_name(r.devices),
            )
        )  # fmt: skip
    return tuple(made)


def _group(
    facts: HostFacts, mount: str, names: list[str], wanted: dict[str, Writes], core: Writes, path: str, program: bytes
) -> Cgroup:  # fmt: skip
    v2 = mount == facts.unified
    base = facts.cgroup_base if v2 else facts.controllers[names[0]].base
    return Cgroup(
        controllers=tuple(names),
        version=2 if v2 else 1,
        mount=mount,
        base=base,
        path="" if not path else path if path.startswith("/") else f"{base}{CGROUP_BASE}/{path}",
        writes=(*(w for n in names for w in wanted[n]), *core),
        usage=(USAGE_CPU_V2, USAGE_MEMORY_V2, USAGE_IO_V2)
        if v2
        else tuple(k for n in names for k in _USAGE_V1.get(n, ())),
        device_program=program if v2 else b"",
    )
