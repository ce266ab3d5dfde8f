"""Percentiles of repeated measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What is kept of one series; seconds."""

    count: int
    min_s: float
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One start. What a peer cannot know is None; whole_s includes its teardown."""

    whole_s: float
    until_exec_s: float | None = None
    until_exit_s: float | None = None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value at a percentile of an ascending series, interpolated between neighbours."""
    if not ordered:
        raise ValueError("percentile of nothing")
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summarize(values: Sequence[float]) -> Summary | None:
    if not values:
        return None
    ordered = sorted(values)
    return Summary(
        count=len(ordered),
        min_s=ordered[0],
        p50_s=percentile(ordered, 50),
        p95_s=percentile(ordered, 95),
        p99_s=percentile(ordered, 99),
    )
