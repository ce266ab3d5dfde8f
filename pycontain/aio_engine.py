"""``pycontain.aio.Engine``: :class:`pycontain.Engine` for asyncio.

What can take its time (an end, a log, a program) is waited for by the loop, through descriptors; what takes a moment runs in the loop's
default executor. Cancelling what awaits kills no container: a wait only stops waiting, what has begun in a thread is waited for.
Two exceptions, of what nobody else can know yet: a cancelled exec kills its program, a cancelled run or create removes its container.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, overload

from . import nouns
from .aio import _execute, _finished, _readable, _stoppable
from .aio import run as _run
from .engine import containers as _containers
from .engine import logs as _logs
from .engine.log_lines import lines_now
from .engine_container import EngineContainer as SyncContainer
from .errors import ContainerNotFound
from .runtime.roots import default_roots
from .streams import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins
    import os
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import IO, BinaryIO, Protocol, TypeVar

    from typing_extensions import Unpack

    from .engine.containers import ContainerInfo
    from .engine.events import Event
    from .engine.image import Image
    from .engine.images import Progress, Removed
    from .engine.processes import ProcessTable
    from .engine.volumes import Volume
    from .nouns import StayOptions, WaitOptions
    from .options import ExecOptions
    from .result import CompletedContainer, Usage
    from .runtime.roots import Roots

    class Closable(Protocol):
        def close(self) -> None: ...

    T = TypeVar("T")
    C = TypeVar("C", bound=Closable)

__all__ = ["Containers", "Engine", "EngineContainer", "Images", "Volumes"]

_LINES_AT_ONCE = 1000


async def _short(call: Callable[[], T]) -> T:
    """In a thread, to its end: cancelled or not, nothing is done half."""
    return await _stoppable(lambda _: call())


async def _opened(call: Callable[[], C]) -> C:
    """In a thread; what it has opened for a task that was cancelled meanwhile is closed."""
    opening = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await _finished(opening)
        if opening.exception() is None:
            opening.result().close()
        raise


class Engine:
    """As :class:`pycontain.Engine`; its objects may be used by any loop."""

    def __init__(self, data_root: str | None = None, run_root: str | None = None) -> None:
        self._roots = default_roots(data_root, run_root)
        self.containers = Containers(self._roots)
        self.images = Images(self._roots)
        self.volumes = Volumes(self._roots)

    @property
    def data_root(self) -> str:
        return self._roots.data_root

    @property
    def run_root(self) -> str:
        return self._roots.run_root

    async def events(
        self, *, since: datetime | float | None = None, until: datetime | float | None = None,
        filters: Mapping[str, str | int | Iterable[str | int]] | None = None,
    ) -> AsyncIterator[Event]:  # fmt: skip
        """As the twin; what it raises, the first event raises. They are watched from then on."""
        sync = nouns.Engine(self.data_root, self.run_root)
        loop = asyncio.get_running_loop()
        with await _opened(lambda: sync.events(since=since, until=until, filters=filters)) as watched:
            while not watched.is_over:
                for event in watched.now():
                    yield event
                if not watched.is_over:
                    left = watched.left_s()
                    await _readable(watched.fileno(), None if left is None else loop.time() + left + 0.001)

    def __repr__(self) -> str:
        return f"<aio.Engine {self.data_root}>"


class EngineContainer:
    """As :class:`pycontain.EngineContainer`, which :attr:`container` is: its attributes are looked up there, in a tenth of a
    millisecond, without the loop."""

    __slots__ = ("_roots", "container")

    def __init__(self, roots: Roots, container_id: str) -> None:
        self._roots = roots
        self.container = SyncContainer(roots, container_id)

    @property
    def id(self) -> str:
        return self.container.id

    @property
    def short_id(self) -> str:
        return self.container.short_id

    async def info(self) -> ContainerInfo:
        """All that a list of containers shows, of one moment."""
        return await _short(lambda: self.container.info)

    async def inspect(self, *, size: bool = False) -> dict[str, Any]:
        return await _short(lambda: self.container.inspect(size=size))

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        await _short(self.container.start)

    async def stop(self, timeout: float | None = None, *, signal: str | int = "") -> None:
        """As the twin; cancelled, it is stopped all the same, and only not waited for."""
        container = self.container
        if not (await self.info()).stays:
            await _short(lambda: container.stop(timeout, signal=signal))
        elif await _short(lambda: container._ask_to_stop(timeout, signal)):
            try:
                await self.wait()
            except ContainerNotFound:
                return  # removed at its end
            await _short(lambda: _containers.await_monitor(self._roots, self.id))

    async def restart(self, timeout: float | None = None) -> None:
        """As the twin; cancelled while it stops, it is not started again."""
        container = self.container
        if await _short(lambda: container._ask_to_stop(timeout, "", keep=True)):
            await self.wait()
            await _short(lambda: _containers.await_monitor(self._roots, self.id))
        await self.start()
        await _short(container._restarted)

    async def kill(self, signal: str | int = "KILL") -> None:
        await _short(lambda: self.container.kill(signal))

    async def pause(self) -> None:
        await _short(self.container.pause)

    async def unpause(self) -> None:
        await _short(self.container.unpause)

    async def wait(self, timeout: float | None = None) -> int:
        """As the twin, without a thread. Raises: TimeoutExpired, ContainerNotFound."""
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        ending = await _opened(self.container._ending)
        with ending:
            while ending.exit_code is None:
                if not await _readable(ending.fileno(), until):
                    raise self.container._still_runs(timeout)
                await _short(ending.advance)
            return ending.exit_code

    async def rename(self, name: str) -> None:
        await _short(lambda: self.container.rename(name))

    async def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        await _short(lambda: self.container.remove(force=force, volumes=volumes))

    # --- inside ------------------------------------------------------------------------------------------------------

    async def exec(
        self, args: Sequence[str], *, input: bytes | str | None = None, stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = PIPE, stderr: int | IO[Any] | None = PIPE, text: bool = False, encoding: str = "utf-8",
        errors: str = "replace", timeout: float | None = None, check: bool = False, **options: Unpack[ExecOptions],
    ) -> CompletedContainer:  # fmt: skip
        """As the twin. Cancelling kills the program."""
        return await _execute(
            self.container._entry, args, input=input, stdin=stdin, stdout=stdout, stderr=stderr, text=text, encoding=encoding,
            errors=errors, timeout=timeout, check=check, once=True, **options,
        )  # fmt: skip

    async def top(self, ps_args: Sequence[str] = ()) -> ProcessTable:
        return await _short(lambda: self.container.top(ps_args))

    async def stats(self) -> Usage:
        return await _short(self.container.stats)

    async def stats_stream(self, interval: float = 1.0) -> AsyncIterator[Usage]:
        """As ``stats(stream=True)`` of the twin."""
        while (usage := await _short(self.container._usage_unless_over)) is not False:
            if usage is not None:
                yield usage
            await asyncio.sleep(interval)

    # --- what it has said and written --------------------------------------------------------------------------------

    @overload
    def logs(
        self, *, text: Literal[False] = False, stdout: bool = True, stderr: bool = True, since: datetime | float | None = None,
        until: datetime | float | None = None, tail: int | None = None, timestamps: bool = False, follow: bool = False,
    ) -> AsyncIterator[bytes]: ...  # fmt: skip
    @overload
    def logs(
        self, *, text: Literal[True], stdout: bool = True, stderr: bool = True, since: datetime | float | None = None,
        until: datetime | float | None = None, tail: int | None = None, timestamps: bool = False, follow: bool = False,
    ) -> AsyncIterator[str]: ...  # fmt: skip
    async def logs(
        self, *, text: bool = False, stdout: bool = True, stderr: bool = True, since: datetime | float | None = None,
        until: datetime | float | None = None, tail: int | None = None, timestamps: bool = False, follow: bool = False,
    ) -> AsyncIterator[Any]:  # fmt: skip
        """As the twin; what it raises, the first line raises. The log is opened then."""
        container = self.container
        reader = await _opened(
            lambda: container._do("read the log of", lambda: container._log(since, until, tail, follow))
        )
        shown = _logs.Shown(stdout=stdout, stderr=stderr, timestamps=timestamps)
        kind: type[Any] = str if text else bytes
        loop = asyncio.get_running_loop()
        with reader:
            while not reader.is_over:
                for count, line in enumerate(lines_now(reader, shown, kind), 1):
                    yield line
                    if count % _LINES_AT_ONCE == 0:
                        await asyncio.sleep(0)  # others have their turn
                if not reader.is_over:
                    left = reader.left_s()
                    await _readable(reader.fileno(), None if left is None else loop.time() + left + 0.001)

    async def diff(self) -> list[tuple[str, str]]:
        return await _short(self.container.diff)

    async def commit(self, name: str = "", **options: Any) -> Image:
        return await _short(lambda: self.container.commit(name, **options))

    async def export(self, target: str | os.PathLike[str] | IO[bytes]) -> None:
        await _short(lambda: self.container.export(target))

    # --- as an object ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> EngineContainer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.remove(force=True)
        except ContainerNotFound:
            pass  # by somebody else, or by itself

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EngineContainer) and self.container == other.container

    def __hash__(self) -> int:
        return hash(self.container)

    def __repr__(self) -> str:
        return f"<aio.EngineContainer {self.short_id}>"


class Containers:
    """``aio.Engine.containers``."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._sync = nouns.Containers(roots)

    @overload
    async def run(
        self, image: str | Image, args: Sequence[str] | None = None, *, detach: Literal[True], **options: Unpack[StayOptions]
    ) -> EngineContainer: ...  # fmt: skip
    @overload
    async def run(
        self, image: str | Image, args: Sequence[str] | None = None, *, detach: Literal[False] = False,
        **options: Unpack[WaitOptions],
    ) -> CompletedContainer: ...  # fmt: skip
    async def run(
        self, image: str | Image, args: Sequence[str] | None = None, *, detach: bool = False, **options: Any
    ) -> EngineContainer | CompletedContainer:
        """As the twin. Cancelling removes the container, which nobody knows of yet; without ``detach`` it kills it."""
        if not detach:
            options = nouns.checked_waits(options)
            return await _run(
                str(image), args or (), data_root=self._roots.data_root, run_root=self._roots.run_root, **options
            )
        return await self._made(lambda: self._sync.run(image, args, detach=True, **options))

    async def create(
        self, image: str | Image, args: Sequence[str] | None = None, **options: Unpack[StayOptions]
    ) -> EngineContainer:
        """As the twin. Cancelling removes the container."""
        return await self._made(lambda: self._sync.create(image, args, **options))

    async def _made(self, make: Callable[[], SyncContainer]) -> EngineContainer:
        loop = asyncio.get_running_loop()
        making = loop.run_in_executor(None, make)
        try:
            made = await asyncio.shield(making)
        except asyncio.CancelledError:
            await _finished(making)
            if making.exception() is None:
                await _finished(loop.run_in_executor(None, nouns.discard, making.result()))
            raise
        return EngineContainer(self._roots, made.id)

    async def get(self, name_or_id: str) -> EngineContainer:
        return EngineContainer(self._roots, (await _short(lambda: self._sync.get(name_or_id))).id)

    async def list(
        self, *, all: bool = False, filters: Mapping[str, str | int | Iterable[str | int]] | None = None
    ) -> list[EngineContainer]:
        found = await _short(lambda: self._sync.list(all=all, filters=filters))
        return [EngineContainer(self._roots, each.id) for each in found]

    async def prune(self) -> builtins.list[str]:
        return await _short(self._sync.prune)


