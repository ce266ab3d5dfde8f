"""The monitor of a detached container (ADR 15): starting one, and speaking to its socket.

<data dir>/plan    the Plan's bytes, there before                      <run dir>/lock     held as long as it lives
<data dir>/state   what has become of the container (read_state)       <run dir>/attach   its socket
<data dir>/log     JSON lines as of Docker's json-file driver; log.1, ... when rotated
"""

from __future__ import annotations

import array
import os
import socket
import struct
import time

from .. import _native
from ..errors import SetupFailed, errno_name
from .held import is_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = [
    "FOREVER",
    "LAUNCH",
    "MONITOR",
    "Control",
    "Refused",
    "framed",
    "is_alive",
    "open_pidfd",
    "read_state",
    "start",
]

_BIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bin")
MONITOR = f"{_BIN}/pycontain-monitor"
LAUNCH = f"{_BIN}/pycontain-launch"

# src/c/monitor.h, enum pc_frame
STDIN, STDOUT, STDERR, ERROR, ENDED, DONE = range(6)
ATTACH, STDIN_END, RESIZE, STOP, KILL, POLICY, PAUSED, DETACH = range(16, 24)
POLICIES = ("no", "on-failure", "always", "unless-stopped")
FOREVER = 0xFFFFFFFF
SHUTDOWN = 256
KEEP = 512

_HEAD = struct.Struct(">B3xI")
_ANSWER = struct.Struct("<iiIiII56x")  # src/c/launch.h, struct pc_launch_answer
_TIMEOUT_S = 90.0  # more than a launcher takes to give up
_SEEN_WITHIN_S = 1.0


def start(
    data_dir: str, run_dir: str, slots: Sequence[int], words: Sequence[str] = (), *, held: Sequence[int] = (), client: int = -1,
    enter: int = -1,
) -> int:  # fmt: skip
    """Starts a monitor, which starts the Plan in ``data_dir``; the container's pid, once its program has begun.

    ``slots``: what the Plan is given after the three streams, -1 for what it is not; they stay the caller's. ``words``: as
    src/c/monitor.c has them. ``held``: descriptors that it only keeps open, for their locks. ``client``: the other end of a
    Control's socket (:meth:`Control.pair`), attached before the container has said anything; it stays the caller's.
    ``enter``: pycontain-enter, sealed, when there are health checks.

    Raises: StartFailure, with nothing left running; SetupFailed: the monitor cannot be executed, or says nothing.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            _execute([MONITOR, data_dir, run_dir, LAUNCH, *words], theirs.fileno())
        ours.settimeout(_TIMEOUT_S)
        fds = array.array("i", [fd for fd in (*slots, *held, enter, client) if fd >= 0])
        marks = (
            bytes(b"-+"[fd >= 0] for fd in slots)
            + b"k" * len(held)
            + (b"e" if enter >= 0 else b"")
            + (b"@" if client >= 0 else b"")
        )
        try:
            ours.sendmsg([marks], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
            answer = ours.recv(_ANSWER.size)
        except (TimeoutError, ConnectionError):
            answer = b""
    if len(answer) != _ANSWER.size:
        raise SetupFailed(
            f"the monitor {MONITOR} has ended, or hangs, without saying whether the container runs: was it killed? Try again",
            step="monitor", errno=0,
        )  # fmt: skip
    err, pid, step, errno, section, arg = _ANSWER.unpack(answer)
    if err:
        raise _native.StartFailure(_native.step_name(step), errno, _native.SECTIONS[section], arg)
    return int(pid)


def _execute(argv: list[str], fd: int) -> None:
    try:
        _, pidfd = _native.spawn_helper(argv, fd)
    except OSError as e:
        from .forbidden import cause

        raise SetupFailed(
            f"cannot start the monitor {argv[0]}: {e.strerror} ({errno_name(e.errno or 0)}). "
            f"{cause(e.errno or 0) or 'Install or build pycontain again'}",
            step="monitor", errno=e.errno or 0,
        ) from None  # fmt: skip
    try:
        _native.reap(pidfd, _native.Exit(), block=True)  # it has cloned itself
    finally:
        os.close(pidfd)


def is_alive(run_dir: str) -> bool:
    """Whether a monitor holds the container's lock."""
    return is_held(f"{run_dir}/lock")


def read_state(data_dir: str) -> dict[str, Any]:
    """The state file. Raises: FileNotFoundError: no monitor has been there."""
    import json

    with open(f"{data_dir}/state", encoding="ascii") as f:
        state: dict[str, Any] = json.load(f)
    return state


def open_pidfd(data_dir: str, run_dir: str) -> int:
    """Of the monitor that lives there: readable when that one has ended. -1: none lives, or its process cannot be seen."""
    end = time.monotonic() + _SEEN_WITHIN_S
    while is_alive(run_dir) and time.monotonic() < end:
        try:
            pid = read_state(data_dir)["monitor_pid"]
            pidfd = os.pidfd_open(pid)
        except (OSError, ValueError, KeyError, TypeError):
            time.sleep(0.002)  # it has not written its state yet; or is just ending
            continue
        # asked once it is held: the number in the file may have been a former monitor's, and be another process's by now
        if _is_of(pid, data_dir):
            return pidfd
        os.close(pidfd)
        time.sleep(0.002)
    return -1


