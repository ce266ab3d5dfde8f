"""Id mappings of config.json, of a user namespace or of a mount. Spec: config-linux.md, "User namespace mappings"."""

from __future__ import annotations

from itertools import pairwise

from .node import ID, UINT32, Node, complaint
from .runtime import IDMapping

__all__ = ["MAX_MAPPINGS", "has", "parse_mappings"]

MAX_MAPPINGS = 340  # UID_GID_MAP_MAX_EXTENTS of <linux/user_namespace.h>
_END = 2**32 - 1  # one past the last id: the number itself means "no id"


def has(mappings: tuple[IDMapping, ...], number: int) -> bool:
    """Whether the id exists inside."""
    return any(m.container_id <= number < m.container_id + m.size for m in mappings)


def parse_mappings(node: Node, name: str) -> tuple[IDMapping, ...]:
    """The member ``name``, with what the kernel would refuse with EINVAL or EPERM refused by its place.

    Raises:
        InvalidArgument: an empty or overlapping range, one that ends past 2**32 - 2, more ranges than the kernel takes.
    """
    items = node.items(name)
    if len(items) > MAX_MAPPINGS:
        raise complaint(node.child(name).path, f"at most {MAX_MAPPINGS} mappings", str(len(items)))
    mappings = []
    for item in items:
        size = item.child("size").as_whole(UINT32)
        mapping = IDMapping(
            container_id=item.child("containerID").as_whole(ID), host_id=item.child("hostID").as_whole(ID), size=size
        )
        if size == 0:
            raise item.child("size").bad("a range of at least one id")
        for first in ("containerID", "hostID"):
            start = item.child(first).as_whole(ID)
            if start + size > _END:
                raise item.child("size").bad(f"a range that ends at {_END - 1} at the latest ({first} is {start})")
        mappings.append(mapping)
    _check_apart(items, "containerID", [(m.container_id, m.size) for m in mappings])
    _check_apart(items, "hostID", [(m.host_id, m.size) for m in mappings])
    return tuple(mappings)


def _check_apart(items: list[Node], name: str, ranges: list[tuple[int, int]]) -> None:
    order = sorted(range(len(ranges)), key=lambda index: ranges[index])
    for lower, upper in pairwise(order):
        start, size = ranges[lower]
        if ranges[upper][0] < start + size:
            later = items[max(lower, upper)].child(name)
            raise later.bad(f"a range apart from that of {items[min(lower, upper)].path}")
