"""RuntimeSpec -> the Plan of a look at a container that does not run: its root, its volumes and bind mounts, and nothing else. Pure.

Its last op waits for the caller, who takes the root and ends it there: no program is executed. The root and what is mounted in
it are made by the ops of a start, so that a look shows what the container would see.
"""

from __future__ import annotations

from .ops import F_PIVOT, F_REMOUNT, PLAN_LEAN, PLAN_VISIBLE, SYNC_CREATE_RUNTIME, Op
from .plan_bytes import NO_SLOT, Builder, C
from .plan_mounts import attached, mounts, prepare_mounts, prepare_root
from .plan_namespaces import birth, enter
from .record import replaced
from .spec.runtime import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import HostFacts
    from .plan_bytes import Place, Plan
    from .spec.runtime import RuntimeSpec

__all__ = ["plan_view"]

# what the kernel makes up for a container that runs; others may be mounted by the request
_KERNELS = frozenset(("/proc", "/sys", "/sys/fs/cgroup", "/dev/pts", "/dev/mqueue", "/dev/shm"))


def plan_view(spec: RuntimeSpec, facts: HostFacts, place: Place) -> Plan:
    """``place`` is one that is kept. Raises: as :func:`pycontain.plan.plan`."""
    binds = tuple([m for m in spec.mounts if m.type == "bind" and m.destination not in _KERNELS])
    # by its id maps the root's owners are translated; who looks is in nobody's user namespace
    spec = replaced(spec, mounts=binds, linux=replaced(spec.linux, namespaces=(Namespace(type="mount"),)))
    b = Builder()
    root_slot = prepare_root(b, spec, facts, place)
    way = birth(spec.linux, facts, into_cgroup=False, joins_cgroups=False)
    slots = prepare_mounts(b, spec, facts)
    enter(b, spec.linux, way, [])
    b.add(C, Op.ROOT_ATTACH, slot=root_slot, flags=F_PIVOT if way.pivot else 0)
    attached(b, root_slot)
    mounts(b, spec, facts, slots, {})
    if way.pivot:
        b.add(C, Op.ROOT_PIVOT)
    if spec.root.readonly:
        b.add(C, Op.ROOT_READONLY, flags=0 if facts.mount_setattr else F_REMOUNT)
    b.add(C, Op.SYNC, x=SYNC_CREATE_RUNTIME)
    flags = PLAN_LEAN | (PLAN_VISIBLE if way.visible else 0)
    return b.build(flags=flags, clone_flags=way.clone, cgroup_slot=NO_SLOT, args=("/",), env=())
