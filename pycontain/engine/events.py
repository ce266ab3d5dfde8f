"""Events, as ``docker events`` has them: those that the journal still knows, and those that come.

    with events(roots, since=time.time() - 60, filters={"type": ["container"]}) as following:
        for event in following: ...

asyncio: ``loop.add_reader(following.fileno(), ...)``, and :meth:`Events.read` there, which never waits.
"""

from __future__ import annotations

import json
import os
import select
import time

from .. import _native, journal
from ..errors import Conflict, InvalidArgument, Unsupported, errno_name
from ..record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from ..runtime.roots import Roots

__all__ = ["FILTERS", "Event", "Events", "check_filters", "events", "matches"]

FILTERS = (
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service",
    "type", "volume",
)  # fmt: skip
_BY_NAME = ("config", "container", "daemon", "network", "node", "plugin", "secret", "service", "volume")
_WITH_MORE = ("exec_create", "exec_die", "exec_start", "health_status")
_BLOCK = 1 << 18
_AT_MOST_MS = 3_600_000  # what poll(2) takes has an end


@record
class Event:
    """``kind``: "container", "image", "volume", ...; ``id``: of whom; ``attributes`` by name; ``time_ns`` since 1970."""

    kind: str
    action: str
    id: str
    attributes: tuple[tuple[str, str], ...]
    time_ns: int


def check_filters(filters: Mapping[str, Sequence[str]]) -> None:
    """Raises: InvalidArgument: there is no such filter."""
    for name in filters:
        if name not in FILTERS:
            raise InvalidArgument(f"invalid filter '{name[:40]}': the filters are {', '.join(FILTERS)}")


def matches(event: Event, filters: Mapping[str, Sequence[str]]) -> bool:
    """All kinds of filters must be met; of several of one kind, one; of labels all. Names and ids may be cut short."""
    have = dict(event.attributes)
    for name, values in filters.items():
        if not values:
            continue
        if name == "event":
            met = any(_is_action(event.action, value) for value in values)
        elif name == "type":
            met = event.kind in values
        elif name == "scope":
            met = "local" in values
        elif name == "image":
            image = have.get("name" if event.kind == "image" else "image", "")
            met = any(value in (event.id, image, _without_tag(event.id), _without_tag(image)) for value in values)
        elif name == "label":
            met = all(_has_label(have, value) for value in values)
        else:
            met = event.kind == name and any(
                event.id.startswith(value) or have.get("name", "").startswith(value) for value in values
            )
        if not met:
            return False
    return True


def _is_action(action: str, wanted: str) -> bool:
    """ "exec_start" is also "exec_start: sh -c true", "health_status" also "health_status: healthy"."""
    return action == wanted or (wanted in _WITH_MORE and action.partition(":")[0] == wanted)


