"""The end of a container that stays, waited for by its monitor's connection or pidfd: no thread, and no look at a file again and again."""

from __future__ import annotations

import os
import struct
import time
from _thread import allocate_lock

from ..errors import Conflict, ContainerNotFound
from ..runtime import detached, monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.detached import Detached
    from ..runtime.roots import Roots

__all__ = ["Ending", "await_monitor"]

_GONE_WITHIN_S = 10.0
_CONNECTED_MOST = 4
# how many Endings of this process are connected, by container: a monitor takes sixteen clients, and others want to stop it
_connected: dict[str, int] = {}
_connecting = allocate_lock()


def await_monitor(roots: Roots, container_id: str) -> None:
    """Its monitor is about to end: when this returns it has, and what it has written is the last word."""
    end = time.monotonic() + _GONE_WITHIN_S
    while monitor.is_alive(detached.run_directory_of(roots, container_id)) and time.monotonic() < end:
        time.sleep(0.002)


class Ending:
    """``exit_code``: None until it has ended, ``for_good`` or to be started again by its restart policy. :meth:`fileno` becomes
    readable when :meth:`advance` has something to do.

    The monitor tells who is connected how it has ended, whatever becomes of the container's files. Who comes when many are
    connected waits for the end of the monitor itself, and reads what it has written.
    """

    def __init__(self, roots: Roots, found: Detached, *, for_good: bool = True) -> None:
        self._roots = roots
        self._found = found
        self._for_good = for_good
        self._control: monitor.Control | None = None
        self._pidfd = -1
        self.exit_code: int | None = None
        self._look(connect=True)

    def fileno(self) -> int:
        return self._control.fileno() if self._control is not None else self._pidfd

    def advance(self) -> None:
        """It is readable. Takes a moment when a monitor was killed: what that has left is cleared away.

        Raises: ContainerNotFound: it was removed before its exit code was read.
        """
        control = self._control
        if control is None:
            self.close()
            self._look(connect=False)
            return
        frame = control.receive()
        if frame is None or frame[0] == monitor.ERROR:  # it has gone without a word, or has too many clients
            self.close()
            self._look(connect=False)
        elif frame[0] == monitor.ENDED:
            code, _, again = struct.unpack(">III", frame[1])
            if not (again and self._for_good):
                self.exit_code = code
                self.close()

    def _look(self, *, connect: bool) -> None:
        if not os.path.isdir(detached.directory_of(self._roots, self._found.id)):
            raise ContainerNotFound(
                f"No such container: {self._found.name}: it was removed before its exit code was read"
            )
        directory, run_directory = (
            of(self._roots, self._found.id) for of in (detached.directory_of, detached.run_directory_of)
        )
        while True:
            state = detached.state_of(self._roots, self._found)
            if not state.is_alive:
                self.exit_code = state.exit_code
                return
            if connect and self._connect(run_directory):
                return
            self._pidfd = monitor.open_pidfd(directory, run_directory)
            if self._pidfd >= 0:
                return
            await_monitor(self._roots, self._found.id)  # just now; or its launcher clears up behind it
            if monitor.is_alive(run_directory):
                raise Conflict(f"cannot wait for container {self._found.name}: its monitor is not to be seen from here")

    def _connect(self, run_directory: str) -> bool:
        with _connecting:
            count = _connected.get(self._found.id, 0)
            if count >= _CONNECTED_MOST and not self._found.auto_remove:
                return False
            _connected[self._found.id] = count + 1
        try:
            self._control = monitor.Control(run_directory)
        except OSError:
            self._disconnected()
            return False
        return True

    def _disconnected(self) -> None:
        with _connecting:
            left = _connected[self._found.id] - 1
            if left:
                _connected[self._found.id] = left
            else:
                del _connected[self._found.id]

    def close(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.close()
            self._disconnected()
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __del__(self) -> None:  # of one that a cancelled task has not taken
        self.close()

    def __enter__(self) -> Ending:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
