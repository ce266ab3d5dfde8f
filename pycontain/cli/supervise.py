"""A running container, or an exec, in the foreground: its streams, its signals, its time, its end.

Without -t the program holds our own stdin, stdout and stderr: nothing is copied. Signals that reach us go on to the
container's first process, which is in another session and would not hear Ctrl-C otherwise.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time

from .. import journal
from ..errors import Conflict, InvalidArgument, errno_name
from ..runtime import foreground
from ..runtime.running import Running, start
from .signals import Interrupts, Signals, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..request import RunRequest
    from ..result import Outcome
    from ..runtime.executing import Executing
    from ..runtime.roots import Roots
    from .detach_keys import DetachKeys
    from .relay import Relay
    from .terminal import Terminal

    Started = TypeVar("Started", Running, Executing)

__all__ = ["attend", "check_terminal", "console_size", "execute", "explain_timed"]

TIMED_OUT = 124  # as timeout(1)
_HANGUP_GRACE_S = 5.0


class _Follower:
    """Waits for the end of one container, and serves it until then."""

    def __init__(
        self, running: Running | Executing, terminal: Terminal | Relay | None, timeout_s: float | None
    ) -> None:
        self.running = running
        self.terminal = terminal
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.timed_out = False
        self._hung_up = False
        self._interrupts = Interrupts()

    def follow(self, signals: Signals) -> Outcome | None:
        """None: the detach keys were typed."""
        poller = select.poll()
        poller.register(self.running.pidfd, select.POLLIN)
        poller.register(signals.fd, select.POLLIN)
        pidfd = self.running.pidfd
        ended = False
        while not ended:
            if self.terminal is not None:
                self.terminal.register(poller)
            for fd, event in poller.poll(self._remaining_ms()):
                if fd == pidfd:
                    ended = True
                elif fd == signals.fd:
                    for number in signals.take():
                        self._signal(number)
                elif self.terminal is not None:
                    self.terminal.serve(fd, event)
                    if self.terminal.detached:
                        return None
                    self._notice_hangup(self.terminal, poller)
            if not ended and self.deadline is not None and time.monotonic() >= self.deadline:
                self.timed_out = not self._hung_up
                ended = True
                self.running.kill(signal.SIGKILL)
                _wait_end(pidfd)
        if self.terminal is not None:
            self.terminal.drain()
        return _outcome(self.running)

    def _notice_hangup(self, terminal: Terminal | Relay, poller: select.poll) -> None:
        """Our terminal is gone, so the container's goes too, as for a shell in a closed window: SIGHUP, an end of file,
        and some seconds for it to end by itself."""
        if self._hung_up or not terminal.hung_up:
            return
        self._hung_up = True
        terminal.forget_container()
        terminal.register(poller)
        self.running.kill(signal.SIGHUP)
        self.running.close_tty()
        grace = time.monotonic() + _HANGUP_GRACE_S
        self.deadline = grace if self.deadline is None else min(grace, self.deadline)

    def _remaining_ms(self) -> int | None:
        # upwards: a poll that ends too early would spin
        return None if self.deadline is None else max(0, math.ceil((self.deadline - time.monotonic()) * 1000))

    def _signal(self, number: int) -> None:
        if number == signal.SIGWINCH:
            if self.terminal is not None:
                self.terminal.resize()
            return
        if number == signal.SIGINT and self._interrupts.are_enough():
            why = "process 1 of a container ignores what it has no handler for; see --init"
            say(
                f"killed after three interrupts ({why})",
                end="\r\n" if self.terminal is not None and self.terminal.is_raw else "\n",
            )
            number = signal.SIGKILL
        self.running.kill(number)


def _wait_end(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    poller.poll()


def _outcome(running: Running | Executing) -> Outcome:
    outcome = running.wait()
    running.close_tty()
    assert outcome is not None  # wait() without a timeout
    return outcome


def _descriptors(streams: frozenset[str]) -> tuple[int, int, int, int]:
    """(stdin, stdout, stderr, /dev/null to close): ours where asked for and open."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    chosen = [null, null, null]
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if name in streams:
            try:
                os.fstat(fd)
            except OSError:
                continue  # closed by whoever started us: the same as nothing
            chosen[fd] = fd
    return chosen[0], chosen[1], chosen[2], null


def check_terminal(terminal: bool, streams: frozenset[str]) -> None:
    if terminal and "stdin" in streams and not os.isatty(0):
        raise InvalidArgument("the input device is not a TTY: leave out -t, or run it from a terminal")


