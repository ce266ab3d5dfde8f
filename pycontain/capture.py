"""Running a program to its end with its streams captured: what ``run``, ``exec`` and their asyncio twins share."""

from __future__ import annotations

import select
import time

from .errors import InvalidArgument, TimeoutExpired
from .result import CompletedContainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .result import Outcome
    from .runtime.executing import Executing
    from .runtime.running import Running
    from .streams import Exchange

__all__ = ["completed", "decoded", "drive", "input_bytes", "raise_for"]


def input_bytes(input: bytes | str | None, stdin: object, encoding: str, errors: str) -> bytes | None:
    """What the program's standard input is to be; None: nothing was said."""
    if input is None:
        return None
    if stdin is not None:
        raise InvalidArgument("stdin and input may not both be used: input is what stdin reads")
    return input.encode(encoding, errors) if isinstance(input, str) else bytes(input)


def drive(running: Running | Executing, exchange: Exchange, deadline: float | None) -> bool:
    """Exchanges bytes until the container has ended; False when the deadline came first."""
    poller = select.poll()
    poller.register(running.pidfd, select.POLLIN)
    for fd in exchange.wants_read:
        poller.register(fd, select.POLLIN)
    writing = exchange.wants_write
    if writing >= 0:
        poller.register(writing, select.POLLOUT)
    while True:
        left = None if deadline is None else (deadline - time.monotonic()) * 1000
        if left is not None and left <= 0:
            return False
        for fd, _ in poller.poll(left):
            if fd == running.pidfd:
                running.note_end()
                return True
            if fd == writing:
                exchange.on_writable()
                if exchange.wants_write < 0:
                    poller.unregister(fd)
            else:
                exchange.on_readable(fd)
                if fd not in exchange.wants_read:
                    poller.unregister(fd)


def decoded(data: bytes | None, text: bool, encoding: str, errors: str) -> bytes | str | None:
    """Captured output as its caller wants it."""
    return data.decode(encoding, errors) if text and data is not None else data


def completed(
    running: Running | Executing,
    outcome: Outcome,
    exchange: Exchange,
    *,
    text: bool,
    encoding: str,
    errors: str,
    timed_out: bool,
) -> CompletedContainer:
    """The public result of an ended container or exec (shared with the asyncio face)."""
    return CompletedContainer(
        args=running.args,
        image=running.image,
        id=running.id,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        oom_killed=outcome.oom_killed,
        timed_out=timed_out,
        stdout=decoded(exchange.output(1), text, encoding, errors),
        stderr=decoded(exchange.output(2), text, encoding, errors),
        usage=outcome.usage,
        phases=outcome.phases,
    )


def raise_for(result: CompletedContainer, timeout: float | None) -> None:
    """What ``check=True`` means."""
    if result.timed_out:
        what = result.args[0] if result.args else result.image
        raise TimeoutExpired(
            f"{what!r} did not end within {timeout} seconds and was killed (container {result.id[:12]})", result
        )
    result.check_returncode()