def _without_tag(name: str) -> str:
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def _has_label(have: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in have and (not equals or have[key] == value)


def events(
    roots: Roots, *, since: float | None = None, until: float | None = None, filters: Mapping[str, Sequence[str]] | None = None
) -> Events:  # fmt: skip
    """``since``, ``until``: seconds since 1970. Without either, what happens from now on, for ever; with ``until`` alone, all that
    is known until then. Iterating waits; it ends after ``until``.

    Raises: InvalidArgument: no such filter; Unsupported: this user may not read the journal.
    """
    check_filters(filters or {})
    try:
        return Events(journal.ready(roots.data_root), since, until, dict(filters or {}))
    except OSError as error:
        raise Unsupported(
            f"cannot read the events of {roots.data_root}: {error.strerror} ({errno_name(error.errno or 0)}): ask as its owner, or give "
            "another --data-root"
        ) from None


class Events:
    """``damaged``: lines that could not be read and were passed over, as after a crash; ``missed``: segments that were removed
    before they had been read."""

    def __init__(
        self, directory: str, since: float | None, until: float | None, filters: Mapping[str, Sequence[str]]
    ) -> None:
        self._directory = directory
        self._since_ns = _ns(since)
        self._until_ns = _ns(until)
        self._filters = filters
        self.damaged = self.missed = 0
        self.is_over = False
        self._number = 0  # of the segment that is being read; 0: none yet
        self._file = -1
        self._at = 0  # where in it
        self._rest = b""  # a line that has no end yet
        self._fd = _native.watch_directory(directory)  # before the first look, so that nothing is missed
        try:
            if since is None and until is None:
                self._go_to_end()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when there may be more to :meth:`read`."""
        return self._fd

    def close(self) -> None:
        for fd in (self._fd, self._file):
            if fd >= 0:
                os.close(fd)
        self._fd = self._file = -1

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while not self.is_over:
            yield from self.now()
            if not self.is_over:
                left_s = self.left_s()
                poller.poll(None if left_s is None else min(int(left_s * 1000) + 1, _AT_MOST_MS))

    def now(self) -> list[Event]:
        """As :meth:`read`; afterwards :attr:`is_over` says whether there will be no more."""
        # before the look: what was written until then is seen by it
        is_over = self._until_ns is not None and time.time_ns() > self._until_ns
        found = self.read()
        self.is_over = is_over
        return found

    def left_s(self) -> float | None:
        """Seconds after which :meth:`now` is to be asked, whether or not the descriptor is readable. None: never."""
        return None if self._until_ns is None else max(0, self._until_ns - time.time_ns()) / 1e9

    def read(self) -> list[Event]:
        """What has come since the last time, by time. Never waits. Raises: Conflict: somebody has removed the journal."""
        try:
            while len(os.read(self._fd, 1 << 16)) > 1 << 15:
                pass
        except BlockingIOError:
            pass
        try:
            return self._read()
        except FileNotFoundError:
            raise Conflict(f"the journal of events {self._directory} has been removed meanwhile: ask again") from None

    def _read(self) -> list[Event]:
        found: list[Event] = []
        while True:
            newest = max(
                journal.segments(self._directory), default=0
            )  # before the look: with a newer one this one is full
            self._read_segment(found)
            if newest <= self._number:
                break
            self._next()
        return sorted(found, key=lambda each: each.time_ns)

    def _go_to_end(self) -> None:
        known = journal.segments(self._directory)
        if known:
            self._number = known[-1]
            self._open()
            self._at = os.lseek(self._file, 0, os.SEEK_END) if self._file >= 0 else 0

    def _next(self) -> None:
        if self._rest and self._at - len(self._rest) < journal.SEGMENT_BYTES:
            self.damaged += 1  # cut short, and nobody has written behind it
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        later = [each for each in journal.segments(self._directory) if each > self._number]
        if later:
            self.missed += later[0] - self._number - 1 if self._number else 0
            self._number = later[0]
            self._open()

    def _open(self) -> None:
        self._at, self._rest = 0, b""
        try:
            self._file = os.open(
                journal.path_of(self._directory, self._number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            self._file = -1  # removed just now
            self.missed += 1

    def _read_segment(self, found: list[Event]) -> None:
        while self._file >= 0 and (data := os.pread(self._file, _BLOCK, self._at)):
            begins = self._at - len(self._rest)
            self._at += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                # the newline before it belongs to it
                if line and begins - 1 < journal.SEGMENT_BYTES:
                    self._take(line, found)
                begins += len(line) + 1

    def _take(self, line: bytes, found: list[Event]) -> None:
        try:
            event = _parsed(line)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.damaged += 1
            return
        if self._since_ns is not None and event.time_ns < self._since_ns:
            return
        if self._until_ns is not None and event.time_ns > self._until_ns:
            return
        if matches(event, self._filters):
            found.append(event)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e9)


def _parsed(line: bytes) -> Event:
    document = json.loads(line)
    kind, action, at, actor = document["Type"], document["Action"], document["timeNano"], document["Actor"]
    attributes = {name: value for name, value in actor["Attributes"].items() if name}
    texts = (kind, action, actor["ID"], *attributes, *attributes.values())
    if type(at) is not int or not all(type(each) is str for each in texts):
        raise ValueError("none of ours")
    return Event(kind=kind, action=action, id=actor["ID"], attributes=tuple(sorted(attributes.items())), time_ns=at)
