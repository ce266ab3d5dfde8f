"""One more program in a container that runs: what the ``exec`` of all kinds of containers, and their asyncio twins, share."""

from __future__ import annotations

import os
import time

from . import parse
from .capture import completed, drive, input_bytes, raise_for
from .errors import InvalidArgument
from .runtime.executing import ExecRequest, start_exec
from .streams import DEVNULL, PIPE, Exchange, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import IO, Any

    from typing_extensions import Unpack

    from .options import ExecOptions
    from .result import CompletedContainer
    from .runtime.entry import Entry
    from .runtime.executing import Executing

__all__ = ["Exec", "execute"]

_END_OF_INPUT = b"\x04"  # what a terminal's user types for it


class Exec:
    """One exec. Its streams are open from the beginning on; close() closes what has not been closed.

    ``enter`` opens the container; with ``once`` for this exec alone.
    """

    def __init__(
        self, enter: Callable[[], Entry], args: Sequence[str], data: bytes | None, stdin: int | IO[Any] | None,
        stdout: int | IO[Any] | None, stderr: int | IO[Any] | None, *, user: str | int | None = None,
        env: Mapping[str, str] | Iterable[str] | None = None, workdir: str | None = None, privileged: bool = False,
        tty: bool = False, once: bool = False,
    ) -> None:  # fmt: skip
        if isinstance(args, str):
            raise InvalidArgument(
                f"args: expected a list of words, found the text {args[:60]!r}: write [{args[:60]!r}]"
            )
        self._enter, self._once = enter, once
        self._data = data
        self.request = ExecRequest(
            args=tuple(os.fspath(each) for each in args), env=_variables(env), user=_user(user), workdir=workdir,
            privileged=privileged, terminal=tty,
        )  # fmt: skip
        if tty:
            if stdin is not None or stdout != PIPE or stderr != PIPE:
                raise InvalidArgument("with tty all streams are the terminal's: leave out stdin, stdout and stderr")
            stdin = stdout = stderr = DEVNULL
        self._streams = Streams(
            PIPE if data is not None and not tty else DEVNULL if stdin is None else stdin, stdout, stderr
        )

    def start(self, into: list[Executing] | None = None) -> Executing:
        stdin, stdout, stderr = self._streams.child
        try:
            entry = self._enter()
            try:
                executing = start_exec(entry, self.request, stdin=stdin, stdout=stdout, stderr=stderr, into=into)
            finally:
                if self._once:
                    entry.close()
        except BaseException:
            self.close()
            raise
        self._streams.close_child()
        return executing

    def exchange(self, executing: Executing) -> Exchange:
        """It owns our ends of the streams from now on. The terminal's master stays open beside it until the program has ended: a
        program closes its streams before it ends, and would be hung up meanwhile."""
        data, tty = self._data, executing.tty_fd
        if tty >= 0:
            self._streams.ours[1] = os.dup(tty)
            if data is not None:
                self._streams.ours[0] = os.dup(tty)
                data += _END_OF_INPUT
        return Exchange(self._streams, data)

    def close(self) -> None:
        self._streams.close_child()
        self._streams.close_ours()


def execute(
    enter: Callable[[], Entry], args: Sequence[str], *, input: bytes | str | None, stdin: int | IO[Any] | None,
    stdout: int | IO[Any] | None, stderr: int | IO[Any] | None, text: bool, encoding: str, errors: str, timeout: float | None,
    check: bool, once: bool = False, **options: Unpack[ExecOptions],
) -> CompletedContainer:  # fmt: skip
    """From its start to its end: see :meth:`pycontain.Container.exec`."""
    data = input_bytes(input, stdin, encoding, errors)
    asked = Exec(enter, args, data, stdin, stdout, stderr, once=once, **options)
    deadline = None if timeout is None else time.monotonic() + timeout
    held: list[Executing] = []
    try:
        executing = asked.start(held)
        exchange = asked.exchange(executing)
        timed_out = not drive(executing, exchange, deadline)
        if timed_out:
            executing.kill()
        outcome = executing.wait()
        exchange.drain()
        executing.close_tty()
    except BaseException:  # KeyboardInterrupt above all: its end is the container's as well
        for each in held:
            each.abort()
        asked.close()
        raise
    assert outcome is not None
    result = completed(executing, outcome, exchange, text=text, encoding=encoding, errors=errors, timed_out=timed_out)
    if check:
        raise_for(result, timeout)
    return result


def _user(user: str | int | None) -> str | None:
    return None if user is None else parse.user(str(user))


def _variables(env: Mapping[str, str] | Iterable[str] | None) -> tuple[tuple[str, str], ...]:
    if env is None:
        return ()
    if isinstance(env, str):
        raise InvalidArgument(f"env: expected a dict, found the text {env[:60]!r}")
    pairs = env.items() if hasattr(env, "items") else (each.partition("=")[::2] for each in env)
    found = tuple((str(name), str(value)) for name, value in pairs)
    for name, _ in found:
        if not name or "=" in name:
            raise InvalidArgument(f"env: {name!r} is no name of a variable")
    return found
