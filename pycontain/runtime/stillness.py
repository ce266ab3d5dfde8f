"""Another process's container, held still for as long as it is looked at: a commit wants the files of one moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Conflict, Unsupported, errno_name
from ..host import probe
from ..limits import CGROUP_BASE, Cgroup, path_of
from . import cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .foreground import Foreground

__all__ = ["held_still"]


@contextmanager
def held_still(found: Foreground) -> Iterator[None]:
    """None of its processes makes progress meanwhile; one that was paused before stays so.

    Raises: Conflict: it has ended; Unsupported: this host has no freezer; SetupFailed.
    """
    members = tuple(cgroups.Member(controllers=c, version=v, directory=d) for c, v, d in found.members)
    if not any(m.version == 2 or "freezer" in m.controllers for m in members):
        late = _late_member(found)
        if cgroups.is_frozen(late) and cgroups.pids((late,)):  # its owner has paused it
            yield
            return
        cgroups.freeze((late,))
        try:
            cgroups.move_all(members, late.directory)
            yield
        finally:
            cgroups.thaw((late,))
        return
    if any(cgroups.is_frozen(each) for each in members):
        yield
        return
    cgroups.freeze(members)
    try:
        yield
    finally:
        cgroups.thaw(members)


def _late_member(found: Foreground) -> cgroups.Member:
    """A cgroup with a freezer, which a start goes without; removed with all that is its owner's."""
    facts = probe()
    v2 = bool(facts.unified) and not facts.cgroup_obstacle
    where = None if v2 else facts.controllers.get("freezer")
    if not v2 and (where is None or where.obstacle):
        raise Unsupported("cannot pause: this host has neither cgroup v2 nor v1's freezer. Commit with --pause=false")
    mount, base = (where.mount, where.base) if where is not None else (facts.unified, facts.cgroup_base)
    names = () if v2 else ("freezer",)
    group = Cgroup(controllers=names, version=2 if v2 else 1, mount=mount, base=base)
    directory = path_of(group, f"{CGROUP_BASE}/{found.owner}", found.id)
    try:
        os.makedirs(directory, 0o755, exist_ok=True)
    except OSError as e:
        raise Conflict(f"cannot pause {found.name}: {e.strerror} ({errno_name(e.errno or 0)}): {directory}") from None
    return cgroups.Member(controllers=names, version=group.version, directory=directory)
