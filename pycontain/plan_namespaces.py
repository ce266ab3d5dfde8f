"""Which namespaces a container is born into, joins, or makes for itself, and with which user ids. Pure.

Spec: opencontainers/runtime-spec config-linux.md, "Namespaces", "User namespace mappings", "Offset for Time Namespace".
"""

from __future__ import annotations

from .errors import InvalidArgument, Unsupported
from .ops import CLONE_NS, Op
from .plan_bytes import C, P
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostFacts
    from .plan_bytes import Builder
    from .spec.runtime import IDMapping, Linux

__all__ = ["Birth", "birth", "check_namespaces", "enter", "host_id", "map_text", "userns_slot"]

# setns: what is owned by a user namespace before that namespace itself, with whose arrival the caller's powers go
_JOIN_ORDER = ("cgroup", "ipc", "uts", "network", "pid", "time", "mount", "user")
# Nobody in a namespace that is joined may find the engine's memory in one of its processes (2016-9962).
_OWN_MEMORY = frozenset(("pid", "user", "mount", "time"))
# exec moves a process into the time namespace that it has made for its children (before: only a fork does)
_TIME_BY_EXEC = (6, 3)


@record
class Birth:
    """How the first process comes to its namespaces. ``clone``: flags of clone3; ``fork``: flags of the second clone that
    some joins need, or None; ``pivot``: there is more below the root than an empty directory."""

    new: frozenset[str]
    joined: tuple[tuple[str, str], ...]
    clone: int
    fork: int | None
    late_cgroup: bool
    late_ipc: bool
    own_memory: bool
    visible: bool
    pivot: bool


def host_id(mappings: tuple[IDMapping, ...], container_id: int) -> int | None:
    """The id outside for ``container_id`` inside; None when it has none."""
    for m in mappings:
        if m.container_id <= container_id < m.container_id + m.size:
            return m.host_id + container_id - m.container_id
    return None


def map_text(mappings: tuple[IDMapping, ...]) -> str:
    """As /proc/PID/uid_map takes it."""
    return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings)


def check_namespaces(linux: Linux, facts: HostFacts) -> None:
    """Raises InvalidArgument for a contradiction, Unsupported for a kind that this kernel lacks."""
    seen: dict[str, str] = {}
    for i, n in enumerate(linux.namespaces):
        if n.type not in CLONE_NS or n.type == "into_cgroup":
            raise InvalidArgument(f"linux.namespaces[{i}].type: unknown namespace {n.type!r}")
        if n.type in seen:
            raise InvalidArgument(f"linux.namespaces[{i}].type: {n.type!r} is listed twice")
        if n.type in facts.missing_namespaces:
            raise Unsupported(f"linux.namespaces[{i}]: this kernel has no {n.type} namespaces")
        seen[n.type] = n.path
    if "mount" not in seen:
        raise InvalidArgument("linux.namespaces: a container with a root of its own needs a mount namespace")
    new_user, joined_user = seen.get("user") == "", bool(seen.get("user"))
    if new_user and not (linux.uid_mappings and linux.gid_mappings):
        raise InvalidArgument("linux.uidMappings: a new user namespace needs uidMappings and gidMappings")
    if not (new_user or joined_user) and (linux.uid_mappings or linux.gid_mappings):
        raise InvalidArgument("linux.uidMappings: mappings are for a new user namespace, and linux.namespaces has none")
    for what, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        if mappings and host_id(mappings, 0) is None:
            raise InvalidArgument(
                f"linux.{what}: id 0 of the container is mapped to nothing, and the set-up runs as it"
            )
    if linux.time_offsets and seen.get("time") != "":
        raise InvalidArgument("linux.timeOffsets: offsets are for a new time namespace, and linux.namespaces has none")


