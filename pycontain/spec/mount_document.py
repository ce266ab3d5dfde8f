"""The section ``mounts`` of config.json. Spec: config.md, "Mounts"."""

from __future__ import annotations

import posixpath

from .id_mappings import parse_mappings
from .node import Node, complaint, quoted
from .runtime import MountPoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["inside_root", "parse_mounts"]

# Files of /proc that tell about the whole machine and that lxcfs and its like replace. Of anything else there the runtime
# or the program believes that the kernel wrote it: a false attr/exec or status is an escape (CVE-2019-16884, 2019-19921).
_REPLACEABLE = frozenset((
    "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/slabinfo", "/proc/stat", "/proc/swaps",
    "/proc/uptime", "/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid",
))  # fmt: skip


def parse_mounts(document: Node, bundle: str, warn: Callable[[str], None] | None) -> tuple[MountPoint, ...]:
    """Relative sources of binds are below ``bundle``, unless that is empty; destinations come out normalised."""
    mounts = []
    for node in document.items("mounts"):
        mount = _mount(node, bundle)
        if warn is not None and not node.text("destination").startswith("/"):
            warn(
                f"config.json: {node.child('destination').path}: a relative path is deprecated; {mount.destination} is taken"
            )
        _check_proc(node, mount)
        mounts.append(mount)
    return tuple(mounts)


def inside_root(node: Node) -> str:
    """The path of something in the container, without ``.``, ``..`` and doubled slashes; it is not the root itself.

    Relative ones are below the root, as the specification has it since 1.2. Symbolic links are the kernel's business, at
    the time of use.
    """
    parts: list[str] = []
    for part in node.as_text("a path in the container").split("/"):
        if part == "..":
            if not parts:
                raise node.bad("a path that stays in the container")
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        raise node.bad("a path below the container's root")
    return "/" + "/".join(parts)


def _mount(node: Node, bundle: str) -> MountPoint:
    node.as_object()
    destination = inside_root(node.child("destination"))
    options = node.texts("options")
    type_ = node.text("type")
    source = node.text("source")
    bind = "bind" in options or "rbind" in options
    if type_ == "bind" and not bind:
        # for the specification a filesystem of that name, which no kernel has; crun takes it for what it must mean
        bind, options = True, ("bind", *options)
    if bind:
        if not source:
            raise node.child("source").bad("the path to bind")
        if bundle and not source.startswith("/"):
            source = posixpath.join(bundle, source)
        if "rbind" in options:  # both together are recursive for mount(8), runc and crun
            options = tuple(option for option in options if option != "bind")
    elif not type_:
        raise node.child("type").bad('the type of a filesystem, or "bind" or "rbind" among the options')
    mount = MountPoint(
        destination=destination,
        type="bind" if bind else type_,
        source=source,
        options=options,
        uid_mappings=parse_mappings(node, "uidMappings"),
        gid_mappings=parse_mappings(node, "gidMappings"),
    )
    for one, other, name in (
        (mount.uid_mappings, mount.gid_mappings, "gidMappings"),
        (mount.gid_mappings, mount.uid_mappings, "uidMappings"),
    ):
        if one and not other:
            raise node.child(name).bad("mappings of users and of groups, or neither")
    return mount


def _check_proc(node: Node, mount: MountPoint) -> None:
    place = node.child("destination")
    if mount.destination == "/proc":
        real = mount.type == "proc" or (mount.type == "bind" and posixpath.normpath(mount.source) == "/proc")
        if not real:
            raise complaint(place.path, "the type proc, or a bind of /proc", f"{quoted(mount.type)} on /proc")
    elif mount.destination.startswith("/proc/") and (mount.destination not in _REPLACEABLE or mount.type != "bind"):
        raise complaint(
            place.path,
            "a place outside /proc, or a bind of a file over one such as /proc/meminfo",
            quoted(mount.destination),
        )
