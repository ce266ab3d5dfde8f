"""Controllers that count things: pids, hugetlb, rdma. Spec: runtime-spec config-linux.md, "PIDs", "Huge page limits",
"RDMA"."""

from __future__ import annotations

from ..errors import InvalidArgument
from .refusals import in_range

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..spec.runtime import HugepageLimit, Rdma

__all__ = ["hugetlb_writes", "pids_writes", "rdma_writes"]


def pids_writes(limit: int) -> list[tuple[str, str]]:
    """0 becomes 1, as in runc: with 0 nothing could be started at all in cgroup v2."""
    in_range("pids.limit", limit, -1, 1 << 22)
    return [("pids.max", "max" if limit < 0 else str(max(limit, 1)))]


def _page_size(i: int, text: str) -> str:
    digits, unit = text[:-2], text[-2:]
    if unit not in ("KB", "MB", "GB") or not digits.isdecimal() or digits.startswith("0"):
        raise InvalidArgument(
            f"linux.resources.hugepageLimits[{i}].pageSize: expected a size such as 2MB, as the hugetlb files have it, found {text!r}"
        )
    return text


def hugetlb_writes(limits: tuple[HugepageLimit, ...], facts: HostFacts, version: int) -> list[tuple[str, str]]:
    """The limit on reservations (5.7), which a program meets when it maps; and the one on use below it, for pages that
    are taken without a reservation."""
    writes = []
    kinds = ("rsvd.", "") if facts.kernel >= (5, 7) else ("",)
    for i, h in enumerate(limits):
        size = _page_size(i, h.page_size)
        in_range(f"hugepageLimits[{i}].limit", h.limit, 0, (1 << 64) - 1)
        # whole pages are counted: a limit beyond all memory is none, and the kernel would refuse the largest
        value = str(h.limit) if h.limit < 1 << 62 else ("max" if version == 2 else "-1")
        file = "max" if version == 2 else "limit_in_bytes"
        writes += [(f"hugetlb.{size}.{kind}{file}", value) for kind in kinds]
    return writes


def rdma_writes(devices: tuple[Rdma, ...]) -> list[tuple[str, str]]:
    writes = []
    for r in devices:
        at = f"rdma.{r.device}"
        if not r.device or any(c.isspace() or c == "/" for c in r.device):
            raise InvalidArgument(f"linux.resources.rdma: {r.device!r} is no name of a device")
        asked = [("hcaHandles", "hca_handle", r.hca_handles), ("hcaObjects", "hca_object", r.hca_objects)]
        if all(n is None for _, _, n in asked):
            raise InvalidArgument(f"linux.resources.{at}: expected hcaHandles or hcaObjects, found neither")
        for name, _, n in asked:
            in_range(f"{at}.{name}", n, 0, (1 << 32) - 1)
        words = [f"{key}={n if n < (1 << 31) - 1 else 'max'}" for _, key, n in asked if n is not None]
        writes.append(("rdma.max", f"{r.device} {' '.join(words)}"))
    return writes
