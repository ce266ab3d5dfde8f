"""Being connected to a container that stays: what it says from now on, and what it hears.

The connection itself carries output and input alone. What else is asked goes by one of its own: it is not to wait behind input that
the container does not take.
"""

from __future__ import annotations

import struct
import time

from ..errors import Conflict, ContainerNotFound, NotFound
from ..runtime import detached, foreground, monitor
from ..runtime.container_events import emit_of
from . import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.detached import Detached
    from ..runtime.roots import Roots

__all__ = ["Attachment", "attach", "start_attached"]

_GONE_WITHIN_S = 1.0
_LAST_INPUT_S = 0.5


class Attachment:
    """``has_terminal``: it has one, and its output comes as stream 1 only. ``takes_input``: it was made with -i."""

    def __init__(self, roots: Roots, found: Detached, control: monitor.Control) -> None:
        self._roots = roots
        self._found = found
        self._control = control
        self._out = b""  # frames that the monitor has not taken yet
        self._code: int | None = None
        self.has_terminal = found.request.terminal
        self.takes_input = found.open_stdin

    def fileno(self) -> int:
        return self._control.fileno()

    @property
    def is_sending(self) -> bool:
        """Whether input still waits: :meth:`flush` when the connection takes some."""
        return bool(self._out)

    @property
    def has_more(self) -> bool:
        """Whether :meth:`receive` has something without a look at the connection."""
        return self._control.has_kept

    def receive(self) -> tuple[int, bytes] | None:
        """Stream 1 or 2, and what was said there, which may be nothing. None: it has ended, see :meth:`exit_code`."""
        frame = self._control.receive()
        if frame is None:
            return None
        kind, payload = frame
        if kind == monitor.ENDED:
            self._code = struct.unpack(">I", payload[:4])[0]
            return None
        return (kind, payload) if kind in (monitor.STDOUT, monitor.STDERR) else (monitor.STDOUT, b"")

    def exit_code(self) -> int:
        """Raises: Conflict: it has not ended, only the connection has."""
        if self._code is not None:
            return self._code
        run_directory = detached.run_directory_of(self._roots, self._found.id)
        end = time.monotonic() + _GONE_WITHIN_S
        while monitor.is_alive(run_directory) and time.monotonic() < end:
            time.sleep(0.002)
        try:
            state = detached.state_of(self._roots, self._found)
        except ContainerNotFound:
            return detached.LOST
        if state.is_alive:
            raise Conflict(
                f"container {self._found.name} has gone on without this command, which has taken no output for ten seconds: attach again"
            )
        return state.exit_code

    def send(self, data: bytes) -> None:
        """For its standard input. Nothing, at the beginning, says that we are it: see :meth:`end_input`."""
        self._queue(monitor.framed(monitor.STDIN, data))

    def end_input(self) -> None:
        """Its standard input ends, if it is to end with who is attached; a terminal's does not. The end of this process, whatever
        its reason, does the same."""
        if self._found.stdin_once and not self.has_terminal:
            self._queue(monitor.framed(monitor.STDIN_END))

    def _queue(self, frames: bytes) -> None:
        self._out += frames
        self.flush()

    def flush(self) -> None:
        self._out = self._out[self._control.try_send(self._out) :]

    def resize(self, rows: int, columns: int) -> None:
        """Of its terminal."""
        try:
            with self._other() as control:
                control.resize(rows, columns)
            emit_of(self._roots, self._found, "resize", height=str(rows), width=str(columns))
        except (OSError, monitor.Refused):
            pass  # it has ended, or waits for its next start

    def _other(self) -> monitor.Control:
        return monitor.Control(detached.run_directory_of(self._roots, self._found.id))

    def kill(self, number: int) -> None:
        """A signal for its first process; nothing happens when it has ended."""
        try:
            containers.kill(self._roots, self._found.id, str(number))
        except (Conflict, NotFound):
            pass

    def detach(self) -> None:
        """What was sent before still arrives; what it says now is nobody's."""
        self._queue(monitor.framed(monitor.DETACH))
        self._control.settimeout(_LAST_INPUT_S)
        end = time.monotonic() + _LAST_INPUT_S
        try:
            while self._control.receive() is not None and time.monotonic() < end:
                self.flush()
        except TimeoutError:
            pass  # it takes no input
        self.close()
        emit_of(self._roots, self._found, "detach")

    def close(self) -> None:
        self._control.close()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def attach(roots: Roots, text: str) -> Attachment:
    """Raises: ContainerNotFound; Conflict: it does not run, is paused, or is somebody's in the foreground."""
    found = _kept(roots, text)
    attachment = _connected(roots, found)
    emit_of(roots, found, "attach")
    return attachment


def _connected(roots: Roots, found: Detached) -> Attachment:
    _check(roots, found)
    try:
        control = monitor.Control(detached.run_directory_of(roots, found.id))
    except OSError:
        raise _stopped() from None
    try:
        control.attach()
    except BaseException as error:
        control.close()
        if isinstance(error, monitor.Refused):
            raise Conflict(f"cannot attach to container {found.name}: {error}: end one of them") from None
        if isinstance(error, ConnectionError):
            raise _stopped() from None
        raise
    return Attachment(roots, found, control)


def _kept(roots: Roots, text: str) -> Detached:
    found = detached.find(roots, text)
    if found is None:
        foreground.find(roots, text)  # raises, unless there is one
        raise Conflict(f"container {text} runs in the foreground of another command, which has its streams")
    return found


def _check(roots: Roots, found: Detached) -> None:
    status = detached.state_of(roots, found).status
    if status == "paused":
        raise Conflict("You cannot attach to a paused container, unpause it first")
    if status == "restarting":
        raise Conflict("You cannot attach to a restarting container, wait until it is running")
    if status != "running":
        raise _stopped()


def _stopped() -> Conflict:
    return Conflict("You cannot attach to a stopped container, start it first")


def start_attached(roots: Roots, text: str, *, console_size: tuple[int, int] = (0, 0)) -> Attachment:
    """Started, and attached before it has said anything; one that runs already is attached to from now on. ``console_size``: rows and
    columns of its terminal, if it has one.

    Raises: as a start, and as :func:`attach`.
    """
    from ..runtime import detached_start

    found = _kept(roots, text)
    size = console_size if found.request.terminal else (0, 0)
    control, theirs = monitor.Control.pair()
    emit_of(roots, found, "attach")  # before its start, as Docker's
    try:
        with theirs:
            started = detached_start.start(roots, found.id, console_size=size, client=theirs.fileno())
    except BaseException:
        control.close()
        raise
    if started:
        return Attachment(roots, found, control)
    control.close()
    return _connected(roots, found)
