"""The root, what is mounted in it, its devices and files. Pure.

Host paths are looked up in the parent: a bind mount, and a file system whose options name host paths, is made there as a
detached mount and only moved into place by the child, which sees nothing of the host. What the kernel makes for the child
(proc, tmpfs, ...) it mounts itself.
Spec: opencontainers/runtime-spec config.md, "Root", "Mounts"; config-linux.md, "Devices", "Rootfs Mount Propagation".
"""

from __future__ import annotations

from .errors import InvalidArgument, Unsupported
from .mount_options import PROPAGATION, parse_options
from .ops import (
    F_CLASSIC,
    F_COPY_UP,
    F_CREATE,
    F_DEVICES,
    F_KERNEL_TREE,
    F_LAYER_FDS,
    F_LAYER_PLUS,
    F_LIKE_BELOW,
    F_NOSYMLINK,
    F_OPTIONAL,
    F_RECURSIVE,
    F_REMOUNT,
    F_USERXATTR,
    F_VOLATILE,
    Op,
)
from .plan_bytes import IDMAP, NO_SLOT, TEMPLATE, TOP, C, P
from .plan_namespaces import host_id, userns_slot
from .spec.runtime import BlockIO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostFacts
    from .mount_options import MountOptions
    from .plan_bytes import Builder, Place
    from .spec.runtime import DeviceNode, MountPoint, RuntimeSpec

__all__ = ["attached", "cover", "files_and_devices", "layers_given", "mounts", "prepare_mounts", "prepare_root"]

_MS_PRIVATE = 1 << 18
_MS_SLAVE = 1 << 19
_MS_SHARED = 1 << 20
_ATTR_SAFE = 0xE  # nosuid, nodev, noexec
_ATTR_RDONLY = 0x1
_ATTR_NOSYMFOLLOW = 0x200000

# What the child can make by itself, in its own namespaces and without a path of the host.
_OWN_TYPES = frozenset(("proc", "sysfs", "tmpfs", "ramfs", "devpts", "mqueue", "cgroup2"))


def prepare_root(b: Builder, spec: RuntimeSpec, facts: HostFacts, place: Place) -> int:
    """Ops that make the root as a detached mount: its slot."""
    if spec.root.path and spec.root.layers:
        raise InvalidArgument("root: path and layers exclude each other")
    if spec.root.path:
        slot = b.slot()
        _clone(b, facts, spec.root.path, slot, flags=F_RECURSIVE, z=_root_propagation(spec))
        return slot
    if not spec.root.layers:
        raise InvalidArgument("root.layers: expected at least one lower directory, found none")
    return _overlay(b, spec, facts, place)


def _clone(
    b: Builder, facts: HostFacts, path: str, slot: int, *, flags: int = 0, x: int = 0, y: int = 0, z: int = 0
) -> None:
    """A detached copy of ``path`` with these attributes."""
    if facts.mount_setattr:
        b.add(P, Op.TREE_CLONE, s1=path, slot=slot, flags=flags, x=x, y=y, z=z)
    else:
        b.add(P, Op.TREE_CLONE, s1=path, slot=slot, flags=flags)
        _attributes(b, facts, slot, flags=flags & F_RECURSIVE, x=x, y=y, z=z)


def _attributes(b: Builder, facts: HostFacts, slot: int, *, flags: int = 0, x: int = 0, y: int = 0, z: int = 0) -> None:
    """Of the detached mount; where the kernel cannot, as soon as it is attached."""
    if facts.mount_setattr:
        b.add(P, Op.TREE_ATTR, slot=slot, flags=flags, x=x, y=y, z=z)
    else:
        b.late.setdefault(slot, []).append((flags, x, y, z))


def attached(b: Builder, slot: int) -> None:
    """What had to wait until the mount in ``slot`` is where it belongs, before anything is mounted in it."""
    for flags, x, y, z in b.late.pop(slot, ()):
        b.add(C, Op.TREE_ATTR, slot=slot, flags=flags, x=x, y=y, z=z)


def _by_remount(facts: HostFacts) -> int:
    return 0 if facts.mount_setattr else F_REMOUNT


def _root_propagation(spec: RuntimeSpec) -> int:
    """Of the copy: a slave must still hang on to the host's mount when that is said at the end."""
    # not so "shared": what is mounted in a copy that still is its source's peer appears on the host as well
    return _MS_SLAVE if spec.linux.rootfs_propagation in ("slave", "rslave") else _MS_PRIVATE


_MAX_LAYERS = 128


