"""A peer that is alive and sends next to nothing: connections that give up on it.

A socket's time-out counts from one byte to the next, so a server that sends one each minute holds a download forever. Here each
answer is read through a stream that measures what arrives while it is waited for, and ends in a time-out when that is too little.
Time in which nobody reads does not count: the disk behind a download may be the slow one. And a thread that waits here is one
that nobody can interrupt, so that it looks up now and then whether it is still wanted.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import threading
import time
import weakref

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ...record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Abandoned", "Patience", "TooSlow", "Wanted", "pool_classes"]

_BUFFER_BYTES = 65536
_LOOK_UP_S = 0.2


class TooSlow(TimeoutError):
    """Less than the least rate."""


class Abandoned(TimeoutError):
    """Nobody waits for it any more."""


class Wanted:
    """Whether anybody still waits for the answers, and the sockets that they come by."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()

    def ended(self) -> bool:
        return self._ended.is_set()

    def wait_for_end(self, seconds: float) -> None:
        self._ended.wait(seconds)

    def note(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.add(sock)

    def end(self) -> None:
        self._ended.set()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            try:
                # Of the plain socket: TLS waits for the rest of a record where no poll is, and its own shutdown takes its state
                # away from whoever is in the middle of a read.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # closed already


@record
class Patience:
    """At least ``bytes_per_s`` on average over each ``window_s`` of waiting. ``clock`` is in seconds."""

    clock: Callable[[], float]
    bytes_per_s: float = 1024.0
    window_s: float = 30.0


class _MeasuredStream(io.RawIOBase):
    def __init__(self, inner: io.RawIOBase, sock: socket.socket, patience: Patience, wanted: Wanted) -> None:
        self._inner = inner
        self._sock = sock
        self._patience = patience
        self._wanted = wanted
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._waited_s = 0.0
        self._bytes = 0
        self._began = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        patience = self._patience
        before = patience.clock()
        self._wait()
        count: int | None = self._inner.readinto(buffer)
        if not self._began:  # the server may take its time before the first byte; the socket's time-out counts
            self._began = True
            return count
        self._waited_s += patience.clock() - before
        self._bytes += count or 0
        if self._waited_s >= patience.window_s:
            if count and self._bytes < patience.bytes_per_s * self._waited_s:
                raise TooSlow(f"{self._bytes} bytes in {self._waited_s:.0f} s")
            self._waited_s, self._bytes = 0.0, 0
        return count

    def _wait(self) -> None:
        """For the next byte, as long as the socket's time-out allows. Raises: Abandoned."""
        pending = getattr(self._sock, "pending", None)  # what TLS has decrypted already is in no poll
        limit_s = self._sock.gettimeout()
        if (pending is not None and pending()) or limit_s is None:
            return
        end_s = time.monotonic() + limit_s
        while not self._poll.poll(_LOOK_UP_S * 1000):
            if self._wanted.ended():
                raise Abandoned
            if time.monotonic() > end_s:
                raise TimeoutError("timed out")

    def close(self) -> None:
        self._inner.close()
        super().close()


def pool_classes(patience: Patience, wanted: Wanted) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """By scheme, for a PoolManager: pools whose answers are read with this patience, and no longer than they are wanted."""

    class Answer(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            raw = self.fp.detach()
            wanted.note(sock)
            self.fp = io.BufferedReader(_MeasuredStream(raw, sock, patience, wanted), _BUFFER_BYTES)

    class Plain(HTTPConnection):
        response_class = Answer

    class Secure(HTTPSConnection):
        response_class = Answer

        def connect(self) -> None:
            super().connect()
            # what is not verified is so by the user's own settings; urllib3 would warn on standard error, at each request
            self.is_verified = True

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}
