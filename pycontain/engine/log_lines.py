"""The lines of a log as Python's programs want them: an iterator that can be closed."""

from __future__ import annotations

import select
from typing import AnyStr, Generic

from ..errors import InvalidArgument
from .logs import stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .journal import JournalReader
    from .logs import LogReader, Shown

__all__ = ["LogLines", "lines_now", "said_when"]


def said_when(at: datetime | float | None) -> str:
    """As :func:`pycontain.engine.logs.stamp` writes it; "" for None. Raises: InvalidArgument."""
    if at is None:
        return ""
    if isinstance(at, (int, float)):
        return stamp(at)
    if at.tzinfo is None:
        raise InvalidArgument(
            f"the time {at.isoformat()} has no zone: write datetime.now(timezone.utc), or at.astimezone()"
        )
    return stamp(int(at.timestamp()), f"{at.microsecond:06}000")


def lines_now(reader: LogReader | JournalReader, shown: Shown, kind: type[AnyStr]) -> Iterator[AnyStr]:
    """Those that are there, and wanted."""
    for line in reader.lines():
        text = shown.text(line)
        if text:
            yield text if kind is str else text.encode("utf-8", "replace")  # type: ignore[misc]


def _until_over(reader: LogReader | JournalReader, shown: Shown, kind: type[AnyStr]) -> Iterator[AnyStr]:
    """Knows nothing of its LogLines, which so ends when its last owner lets go of it."""
    poller = select.poll()
    poller.register(reader.fileno(), select.POLLIN)
    while not reader.is_over:
        yield from lines_now(reader, shown, kind)
        if not reader.is_over:
            left = reader.left_s()
            poller.poll(None if left is None else left * 1000 + 1)
    reader.close()


class LogLines(Generic[AnyStr]):
    """An iterator, which waits for lines where they are followed. :meth:`close`, the end of a ``with`` block, or nobody's having it any
    more, gives its descriptors back."""

    def __init__(self, reader: LogReader | JournalReader, shown: Shown, kind: type[AnyStr]) -> None:
        self._reader = reader
        self._lines: Iterator[AnyStr] = _until_over(reader, shown, kind)

    def __iter__(self) -> LogLines[AnyStr]:
        return self

    def __next__(self) -> AnyStr:
        line: AnyStr = next(self._lines)
        return line

    def close(self) -> None:
        self._lines = iter(())
        self._reader.close()

    def __enter__(self) -> LogLines[AnyStr]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
