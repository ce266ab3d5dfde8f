"""Block I/O: v1's blkio and v2's io. Spec: runtime-spec config-linux.md, "Block IO"."""

from __future__ import annotations

from ..errors import InvalidArgument, Unsupported
from .refusals import in_range, no_setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import BlockIO

__all__ = ["block_io_writes"]

# field -> v1's word, v2's word, the specification's word
_THROTTLE = (
    ("throttle_read_bps_device", "read_bps", "rbps", "throttleReadBpsDevice"),
    ("throttle_write_bps_device", "write_bps", "wbps", "throttleWriteBpsDevice"),
    ("throttle_read_iops_device", "read_iops", "riops", "throttleReadIOPSDevice"),
    ("throttle_write_iops_device", "write_iops", "wiops", "throttleWriteIOPSDevice"),
)


def _io_weight(weight: int) -> int:
    return 1 + (weight - 10) * 9999 // 990  # [10, 1000] -> io.weight's own scale, [1, 10000]


def _check(b: BlockIO) -> None:
    in_range("blockIO.weight", b.weight, 10, 1000, also=(0,))
    if b.leaf_weight:
        raise no_setting("blockIO.leafWeight", "leaf weights went with the CFQ scheduler in Linux 5.0. Leave it out")
    for i, d in enumerate(b.weight_device):
        at = f"blockIO.weightDevice[{i}]"
        _check_device(at, d.major, d.minor)
        in_range(f"{at}.weight", d.weight, 10, 1000, also=(0,))
        if d.leaf_weight:
            raise no_setting(f"{at}.leafWeight", "leaf weights went with the CFQ scheduler in Linux 5.0. Leave it out")
        if not d.weight:
            raise InvalidArgument(f"linux.resources.{at}: expected a weight, found none")
    for field, _, _, name in _THROTTLE:
        for i, t in enumerate(getattr(b, field)):
            _check_device(f"blockIO.{name}[{i}]", t.major, t.minor)
            in_range(f"blockIO.{name}[{i}].rate", t.rate, 0, (1 << 64) - 1)


def _check_device(at: str, major: int, minor: int) -> None:
    in_range(f"{at}.major", major, 0, (1 << 12) - 1)
    in_range(f"{at}.minor", minor, 0, (1 << 20) - 1)


def _weights_v2(b: BlockIO, facts: HostFacts) -> list[tuple[str, str]]:
    """io.weight rules where io.cost shares a disk out, io.bfq.weight where the bfq scheduler does: both, if both exist."""
    writes: list[tuple[str, str]] = []
    bfq = "io.bfq.weight" in facts.memory_files
    cost = "io.weight" in facts.memory_files or not bfq
    if b.weight:
        writes += [("io.bfq.weight", str(b.weight))] * bfq
        writes += [("io.weight", f"default {_io_weight(b.weight)}")] * cost
    for d in b.weight_device:
        assert d.weight is not None
        writes += [("io.bfq.weight", f"{d.major}:{d.minor} {d.weight}")] * bfq
        writes += [("io.weight", f"{d.major}:{d.minor} {_io_weight(d.weight)}")] * cost
    return writes


def _weights_v1(b: BlockIO, facts: HostFacts) -> list[tuple[str, str]]:
    file = next((f for f in ("blkio.weight", "blkio.bfq.weight") if f in facts.memory_files), None)
    if file is None:
        raise Unsupported(
            "cannot weigh block I/O: no I/O scheduler of this host has weights (blkio.weight and blkio.bfq.weight are "
            "missing). Select the bfq scheduler, or leave out --blkio-weight"
        )
    writes = [(file, str(b.weight))] if b.weight else []
    return writes + [(f"{file}_device", f"{d.major}:{d.minor} {d.weight}") for d in b.weight_device]


def block_io_writes(b: BlockIO, facts: HostFacts, version: int) -> list[tuple[str, str]]:
    """(file, value), in order. A rate of 0 is no limit, as v1's own files have it."""
    _check(b)
    writes: list[tuple[str, str]] = []
    if b.weight or b.weight_device:
        writes += _weights_v2(b, facts) if version == 2 else _weights_v1(b, facts)
    for field, v1, v2, _ in _THROTTLE:
        for t in getattr(b, field):
            if version == 2:
                writes.append(("io.max", f"{t.major}:{t.minor} {v2}={t.rate or 'max'}"))
            else:
                writes.append((f"blkio.throttle.{v1}_device", f"{t.major}:{t.minor} {t.rate}"))
    return writes