class Images:
    """``aio.Engine.images``: cancelling ends a pull, a push or a load, and nothing half stored is left; it waits for the others."""

    def __init__(self, roots: Roots) -> None:
        self._sync = nouns.Images(roots)

    async def pull(self, name: str, *, platform: str = "", progress: Callable[[Progress], None] | None = None) -> Image:
        return await _stoppable(lambda stop: self._sync.pull(name, platform=platform, progress=progress, stop=stop))

    async def push(self, name: str, *, progress: Callable[[Progress], None] | None = None) -> str:
        return await _stoppable(lambda stop: self._sync.push(name, progress=progress, stop=stop))

    async def get(self, name: str) -> Image:
        return await _short(lambda: self._sync.get(name))

    async def list(self) -> list[Image]:
        return await _short(self._sync.list)

    async def load(
        self, source: str | os.PathLike[str] | BinaryIO, *, platform: str = "",
        progress: Callable[[Progress], None] | None = None,
    ) -> builtins.list[Image]:  # fmt: skip
        return await _stoppable(lambda stop: self._sync.load(source, platform=platform, progress=progress, stop=stop))

    async def save(
        self, names: str | Iterable[str], target: str | os.PathLike[str] | BinaryIO, *, format: str = "docker-archive"
    ) -> None:
        await _short(lambda: self._sync.save(names, target, format=format))

    async def tag(self, name: str, new_name: str) -> Image:
        return await _short(lambda: self._sync.tag(name, new_name))

    async def remove(self, name: str, *, force: bool = False) -> builtins.list[Removed]:
        return await _short(lambda: self._sync.remove(name, force=force))

    async def prune(self, *, all: bool = False) -> tuple[builtins.list[Removed], int]:
        return await _short(lambda: self._sync.prune(all=all))


class Volumes:
    """``aio.Engine.volumes``."""

    def __init__(self, roots: Roots) -> None:
        self._sync = nouns.Volumes(roots)

    async def create(
        self, name: str = "", *, labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        return await _short(lambda: self._sync.create(name, labels=labels, options=options))

    async def get(self, name: str) -> Volume:
        return await _short(lambda: self._sync.get(name))

    async def list(self) -> list[Volume]:
        return await _short(self._sync.list)

    async def remove(self, name: str, *, force: bool = False) -> None:
        await _short(lambda: self._sync.remove(name, force=force))

    async def prune(self, *, all: bool = False) -> tuple[builtins.list[str], int]:
        return await _short(lambda: self._sync.prune(all=all))
