"""The memory controller. Spec: runtime-spec config-linux.md, "Memory"."""

from __future__ import annotations

from ..errors import InvalidArgument, Unsupported
from .refusals import in_range, no_setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import Memory

__all__ = ["memory_asked", "memory_writes"]

_MOST = (1 << 63) - 1


def memory_asked(m: Memory) -> bool:
    """Whether something is asked for that needs the controller; raises for what no kernel of today can do."""
    _check(m)
    return bool(m.limit or m.reservation or m.swap or m.disable_oom_killer or m.swappiness is not None) or (
        m.kernel_tcp not in (None, 0, -1)
    )


def _check(m: Memory) -> None:
    for field in ("limit", "reservation", "swap", "kernel", "kernel_tcp"):
        name = "kernelTCP" if field == "kernel_tcp" else field
        in_range(f"memory.{name}", getattr(m, field), -1, _MOST)
    in_range("memory.swappiness", m.swappiness, 0, 100)
    if m.kernel not in (None, 0, -1):
        raise no_setting(
            "memory.kernel",
            "the kernel no longer limits its own memory apart from the rest (deprecated in 5.4, gone in 5.16): "
            "memory.limit counts it",
        )
    if m.use_hierarchy is False:
        raise no_setting("memory.useHierarchy", "false: since Linux 5.11 accounting is always hierarchical")
    if (m.limit or 0) > 0 and (m.swap or 0) > 0 and (m.swap or 0) < (m.limit or 0):
        raise InvalidArgument(
            f"linux.resources.memory.swap: memory and swap together ({m.swap}) must be at least the memory limit ({m.limit})"
        )


def memory_writes(m: Memory, facts: HostFacts, version: int) -> list[tuple[str, str]]:
    """(file, value), in order. 0 is unset in limit, reservation and swap: so runc has it, and documents rely on it.
    For values that memory_asked has checked."""
    return _v2(m) if version == 2 else _v1(m, facts)


def _v2(m: Memory) -> list[tuple[str, str]]:
    if m.swappiness is not None:
        raise no_setting(
            "memory.swappiness", "cgroup v2 has no swappiness of a single cgroup (vm.swappiness is the host's)"
        )
    if m.disable_oom_killer:
        raise no_setting("memory.disableOOMKiller", "cgroup v2 cannot switch its OOM killer off. Leave it out")
    if m.kernel_tcp not in (None, 0, -1):
        raise no_setting("memory.kernelTCP", "cgroup v2 counts TCP buffers as memory: memory.limit covers them")
    writes: list[tuple[str, str]] = []
    if m.limit:
        writes.append(("memory.max", "max" if m.limit < 0 else str(m.limit)))
    if m.reservation:
        writes.append(("memory.low", "max" if m.reservation < 0 else str(m.reservation)))
    swap = m.swap or (-1 if m.limit == -1 else None)
    if swap is not None:
        if swap > 0 and not m.limit:
            raise InvalidArgument(
                f"linux.resources.memory.swap: {swap} is memory and swap together, so it needs memory.limit as well"
            )
        only_swap = swap if swap < 0 or (m.limit or 0) < 0 else swap - (m.limit or 0)
        writes.append(("memory.swap.max", "max" if only_swap < 0 else str(only_swap)))
    return writes


def _v1(m: Memory, facts: HostFacts) -> list[tuple[str, str]]:
    writes: list[tuple[str, str]] = []
    if m.limit:
        writes.append(("memory.limit_in_bytes", str(m.limit)))
    if m.swap:
        if not facts.swap_accounting:
            raise Unsupported(
                "cannot limit swap: this kernel does not account it (no memory.memsw.limit_in_bytes). "
                "Boot with swapaccount=1, or leave out --memory-swap"
            )
        writes.append(("memory.memsw.limit_in_bytes", str(m.swap)))  # after the limit, which may not be above it
    if m.reservation:
        writes.append(("memory.soft_limit_in_bytes", str(m.reservation)))
    if m.kernel_tcp:
        writes.append(("memory.kmem.tcp.limit_in_bytes", str(m.kernel_tcp)))
    if m.swappiness is not None:
        writes.append(("memory.swappiness", str(m.swappiness)))
    if m.disable_oom_killer is not None:
        writes.append(("memory.oom_control", str(int(m.disable_oom_killer))))
    return writes
