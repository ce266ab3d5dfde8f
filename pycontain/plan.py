"""RuntimeSpec + HostFacts -> Plan: which system calls happen in which order, as one flat byte string.

``plan()`` is pure: no I/O, no root; the same input gives the same bytes. The byte format is :mod:`pycontain.plan_bytes`';
what each op does is said in src/c/plan.h. This module decides; the C core only executes.

Spec: opencontainers/runtime-spec config.md, config-linux.md (field names in :mod:`pycontain.spec.runtime`).
"""

from __future__ import annotations

from . import limits
from .errors import InvalidArgument, Unsupported
from .ops import (
    F_OPTIONAL,
    F_PIVOT,
    PLAN_GATED,
    PLAN_LEAN,
    PLAN_SHARE_VM,
    PLAN_STUB,
    PLAN_VISIBLE,
    SYNC_CREATE_RUNTIME,
    Op,
)
from .plan_bytes import (
    GIVEN,
    HEADER,
    ID_TOKEN,
    MAGIC,
    NO_SLOT,
    OP,
    SHORT_ID_TOKEN,
    VERSION,
    Builder,
    C,
    F,
    P,
    Place,
    Plan,
)
from .plan_mounts import attached, cover, files_and_devices, mounts, prepare_cgroup_views, prepare_mounts, prepare_root
from .plan_namespaces import birth, check_namespaces, enter
from .plan_process import kernel_settings, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostFacts
    from .plan_hooks import HooksInside
    from .spec.runtime import RuntimeSpec

__all__ = [
    "GIVEN", "HEADER", "ID_TOKEN", "MAGIC", "NO_SLOT", "OP", "Place", "Plan", "SHORT_ID_TOKEN", "VERSION", "plan",
]  # fmt: skip


def plan(spec: RuntimeSpec, facts: HostFacts, place: Place) -> Plan:
    """The Plan of a container.

    Raises: InvalidArgument when the document contradicts itself; Unsupported when this host cannot do what it asks.
    """
    _check(spec, facts)
    b = Builder()
    told = _hooks_inside(b, spec)
    # a createContainer hook's own file is the host's: the host's mounts are then in sight until pivot_root
    in_place = spec.root.path if spec.hooks.create_container else ""
    root_slot = prepare_root(b, spec, facts, place)
    names = {n.type for n in spec.linux.namespaces}
    joins, cgroup_slot, hierarchies = _cgroups(b, spec, facts, place)
    way = birth(spec.linux, facts, into_cgroup=cgroup_slot != NO_SLOT, joins_cgroups=bool(joins))
    tree_slots = prepare_mounts(b, spec, facts)
    cgroup_views = prepare_cgroup_views(b, spec, facts, hierarchies, own_view="cgroup" in names)

    enter(b, spec.linux, way, joins)
    # the caller's session keyring, and what is in it, stays outside
    b.add(C, Op.KEYRING, s1=f"_ses.{place.container_id}")
    pivot = way.pivot or bool(in_place)
    b.add(C, Op.ROOT_ATTACH, s1=in_place, slot=root_slot, flags=F_PIVOT if pivot else 0)
    attached(b, root_slot)
    mounts(b, spec, facts, tree_slots, cgroup_views)
    files_and_devices(b, spec, facts, bound=way.visible)
    kernel_settings(b, spec, by_parent=way.visible)
    cover(b, spec, facts)
    for device in spec.linux.net_devices:  # late: what fails before has moved none
        b.add(C, Op.NET_DEVICE, s1=device.host_name, s2=device.name)
    if spec.hooks.prestart or spec.hooks.create_runtime:
        b.add(C, Op.SYNC, x=SYNC_CREATE_RUNTIME)
    if told is not None:
        told.create_container(b, spec)
    if pivot:
        b.add(C, Op.ROOT_PIVOT)
    process(b, spec, facts, told, own_network="network" in way.new, own_uts="uts" in names)
    _finish(b, spec, facts, place)

    args = (spec.init, "--", *spec.process.args) if spec.init else spec.process.args
    flags = (PLAN_GATED if place.gated else 0) | (0 if in_place else PLAN_LEAN | (PLAN_VISIBLE if way.visible else 0))
    # a shared memory only where nobody can look at it: a new pid namespace; and never while waiting for a start, or with a
    # process of a hook's beside, which may outlive the one that shares it
    if not (way.own_memory or place.gated or in_place):
        flags |= PLAN_SHARE_VM
    # others may write to a directory of the host that is the root as it is, while a container starts in it
    if spec.root.path:
        flags |= PLAN_STUB
    return b.build(flags=flags, clone_flags=way.clone, cgroup_slot=cgroup_slot, args=args, env=spec.process.env)


