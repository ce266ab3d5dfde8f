"""Files of cgroup v2 as they are. Spec: runtime-spec config-linux.md, "Unified"."""

from __future__ import annotations

from ..errors import InvalidArgument, Unsupported
from .refusals import missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts

__all__ = ["unified_writes"]

# They move or stop processes, or change what the cgroup is: none limits a resource, and a start would come to grief.
_NO_LIMITS = frozenset(
    ("cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type", "cgroup.subtree_control")
)


def unified_writes(keys: tuple[tuple[str, str], ...], facts: HostFacts) -> dict[str, list[tuple[str, str]]]:
    """Controller ("cgroup" for the core's own files) -> (file, value): one write per line, as the kernel takes them."""
    found: dict[str, list[tuple[str, str]]] = {}
    if keys and not facts.unified:
        raise Unsupported(
            f"linux.resources.unified: {keys[0][0]} is a file of cgroup v2, which this host has not mounted"
        )
    for name, value in keys:
        controller, dot, rest = name.partition(".")
        if not dot or not rest or not controller or any(c in "/\0" or c.isspace() for c in name):
            raise InvalidArgument(
                f"linux.resources.unified: expected the name of a file such as memory.high, found {name!r}"
            )
        if name in _NO_LIMITS:
            raise InvalidArgument(f"linux.resources.unified: {name} sets no limit: it moves or stops processes")
        where = facts.controllers.get(controller)
        if controller != "cgroup" and (where is None or where.version != 2 or where.obstacle):
            raise missing(
                f"by linux.resources.unified {name}", controller, facts, "Its controller must be one of cgroup v2's"
            )
        lines = [line for line in value.split("\n") if line] or ["\n"]  # nothing at all would not reach the kernel
        found.setdefault(controller, []).extend((name, line) for line in lines)
    return found
