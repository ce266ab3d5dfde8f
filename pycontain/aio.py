"""The asyncio face: the same containers, waited for by the event loop through their pidfd; no thread per container.

A start (some two milliseconds in C) runs in the loop's default executor; from then on everything is readiness of
descriptors. Cancelling a task kills the container that it waits for and removes it before the CancelledError goes on.
"""

from __future__ import annotations

import asyncio

from . import options as _options
from .capture import completed, input_bytes, raise_for
from .container import Container, _roots
from .result import CompletedContainer, Outcome
from .runtime.running import Running, start
from .streams import DEVNULL, PIPE, Exchange, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from threading import Event
    from types import TracebackType
    from typing import IO, Any, TypeVar

    from typing_extensions import Unpack

    from .aio_engine import Engine as Engine
    from .aio_engine import EngineContainer as EngineContainer
    from .engine.image import Image
    from .inside import Exec
    from .options import ExecOptions, RunOptions
    from .request import RunRequest
    from .runtime.entry import Entry
    from .runtime.executing import Executing
    from .runtime.roots import Roots

    T = TypeVar("T")

__all__ = ["AsyncContainer", "Engine", "EngineContainer", "images", "load", "pull", "push", "run", "save"]


def __getattr__(name: str) -> object:
    if name not in ("Engine", "EngineContainer"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import aio_engine

    return getattr(aio_engine, name)


async def run(
    image: str,
    args: Sequence[str] = (),
    *,
    input: bytes | str | None = None,
    stdin: int | IO[Any] | None = None,
    stdout: int | IO[Any] | None = PIPE,
    stderr: int | IO[Any] | None = PIPE,
    text: bool = False,
    encoding: str = "utf-8",
    errors: str = "replace",
    timeout: float | None = None,
    check: bool = False,
    data_root: str | None = None,
    run_root: str | None = None,
    **options: Unpack[RunOptions],
) -> CompletedContainer:
    """:func:`pycontain.run` for asyncio: same arguments, result and errors. Cancelling kills the container."""
    data = input_bytes(input, stdin, encoding, errors)
    request = _options.request(image, args, options)
    roots = _roots(data_root, run_root)
    streams = Streams(PIPE if data is not None else DEVNULL if stdin is None else stdin, stdout, stderr)
    running = await _start(request, roots, streams)
    exchange = Exchange(streams, data)
    try:
        timed_out = not await _drive(running, exchange, timeout)
        if timed_out:
            running.kill()
            await _ended(running)
        outcome = running.wait()
        exchange.drain()
    except BaseException:
        running.kill()
        running.wait()
        exchange.close()
        raise
    assert outcome is not None
    result = completed(running, outcome, exchange, text=text, encoding=encoding, errors=errors, timed_out=timed_out)
    if check:
        raise_for(result, timeout)
    return result


async def _start(request: RunRequest, roots: Roots, streams: Streams) -> Running:
    loop = asyncio.get_running_loop()
    stdin, stdout, stderr = streams.child
    starting = loop.run_in_executor(
        None, lambda: start(request, roots=roots, stdin=stdin, stdout=stdout, stderr=stderr)
    )
    try:
        running = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _finished(starting)
        if starting.exception() is None:
            starting.result().kill()
            starting.result().wait()
        streams.close_child()
        streams.close_ours()
        raise
    except BaseException:
        streams.close_child()
        streams.close_ours()
        raise
    streams.close_child()
    return running


async def _exec_started(asked: Exec) -> Executing:
    starting = asyncio.get_running_loop().run_in_executor(None, asked.start)
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _finished(starting)
        if starting.exception() is None:
            starting.result().abort()
        asked.close()
        raise


async def _execute(
    enter: Callable[[], Entry], args: Sequence[str], *, input: bytes | str | None, stdin: int | IO[Any] | None,
    stdout: int | IO[Any] | None, stderr: int | IO[Any] | None, text: bool, encoding: str, errors: str, timeout: float | None,
    check: bool, once: bool = False, **options: Unpack[ExecOptions],
) -> CompletedContainer:  # fmt: skip
    """:func:`pycontain.inside.execute` by the loop."""
    from .inside import Exec

    data = input_bytes(input, stdin, encoding, errors)
    asked = Exec(enter, args, data, stdin, stdout, stderr, once=once, **options)
    executing = await _exec_started(asked)
    try:
        exchange = asked.exchange(executing)
        timed_out = not await _drive(executing, exchange, timeout)
        if timed_out:
            executing.kill()
            await _ended(executing)
        outcome = executing.wait()
        exchange.drain()
        executing.close_tty()
    except BaseException:
        executing.abort()
        asked.close()
        raise
    assert outcome is not None
    result = completed(executing, outcome, exchange, text=text, encoding=encoding, errors=errors, timed_out=timed_out)
    if check:
        raise_for(result, timeout)
    return result


async def _finished(starting: asyncio.Future[Any]) -> None:
    """The end of a start that is no longer wanted: its thread cannot be stopped half-way, cancelled once or twice."""
    while not starting.done():
        try:
            await asyncio.wait({starting})
        except asyncio.CancelledError:
            pass


async def _ended(running: Running | Executing, timeout: float | None = None) -> bool:
    """Whether it ended within ``timeout`` seconds."""
    if running.outcome is not None:
        return True
    return await _readable(running.pidfd, None if timeout is None else asyncio.get_running_loop().time() + timeout)


async def _readable(fd: int, until: float | None = None) -> bool:
    """False when the loop's time ``until`` came first."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def settle(readable: bool) -> None:
        if not future.done():
            future.set_result(readable)

    loop.add_reader(fd, settle, True)
    timer = None if until is None else loop.call_at(until, settle, False)
    try:
        return await future
    finally:
        loop.remove_reader(fd)
        if timer is not None:
            timer.cancel()


async def _drive(running: Running | Executing, exchange: Exchange, timeout: float | None) -> bool:
    """Exchanges bytes while waiting; False when ``timeout`` seconds passed first."""
    loop = asyncio.get_running_loop()
    watched: set[int] = set()

    def readable(fd: int) -> None:
        exchange.on_readable(fd)
        if fd not in exchange.wants_read:
            loop.remove_reader(fd)
            watched.discard(fd)

    def writable(fd: int) -> None:
        # before the write: on_writable may close the descriptor
        loop.remove_writer(fd)
        exchange.on_writable()
        if exchange.wants_write >= 0:
            loop.add_writer(fd, writable, fd)

    for fd in exchange.wants_read:
        loop.add_reader(fd, readable, fd)
        watched.add(fd)
    if exchange.wants_write >= 0:
        loop.add_writer(exchange.wants_write, writable, exchange.wants_write)
    try:
        return await _ended(running, timeout)
    finally:
        for fd in watched:
            loop.remove_reader(fd)
        if exchange.wants_write >= 0:
            loop.remove_writer(exchange.wants_write)


class AsyncContainer:
    """:class:`pycontain.Container` for asyncio, as an async context manager::

    async with aio.AsyncContainer("host", ["sleep", "60"]) as c:
        await c.wait(timeout=1)
    """

    def __init__(self, image: str, args: Sequence[str] = (), **options: Any) -> None:
        self._arguments = (image, args, options)
        self._container: Container | None = None

    @property
    def container(self) -> Container:
        """The container itself: pid, stats, send_signal, pipes. Raises RuntimeError before the block is entered."""
        if self._container is None:
            raise RuntimeError("use it as `async with aio.AsyncContainer(...) as c`")
        return self._container

    async def __aenter__(self) -> AsyncContainer:
        image, args, options = self._arguments
        loop = asyncio.get_running_loop()
        starting = loop.run_in_executor(None, lambda: Container(image, args, **options))
        try:
            self._container = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _finished(starting)
            if starting.exception() is None:
                starting.result().close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self.container.poll() is None:
            if self.container.stdin is not None:
                self.container.stdin.close()
            self.container.send_signal(self.container._running.stop_signal)
            try:
                await _ended(self.container._running, 10.0)
            finally:
                self.container.close()
        self.container.close()

    async def pause(self) -> None:
        """As Container.pause; the loop runs on meanwhile."""
        await asyncio.get_running_loop().run_in_executor(None, self.container.pause)

    async def unpause(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.container.unpause)

    async def exec(
        self,
        args: Sequence[str],
        *,
        input: bytes | str | None = None,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = PIPE,
        stderr: int | IO[Any] | None = PIPE,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        timeout: float | None = None,
        check: bool = False,
        **options: Unpack[ExecOptions],
    ) -> CompletedContainer:
        """:meth:`pycontain.Container.exec` for asyncio: same arguments, result and errors. Cancelling kills the program."""
        return await _execute(
            self.container._running.entry, args, input=input, stdin=stdin, stdout=stdout, stderr=stderr, text=text,
            encoding=encoding, errors=errors, timeout=timeout, check=check, **options,
        )  # fmt: skip

    async def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises TimeoutExpired after ``timeout`` seconds; cancelling only stops waiting."""
        running = self.container._running
        if not await _ended(running, timeout):
            return self.container.wait(0)  # raises TimeoutExpired with what is known
        outcome: Outcome | None = running.wait()
        assert outcome is not None
        return outcome.exit_code


# Images: the same work in a thread, which a cancelled task stops and waits for


async def pull(name: str, **options: Any) -> Image:
    """:meth:`pycontain.Image.pull`; cancelling ends the download, and nothing half stored is left."""
    from .engine.image import Image

    return await _stoppable(lambda stop: Image.pull(name, stop=stop, **options))


async def load(source: Any, **options: Any) -> list[Image]:
    """:meth:`pycontain.Image.load`."""
    from .engine.image import Image

    return await _stoppable(lambda stop: Image.load(source, stop=stop, **options))


async def push(image: Image, name: str = "", **options: Any) -> str:
    """:meth:`pycontain.Image.push`."""
    return await _stoppable(lambda stop: image.push(name, stop=stop, **options))


async def save(image: Image, target: Any, **options: Any) -> None:
    """:meth:`pycontain.Image.save`. It cannot be stopped half-way: cancelling waits for its end."""
    await _stoppable(lambda _: image.save(target, **options))


async def images(**options: Any) -> list[Image]:
    """:func:`pycontain.images`."""
    from .engine.image import images as stored

    return await _stoppable(lambda _: stored(**options))


async def _stoppable(work: Callable[[Event], T]) -> T:
    import threading

    stop = threading.Event()
    doing = asyncio.get_running_loop().run_in_executor(None, work, stop)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        stop.set()
        await _finished(doing)
        if not doing.cancelled():
            doing.exception()  # looked at: it is the consequence of the stop
        raise