def layers_given(mapped: bool, facts: HostFacts) -> bool:
    """Whether every layer of a root of layers, in a user namespace, is given to the executor: translated by its caller."""
    return mapped and facts.detached_templates and not facts.in_user_namespace


def _overlay(b: Builder, spec: RuntimeSpec, facts: HostFacts, place: Place) -> int:
    linux = spec.linux
    uid, gid = host_id(linux.uid_mappings, 0) or 0, host_id(linux.gid_mappings, 0) or 0
    if not place.kept:
        b.add(P, Op.DIR_MAKE, s1=place.directory, x=0o700)
        b.add(P, Op.DIR_MAKE, s1=place.directory + "/upper", x=0o755, y=uid, z=gid)
        b.add(P, Op.DIR_MAKE, s1=place.directory + "/work", x=0o700)
    flags = (F_LAYER_FDS if facts.overlay_layer_fds else 0) | (F_LAYER_PLUS if facts.overlay_layer_plus else 0)
    # A throw-away upper layer is never synced. But fsync is how a program's own writes reach a limited disk: with a
    # limit on block I/O it has to mean what it says, or the limit would seem not to hold.
    if place.disposable and not place.kept and linux.resources.block_io == BlockIO():
        flags |= F_VOLATILE
    if facts.in_user_namespace:
        flags |= F_USERXATTR
    # inside a user namespace nothing of the host's can be translated: files keep their owners, seen through both maps
    translated = bool(linux.uid_mappings) and not facts.in_user_namespace
    if layers_given(bool(linux.uid_mappings), facts):  # translated once for many containers, and given
        layers = tuple(f"@{slot}" for slot in b.give(len(spec.root.layers)))
        translated = False
    else:
        flags |= F_CLASSIC if translated else 0
        layers = tuple(f"@{TOP}" if layer == "@top" else layer for layer in spec.root.layers)
    if len(layers) > _MAX_LAYERS:
        raise Unsupported(
            f"{len(layers)} layers are more than the {_MAX_LAYERS} that one root can have (Docker's own limit): build the image with fewer"
        )
    if facts.in_user_namespace and facts.kernel < (5, 11):
        raise Unsupported(
            "a copy-on-write root inside a user namespace needs Linux 5.11 (overlay there); this kernel is "
            f"{facts.kernel[0]}.{facts.kernel[1]}. Run it as root, or as a bundle"
        )
    if translated and facts.kernel < (5, 19):
        raise Unsupported(
            "a user namespace with a copy-on-write root needs overlay on id-mapped layers (Linux 5.19); this kernel is "
            f"{facts.kernel[0]}.{facts.kernel[1]}. Leave out --userns, or give the root as a bundle's directory"
        )
    slot = b.slot()
    b.add(
        P, Op.OVERLAY, s1=place.directory + "/upper", s2=place.directory + "/work", s3=b.strings(layers), n=len(layers),
        slot=slot, slot2=IDMAP if translated else NO_SLOT, flags=flags,
    )  # fmt: skip
    return slot


# --- mounts ------------------------------------------------------------------------------------------------------


# Their superblocks are the kernel's own, or shared: their files have the labels that the policy gives them.
_LABELLED_BY_POLICY = frozenset(("proc", "sysfs", "mqueue", "cgroup", "cgroup2"))


def _label(spec: RuntimeSpec, m: MountPoint, data: str) -> str:
    """``data`` for mount(2), with the label of the files; a label has commas."""
    label = spec.linux.mount_label
    if not label or m.type in _LABELLED_BY_POLICY:
        return data
    return f'{data},context="{label}"' if data else f'context="{label}"'


def prepare_mounts(b: Builder, spec: RuntimeSpec, facts: HostFacts) -> dict[int, int]:
    """Detached mounts for what only the parent can make: {index in spec.mounts: slot}."""
    slots = {}
    for i, m in enumerate(spec.mounts):
        if m.type == "bind":
            slots[i] = _bind(b, spec, m, f"mounts[{i}]", facts)
        elif m.type not in _OWN_TYPES and m.type != "cgroup":
            slots[i] = _file_system(b, spec, m, facts)
    return slots


