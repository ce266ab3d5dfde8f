"""What a request says of limits, as the document's Resources: at a start, and of one that runs at an update."""

from __future__ import annotations

from ..record import replaced
from ..spec.runtime import CPU, BlockIO, Memory, Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..request import RunRequest

__all__ = ["changed_limits", "effective_swap", "limits_of"]

_PERIOD_US = 100_000


def effective_swap(request: RunRequest) -> int | None:
    """Memory and swap together, in bytes: as much swap as memory where nothing is said, as with Docker."""
    if request.memory_bytes is not None and request.memory_swap_bytes is None:
        return 2 * request.memory_bytes
    return request.memory_swap_bytes


def limits_of(request: RunRequest) -> Resources:
    """Without rates and devices, which only the host can tell."""
    quota, period = request.cpu_quota_us, request.cpu_period_us
    if request.cpus:
        quota, period = round(request.cpus * _PERIOD_US), _PERIOD_US
    return Resources(
        memory=Memory(
            limit=request.memory_bytes, reservation=request.memory_reservation_bytes, swap=effective_swap(request)
        ),
        cpu=CPU(
            shares=request.cpu_shares, quota=quota, period=period, realtime_period=request.cpu_rt_period_us,
            realtime_runtime=request.cpu_rt_runtime_us, cpus=request.cpuset_cpus, mems=request.cpuset_mems,
        ),
        pids_limit=request.pids_limit or None,
        block_io=BlockIO(weight=request.blkio_weight),
    )  # fmt: skip


# fields of a request, and those of memory and CPU that are set together when one of them is changed
_MEMORY = ("memory_bytes", "memory_swap_bytes", "memory_reservation_bytes")
_CPU = (
    (("cpu_shares",), ("shares",)),
    (("cpus", "cpu_quota_us", "cpu_period_us"), ("quota", "period")),
    (("cpu_rt_period_us", "cpu_rt_runtime_us"), ("realtime_period", "realtime_runtime")),
    (("cpuset_cpus", "cpuset_mems"), ("cpus", "mems")),
)


def changed_limits(request: RunRequest, names: frozenset[str]) -> Resources:
    """Of the request only what the fields ``names`` have a part in."""
    whole = limits_of(request)
    cpu = CPU()
    for fields, together in _CPU:
        if names.intersection(fields):
            cpu = replaced(cpu, **{each: getattr(whole.cpu, each) for each in together})
    return Resources(
        memory=whole.memory if names.intersection(_MEMORY) else Memory(),
        cpu=cpu,
        pids_limit=whole.pids_limit if "pids_limit" in names else None,
        block_io=whole.block_io if "blkio_weight" in names else BlockIO(),
    )
