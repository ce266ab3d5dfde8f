"""v1's net_cls and net_prio. Spec: runtime-spec config-linux.md, "Network"."""

from __future__ import annotations

from ..errors import InvalidArgument
from .refusals import in_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.runtime import Network

__all__ = ["net_cls_writes", "net_prio_writes"]


def net_cls_writes(n: Network) -> list[tuple[str, str]]:
    in_range("network.classID", n.class_id, 0, (1 << 32) - 1)
    return [("net_cls.classid", str(n.class_id))]


def net_prio_writes(n: Network) -> list[tuple[str, str]]:
    writes = []
    for i, p in enumerate(n.priorities):
        at = f"network.priorities[{i}]"
        if not 0 < len(p.name) < 16 or any(c.isspace() or c in "/:" for c in p.name):
            raise InvalidArgument(f"linux.resources.{at}.name: {p.name!r} is no name of a network interface")
        in_range(f"{at}.priority", p.priority, 0, (1 << 32) - 1)
        writes.append(("net_prio.ifpriomap", f"{p.name} {p.priority}"))
    return writes