def _bind(b: Builder, spec: RuntimeSpec, m: MountPoint, where: str, facts: HostFacts) -> int:
    o = parse_options(m.options, bind=True)
    slot = b.slot()
    on, off = (o.tree_set, o.tree_clear) if o.recursive else (o.set | o.tree_set, o.clear | o.tree_clear)
    # what hangs on to its source must do so from the start; anything else begins private and is said afterwards
    kept = [kind for kind, _ in o.propagation if kind in (_MS_SLAVE, _MS_SHARED)]
    _clone(
        b, facts, m.source, slot, flags=(F_RECURSIVE if o.recursive else 0) | (F_NOSYMLINK if m.source_strict else 0),
        x=on, y=off, z=kept[0] if kept else _MS_PRIVATE,
    )  # fmt: skip
    if o.recursive and (o.set or o.clear):
        _attributes(b, facts, slot, x=o.set, y=o.clear)
    for kind, recursive in o.propagation if len(o.propagation) > 1 or not kept else ():
        _attributes(b, facts, slot, z=kind, flags=F_RECURSIVE if recursive else 0)
    if (o.idmap or m.uid_mappings) and not facts.mount_setattr:
        raise Unsupported(
            f"{where}: owners cannot be translated before Linux 5.12, and this kernel is {facts.kernel[0]}.{facts.kernel[1]}. "
            "Leave out idmap (-v ...:noidmap)"
        )
    _translate(b, spec, m, o, slot, where)
    return slot


def _translate(b: Builder, spec: RuntimeSpec, m: MountPoint, o: MountOptions, slot: int, where: str) -> None:
    if not (o.idmap or m.uid_mappings):
        return
    uid, gid = m.uid_mappings, m.gid_mappings
    if bool(uid) != bool(gid):
        raise InvalidArgument(f"{where}.uidMappings: uidMappings and gidMappings belong together")
    if uid:
        userns = userns_slot(b, uid, gid)
    elif spec.linux.uid_mappings:
        userns = IDMAP
    else:
        raise InvalidArgument(
            f"{where}.options: {o.idmap} without uidMappings takes the container's own, and it has no user namespace of its own"
        )
    b.add(P, Op.TREE_ATTR, slot=slot, slot2=userns, flags=F_RECURSIVE if o.idmap == "ridmap" else 0)


def _file_system(b: Builder, spec: RuntimeSpec, m: MountPoint, facts: HostFacts) -> int:
    o = parse_options(m.options, bind=False)
    slot = b.slot()
    words = [f"source={m.source}"] if m.source else []
    if spec.linux.mount_label and m.type not in _LABELLED_BY_POLICY:
        words.append(f"context={spec.linux.mount_label}")
    for word in o.data.split(",") if o.data else ():
        if m.type == "overlay" and word.startswith("lowerdir=") and facts.overlay_layer_plus:
            words += [f"lowerdir+={path}" for path in word[9:].split(":")]
        else:
            words.append(word)
    b.add(P, Op.FS_MAKE, s1=m.type, s3=b.strings(tuple(words)), n=len(words), slot=slot, x=o.set)
    for kind, recursive in o.propagation:
        _attributes(b, facts, slot, z=kind, flags=F_RECURSIVE if recursive else 0)
    if o.tree_set or o.tree_clear:
        _attributes(b, facts, slot, x=o.tree_set, y=o.tree_clear, flags=F_RECURSIVE)
    return slot


Views = dict[int, tuple[tuple[str, int], ...]]


def prepare_cgroup_views(
    b: Builder, spec: RuntimeSpec, facts: HostFacts, hierarchies: tuple[tuple[str, str], ...], *, own_view: bool
) -> Views:
    """What each cgroup v1 mount shows: {index in spec.mounts: (controllers, slot) each}. Without a cgroup namespace of its
    own (``own_view``) a fresh mount would show every container of the host, so that the container's own directories are
    bound instead; a slot of NO_SLOT is a fresh mount."""
    views: Views = {}
    for i, m in enumerate(spec.mounts):
        if m.type != "cgroup" or facts.pure_v2:
            continue
        o = parse_options(m.options, bind=False)
        shown = []
        for names, path in hierarchies:
            slot = NO_SLOT if own_view else b.slot()
            if not own_view:
                _clone(b, facts, path, slot, x=o.set, y=o.clear, z=_MS_PRIVATE)
            shown.append((names, slot))
        views[i] = tuple(shown)
    return views


def mounts(b: Builder, spec: RuntimeSpec, facts: HostFacts, slots: dict[int, int], views: Views) -> None:
    """The child's ops, in the document's order."""
    for i, m in enumerate(spec.mounts):
        if i in slots:
            is_file = m.type == "bind" and m.source_is_file
            b.add(C, Op.MOUNT_TREE, s1=m.destination, slot=slots[i], flags=F_CREATE, x=int(is_file))
            attached(b, slots[i])
        elif i in views:
            _cgroup_v1(b, m, views[i])
        else:
            _own_mount(b, spec, m, facts)


