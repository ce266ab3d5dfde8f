"""Standard streams of a container, with subprocess's habits; and the exchange of bytes over their pipes, without I/O of
its own choosing: the sync face drives it with poll, the asyncio face with the loop."""

from __future__ import annotations

import errno
import os

from .errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

__all__ = ["DEVNULL", "Exchange", "PIPE", "STDOUT", "Streams"]

# the same numbers as in subprocess, so that either module's names can be used
PIPE, STDOUT, DEVNULL = -1, -2, -3
_CHUNK = 1 << 16


class Streams:
    """Opens what the child gets (``child``: three fds) and keeps our ends of the pipes (``ours``: fd or -1 each)."""

    def __init__(self, stdin: int | IO[Any] | None, stdout: int | IO[Any] | None, stderr: int | IO[Any] | None) -> None:
        self.ours = [-1, -1, -1]
        self.child = [-1, -1, -1]
        self._opened: list[int] = []
        try:
            for number, wanted in enumerate((stdin, stdout, stderr)):
                self.child[number] = self._open(number, wanted)
        except BaseException:
            self.close_child()
            self.close_ours()
            raise

    def _open(self, number: int, wanted: int | IO[Any] | None) -> int:
        if wanted is None:
            return number
        if wanted == PIPE:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            theirs, self.ours[number] = (reader, writer) if number == 0 else (writer, reader)
            self._opened.append(theirs)
            return theirs
        if wanted == DEVNULL:
            fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            self._opened.append(fd)
            return fd
        if wanted == STDOUT:
            if number != 2:
                raise InvalidArgument("STDOUT is for stderr only: it sends stderr where stdout goes")
            return self.child[1]
        fd = wanted if isinstance(wanted, int) else wanted.fileno()
        if fd < 0:
            raise InvalidArgument(f"{fd} is no file descriptor: give PIPE, DEVNULL, STDOUT, a descriptor or a file")
        return fd

    def close_child(self) -> None:
        while self._opened:  # forgotten before it is closed: an interrupt in between must not lead to a second close
            os.close(self._opened.pop())

    def close_ours(self) -> None:
        for number, fd in enumerate(self.ours):
            self.ours[number] = -1
            if fd >= 0:
                os.close(fd)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError as e:
        if e.errno == errno.EIO:  # a terminal whose other side nobody has open any more
            return b""
        raise


class Exchange:
    """Feeds ``data`` to the child's stdin and collects what it writes. ``wants_write``/``wants_read`` name the fds that
    are still open; call on_writable/on_readable when one is ready. It owns the fds of ``streams.ours``."""

    def __init__(self, streams: Streams, data: bytes | None) -> None:
        self._streams = streams
        self._data = memoryview(data or b"")
        self._chunks: dict[int, list[bytes]] = {number: [] for number in (1, 2) if streams.ours[number] >= 0}
        for fd in streams.ours:
            if fd >= 0:
                os.set_blocking(fd, False)
        if not self._data:
            self._close(0)

    def _close(self, number: int) -> None:
        fd, self._streams.ours[number] = self._streams.ours[number], -1
        if fd >= 0:
            os.close(fd)

    @property
    def wants_write(self) -> int:
        """The fd to write to when it is ready, or -1."""
        return self._streams.ours[0]

    @property
    def wants_read(self) -> list[int]:
        return [fd for fd in self._streams.ours[1:] if fd >= 0]

    def on_writable(self) -> None:
        try:
            n = os.write(self._streams.ours[0], self._data[:_CHUNK])
        except BlockingIOError:
            return
        except BrokenPipeError:  # the program does not read its input: its right
            n = len(self._data)
        self._data = self._data[n:]
        if not self._data:
            self._close(0)

    def on_readable(self, fd: int) -> None:
        number = self._streams.ours.index(fd, 1)
        try:
            chunk = _read(fd)
        except BlockingIOError:
            return
        if chunk:
            self._chunks[number].append(chunk)
        else:
            self._close(number)

    def drain(self) -> None:
        """After the end: all that is in the pipes. What is written later (by nobody of the container) is not waited for."""
        self._close(0)
        for number in (1, 2):
            while (fd := self._streams.ours[number]) >= 0:
                try:
                    chunk = _read(fd)
                except BlockingIOError:
                    self._close(number)
                    break
                if chunk:
                    self._chunks[number].append(chunk)
                else:
                    self._close(number)

    def close(self) -> None:
        for number in range(3):
            self._close(number)

    def output(self, number: int) -> bytes | None:
        """What was captured of stdout (1) or stderr (2) so far; None when it is not a pipe."""
        chunks = self._chunks.get(number)
        return None if chunks is None else b"".join(chunks)
