"""Between the streams of a command and a container that it is attached to."""

from __future__ import annotations

import os
import select
import signal
import struct

from ..errors import InvalidArgument
from .copying import CHUNK, put
from .detach_keys import DetachKeys
from .signals import Interrupts, Signals, say
from .terminal import RawTerminal, window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.attach import Attachment

__all__ = ["check_terminal", "console_size", "follow"]


def follow(
    attachment: Attachment, signals: Signals, *, stdin: bool, keys: bytes, sig_proxy: bool = True, redraw: bool = False
) -> int | None:
    """Its exit code; None: the detach keys were typed. ``stdin``: ours is for it, if it takes any. ``redraw``: whatever draws on
    its terminal does it again.

    Signals go on to it, but for one with a terminal, to which their keys are sent; those that do not go on end this process.
    Raises: SystemExit: one has come, or our streams are gone; Conflict: the connection is.
    """
    follower = _Follower(attachment, stdin and attachment.takes_input, keys, sig_proxy and not attachment.has_terminal)
    try:
        if attachment.has_terminal:
            follower.resize(redraw=redraw)
        if follower.until_end(signals):
            return attachment.exit_code()
    finally:
        follower.restore()
    attachment.detach()
    return None


def console_size() -> tuple[int, int]:
    """Rows and columns of our terminal; 0, 0: there is none."""
    size = window_size(0, 1)
    rows, columns = struct.unpack("4H", size)[:2] if size is not None else (0, 0)
    return rows, columns


class _Follower:
    def __init__(self, attachment: Attachment, stdin: bool, keys: bytes, forwards: bool) -> None:
        self._attachment = attachment
        self._forwards = forwards
        self._keys = DetachKeys(keys) if attachment.has_terminal else None
        self._stdin_open = stdin
        self._raw = RawTerminal(0) if stdin and attachment.has_terminal and os.isatty(0) else None
        self._interrupts = Interrupts()
        if stdin:
            attachment.send(b"")

    def restore(self) -> None:
        if self._raw is not None:
            self._raw.restore()

    def resize(self, *, redraw: bool = False) -> None:
        rows, columns = console_size()
        if not (rows and columns):
            return
        if redraw:
            self._attachment.resize(rows + 1, columns + 1)  # the same size again would tell nobody anything
        self._attachment.resize(rows, columns)

    def until_end(self, signals: Signals) -> bool:
        """False: detached."""
        while True:
            if self._attachment.has_more:
                if not self._copy_out():
                    return True
                continue
            ready = self._wait(signals.fd)
            if signals.fd in ready:
                for number in signals.take():
                    self._signal(number)
            if 0 in ready and not self._copy_in():
                return False
            events = ready.get(self._attachment.fileno(), 0)
            if events & select.POLLOUT:
                self._attachment.flush()
            if events & ~select.POLLOUT and not self._copy_out():
                return True

    def _wait(self, signals: int) -> dict[int, int]:
        """No more input while the container has not taken the last."""
        sending = self._attachment.is_sending
        poller = select.poll()
        poller.register(signals, select.POLLIN)
        poller.register(self._attachment.fileno(), select.POLLIN | (select.POLLOUT if sending else 0))
        if self._stdin_open and not sending:
            poller.register(0, select.POLLIN)
        return dict(poller.poll())

    def _copy_out(self) -> bool:
        said = self._attachment.receive()
        if said is not None and not put(*said):
            raise SystemExit(128 + signal.SIGPIPE)
        return said is not None

    def _copy_in(self) -> bool:
        """One piece of input; False when the detach keys are in it."""
        try:
            data = os.read(0, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # EIO: a hangup
            data = b""
        if not data:
            if self._raw is not None:  # a window that is closed, a connection that breaks
                raise SystemExit(128 + signal.SIGHUP)
            self._stdin_open = False
            self._attachment.end_input()
            return True
        data, detached = self._keys.feed(data) if self._keys is not None else (data, False)
        if data:
            self._attachment.send(data)
        return not detached

    def _signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            if self._attachment.has_terminal:
                self.resize()
        elif self._forwards:
            if number == signal.SIGINT and self._interrupts.are_enough():
                say("detached after three interrupts: the container goes on, `pycontain stop` ends it")
                raise SystemExit(1)
            self._attachment.kill(number)
        elif number != signal.SIGCONT:
            raise SystemExit(128 + number)


def check_terminal(attachment: Attachment, *, stdin: bool) -> None:
    """Raises: InvalidArgument: what is typed could not come from where our input does."""
    if stdin and attachment.has_terminal and not os.isatty(0):
        raise InvalidArgument("the input device is not a TTY: write --no-stdin, or attach from a terminal")
