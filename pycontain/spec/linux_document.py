"""The section ``linux`` of config.json. Spec: config-linux.md."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument
from .id_mappings import parse_mappings
from .mount_document import inside_root
from .node import ID, INT64, Node, Whole, complaint, quoted
from .resources_document import MAJOR, MINOR, interface_name, parse_resources
from .runtime import (
    DeviceNode,
    IntelRdt,
    Linux,
    MemoryPolicy,
    Namespace,
    NetDevice,
    Personality,
    TimeOffset,
)
from .seccomp_document import parse_seccomp

__all__ = ["parse_linux"]

_NAMESPACES = frozenset(("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"))
_CLOCKS = frozenset(("monotonic", "boottime"))
_PROPAGATIONS = frozenset(
    ("private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"),
)
_DOMAINS = frozenset(("LINUX", "LINUX32"))
_MODES = frozenset((
    "MPOL_DEFAULT", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE", "MPOL_PREFERRED", "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
))  # fmt: skip
_MODE_FLAGS = frozenset(("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"))
_FILE_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
_NANOSECONDS = Whole(0, 999_999_999, "an integer of nanoseconds")
_FILE_MODE = Whole(0, 0o177777, "a file mode in decimal")


def parse_linux(node: Node) -> Linux:
    """Without the section: no namespace is the container's own."""
    namespaces = _namespaces(node)
    seccomp = parse_seccomp(node.child("seccomp"))
    return Linux(
        namespaces=namespaces,
        uid_mappings=parse_mappings(node, "uidMappings"),
        gid_mappings=parse_mappings(node, "gidMappings"),
        time_offsets=tuple(_time_offset(name, item) for name, item in node.entries("timeOffsets")),
        devices=_devices(node),
        net_devices=_net_devices(node),
        resources=parse_resources(node.child("resources")),
        cgroups_path=_cgroups_path(node),
        rootfs_propagation=_propagation(node),
        sysctl=_sysctls(node, frozenset(n.type for n in namespaces)),
        masked_paths=tuple(item.as_path() for item in node.items("maskedPaths")),
        readonly_paths=tuple(item.as_path() for item in node.items("readonlyPaths")),
        mount_label=node.text("mountLabel"),
        personality=_personality(node.child("personality")),
        memory_policy=_memory_policy(node.child("memoryPolicy")),
        intel_rdt=_intel_rdt(node.child("intelRdt")),
        seccomp_flags=seccomp.flags,
        seccomp_source=seccomp.source,
        seccomp_listener_path=seccomp.listener_path,
        seccomp_listener_metadata=seccomp.listener_metadata,
    )


def _namespaces(node: Node) -> tuple[Namespace, ...]:
    found: dict[str, Namespace] = {}
    for item in node.items("namespaces"):
        place = item.child("type")
        kind = place.one_of(_NAMESPACES, "a type of namespace")
        if kind in found:
            raise complaint(place.path, "each type once", f"{quoted(kind)} again")
        path = item.child("path").as_path() if item.text("path") else ""
        found[kind] = Namespace(type=kind, path=path)
    return tuple(found.values())


def _time_offset(clock: str, node: Node) -> TimeOffset:
    if clock not in _CLOCKS:
        raise complaint(node.path, "the clock monotonic or boottime", quoted(clock))
    return TimeOffset(
        clock=clock, secs=node.whole("secs", INT64) or 0, nanosecs=node.whole("nanosecs", _NANOSECONDS) or 0
    )


def _devices(node: Node) -> tuple[DeviceNode, ...]:
    found: dict[str, DeviceNode] = {}
    for item in node.items("devices"):
        device = _device(item)
        if found.setdefault(device.path, device) != device:
            raise complaint(item.child("path").path, "each path once", f"another device at {quoted(device.path)}")
    return tuple(found.values())


def _device(node: Node) -> DeviceNode:
    place = node.child("path")
    place.as_path()
    kind = node.child("type").one_of(tuple(_FILE_TYPES), "a type of device")
    numbered = kind != "p"
    mode = node.whole("fileMode", _FILE_MODE)
    if mode is not None and mode & 0o170000 not in (0, _FILE_TYPES[kind]):
        raise node.child("fileMode").bad(f"a file mode in decimal, of a device of type {kind}")
    return DeviceNode(
        path=inside_root(place),
        type="c" if kind == "u" else kind,  # mknod(1): an unbuffered one, which is the same
        major=node.child("major").as_whole(MAJOR) if numbered else 0,
        minor=node.child("minor").as_whole(MINOR) if numbered else 0,
        # Docker before 20.10 wrote the type's bits too
        file_mode=0o666 if mode is None else mode & 0o7777,
        uid=node.whole("uid", ID) or 0,
        gid=node.whole("gid", ID) or 0,
    )


