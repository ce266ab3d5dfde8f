"""Between the caller's terminal and the container's: ours is raw while entered, and always restored."""

from __future__ import annotations

import fcntl
import os
import select
import termios
import tty

from .copying import CHUNK, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from .detach_keys import DetachKeys

__all__ = ["RawTerminal", "Terminal", "window_size"]

_WINSIZE = b"\0" * 8  # struct winsize: four unsigned shorts


def window_size(*fds: int) -> bytes | None:
    """The struct winsize of the first that is a terminal."""
    for fd in fds:
        try:
            return fcntl.ioctl(fd, termios.TIOCGWINSZ, _WINSIZE)
        except (OSError, ValueError):
            continue
    return None


class RawTerminal:
    """A terminal that passes on every key from now on, until it is restored."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[Any] | None = termios.tcgetattr(fd)
        tty.setraw(fd)

    def restore(self) -> None:
        """Once; nothing happens after that."""
        saved, self._saved = self._saved, None
        if saved is None:
            return
        try:
            # DRAIN: what the container wrote last is still to be shown as it meant it
            termios.tcsetattr(self._fd, termios.TCSADRAIN, saved)
        except termios.error:
            pass  # the terminal is gone (a hangup)


class Terminal:
    """Copies ``stdin`` (or -1) -> ``tty_fd`` -> ``stdout``. Only the container's side is made non-blocking: the flags of
    ours belong to whoever else has it open."""

    is_raw = True

    def __init__(self, tty_fd: int, stdin: int, stdout: int, keys: DetachKeys | None = None) -> None:
        """``keys``: when they are typed, ``detached`` is true, and nothing more is copied."""
        self._tty = tty_fd
        self._keys = keys
        self.detached = False
        self._stdin = stdin
        self._stdout = stdout
        self._pending = b""  # typed, and not yet taken by the container
        self._raw: RawTerminal | None = None
        self._registered: dict[int, int] = {}
        self._tty_open = True
        self.hung_up = False  # our terminal has gone away: a closed window, a lost connection
        os.set_blocking(tty_fd, False)

    def __enter__(self) -> Terminal:
        if self._stdin >= 0:
            self._raw = RawTerminal(self._stdin)
        self.resize()  # it may have changed since the start
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._raw is not None:
            self._raw.restore()

    def register(self, poller: select.poll) -> None:
        """What to wait for now: no more typing while the container has not taken the last."""
        wanted: dict[int, int] = {}
        if self._tty_open:
            wanted[self._tty] = select.POLLIN | (select.POLLOUT if self._pending else 0)
        if self._stdin >= 0 and not self._pending:
            wanted[self._stdin] = select.POLLIN
        if wanted == self._registered:
            return
        for fd in self._registered.keys() - wanted.keys():
            poller.unregister(fd)
        for fd, events in wanted.items():
            poller.register(fd, events)
        self._registered = wanted

    def serve(self, fd: int, event: int) -> None:
        if fd == self._stdin and self._stdin >= 0:
            self._pending = self._typed()
            if self._keys is not None:
                self._pending, self.detached = self._keys.feed(self._pending)
        elif fd == self._tty and event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            self._tty_open = self._copy_out()
        if self._pending and self._tty_open:
            self._push()

    def _typed(self) -> bytes:
        try:
            data = os.read(self._stdin, 4096)
        except OSError:  # EIO: a hangup
            data = b""
        if not data:
            if self._raw is not None:
                self.hung_up = True
                self._raw.restore()
            self._stdin = -1
        return data

    def _push(self) -> None:
        try:
            self._pending = self._pending[os.write(self._tty, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:  # EIO: nobody has the other side open
            self._pending = b""

    def _copy_out(self) -> bool:
        """One piece of output; False when there will be no more."""
        try:
            data = os.read(self._tty, CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # EIO: nobody has the other side open
            return False
        if not put(self._stdout, data):
            self.hung_up = True
            return False
        return True

    def forget_container(self) -> None:
        """The container's side is closed by its owner: nothing more goes there or comes from there."""
        self._tty_open = False
        self._pending = b""

    def drain(self) -> None:
        """The rest of the output, after the end."""
        poller = select.poll()
        poller.register(self._tty, select.POLLIN)
        while self._tty_open and poller.poll(0):
            self._tty_open = self._copy_out()

    def resize(self) -> None:
        """Gives the container's terminal the size of ours."""
        if not self._tty_open:
            return
        size = window_size(self._stdin, self._stdout)
        if size is None:
            return
        try:
            fcntl.ioctl(self._tty, termios.TIOCSWINSZ, size)
        except OSError:
            pass  # it has ended; so will we