# what mount(2) has among its flags and a file system's context among its words
_SUPERBLOCK = ((1 << 4, "sync"), (1 << 6, "mand"), (1 << 7, "dirsync"), (1 << 25, "lazytime"))


def _own_mount(b: Builder, spec: RuntimeSpec, m: MountPoint, facts: HostFacts) -> None:
    o = parse_options(m.options, bind=False)
    kind = "cgroup2" if m.type == "cgroup" else m.type
    flags, data = o.flags, _label(spec, m, o.data)
    if kind == "cgroup2" and not any(n.type == "cgroup" for n in spec.linux.namespaces):
        # from the host's own cgroup namespace a mount sets the options of all of them: they are to stay what they are
        data = ",".join(filter(None, (data, facts.unified_options)))
    # what is to be made or mounted in it must find it writable: read-only comes at the end
    late = kind == "tmpfs" and flags & 1
    at_kernel = m.destination.startswith(("/proc", "/sys"))
    inherits = F_LIKE_BELOW if kind == "tmpfs" and "mode=" not in data else 0
    devices = F_DEVICES if kind == "tmpfs" and m.destination == "/dev" and spec.root.path else 0
    by_context = o.copy_up or bool(inherits | devices)
    if by_context:
        data = ",".join((*((data,) if data else ()), *(word for bit, word in _SUPERBLOCK if flags & bit)))
    attributes = o.set & ~(1 if late else 0)
    no_follow = (
        _ATTR_NOSYMFOLLOW if by_context and facts.kernel < (5, 14) else 0
    )  # fsmount has not known it for so long
    source = b.string(m.source) if m.source and m.source != kind else 0
    b.add(
        C, Op.MOUNT, s1=m.destination, s2=kind, s3=b.string(data), n=source,
        x=attributes & ~no_follow if by_context else flags & ~(1 if late else 0),
        flags=F_CREATE | (F_NOSYMLINK if at_kernel else 0) | (F_COPY_UP if o.copy_up else 0) | inherits | devices,
    )  # fmt: skip
    if attributes & no_follow:
        b.add(C, Op.MOUNT_ATTR, s1=m.destination, x=no_follow, flags=F_REMOUNT)
    if o.tree_set or o.tree_clear:
        b.add(
            C, Op.MOUNT_ATTR, s1=m.destination, x=o.tree_set, y=o.tree_clear, flags=F_RECURSIVE | _by_remount(facts)
        )  # fmt: skip
    for propagation, recursive in o.propagation:
        b.add(
            C, Op.MOUNT_ATTR, s1=m.destination, z=propagation, flags=(F_RECURSIVE if recursive else 0) | _by_remount(facts)
        )  # fmt: skip


def _cgroup_v1(b: Builder, m: MountPoint, views: tuple[tuple[str, int], ...]) -> None:
    """A tmpfs with one directory per hierarchy. It stays writable, as runc and crun have it: what is below is not."""
    o = parse_options(m.options, bind=False)
    flags = F_CREATE | F_NOSYMLINK
    tmpfs_flags = (o.flags & ~1) | _ATTR_SAFE  # mount(2) has the same three bits
    b.add(
        C,
        Op.MOUNT,
        s1=m.destination,
        s2="tmpfs",
        s3=b.string("mode=755"),
        n=b.string("tmpfs"),
        x=tmpfs_flags,
        flags=flags,
    )
    for names, slot in views:
        target = f"{m.destination}/{names}"
        if slot == NO_SLOT:
            b.add(C, Op.MOUNT, s1=target, s2="cgroup", s3=b.string(names), x=o.flags, flags=flags)
        else:
            b.add(C, Op.MOUNT_TREE, s1=target, slot=slot, flags=flags)
            attached(b, slot)
        for alias in names.split(",") if "," in names else ():
            b.add(C, Op.MAKE_LINK, s1=f"{m.destination}/{alias}", s2=names)


# --- devices and files -------------------------------------------------------------------------------------------

_TYPE_BITS = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}
_DEV_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
)


def _device_number(major: int, minor: int) -> int:
    # the kernel's encoding for mknod: 12 bits of major, 20 of minor
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


def _on_dev(spec: RuntimeSpec, path: str) -> int:
    """In a directory of the host a link at /dev, or a volume that has been renamed to it, could have nodes made there. In an
    overlay our own layer is what /dev is."""
    if not spec.root.path:
        return 0
    over = {m.destination.rstrip("/"): m for m in spec.mounts if path.startswith(m.destination.rstrip("/") + "/")}
    last = max(over, key=len, default="")
    own = last == "/dev" and over[last].type == "tmpfs"
    return F_NOSYMLINK | (F_DEVICES if own else 0)


