"""RuntimeSpec + HostFacts -> Plan: which system calls happen in which order, as one flat byte string.

``plan()`` is pure: no I/O, no root; the same input gives the same bytes. The byte format is src/c/plan.h's; what each op
does is said there. This module decides; the C core only executes.

Spec: opencontainers/runtime-spec config.md, config-linux.md (field names in :mod:`pycontain.spec.runtime`).
"""

from __future__ import annotations

import struct

from . import capabilities, limits
from .errors import InvalidArgument, Unsupported
from .ops import (
    CLONE_NS,
    F_CLASSIC,
    F_CREATE,
    F_LAYER_FDS,
    F_LAYER_PLUS,
    F_NOSYMLINK,
    F_OPTIONAL,
    F_RECURSIVE,
    F_VOLATILE,
    PLAN_GATED,
    PLAN_LEAN,
    PLAN_SHARE_VM,
    Op,
    mount_attributes,
    parse_mount_options,
)
from .record import record
from .spec.runtime import BlockIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostFacts
    from .spec.runtime import Process, RuntimeSpec

__all__ = ["HEADER", "ID_TOKEN", "OP", "Place", "Plan", "SHORT_ID_TOKEN", "plan"]

HEADER = struct.Struct("<IIIIQIIIIIIIIIIIi")
OP = struct.Struct("<HHhhIIIIQQQ")
MAGIC = 0x314E4350
VERSION = 1
NO_SLOT = -1

# Stand-ins for a container's id in a Plan that is kept for its shape; no real path or name can hold them.
ID_TOKEN = "\x01" * 64
SHORT_ID_TOKEN = "\x02" * 12

# The slots that every Plan is given, in this order.
STDIN, STDOUT, STDERR, TEMPLATE, TOP = range(5)
GIVEN = ("stdin", "stdout", "stderr", "template", "top")

_RLIMITS = {
    name: number
    for number, name in enumerate(
        (
            "RLIMIT_CPU",
            "RLIMIT_FSIZE",
            "RLIMIT_DATA",
            "RLIMIT_STACK",
            "RLIMIT_CORE",
            "RLIMIT_RSS",
            "RLIMIT_NPROC",
            "RLIMIT_NOFILE",
            "RLIMIT_MEMLOCK",
            "RLIMIT_AS",
            "RLIMIT_LOCKS",
            "RLIMIT_SIGPENDING",
            "RLIMIT_MSGQUEUE",
            "RLIMIT_NICE",
            "RLIMIT_RTPRIO",
            "RLIMIT_RTTIME",
        )
    )
}
_RO_ATTRIBUTES = mount_attributes(("ro", "nosuid", "nodev", "noexec"))
_MS_PRIVATE = 1 << 18
_MS_SLAVE = 1 << 19


@record
class Place:
    """Where this container's things live. ``directory``: its own, made and removed by the Plan; ``cgroup_parent``:
    below each hierarchy's mount, existing; ``disposable``: the upper layer is thrown away (no sync at the end)."""

    container_id: str
    directory: str
    cgroup_parent: str
    disposable: bool = True
    gated: bool = False


@record
class Plan:
    """The bytes, and where the process's strings begin, so that argv and env can be exchanged cheaply."""

    data: bytes
    process_off: int  # offset in ``data`` of the first argv string

    def with_process(self, args: tuple[str, ...], env: tuple[str, ...]) -> Plan:
        """The same Plan for another program and environment."""
        head = list(HEADER.unpack_from(self.data))
        strings_off = head[10]
        block = _strings(args) + _strings(env)
        argv_len = sum(len(a.encode("utf-8", "surrogateescape")) + 1 for a in args)
        argv_off = self.process_off - strings_off
        head[2] = self.process_off + len(block)
        head[11] = head[2] - strings_off
        head[12:16] = argv_off, len(args), argv_off + argv_len, len(env)
        return Plan(
            data=HEADER.pack(*head) + self.data[HEADER.size : self.process_off] + block, process_off=self.process_off
        )

    def with_id(self, container_id: str) -> Plan:
        """A Plan made for ID_TOKEN, for the container ``container_id`` (64 hexadecimal digits)."""
        data = self.data.replace(ID_TOKEN.encode(), container_id.encode())
        return Plan(
            data=data.replace(SHORT_ID_TOKEN.encode(), container_id[:12].encode()), process_off=self.process_off
        )


def _strings(items: tuple[str, ...]) -> bytes:
    return b"".join(_encode(s) + b"\0" for s in items)


