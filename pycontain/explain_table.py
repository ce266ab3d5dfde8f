"""Every op's rendering, and which neighbours are told in one line. A test holds the table against the C core's."""

from __future__ import annotations

from .explain_identity import STEPS as _IDENTITY
from .explain_steps import STEPS as _STEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .disassemble import DecodedOp
    from .explain_steps import Scene, Step

__all__ = ["RENDERINGS", "merge_key"]

RENDERINGS: dict[str, Callable[[list[DecodedOp], Scene], Step]] = {**_STEPS, **_IDENTITY}

_ALL_TOGETHER = frozenset((
    "DIR_MAKE", "CGROUP_MAKE", "CGROUP_OPEN", "CGROUP_JOIN", "MASK", "READONLY", "MAKE_NODE", "MAKE_LINK", "WRITE_FILE",
    "RLIMIT", "USAGE", "CGROUP_REMOVE", "TREE_ATTR", "PIPE_OWNER", "MOUNT_ATTR",
))  # fmt: skip
_CAPABILITIES = frozenset(("CAP_BOUND", "CAPS", "CAP_AMBIENT"))


def merge_key(op: DecodedOp) -> object:
    """Ops with equal keys are told in one line."""
    if op.name in _ALL_TOGETHER:
        return op.name
    if op.name in _CAPABILITIES:
        return "capabilities"
    if op.name == "CGROUP_WRITE" and op.s1.startswith(("cpu.cfs_", "cpuset.")):
        return (op.slot, op.s1[:7])
    return (op.section, op.index)
