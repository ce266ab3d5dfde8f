"""A cgroup that a container comes to while it runs: in a hierarchy that its start has gone without."""

from __future__ import annotations

import os

from .. import limits
from ..errors import Unsupported
from . import cgroup_tree
from .cgroups import Member

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts

__all__ = ["late_cgroup"]


def late_cgroup(name: str, parent: str, container_id: str, facts: HostFacts) -> Member:
    """In the hierarchy of the controller ``name``, or cgroup v2's for "". ``parent``: its owner's part of each; ``container_id`` "":
    that is the container's own. Nobody is in it yet; it is removed with its owner, or before. Raises: Unsupported."""
    from .session import cannot_make

    where = facts.controllers.get(name)
    if name and (where is None or where.obstacle):
        raise Unsupported(f"this host has no {name} controller that can be used")
    mount, base = (where.mount, where.base) if where is not None else (facts.unified, facts.cgroup_base)
    group = limits.Cgroup(
        controllers=(name,) if name else (), version=2 if mount == facts.unified else 1, mount=mount, base=base
    )
    path = limits.path_of(group, parent, container_id)
    try:
        cgroup_tree.make_owner(group, parent, facts, frozenset(group.controllers), alone=not container_id)
        os.makedirs(path, 0o755, exist_ok=True)
        if name == "cpuset" and group.version == 1:  # admits nobody before it has both
            for file, all_of_them in (("cpuset.cpus", facts.cpuset_cpus), ("cpuset.mems", facts.cpuset_mems)):
                if not cgroup_tree.read(f"{path}/{file}"):
                    cgroup_tree.write(f"{path}/{file}", all_of_them)
    except OSError as e:
        raise cannot_make(group, e) from None
    return Member(controllers=group.controllers, version=group.version, directory=path)
