"""What the filters of all lists have in common."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["check", "labels_match"]


def check(filters: Iterable[str], known: Sequence[str]) -> None:
    """Raises: InvalidArgument: a filter that there is not."""
    for name in filters:
        if name not in known:
            hint = parse.nearest(name, known, f"the filters are {', '.join(known)}")
            raise InvalidArgument(f"invalid filter {parse.quote(name)}{hint}")


def labels_match(wanted: Iterable[str], labels: Sequence[tuple[str, str]]) -> bool:
    """Whether all of ``KEY`` or ``KEY=VALUE`` are among the labels."""
    have = dict(labels)
    for each in wanted:
        key, equals, value = each.partition("=")
        if key not in have or (equals and have[key] != value):
            return False
    return True