def _device(b: Builder, d: DeviceNode, facts: HostFacts, *, bound: bool, flags: int) -> None:
    if bound and d.type != "p":  # no user namespace but the first may make device nodes: the host's own is shown
        slot = b.slot()
        _clone(b, facts, d.path, slot, z=_MS_PRIVATE)
        b.add(C, Op.MOUNT_TREE, s1=d.path, slot=slot, flags=F_CREATE, x=1)
        attached(b, slot)
        return
    b.add(
        C, Op.MAKE_NODE, s1=d.path, x=_TYPE_BITS[d.type] | d.file_mode, y=_device_number(d.major, d.minor),
        z=d.uid << 32 | d.gid, flags=flags,
    )  # fmt: skip


def files_and_devices(b: Builder, spec: RuntimeSpec, facts: HostFacts, *, bound: bool) -> None:
    """``bound``: device nodes are the host's, bind-mounted."""
    dev = next((m for m in spec.mounts if m.destination == "/dev"), None)
    own_dev = (dev is not None and dev.type != "bind") or (dev is None and bool(spec.root.path))
    if own_dev:
        for name, target in _DEV_LINKS:
            b.add(C, Op.MAKE_LINK, s1=f"/dev/{name}", s2=target, flags=_on_dev(spec, f"/dev/{name}"))
    for d in spec.linux.devices:
        _device(b, d, facts, bound=bound, flags=_on_dev(spec, d.path))
    for m in spec.mounts:
        if m.type == "tmpfs" and parse_options(m.options, bind=False).flags & 1:
            b.add(C, Op.MOUNT_ATTR, s1=m.destination, x=_ATTR_RDONLY, flags=_by_remount(facts))
    for path, content, mode in spec.files:
        b.add(C, Op.WRITE_FILE, s1=path, s3=b.blob(content), n=len(content), x=mode)


def _strict(path: str) -> int:
    """The kernel's own trees have no link that an image could have put there; elsewhere a link inside the root is followed
    to what it hides."""
    return F_NOSYMLINK if path.startswith(("/proc/", "/sys/")) else 0


def _kernel_trees(spec: RuntimeSpec) -> tuple[str, ...]:
    """Where the document has a procfs or sysfs mounted, in a root whose directories another container may rename."""
    found = [m.destination.rstrip("/") for m in spec.mounts if m.type in ("proc", "sysfs")] if spec.root.path else []
    return tuple(f"{d}/" for d in ("/proc", "/sys") if d in found)


def cover(b: Builder, spec: RuntimeSpec, facts: HostFacts) -> None:
    """Masked and read-only paths, then the root's own propagation."""
    # The covers share one superblock, which CAP_SYS_ADMIN over its user namespace could make writable for all containers
    remounts = "CAP_SYS_ADMIN" in spec.process.capabilities.bounding and not any(
        n.type == "user" for n in spec.linux.namespaces
    )
    shared = facts.detached_templates and not facts.in_user_namespace and not remounts
    classic = 0 if shared else F_CLASSIC
    trees = _kernel_trees(spec)
    for path in spec.linux.masked_paths:
        on_tree = F_KERNEL_TREE if path.startswith(trees) else 0
        b.add(C, Op.MASK, s1=path, slot=TEMPLATE, flags=F_OPTIONAL | _strict(path) | classic | on_tree)
    for path in spec.linux.readonly_paths:
        copy = (0 if facts.open_tree_attr else F_CLASSIC) | _by_remount(facts)
        whole = F_RECURSIVE if _strict(path) else 0
        on_tree = F_KERNEL_TREE if path.startswith(trees) else 0
        flags = F_OPTIONAL | _strict(path) | whole | copy | on_tree
        b.add(C, Op.READONLY, s1=path, x=_ATTR_RDONLY | _ATTR_SAFE, flags=flags)
    word = spec.linux.rootfs_propagation
    if word:
        if word not in PROPAGATION:
            raise InvalidArgument(
                f"linux.rootfsPropagation: expected one of {', '.join(sorted(PROPAGATION))}, found {word!r}"
            )
        kind, recursive = PROPAGATION[word]
        b.add(C, Op.MOUNT_ATTR, s1="/", z=kind, flags=(F_RECURSIVE if recursive else 0) | _by_remount(facts))