def _is_of(pid: int, data_dir: str) -> bool:
    """By the last part of the directory, the container's id: the rest may be another way to the same place."""
    name = os.fsencode(os.path.basename(data_dir))
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return any(os.path.basename(word) == name for word in file.read().split(b"\0"))
    except OSError:
        return False


class Refused(Exception):
    """The monitor has not done what it was asked for; why, in its words."""


def framed(kind: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(kind, len(payload)) + payload


class Control:
    """One connection to a monitor. Raises at creation: OSError: no monitor lives there.

    What arrives while an answer is awaited is kept for :meth:`receive`.
    """

    def __init__(self, run_dir: str, connected: socket.socket | None = None) -> None:
        self._socket = connected or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._kept: list[tuple[int, bytes]] = []
        if connected is not None:
            return
        directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # the path of a container's directory may be longer than a socket's address
            self._socket.connect(f"/proc/self/fd/{directory}/attach")
        except BaseException:
            self._socket.close()
            raise
        finally:
            os.close(directory)

    @classmethod
    def pair(cls) -> tuple[Control, socket.socket]:
        """One that is connected to nobody yet, and the other end, for :func:`start`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return cls("", ours), theirs

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def settimeout(self, seconds: float | None) -> None:
        self._socket.settimeout(seconds)

    def attach(self, *, stdout: bool = True, stderr: bool = True) -> None:
        self._ask(ATTACH, (stdout << STDOUT) | (stderr << STDERR))

    def send_stdin(self, data: bytes) -> None:
        """For the container's standard input; blocks while it takes none."""
        self._socket.sendall(framed(STDIN, data))

    def try_send(self, frames: bytes) -> int:
        """How many bytes of :func:`framed` requests it takes now; all of them when it has gone, as :meth:`receive` will say. Who
        begins a frame so has to send its rest before anything else."""
        try:
            return self._socket.send(frames, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return len(frames)

    def end_stdin(self) -> None:
        self._ask(STDIN_END)

    def resize(self, rows: int, columns: int) -> None:
        self._ask(RESIZE, rows, columns)

    def stop(self, signal: int, grace_s: int, *, shutdown: bool = False, keep: bool = False) -> None:
        """Ends it, and its restart policy: by ``signal``, and after so many seconds by SIGKILL (FOREVER: never). ``shutdown``: for the
        machine goes down; nobody has asked that it stay stopped. ``keep``: it is to be started again, and does not remove itself."""
        self._ask(STOP, signal + SHUTDOWN * shutdown + KEEP * keep, grace_s)

    def kill(self, signal: int, *, ends_policy: bool = False) -> None:
        self._ask(KILL, signal, int(ends_policy))

    def set_policy(self, name: str, most: int = 0) -> None:
        self._ask(POLICY, POLICIES.index(name), most)

    def note_paused(self, paused: bool) -> None:
        """For the state alone: whoever says so has frozen or thawed it."""
        self._ask(PAUSED, int(paused))

    def detach(self) -> None:
        self._socket.sendall(framed(DETACH))
        self.close()

    @property
    def has_kept(self) -> bool:
        """Whether the next frame is here already, whatever a poll says."""
        return bool(self._kept)

    def receive(self) -> tuple[int, bytes] | None:
        """The next frame: STDOUT or STDERR and data, ENDED and (see :meth:`ended`); None when the monitor has gone."""
        return self._kept.pop(0) if self._kept else self._frame()

    def ended(self) -> tuple[int, int, bool] | None:
        """Passes over what comes until the container ends: exit code, signal or 0, whether it starts again. None when the
        monitor has gone without a word."""
        while (frame := self.receive()) is not None:
            if frame[0] == ENDED:
                code, signal, again = struct.unpack(">III", frame[1])
                return code, signal, bool(again)
        return None

    def _ask(self, what: int, *numbers: int) -> None:
        self._socket.sendall(framed(what, struct.pack(f">{len(numbers)}I", *numbers)))
        while (frame := self._frame()) is not None:
            if frame[0] == DONE:
                return
            if frame[0] == ERROR:
                raise Refused(frame[1].decode("ascii", "replace"))
            self._kept.append(frame)
        raise ConnectionResetError("the monitor has ended before it answered")

    def _frame(self) -> tuple[int, bytes] | None:
        head = self._exactly(_HEAD.size)
        if head is None:
            return None
        kind, length = _HEAD.unpack(head)
        payload = self._exactly(length)
        return None if payload is None else (kind, payload)

    def _exactly(self, count: int) -> bytes | None:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self._socket.recv(min(count - len(data), 1 << 16))
            except ConnectionResetError:  # it has ended before it had read all that we sent
                return None
            if not piece:
                return None
            data += piece
        return bytes(data)