def execute(
    request: RunRequest, roots: Roots, streams: frozenset[str], *, timeout_s: float | None, cidfile: str | None
) -> int:
    """Starts, follows, and tells how it ended: the exit code. Raises PycontainError."""
    check_terminal(request.terminal, streams)
    id_file = _IdFile(cidfile)

    def begin(stdin: int, stdout: int, stderr: int) -> Running:
        size = console_size() if request.terminal else (0, 0)
        return start(request, roots=roots, stdin=stdin, stdout=stdout, stderr=stderr, console_size=size)

    def begun(running: Running) -> None:
        foreground.write(running)
        id_file.write(running.id)
        for action in ("create", "attach", "start"):  # told when it runs: nothing waits for them
            emit(running, action)

    def emit(running: Running, action: str, **more: str) -> None:
        labels = dict(running.rootfs.config.labels if running.rootfs is not None else ())
        attributes = {**labels, **dict(request.labels), "image": request.image, "name": running.name, **more}
        journal.emit(roots.data_root, "container", action, running.id, attributes)

    try:
        follower = attend(begin, begun, streams, terminal=request.terminal, timeout_s=timeout_s)
    finally:
        id_file.close()
    running, outcome = follower.running, follower.running.outcome
    assert outcome is not None and isinstance(running, Running)
    if outcome.oom_killed:
        emit(running, "oom")
    emit(running, "die", exitCode=str(outcome.exit_code), execDuration=str(int(outcome.usage.wall_s)))
    emit(running, "destroy")
    return _told(request, follower, timeout_s)


def attend(
    begin: Callable[[int, int, int], Started], begun: Callable[[Started], None], streams: frozenset[str], *, terminal: bool,
    timeout_s: float | None = None, keys: DetachKeys | None = None,
) -> _Follower:  # fmt: skip
    """What ``begin`` has started with these streams, until its end, or until ``keys`` are typed on its terminal; ``begun`` is
    called as soon as it runs."""
    stdin, stdout, stderr, null = _descriptors(streams)
    relay = None
    if not terminal and stdin == null and (os.isatty(stdout) or os.isatty(stderr)):
        from .relay import Relay

        relay = Relay((stdout, stderr))
        stdout, stderr = relay.given
    try:
        with Signals() as signals:
            running = begin(stdin, stdout, stderr)
            try:
                signals.started(running.started.begun_ns)
                begun(running)
                if relay is not None:
                    relay.close_given()
                return _serve(running, signals, stdin if stdin != null else -1, stdout, timeout_s, relay, keys)
            except BaseException:  # whatever it is, what was started must not outlive us
                running.kill(signal.SIGKILL)
                _outcome(running)
                raise
    finally:
        os.close(null)
        if relay is not None:
            relay.close()


def _serve(
    running: Running | Executing,
    signals: Signals,
    stdin: int,
    stdout: int,
    timeout_s: float | None,
    relay: Relay | None,
    keys: DetachKeys | None,
) -> _Follower:
    if running.tty_fd < 0:
        follower = _Follower(running, relay, timeout_s)
        follower.follow(signals)
        return follower
    from .terminal import Terminal

    with Terminal(running.tty_fd, stdin, stdout, keys) as terminal:
        follower = _Follower(running, terminal, timeout_s)
        follower.follow(signals)
    return follower


def console_size() -> tuple[int, int]:
    for fd in (0, 1, 2):
        try:
            size = os.get_terminal_size(fd)
        except OSError:
            continue
        return size.lines, size.columns
    return 0, 0


def _told(request: RunRequest, follower: _Follower, timeout_s: float | None) -> int:
    outcome = follower.running.outcome
    assert outcome is not None
    if follower.timed_out:
        say(f"the container ran longer than {timeout_s:g} s and was killed")
        return TIMED_OUT
    if outcome.oom_killed:
        limit = f"its limit of {request.memory_bytes} bytes" if request.memory_bytes is not None else "the host's limit"
        say(f"out of memory: the container reached {limit} and the kernel killed it")
    return outcome.exit_code


class _IdFile:
    """``--cidfile``: a new file from before the start, gone again when there was none."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._fd = -1
        if path is None:
            return
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise Conflict(f"--cidfile {path}: the file exists: delete it, or name another") from None
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", None) or 22
            why = f"{os.strerror(number)} ({errno_name(number)})"
            raise InvalidArgument(f"--cidfile {path}: cannot make it: {why}; name a new file") from None

    def write(self, container_id: str) -> None:
        if self._fd >= 0:
            os.write(self._fd, container_id.encode())
            self._path = None  # it stays

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._path is not None:
                os.unlink(self._path)


def explain_timed(request: RunRequest, roots: Roots, streams: frozenset[str], *, fmt: str) -> int:
    """Runs it, then prints what each step took: the program's exit code."""
    from ..explain import explain_timed as timed
    from .output import write

    stdin, stdout, stderr, null = _descriptors(streams)
    try:
        text, code = timed(request, roots, stdin=stdin, stdout=stdout, stderr=stderr, fmt=fmt)
    finally:
        os.close(null)
    write(text if text.endswith("\n") else text + "\n")
    return code