def _hooks_inside(b: Builder, spec: RuntimeSpec) -> HooksInside | None:
    if not (spec.hooks.create_container or spec.hooks.start_container):
        return None
    from .plan_hooks import give

    return give(b, spec)


def _check(spec: RuntimeSpec, facts: HostFacts) -> None:
    if facts.kernel < (5, 10):
        raise Unsupported(
            f"pycontain needs Linux 5.10 or later (close_range, openat2, clone3); this kernel is {facts.kernel[0]}.{facts.kernel[1]}"
        )
    check_namespaces(spec.linux, facts)
    if spec.root.layers:
        targets = [m.destination for m in spec.mounts]
        for target in targets:
            if targets.count(target) > 1:
                raise InvalidArgument(f"mounts: {target} is the destination of two mounts")
    if spec.linux.mount_label and "selinux" not in facts.lsms:
        raise Unsupported(
            f"linux.mountLabel: cannot apply {spec.linux.mount_label!r}: this kernel runs without selinux. Leave the label out"
        )
    if spec.linux.intel_rdt is not None:
        raise Unsupported("linux.intelRdt: cannot apply it: pycontain does not manage resctrl. Leave it out")


def _cgroups(
    b: Builder, spec: RuntimeSpec, facts: HostFacts, place: Place
) -> tuple[list[int], int, tuple[tuple[str, str], ...]]:
    """Ops that make and limit the cgroups: (slots to join one by one, slot for CLONE_INTO_CGROUP, v1 hierarchies: the
    controllers and the container's own cgroup in each)."""
    joins: list[int] = []
    into = NO_SLOT
    hierarchies = []
    groups = limits.cgroups(spec.linux.resources, facts, spec.linux.cgroups_path)
    for group in groups:
        path = limits.path_of(group, place.cgroup_parent, place.cgroup_name)
        slot = b.slot()
        if group.existing:
            b.add(P, Op.CGROUP_OPEN, s1=path, slot=slot)
        else:
            b.add(P, Op.CGROUP_MAKE, s1=path, slot=slot, flags=F_OPTIONAL if place.alone else 0)
        for file, value in group.writes:
            b.add(P, Op.CGROUP_WRITE, s1=file, s2=value, slot=slot)
        if group.device_program:
            b.add(P, Op.CGROUP_DEVICES, slot=slot, s3=b.blob(group.device_program), n=len(group.device_program))
        if group.version == 2:
            into = slot
        else:
            joins.append(slot)
            names = ",".join(n for n, c in sorted(facts.controllers.items()) if c.mount == group.mount)
            hierarchies.append((names, path))
    return joins, into, tuple(hierarchies)


def _finish(b: Builder, spec: RuntimeSpec, facts: HostFacts, place: Place) -> None:
    groups = [
        (g, limits.path_of(g, place.cgroup_parent, place.cgroup_name))
        for g in limits.cgroups(spec.linux.resources, facts, spec.linux.cgroups_path)
        if not g.shared
    ]
    for group, path in groups:
        for kind in group.usage:
            b.add(F, Op.USAGE, s1=path, x=kind)
    for group, path in groups:
        if not group.existing:
            b.add(F, Op.CGROUP_REMOVE, s1=path, x=int(place.alone))
    if spec.root.layers and not place.kept:
        b.add(F, Op.TREE_REMOVE, s1=place.directory)
