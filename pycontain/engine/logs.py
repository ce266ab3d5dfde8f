"""What containers that stay have said: Docker's json-file lines, read back in order, and followed.

    {"log":"one line\\n","stream":"stdout","time":"2026-11-25T09:41:13.123456789Z"}

The monitor writes ``log`` and, when it is full, makes it ``log.1``, that one ``log.2``, and so on. A line longer than 16 KiB comes in
pieces, of which only the last ends in a newline.
"""

from __future__ import annotations

import json
import os
import select
import time
from typing import Any

from .. import _native
from ..errors import Conflict, ContainerNotFound, InvalidArgument
from ..runtime import detached, monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ..runtime.roots import Roots
    from .journal import JournalReader


__all__ = ["Line", "LogReader", "Shown", "open_log", "read_logs", "stamp"]

_BLOCK = 1 << 16
_POLL_S = 0.05


class Line:
    """``stream``: "stdout" or "stderr"; ``time`` is RFC 3339; ``text`` ends in a newline, unless more of the line follows.

    No record: there may be millions, and one of those takes five times as long to make.
    """

    __slots__ = ("stream", "text", "time")

    def __init__(self, stream: str, time: str, text: str) -> None:
        self.stream, self.time, self.text = stream, time, text


def read_logs(
    roots: Roots, text: str, *, tail: int | None = None, since: str = "", until: str = "", follow: bool = False,
) -> Iterator[Line]:  # fmt: skip
    """The lines of a container, the oldest first. ``tail``: the last so many; ``since``, ``until``: times as :func:`stamp` writes
    them. ``follow``: until it has ended for good.

    Raises: ContainerNotFound; Conflict: it keeps no log.
    """
    return _until_over(open_log(roots, text, tail=tail, since=since, until=until, follow=follow))


def _until_over(log: LogReader | JournalReader) -> Iterator[Line]:
    with log:
        poller = select.poll()
        poller.register(log.fileno(), select.POLLIN)
        while not log.is_over:
            yield from log.lines()
            if not log.is_over:
                left = log.left_s()
                poller.poll(None if left is None else left * 1000 + 1)


def open_log(
    roots: Roots, text: str, *, tail: int | None = None, since: str = "", until: str = "", follow: bool = False,
) -> LogReader | JournalReader:  # fmt: skip
    """As :func:`read_logs`, for who waits with descriptors of his own."""
    found = detached.find(roots, text)
    if found is None:
        from ..runtime import foreground

        foreground.find(roots, text)
        raise Conflict(f"container {text} runs in the foreground of another command, which has its output")
    if found.logging.driver == "none":
        raise Conflict(f"container {found.name} keeps no log: it was made with --log-driver none")
    if found.logging.driver == "journald":
        from .journal import JournalReader

        return JournalReader(roots, found, tail, since, until, follow)
    return LogReader(roots, found.id, tail, since, until, follow)


class LogReader:
    """``is_over``: :meth:`lines` will have no more. Until then :meth:`fileno` becomes readable when there may be new ones: the log
    has grown, or the monitor has ended."""

    def __init__(
        self, roots: Roots, container_id: str, tail: int | None, since: str, until: str, follow: bool
    ) -> None:  # fmt: skip
        self._directory = detached.directory_of(roots, container_id)
        self._since, self._until = since, until
        self._current: BinaryIO | None = None
        self._files: list[BinaryIO] = []
        self._rest = b""
        self._follows = follow
        self._epoll = select.epoll()
        self._watch = self._monitor = -1
        self.is_over = False
        try:
            if follow:
                self._follow(detached.run_directory_of(roots, container_id))
            # after the watch is there: what comes in between is seen, by either
            self._files = _opened(self._directory)
            if tail is not None and self._files:
                self._files = _of_last(self._files, tail)
        except BaseException:
            self.close()
            raise

    def _follow(self, run_directory: str) -> None:
        try:
            self._watch = _native.watch_directory(self._directory)
            self._epoll.register(self._watch, select.EPOLLIN)
        except FileNotFoundError:
            raise ContainerNotFound(f"No such container: {self._directory.rpartition('/')[2]}") from None
        except OSError:
            pass  # more than fs.inotify.max_user_instances, often 128: looked at again and again
        self._monitor = monitor.open_pidfd(self._directory, run_directory)
        if self._monitor >= 0:
            self._epoll.register(self._monitor, select.EPOLLIN)

    def fileno(self) -> int:
        return self._epoll.fileno()

    def left_s(self) -> float | None:
        """Seconds after which :meth:`lines` is to be asked, whether or not the descriptor is readable. None: never."""
        if self._watch < 0:
            return _POLL_S
        if not self._until:
            return None
        from ..image.instants import parse_instant

        at = parse_instant(self._until)
        return 0.0 if at is None else max(0.0, at.timestamp() - time.time())

    def lines(self) -> Iterator[Line]:
        """Those that are there now."""
        last = self._is_last_look()
        for line in self._whole_lines():
            if self._until and line.time > self._until:
                self.is_over = True
                return
            if line.time >= self._since:
                yield line
        self.is_over = last

    def _is_last_look(self) -> bool:
        """Asked before the look: what it has said last is there then."""
        if not self._follows:
            return True
        try:
            while self._watch >= 0 and os.read(self._watch, _BLOCK):
                pass
        except BlockingIOError:
            pass
        if self._until and stamp(time.time()) > self._until:
            return True
        return self._monitor < 0 or any(fd == self._monitor for fd, _ in self._epoll.poll(0))

    def _whole_lines(self) -> Iterator[Line]:
        while True:
            if self._current is None:
                if not self._files:
                    self._files = [file] if (file := _open(f"{self._directory}/log")) is not None else []
                if not self._files:
                    return
                self._current = self._files.pop(0)
            while data := self._current.read(_BLOCK):
                *whole, self._rest = (self._rest + data).split(b"\n")
                for each in whole:
                    yield _parsed(each)
            if not self._files:
                newer = _newer(self._directory, self._current) if self._follows else None
                if newer is None:
                    return
                self._files = [newer]
            self._current.close()
            self._current, self._rest = None, b""

    def close(self) -> None:
        for file in (self._current, *self._files):
            if file is not None:
                file.close()
        self._current, self._files = None, []
        self._epoll.close()
        watch, self._watch, pidfd, self._monitor = self._watch, -1, self._monitor, -1
        for fd in (watch, pidfd):
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        if hasattr(self, "is_over"):  # else there was no descriptor for its epoll
            self.close()

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(directory: str) -> list[BinaryIO]:
    """The oldest first. Opened before any is read: one that is rotated meanwhile is still the same file."""
    files: list[BinaryIO] = []
    number = 0
    while (file := _open(f"{directory}/log.{number}" if number else f"{directory}/log")) is not None or number == 0:
        if file is not None:
            if files and os.path.samestat(os.fstat(file.fileno()), os.fstat(files[-1].fileno())):
                file.close()  # rotated between the two
            else:
                files.append(file)
        number += 1
    return files[::-1]