def _encode(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise InvalidArgument(f"{text[:60]!r} contains a NUL byte: no path, argument or variable can")
    return data


class _Builder:
    """Collects ops and strings; equal strings share one place in the table."""

    def __init__(self) -> None:
        self.sections: tuple[list[bytes], list[bytes], list[bytes]] = ([], [], [])
        self.table = bytearray(b"\0")
        self.known: dict[bytes, int] = {b"": 0}
        self.n_slots = len(GIVEN)

    def string(self, text: str) -> int:
        data = _encode(text)
        at = self.known.get(data)
        if at is None:
            at = self.known[data] = len(self.table)
            self.table += data + b"\0"
        return at

    def blob(self, data: bytes) -> int:
        self.table += b"\0" * (-len(self.table) % 8)
        at = len(self.table)
        self.table += data + b"\0"  # the table ends in NUL whatever comes last
        return at

    def strings(self, items: tuple[str, ...]) -> int:
        at = len(self.table)
        self.table += _strings(items)
        return at

    def slot(self) -> int:
        self.n_slots += 1
        return self.n_slots - 1

    def add(
        self, section: int, code: int, *, s1: str = "", s2: str = "", s3: int = 0, flags: int = 0, slot: int = NO_SLOT,
        slot2: int = NO_SLOT, n: int = 0, x: int = 0, y: int = 0, z: int = 0,
    ) -> None:  # fmt: skip
        self.sections[section].append(
            OP.pack(code, flags, slot, slot2, self.string(s1), self.string(s2), s3, n, x, y, z)
        )

    def build(
        self, *, flags: int, clone_flags: int, cgroup_slot: int, args: tuple[str, ...], env: tuple[str, ...]
    ) -> Plan:
        ops = b"".join(b"".join(section) for section in self.sections)
        # the table starts 8-byte aligned: the header and the ops are multiples of 8
        strings_off = HEADER.size + len(ops)
        head = HEADER.pack(
            MAGIC, VERSION, strings_off + len(self.table), flags, clone_flags, len(GIVEN), self.n_slots,
            *(len(s) for s in self.sections), strings_off, len(self.table), 0, 0, 0, 0, cgroup_slot,
        )  # fmt: skip
        empty = Plan(data=head + ops + bytes(self.table), process_off=strings_off + len(self.table))
        return empty.with_process(args, env)


P, C, F = 0, 1, 2


def plan(spec: RuntimeSpec, facts: HostFacts, place: Place) -> Plan:
    """The Plan of a container.

    Raises: InvalidArgument when the document contradicts itself; Unsupported when this host cannot do what it asks.
    """
    _check(spec, facts)
    b = _Builder()
    namespaces = {n.type for n in spec.linux.namespaces}
    root_slot = _prepare_root(b, spec, facts, place)
    tree_slots = _prepare_binds(b, spec)
    joins, cgroup_slot = _cgroups(b, spec, facts, place)

    clone_flags = 0
    for kind in namespaces:
        clone_flags |= CLONE_NS[kind]
    late_cgroup_ns = "cgroup" in namespaces and bool(joins)
    if late_cgroup_ns:  # its root is where the process is when it is made: join first
        clone_flags &= ~CLONE_NS["cgroup"]
    if cgroup_slot != NO_SLOT:
        clone_flags |= CLONE_NS["into_cgroup"]

    for slot in joins:
        b.add(C, Op.CGROUP_JOIN, slot=slot)
    if late_cgroup_ns:
        b.add(C, Op.UNSHARE, x=CLONE_NS["cgroup"])
    b.add(C, Op.ROOT_ATTACH, slot=root_slot)
    _mounts(b, spec, tree_slots)
    _files_and_devices(b, spec)
    _kernel_settings(b, spec)
    _cover(b, spec, facts)
    _process(b, spec, "network" in namespaces, "uts" in namespaces)
    _finish(b, spec, facts, place)

    flags = PLAN_LEAN
    # a shared memory only where nobody can look at it: a new pid namespace; and never while waiting for a start
    if "pid" in namespaces and not place.gated:
        flags |= PLAN_SHARE_VM
    if place.gated:
        flags |= PLAN_GATED
    args = (spec.init, "--", *spec.process.args) if spec.init else spec.process.args
    return b.build(flags=flags, clone_flags=clone_flags, cgroup_slot=cgroup_slot, args=args, env=spec.process.env)


def _check(spec: RuntimeSpec, facts: HostFacts) -> None:
    if facts.kernel < (5, 12):
        raise Unsupported(
            f"pycontain needs Linux 5.12 or later (mount_setattr, close_range); this kernel is {facts.kernel[0]}.{facts.kernel[1]}"
        )
    for i, n in enumerate(spec.linux.namespaces):
        if n.type not in CLONE_NS or n.type == "into_cgroup":
            raise InvalidArgument(f"linux.namespaces[{i}].type: unknown namespace {n.type!r}")
        if n.path:
            raise Unsupported(f"linux.namespaces[{i}].path: joining a namespace by its path is not supported yet")
    if not any(n.type == "mount" for n in spec.linux.namespaces):
        raise InvalidArgument("linux.namespaces: a container with a root of its own needs a mount namespace")
    targets = [m.destination for m in spec.mounts]
    for target in targets:
        if targets.count(target) > 1:
            raise InvalidArgument(f"mounts: {target} is the destination of two mounts")


def _prepare_root(b: _Builder, spec: RuntimeSpec, facts: HostFacts, place: Place) -> int:
    if not spec.root.layers:
        raise InvalidArgument("root.layers: expected at least one lower directory, found none")
    for part in ("", "/upper", "/work"):
        b.add(P, Op.DIR_MAKE, s1=place.directory + part, x=0o755 if part == "/upper" else 0o700)
    flags = (F_LAYER_FDS if facts.overlay_layer_fds else 0) | (F_LAYER_PLUS if facts.overlay_layer_plus else 0)
    # A throw-away upper layer is never synced. But fsync is how a program's own writes reach a limited disk: with a
    # limit on block I/O it has to mean what it says, or the limit would seem not to hold.
    if place.disposable and spec.linux.resources.block_io == BlockIO():
        flags |= F_VOLATILE
    layers = tuple(f"@{TOP}" if layer == "@top" else layer for layer in spec.root.layers)
    if not facts.overlay_layer_plus and len(layers) > 13:
        raise Unsupported(
            f"{len(layers)} layers need overlay's lowerdir+ (Linux 6.5); this kernel is {facts.kernel[0]}.{facts.kernel[1]}"
        )
    slot = b.slot()
    b.add(
        P, Op.OVERLAY, s1=place.directory + "/upper", s2=place.directory + "/work", s3=b.strings(layers), n=len(layers),
        slot=slot, flags=flags,
    )  # fmt: skip
    return slot


def _prepare_binds(b: _Builder, spec: RuntimeSpec) -> dict[str, int]:
    """A detached copy of every bind source, made in the parent where host paths can be seen."""
    slots = {}
    for m in spec.mounts:
        if m.type != "bind":
            continue
        slots[m.destination] = slot = b.slot()
        recursive = F_RECURSIVE if "bind" not in m.options else 0
        propagation = _MS_SLAVE if "rslave" in m.options or "slave" in m.options else _MS_PRIVATE
        b.add(P, Op.TREE_CLONE, s1=m.source, slot=slot, flags=recursive, x=mount_attributes(m.options), z=propagation)
    return slots


def _cgroups(b: _Builder, spec: RuntimeSpec, facts: HostFacts, place: Place) -> tuple[list[int], int]:
    """Ops that make and limit the cgroups: (slots to join one by one, slot for CLONE_INTO_CGROUP)."""
    joins: list[int] = []
    into = NO_SLOT
    groups = limits.cgroups(spec.linux.resources, facts, spec.linux.cgroups_path)
    for group in groups:
        path = limits.path_of(group, place.cgroup_parent, place.container_id)
        slot = b.slot()
        b.add(P, Op.CGROUP_OPEN if group.existing else Op.CGROUP_MAKE, s1=path, slot=slot)
        for file, value in group.writes:
            b.add(P, Op.CGROUP_WRITE, s1=file, s2=value, slot=slot)
        if group.device_program:
            b.add(P, Op.CGROUP_DEVICES, slot=slot, s3=b.blob(group.device_program), n=len(group.device_program))
        if group.version == 2:
            into = slot
        else:
            joins.append(slot)
    return joins, into


def _mounts(b: _Builder, spec: RuntimeSpec, tree_slots: dict[str, int]) -> None:
    for m in spec.mounts:
        if m.type == "bind":
            b.add(
                C,
                Op.MOUNT_TREE,
                s1=m.destination,
                slot=tree_slots[m.destination],
                flags=F_CREATE,
                x=int(m.source_is_file),
            )
            continue
        flags, data = parse_mount_options(m.options)
        at_kernel = m.destination.startswith(("/proc", "/sys"))
        b.add(
            C, Op.MOUNT, s1=m.destination, s2=m.type, s3=b.string(data), x=flags,
            flags=F_CREATE | (F_NOSYMLINK if at_kernel else 0),
        )  # fmt: skip


_TYPE_BITS = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
_DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


def _device_number(major: int, minor: int) -> int:
    # the kernel's encoding for mknod: 12 bits of major, 20 of minor
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


def _files_and_devices(b: _Builder, spec: RuntimeSpec) -> None:
    own_dev = any(m.destination == "/dev" and m.type == "tmpfs" for m in spec.mounts)
    if own_dev:
        for name, target in _DEV_LINKS:
            b.add(C, Op.MAKE_LINK, s1=f"/dev/{name}", s2=target)
    for d in spec.linux.devices:
        b.add(
            C, Op.MAKE_NODE, s1=d.path, x=_TYPE_BITS[d.type] | d.file_mode, y=_device_number(d.major, d.minor),
            z=d.uid << 32 | d.gid,
        )  # fmt: skip
    for path, content, mode in spec.files:
        b.add(C, Op.WRITE_FILE, s1=path, s3=b.blob(content), n=len(content), x=mode)


def _kernel_settings(b: _Builder, spec: RuntimeSpec) -> None:
    for name, value in spec.linux.sysctl:
        b.add(C, Op.PROC_WRITE, s1="sys/" + name.replace(".", "/"), s2=value)
    if spec.process.oom_score_adj is not None:
        b.add(C, Op.PROC_WRITE, s1="self/oom_score_adj", s2=str(spec.process.oom_score_adj))


def _cover(b: _Builder, spec: RuntimeSpec, facts: HostFacts) -> None:
    classic = 0 if facts.detached_templates else F_CLASSIC
    for path in spec.linux.masked_paths:
        b.add(C, Op.MASK, s1=path, slot=TEMPLATE, flags=F_OPTIONAL | F_NOSYMLINK | classic)
    for path in spec.linux.readonly_paths:
        copy = 0 if facts.open_tree_attr else F_CLASSIC
        b.add(C, Op.READONLY, s1=path, x=_RO_ATTRIBUTES, flags=F_OPTIONAL | F_NOSYMLINK | copy)


def _process(b: _Builder, spec: RuntimeSpec, own_network: bool, own_uts: bool) -> None:
    p = spec.process
    if p.cwd != "/":
        b.add(C, Op.MAKE_DIR, s1=p.cwd, x=0o755)
    b.add(C, Op.SESSION)
    if p.terminal:
        b.add(C, Op.TTY, x=p.console_size[0], y=p.console_size[1], z=p.user.uid)
    if spec.root.readonly:
        b.add(C, Op.ROOT_READONLY)
    if spec.hostname and own_uts:
        b.add(C, Op.HOSTNAME, s1=spec.hostname)
    if spec.domainname and own_uts:
        b.add(C, Op.DOMAINNAME, s1=spec.domainname)
    if own_network:
        b.add(C, Op.LOOPBACK_UP)
    b.add(C, Op.UMASK, x=p.user.umask)
    if not p.terminal:
        b.add(C, Op.STDIO, slot=STDIN, slot2=STDOUT, n=STDERR)
    b.add(C, Op.CLOSE_FDS, x=3)
    # after the last op that opens anything: the caller's own open files must not count against the program's nofile
    for limit in p.rlimits:
        if limit.type not in _RLIMITS:
            raise InvalidArgument(f"process.rlimits: unknown limit {limit.type!r}")
        b.add(C, Op.RLIMIT, n=_RLIMITS[limit.type], x=limit.soft & (1 << 64) - 1, y=limit.hard & (1 << 64) - 1)
    _privileges(b, spec, p)
    b.add(C, Op.CHDIR, s1=p.cwd)


def _privileges(b: _Builder, spec: RuntimeSpec, p: Process) -> None:
    """Last of all. Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is loaded before the capabilities go."""
    caps = p.capabilities
    b.add(C, Op.CAP_BOUND, x=capabilities.mask(caps.bounding))
    filters = spec.linux.seccomp
    if filters is not None and not p.no_new_privileges:
        b.add(C, Op.SECCOMP, s3=b.blob(filters), n=len(filters), x=spec.linux.seccomp_flags)
    gids = struct.pack(f"<{len(p.user.additional_gids)}I", *p.user.additional_gids)
    b.add(C, Op.IDS, x=p.user.uid, y=p.user.gid, s3=b.blob(gids), n=len(gids))
    b.add(
        C, Op.CAPS, x=capabilities.mask(caps.effective), y=capabilities.mask(caps.permitted),
        z=capabilities.mask(caps.inheritable),
    )  # fmt: skip
    if caps.ambient:
        b.add(C, Op.CAP_AMBIENT, x=capabilities.mask(caps.ambient))
    b.add(C, Op.PDEATHSIG, x=9)
    if p.no_new_privileges:
        b.add(C, Op.NO_NEW_PRIVS)
        if filters is not None:
            b.add(C, Op.SECCOMP, s3=b.blob(filters), n=len(filters), x=spec.linux.seccomp_flags)


def _finish(b: _Builder, spec: RuntimeSpec, facts: HostFacts, place: Place) -> None:
    groups = [
        (g, limits.path_of(g, place.cgroup_parent, place.container_id))
        for g in limits.cgroups(spec.linux.resources, facts, spec.linux.cgroups_path)
        if not g.shared
    ]
    for group, path in groups:
        for kind in group.usage:
            b.add(F, Op.USAGE, s1=path, x=kind)
    for group, path in groups:
        if not group.existing:
            b.add(F, Op.CGROUP_REMOVE, s1=path)
    b.add(F, Op.TREE_REMOVE, s1=place.directory)
