"""Work on one thing while the next is being made: a thread that follows, a few things behind."""

from __future__ import annotations

import queue
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Behind"]


class Behind:
    """Calls ``work`` with each thing given to :meth:`put`, in order, in a thread of its own. A context manager.

    At most ``depth`` things wait, so memory is bounded. What ``work`` raises ends it: the next :meth:`put`, or
    :meth:`finish`, raises it in the caller's thread. Leaving the block, by an error too, waits for the work at hand only.
    """

    def __init__(self, work: Callable[[bytes], None], *, depth: int) -> None:
        self._work = work
        self._things: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._error: BaseException | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._run, name="pycontain-behind", daemon=True)

    def __enter__(self) -> Behind:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._dropped = True
        self._end()

    def put(self, thing: bytes) -> None:
        self._room.acquire()
        self._raise()
        self._things.put(thing)

    def finish(self) -> None:
        """Waits until all is done."""
        self._end()
        self._raise()

    def _end(self) -> None:
        self._things.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (thing := self._things.get()) is not None:
            if self._error is None and not self._dropped:
                try:
                    self._work(thing)
                except BaseException as error:
                    self._error = error
            self._room.release()