def birth(linux: Linux, facts: HostFacts, *, into_cgroup: bool, joins_cgroups: bool) -> Birth:
    """The way into the namespaces of ``linux``, which check_namespaces has seen."""
    paths = {n.type: n.path for n in linux.namespaces}
    new = frozenset(kind for kind, path in paths.items() if not path)
    joined = tuple((kind, paths[kind]) for kind in _JOIN_ORDER if paths.get(kind))
    kinds = {kind for kind, _ in joined}
    late_cgroup = "cgroup" in new and joins_cgroups  # its root is where the process is when it is made: join first
    # made by root of the new user namespace, whose its files (/dev/mqueue) then are
    late_ipc = {"ipc"} & new if "user" in new else frozenset()
    born = new - {"time"} - late_ipc - ({"cgroup"} if late_cgroup else frozenset())
    by_fork = bool(kinds & {"pid", "user", "time"}) or ("user" in new and bool(kinds))
    time_by_fork = "time" in new and facts.kernel < _TIME_BY_EXEC
    clone, fork = _flags(born), None
    if by_fork:
        clone, fork = 0, clone
    elif time_by_fork:
        clone, fork = _flags(born - {"pid"}), _flags(born & {"pid"})
    if into_cgroup:
        clone |= CLONE_NS["into_cgroup"]
    visible = "user" in paths or facts.in_user_namespace
    return Birth(
        new=new, joined=joined, clone=clone, fork=fork, late_cgroup=late_cgroup, late_ipc=bool(late_ipc),
        own_memory=bool(kinds & _OWN_MEMORY) or fork is not None or "pid" not in new, visible=visible,
        pivot=visible or "mount" in kinds,
    )  # fmt: skip


def _flags(kinds: frozenset[str]) -> int:
    flags = 0
    for kind in kinds:
        flags |= CLONE_NS[kind]
    return flags


def enter(b: Builder, linux: Linux, way: Birth, cgroup_joins: list[int]) -> None:
    """The child's first ops: cgroups, joined namespaces, ids, what is made late."""
    slots = {}
    for kind, path in way.joined:
        slots[kind] = b.slot()
        b.add(P, Op.NS_OPEN, s1=path, slot=slots[kind], x=CLONE_NS[kind])
    for slot in cgroup_joins:
        b.add(C, Op.CGROUP_JOIN, slot=slot)
    if "user" in slots:  # inside, setgroups may be forbidden: nothing of ours comes along
        _become_root(b)
    for kind, _ in way.joined:
        b.add(C, Op.SETNS, slot=slots[kind], x=CLONE_NS[kind])
    if "user" in slots:
        _become_root(b)
    if way.fork is not None and way.joined:
        b.add(C, Op.FORK, x=way.fork)
    if "user" in way.new:
        b.add(C, Op.ID_MAPS, s1=map_text(linux.uid_mappings), s2=map_text(linux.gid_mappings))
        _become_root(b)
    late = (CLONE_NS["cgroup"] if way.late_cgroup else 0) | (CLONE_NS["ipc"] if way.late_ipc else 0)
    if late:
        b.add(C, Op.UNSHARE, x=late)
    if "time" in way.new:
        b.add(C, Op.UNSHARE, x=CLONE_NS["time"])
        if linux.time_offsets:
            text = "".join(f"{t.clock} {t.secs} {t.nanosecs}\n" for t in linux.time_offsets)
            b.add(C, Op.PARENT_WRITE, s1="timens_offsets", s2=text)
    if way.fork is not None and not way.joined:
        b.add(C, Op.FORK, x=way.fork)


def _become_root(b: Builder) -> None:
    """Root of the user namespace, with no group from outside."""
    b.add(C, Op.IDS, x=0, y=0, s3=b.blob(b""), n=0)


def userns_slot(b: Builder, uid: tuple[IDMapping, ...], gid: tuple[IDMapping, ...]) -> int:
    """A slot with a user namespace that only translates owners."""
    slot = b.slot()
    b.add(P, Op.USERNS_MAKE, s1=map_text(uid), s2=map_text(gid), slot=slot)
    return slot
