"""A container to be looked into, whatever state it is in; one that does not run stays so for as long as the look takes."""

from __future__ import annotations

import os
from contextlib import contextmanager

from ..errors import Conflict
from ..host import probe
from . import detached, foreground
from .detached import Detached
from .foreground import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .roots import Roots
    from .userns import Mappings

__all__ = ["as_at_rest", "looked_into", "make_upper", "triples"]

IdMap = tuple[tuple[int, int, int], ...]


@contextmanager
def looked_into(roots: Roots, text: str) -> Iterator[Foreground | Detached]:
    """By name, id or the beginning of one: a Foreground runs, a Detached does not, and is neither started nor removed meanwhile.

    Raises: ContainerNotFound; InvalidArgument: an ambiguous beginning, a damaged file; Conflict: it waits for its next start.
    """
    kept = detached.find(roots, text)
    if kept is None:
        yield foreground.find(roots, text)
        return
    state = detached.state_of(roots, kept)
    if not state.is_alive:
        with detached.changing(roots, kept.id):
            kept = detached.load(roots, kept.id)
            state = detached.state_of(roots, kept, locked=True)
            if not state.is_alive:
                yield kept
                return
    if not state.pid:
        raise Conflict(f"container {kept.name} is about to be restarted: try again, or stop it")
    yield detached.as_running(roots, kept, state)


def as_at_rest(roots: Roots, found: Detached) -> Foreground:
    """What a container that does not run is to those who read its layer, which is made if it has never been started: without a
    process or cgroups. The caller holds its lock."""
    directory = f"{detached.directory_of(roots, found.id)}/layer"
    maps = _maps(roots, found)
    make_upper(directory, maps)
    uid_map, gid_map = triples(maps)
    return Foreground(
        id=found.id, name=found.name, owner="", image=found.request.image, image_id=found.image_id, created=found.created,
        directory=directory, lower=found.lower, config=found.config, args=found.args, uid_map=uid_map,
        gid_map=gid_map, members=(), pid=0, begun=0, group_add=found.request.group_add, plan="",
    )  # fmt: skip


def _maps(roots: Roots, found: Detached) -> Mappings:
    """Those of each of its starts: ids of a container that stays are asked for, never taken from what is free."""
    from .userns import IdRanges

    return IdRanges(roots.run_root, "nobody", probe()).mappings(found.request)


def make_upper(layer: str, maps: Mappings) -> None:
    """Its copy-on-write layer, at the first use."""
    from ..plan_namespaces import host_id

    if not os.path.isdir(f"{layer}/work"):
        os.makedirs(f"{layer}/upper", 0o755, exist_ok=True)
        os.chmod(f"{layer}/upper", 0o755)
        os.chown(f"{layer}/upper", host_id(maps[0], 0) or 0, host_id(maps[1], 0) or 0)
        os.mkdir(f"{layer}/work", 0o700)


def triples(maps: Mappings) -> tuple[IdMap, IdMap]:
    """(inside, outside, count) of users and of groups."""
    uids, gids = maps
    return (
        tuple([(m.container_id, m.host_id, m.size) for m in uids]),
        tuple([(m.container_id, m.host_id, m.size) for m in gids]),
    )