def _open(path: str) -> BinaryIO | None:
    try:
        return open(path, "rb")
    except FileNotFoundError:
        return None


def _newer(directory: str, file: BinaryIO) -> BinaryIO | None:
    """The file after this one, once this one has been rotated and read to its end."""
    ours = os.fstat(file.fileno())
    if file.tell() != ours.st_size or _is_newest(ours, f"{directory}/log"):
        return None
    files = _opened(directory)
    places = [at for at, each in enumerate(files) if os.path.samestat(os.fstat(each.fileno()), ours)]
    # without a place it has been removed meanwhile: all that is there came later
    following = files[places[0] + 1 :] if places else files
    for each in files:
        if not following or each is not following[0]:
            each.close()
    return following[0] if following else None


def _is_newest(ours: os.stat_result, path: str) -> bool:
    """Asked at each look of one who follows: all the others are opened only when it is not."""
    try:
        return os.path.samestat(ours, os.stat(path))
    except FileNotFoundError:
        return False  # between two renames


def _of_last(files: list[BinaryIO], count: int) -> list[BinaryIO]:
    """Each at the place from which on, in all of them together, ``count`` lines follow."""
    if count == 0:
        for each in files[:-1]:
            each.close()
        files[-1].seek(0, os.SEEK_END)
        return files[-1:]
    for at in range(len(files) - 1, -1, -1):
        file = files[at]
        lines, position = _back(file, count)
        file.seek(position)
        count -= lines
        if count <= 0:
            for each in files[:at]:
                each.close()
            return files[at:]
    return files


def _back(file: BinaryIO, count: int) -> tuple[int, int]:
    """How many of the last ``count`` lines a file has, and where the first of them begins."""
    end = file.seek(0, os.SEEK_END)
    position, found = end, 0
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        at = len(block) - 1 if position + size == end else len(block)  # the newline that ends the file begins no line
        while found < count and (at := block.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found == count:
                return count, position + at + 1
    return found + (end > 0), 0


_HEAD, _STREAM, _TIME = b'{"log":"', b'","stream":"', b'","time":"'
_TIME_AT = -32  # 30 bytes and the end
_STREAM_AT = _TIME_AT - len(_TIME) - len("stdout")
_TEXT_END = _STREAM_AT - len(_STREAM)


def _parsed(data: bytes) -> Line:
    """As the monitor writes them; most have nothing escaped but the newline, and are taken apart without the parser."""
    end = _TEXT_END - 2
    if (
        data.startswith(_HEAD)
        and data[_TEXT_END:_STREAM_AT] == _STREAM
        and data[_TIME_AT - len(_TIME) : _TIME_AT] == _TIME
        and data[end:_TEXT_END] == b"\\n"
        and data.find(b"\\", len(_HEAD)) == len(data) + end
        and data.endswith(b'"}')
    ):
        text = data.decode("utf-8", "replace")
        return Line(text[_STREAM_AT : _STREAM_AT + 6], text[_TIME_AT:-2], text[len(_HEAD) : end] + "\n")
    try:
        document: dict[str, Any] = json.loads(data)
        return Line(document["stream"], document["time"], document["log"])
    except (ValueError, KeyError, TypeError):
        raise InvalidArgument(f"cannot read the log: a line of it is damaged: {data[:60]!r}") from None


class Shown:
    """Which lines are wanted, and with the time of each before it; of a line that comes in pieces, before the first."""

    def __init__(self, *, stdout: bool = True, stderr: bool = True, timestamps: bool = False) -> None:
        self._streams = ("stdout",) * stdout + ("stderr",) * stderr
        self._timestamps = timestamps
        self._begun: dict[str, bool] = {}

    def text(self, line: Line) -> str:
        """ "": it is not wanted."""
        if line.stream not in self._streams:
            return ""
        if not self._timestamps:
            return line.text
        begun = self._begun.get(line.stream, False)
        self._begun[line.stream] = not line.text.endswith("\n")
        return line.text if begun else f"{line.time} {line.text}"


def stamp(seconds: float, digits: str = "") -> str:
    """A time as the lines have it, which can be compared as text: RFC 3339 in UTC, with nine digits. ``digits`` are those behind
    whole ``seconds``, where a float has not enough of them."""
    whole = int(seconds // 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{digits or f'{seconds % 1:.9f}'[2:]}Z"