def _net_devices(node: Node) -> tuple[NetDevice, ...]:
    found: dict[str, NetDevice] = {}
    for host_name, item in node.entries("netDevices"):
        interface_name(item, host_name)
        name = item.text("name")
        if name:
            interface_name(item.child("name"), name)
        inner = name or host_name
        if "%" in inner and (inner.count("%") > 1 or "%d" not in inner):
            # the kernel takes it for a pattern, and for no other
            raise complaint(item.child("name").path, "an interface's name, with %d for a number at most", quoted(inner))
        if inner in found and "%" not in inner:
            raise complaint(item.path, "each name once in the container", f"{quoted(inner)} again")
        found[host_name if "%" in inner else inner] = NetDevice(host_name=host_name, name=name)
    return tuple(found.values())


def _cgroups_path(node: Node) -> str:
    path = node.text("cgroupsPath")
    if ".." in path.split("/"):
        raise node.child("cgroupsPath").bad("a path without ..")
    return path


def _propagation(node: Node) -> str:
    place = node.child("rootfsPropagation")
    return place.one_of(_PROPAGATIONS, "a propagation of mounts") if node.text("rootfsPropagation") else ""


# --- kernel settings --------------------------------------------------------------------------------------------------


def _sysctls(node: Node, namespaces: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Names come out with dots, however they were written (sysctl.d(5)).

    The namespace may also be one to join; that it is not the host's own is for the runtime to see.
    """
    found: dict[str, str] = {}
    for key, item in node.entries("sysctl"):
        first = min((key.index(c) for c in "./" if c in key), default=-1)
        slashed = first >= 0 and key[first] == "/"
        name = key.translate({ord("/"): ".", ord("."): "/"}) if slashed else key
        needed = _sysctl_namespace(item, name)
        if needed not in namespaces:
            raise complaint(item.path, f'a namespace of type "{needed}" in linux.namespaces', "none")
        value = item.as_text()
        if "\n" in value:
            raise item.bad("a value of one line")
        if name in found:
            raise complaint(item.path, "each setting once", f"{quoted(name)} again")
        found[name] = value
    return tuple(found.items())


def _sysctl_namespace(node: Node, name: str) -> str:
    if name == "kernel.domainname":
        return "uts"
    if name == "kernel.hostname":
        raise complaint(node.path, "the member hostname instead", quoted(name))
    prefix, _, rest = name.partition(".")
    if prefix == "user" and rest.isascii() and rest.replace("_", "").isalnum():
        return "user"
    try:
        return parse.sysctl_namespace(name)
    except InvalidArgument:
        expected = (
            "a setting that a namespace has for itself: kernel.{msg*,sem,shm*,domainname}, fs.mqueue.*, net.* or user.*"
        )
        raise complaint(node.path, expected, quoted(name)) from None


# --- the rest ---------------------------------------------------------------------------------------------------------


def _personality(node: Node) -> Personality | None:
    if not node.given:
        return None
    domain = node.child("domain").one_of(_DOMAINS, "an execution domain")
    if node.texts("flags"):
        raise node.child("flags").bad("no flags: the specification has none")
    return Personality(domain=domain)


def _memory_policy(node: Node) -> MemoryPolicy | None:
    if not node.given:
        return None
    mode = node.child("mode").one_of(_MODES, "a memory policy")
    nodes = node.child("nodes").as_numbers("a list of memory nodes") if node.text("nodes") else ""
    flags = tuple(item.one_of(_MODE_FLAGS, "a memory policy's flag") for item in node.items("flags"))
    # as set_mempolicy(2) has it
    if mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        if nodes:
            raise node.child("nodes").bad(f"no nodes for {mode}")
    elif not nodes and mode != "MPOL_PREFERRED":
        raise node.child("nodes").bad(f"the nodes for {mode}")
    if {"MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"} <= set(flags):
        raise complaint(node.child("flags").path, "relative or static nodes", "both flags")
    return MemoryPolicy(mode=mode, nodes=nodes, flags=flags)


def _intel_rdt(node: Node) -> IntelRdt | None:
    if not node.given:
        return None
    clos = node.text("closID")
    if clos in (".", "..") or ("/" in clos and clos != "/"):
        raise node.child("closID").bad('the name of a directory, or "/" for the default class')
    schemata = tuple(_line(item) for item in node.items("schemata"))
    bandwidth = _line(node.child("memBwSchema"))
    if bandwidth and not bandwidth.startswith("MB:"):
        raise node.child("memBwSchema").bad('a schema that begins with "MB:"')
    # two monitors of 1.1 and 1.2, of which 1.3 made one
    monitors = [node.flag(name) for name in ("enableMonitoring", "enableCMT", "enableMBM")]
    return IntelRdt(
        clos_id=clos,
        schemata=schemata,
        l3_cache_schema=_line(node.child("l3CacheSchema")),
        mem_bw_schema=bandwidth,
        enable_monitoring=any(monitors),
    )


def _line(node: Node) -> str:
    text = node.as_text() if node.given else ""
    if "\n" in text:
        raise node.bad("a text of one line")
    return text
