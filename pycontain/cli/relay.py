"""Output to the caller's terminal through pipes, when the program does not get its input.

Whoever holds a terminal can read what is typed there, whichever way it was given. Without -i the program is not to have it,
so it writes to a pipe, as with docker, and we copy. Its interface is that of :class:`pycontain.cli.terminal.Terminal`.
"""

from __future__ import annotations

import os
import select

from .copying import CHUNK, put

__all__ = ["Relay"]


class Relay:
    """For each of ``targets`` that is a terminal, ``given`` has a pipe's end in its place; close_given() after the start."""

    is_raw = False
    detached = False  # nothing is typed here

    def __init__(self, targets: tuple[int, int]) -> None:
        self.given = list(targets)
        self.hung_up = False
        self._copies: dict[int, int] = {}  # read end -> target
        self._ours: list[int] = []
        self._registered: set[int] = set()
        for i, target in enumerate(targets):
            if os.isatty(target):
                source, self.given[i] = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(source, False)
                self._copies[source] = target
                self._ours.append(self.given[i])

    def close_given(self) -> None:
        """Our copies of the program's ends: while we hold them, its end would not be heard."""
        for fd in self._ours:
            os.close(fd)
        self._ours.clear()

    def close(self) -> None:
        self.close_given()
        for fd in self._copies:
            os.close(fd)
        self._copies.clear()

    def register(self, poller: select.poll) -> None:
        for fd in self._registered - self._copies.keys():
            poller.unregister(fd)
        for fd in self._copies.keys() - self._registered:
            poller.register(fd, select.POLLIN)
        self._registered = set(self._copies)

    def serve(self, fd: int, event: int) -> None:
        if fd in self._copies and not self._copy(fd):
            # closed only after the poller has forgotten it: the number may be another's by then
            self._copies.pop(fd)
            self._ours.append(fd)

    def _copy(self, source: int) -> bool:
        """One piece; False when there will be no more."""
        try:
            data = os.read(source, CHUNK)
        except BlockingIOError:
            return True
        if not put(self._copies[source], data):
            self.hung_up = True
            return False
        return bool(data)

    def drain(self) -> None:
        """The rest of the output, after the end."""
        for source in list(self._copies):
            poller = select.poll()
            poller.register(source, select.POLLIN)
            while poller.poll(0) and self._copy(source):
                pass

    def forget_container(self) -> None:
        self.drain()

    def resize(self) -> None:
        """Pipes have no size."""
