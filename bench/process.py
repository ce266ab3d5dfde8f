"""Start a command and time it, with as little of Python in the figure as can be."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence

from bench.stats import Sample

TIMEOUT_S = 60.0


class PeerFailed(Exception):
    """A peer's run failed; the message is its exit status and stderr's last line."""


def timed_run(argv: Sequence[str], environment: Mapping[str, str], *, stamped: bool = False) -> Sample:
    """One whole process, from before it is made until it is reaped.

    stamped: its program is stamp.c, whose clock reading on stdout becomes until_exec_s.

    Raises: PeerFailed when it does not exit with 0 within TIMEOUT_S.
    """
    # posix_spawn: one call in C with vfork's semantics. subprocess adds about 1 ms of its own.
    with tempfile.TemporaryFile() as errors, contextlib.ExitStack() as stack:
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
        ]
        reader = -1
        if stamped:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, reader)
            stack.callback(os.close, writer)
            actions.append((os.POSIX_SPAWN_DUP2, writer, 1))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0))
        started = time.monotonic_ns()
        pid = os.posix_spawnp(argv[0], list(argv), environment, file_actions=actions)
        status = _wait(pid)
        ended = time.monotonic_ns()
        if status != 0:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            raise PeerFailed(f"{argv[0]} exited with {status}: {lines[-1] if lines else 'nothing on stderr'}")
        until_exec_s = None
        if stamped:
            # Everything that was written is in the pipe by now; a blocking read would wait for our own end.
            text = os.read(reader, 100).strip() if select.select([reader], [], [], 0)[0] else b""
            if not text.isdigit():
                raise PeerFailed(f"{argv[0]} exited with 0, but its program did not run (stdout: {text!r})")
            until_exec_s = (int(text) - started) / 1e9
        return Sample(whole_s=(ended - started) / 1e9, until_exec_s=until_exec_s)


def _wait(pid: int) -> int:
    """Reap with a deadline; a peer that hangs is killed and reported as 124. A pidfd is as fast as waitpid."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        timed_out = not poll.poll(TIMEOUT_S * 1000)
        if timed_out:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
    return 124 if timed_out else os.waitstatus_to_exitcode(status)
