"""Signals that reach a command which stands for a container: they are passed on, and do not end it."""

from __future__ import annotations

import os
import signal
import time

from ..image.resolve import NotHere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["ENDING", "Interrupts", "Signals", "say"]

_FORWARDED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM,
    signal.SIGCONT,
)  # fmt: skip
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
# process 1 of a PID namespace ignores a signal that it has no handler for: so many in such a time mean it
_INTERRUPTS, _INTERRUPT_WINDOW_S = 3, 3.0


def say(message: str, *, end: str = "\n") -> None:
    """One line on standard error."""
    try:
        os.write(2, f"pycontain: {message}{end}".encode())
    except OSError:
        pass  # nobody reads it


class Signals:
    """While entered, forwardable signals are bytes on ``fd`` instead of ends of this process.

    Entered before the start: the program may be heard of, and a signal sent, before start() has returned. A second
    signal ends a start that takes long (layers are unpacked); the first does when it came before there was a container.
    """

    def __init__(self) -> None:
        self.starting = True
        self._early: list[tuple[int, int]] = []  # (signal, when, in monotonic nanoseconds)
        self.fd, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._former: dict[int, object] = {}
        self._former_wakeup = -1

    def __enter__(self) -> Signals:
        self._former_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (*_FORWARDED, signal.SIGWINCH):
            former = signal.getsignal(number)
            if former is not signal.SIG_IGN:  # as nohup(1) wants it
                self._former[number] = former
                signal.signal(number, self._came)
        return self

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self.starting and number in ENDING:  # otherwise the wakeup descriptor has it
            self._early.append((number, time.monotonic_ns()))
            if len(self._early) > 1:
                raise SystemExit(128 + number)

    def started(self, begun_ns: int) -> None:
        """From now on signals are the container's. Raises SystemExit for one from before ``begun_ns``."""
        self.starting = False
        for number, when_ns in self._early:
            if when_ns < begun_ns:
                raise SystemExit(128 + number)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, former in self._former.items():
            signal.signal(number, former if former is not None else signal.SIG_DFL)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._former_wakeup)
        os.close(self.fd)
        os.close(self._write_end)
        if self.starting and self._early and isinstance(error, NotHere):
            raise SystemExit(128 + self._early[0][0]) from None  # rather than to go on with a pull

    def take(self) -> bytes:
        """The numbers of the signals that came."""
        try:
            return os.read(self.fd, 512)
        except BlockingIOError:
            return b""


class Interrupts:
    """Counts Ctrl-C: what does not end of one may not know what it is."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def are_enough(self) -> bool:
        """Called for each; whether so many have come so fast that nothing gentle is left to wait for."""
        now = time.monotonic()
        self._times = [*(t for t in self._times if now - t < _INTERRUPT_WINDOW_S), now]
        return len(self._times) >= _INTERRUPTS
