"""What containers that stay have said: Docker's json-file lines, read back in order, and followed.

    {"log":"one line\\n","stream":"stdout","time":"2026-11-25T09:41:13.123456789Z"}

The monitor writes ``log`` and, when it is full, makes it ``log.1``, that one ``log.2``, and so on. A line longer than 16 KiB comes in
pieces, of which only the last ends in a newline.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ..errors import Conflict, InvalidArgument
from ..record import record
from ..runtime import detached, monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ..runtime.roots import Roots

__all__ = ["Line", "read_logs", "stamp"]

_BLOCK = 1 << 16
_POLL_S = 0.01


@record
class Line:
    """``stream``: "stdout" or "stderr"; ``time`` is RFC 3339; ``text`` ends in a newline, unless more of the line follows."""

    stream: str
    time: str
    text: str


def read_logs(
    roots: Roots, text: str, *, tail: int | None = None, since: str = "", until: str = "", follow: bool = False,
) -> Iterator[Line]:  # fmt: skip
    """The lines of a container, the oldest first. ``tail``: the last so many; ``since``, ``until``: times as :func:`stamp` writes
    them. ``follow``: until it has ended for good.

    Raises: ContainerNotFound; Conflict: it keeps no log.
    """
    found = detached.find(roots, text)
    if found is None:
        from ..runtime import foreground

        foreground.find(roots, text)
        raise Conflict(f"container {text} runs in the foreground of another command, which has its output")
    if found.logging.driver == "none":
        raise Conflict(f"container {found.name} keeps no log: it was made with --log-driver none")
    if found.logging.driver == "journald":
        from .journal import read_journal

        return read_journal(roots, found, tail=tail, since=since, until=until, follow=follow)
    return _lines(roots, found.id, tail, since, until, follow)


def _lines(roots: Roots, container_id: str, tail: int | None, since: str, until: str, follow: bool) -> Iterator[Line]:
    directory = detached.directory_of(roots, container_id)
    run_directory = detached.run_directory_of(roots, container_id)
    files = _opened(directory)
    if tail is not None and files:
        files = _of_last(files, tail)
    current: BinaryIO | None = None
    try:
        while files:
            current = files.pop(0)
            for line in _of_file(current):
                if until and line.time > until:
                    return
                if line.time >= since:
                    yield line
            if files:
                current.close()
        if not follow:
            return
        rest = b""
        while True:
            alive = monitor.is_alive(run_directory)  # before the look: what it has said last is there then
            if current is None:
                current = _open(f"{directory}/log")
            if current is not None:
                rest += current.read()
                *whole, rest = rest.split(b"\n")
                for each in whole:
                    line = _parsed(each)
                    if until and line.time > until:
                        return
                    yield line
                if whole:
                    continue
                newer = _newer(directory, current)
                if newer is not None:
                    current.close()
                    current = newer
                    continue
            if not alive:
                return
            if until and stamp(time.time()) > until:
                return
            time.sleep(_POLL_S)
    finally:
        for file in [current, *files]:
            if file is not None:
                file.close()


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


def _of_file(file: BinaryIO) -> Iterator[Line]:
    """To the last whole line; what is being written stays unread."""
    while data := file.readline():
        if not data.endswith(b"\n"):
            file.seek(-len(data), os.SEEK_CUR)
            return
        yield _parsed(data)


def _parsed(data: bytes) -> Line:
    try:
        document: dict[str, Any] = json.loads(data)
        return Line(stream=document["stream"], time=document["time"], text=document["log"])
    except (ValueError, KeyError, TypeError):
        raise InvalidArgument(f"cannot read the log: a line of it is damaged: {data[:60]!r}") from None


def stamp(seconds: float, digits: str = "") -> str:
    """A time as the lines have it, which can be compared as text: RFC 3339 in UTC, with nine digits. ``digits`` are those behind
    whole ``seconds``, where a float has not enough of them."""
    whole = int(seconds // 1)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{digits or f'{seconds % 1:.9f}'[2:]}Z"
