"""``pycontain.run`` and ``pycontain.Container``: subprocess's habits for containers."""

from __future__ import annotations

import io
import time

from . import options as _options
from .capture import completed, decoded, drive, input_bytes, raise_for
from .errors import TimeoutExpired
from .result import CompletedContainer, Usage
from .runtime.roots import Roots, default_roots
from .runtime.running import Running, start
from .streams import DEVNULL, PIPE, Exchange, Streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType
    from typing import IO, Any

    from typing_extensions import Unpack

    from .engine.image import Image
    from .options import ExecOptions, RunOptions, UpdateOptions
    from .runtime.cgroups import Events, Pressure

__all__ = ["Container", "run"]

_SIGTERM, _SIGKILL = 15, 9


def run(
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
    """Runs a program in a new container, waits for it and removes everything.

    ``image``: "host", a directory ("/dir", "./dir"), "oci:DIR[:REF]", or a name given to ``pycontain import``.
    ``input`` goes to its stdin (default: nothing). stdout and stderr are captured unless given elsewhere; None lets
    the program write to this process's own. ``text`` decodes them. ``timeout`` in seconds: then it is killed, and the
    result says ``timed_out``. Options: see :class:`pycontain.options.RunOptions`.

    Raises: InvalidArgument, ImageNotFound, Conflict, Unsupported, ProgramNotFound, NotExecutable, SetupFailed; with
    ``check`` also ContainerExited (exit code not 0) and TimeoutExpired.
    """
    data = input_bytes(input, stdin, encoding, errors)
    request = _options.request(image, args, options)
    roots = _roots(data_root, run_root)
    streams = Streams(PIPE if data is not None else DEVNULL if stdin is None else stdin, stdout, stderr)
    deadline = None if timeout is None else time.monotonic() + timeout
    exchange = Exchange(streams, data)
    held: list[Running] = []
    try:
        stdin_fd, stdout_fd, stderr_fd = streams.child
        running = start(request, roots=roots, stdin=stdin_fd, stdout=stdout_fd, stderr=stderr_fd, into=held)
        streams.close_child()
        timed_out = not drive(running, exchange, deadline)
        if timed_out:
            running.kill(_SIGKILL)
        outcome = running.wait()
        exchange.drain()
    except BaseException:  # KeyboardInterrupt above all: a container without a waiter must not live on
        for each in held:
            each.abort()
        exchange.close()
        raise
    finally:
        streams.close_child()
    assert outcome is not None
    result = completed(running, outcome, exchange, text=text, encoding=encoding, errors=errors, timed_out=timed_out)
    if check:
        raise_for(result, timeout)
    return result


def _roots(data_root: str | None, run_root: str | None) -> Roots:
    return default_roots(data_root, run_root)


class Container:
    """A running container with Popen's verbs; as a context manager it is stopped and removed on leaving the block.

    ``stdin``, ``stdout``, ``stderr``: None (stdin: nothing; the others: this process's own), PIPE, DEVNULL, STDOUT, a
    descriptor or a file, as in subprocess. Options: see :class:`pycontain.options.RunOptions`.

    Raises on construction: InvalidArgument, ImageNotFound, Conflict, Unsupported, ProgramNotFound, NotExecutable,
    SetupFailed.
    """

    def __init__(
        self,
        image: str,
        args: Sequence[str] = (),
        *,
        stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = False,
        encoding: str = "utf-8",
        errors: str = "replace",
        stop_timeout: float = 10.0,
        data_root: str | None = None,
        run_root: str | None = None,
        **options: Unpack[RunOptions],
    ) -> None:
        request = _options.request(image, args, options)
        streams = Streams(DEVNULL if stdin is None else stdin, stdout, stderr)
        try:
            self._running = start(
                request,
                roots=_roots(data_root, run_root),
                stdin=streams.child[0],
                stdout=streams.child[1],
                stderr=streams.child[2],
            )
        except BaseException:
            streams.close_ours()
            raise
        finally:
            streams.close_child()
        self._streams = streams
        self._text, self._encoding, self._errors = text, encoding, errors
        self._stop_timeout = stop_timeout
        self._exchange: Exchange | None = None
        self.stdin: IO[Any] | None = self._file(0, "wb")
        self.stdout: IO[Any] | None = self._file(1, "rb")
        self.stderr: IO[Any] | None = self._file(2, "rb")

    def _file(self, number: int, mode: str) -> IO[Any] | None:
        fd = self._streams.ours[number]
        if fd < 0:
            return None
        # a write to stdin goes out at once; as text, which needs a buffer below it, at the end of each line
        raw: IO[Any] = open(fd, mode, buffering=0 if number == 0 and not self._text else -1)  # noqa: SIM115 - closed by _close_files
        if not self._text:
            return raw
        return io.TextIOWrapper(raw, encoding=self._encoding, errors=self._errors, line_buffering=number == 0)

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self._running.id

    @property
    def name(self) -> str:
        return self._running.name

    @property
    def pid(self) -> int:
        """The process id of the container's first process, as this host sees it."""
        return self._running.pid

    @property
    def args(self) -> tuple[str, ...]:
        return self._running.args

    @property
    def exit_code(self) -> int | None:
        """128 + n after signal n; None while it runs."""
        outcome = self._running.outcome
        return None if outcome is None else outcome.exit_code

    @property
    def returncode(self) -> int | None:
        """``exit_code`` by subprocess's name."""
        return self.exit_code

    @property
    def oom_killed(self) -> bool:
        return self._running.outcome is not None and self._running.outcome.oom_killed

    @property
    def usage(self) -> Usage | None:
        """What it used in all; None while it runs (see stats)."""
        return None if self._running.outcome is None else self._running.outcome.usage

    def commit(
        self, name: str = "", *, changes: Sequence[str] = (), author: str = "", message: str = "", pause: bool = True,
        compression: str = "gzip", level: int | None = None,
    ) -> Image:  # fmt: skip
        """An image of what it has written so far, and of how it was started. ``changes``: "ENV A=b", "CMD [...]" as in a Dockerfile.
        ``compression``: of the new layer: "gzip" (``level`` 1 to 9), "zstd" (1 to 22) or "" (none); on all cores.

        Raises: InvalidArgument: its root is no image's; Conflict: it has ended, or (without ``pause``) a file was cut short.
        """
        from .engine.image import commit

        return commit(
            self._running, name, changes=changes, author=author, message=message, pause=pause, compression=compression,
            level=level,
        )  # fmt: skip

    def export(self, target: str | os.PathLike[str] | IO[bytes]) -> None:
        """All its files, its own and its image's, as a tar. Raises: Conflict: it has ended, or a file was cut short meanwhile."""
        from .engine.image import export

        export(self._running, target)

    def stats(self) -> Usage:
        """What it has used so far, and uses now."""
        return self._running.usage_so_far()

    def exec(
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
        """Runs one more program in the container and waits for it, as ``docker exec`` does.

        ``user`` ("name", "uid:gid"), ``workdir`` and ``env`` (over the container's) replace those of the container; ``privileged``:
        all capabilities and no filter. ``tty``: a terminal of the container's own, all output of which is the result's stdout.
        After ``timeout`` seconds the program is killed, and only it: processes that it has started go on in the container.
        The result's ``usage`` is what the kernel knows of the program and of its children that it waited for: CPU and wall time.
        ``oom_killed`` is never said: that is known of the whole container only.

        Raises: InvalidArgument, Conflict (it has ended, or is paused), Unsupported, ProgramNotFound, NotExecutable, SetupFailed;
        with ``check`` also ContainerExited and TimeoutExpired.
        """
        from .inside import execute

        return execute(
            self._running.entry, args, input=input, stdin=stdin, stdout=stdout, stderr=stderr, text=text,
            encoding=encoding, errors=errors, timeout=timeout, check=check, **options,
        )  # fmt: skip

    # --- Popen's verbs -----------------------------------------------------------------------------------------------

    def poll(self) -> int | None:
        """The exit code when it has ended (everything is removed then), else None."""
        self._running.poll()
        return self.exit_code

    def wait(self, timeout: float | None = None) -> int:
        """Waits at most ``timeout`` seconds and returns the exit code. Raises TimeoutExpired; it goes on running."""
        if self._running.wait(timeout) is None:
            raise TimeoutExpired(f"container {self.id[:12]} still runs after {timeout} seconds", self._partial())
        assert self.exit_code is not None
        return self.exit_code

    def communicate(self, input: bytes | str | None = None, timeout: float | None = None) -> tuple[Any, Any]:
        """Sends ``input``, reads both streams to their end, waits: (stdout, stderr), None for what is not a pipe.

        Raises TimeoutExpired after ``timeout`` seconds; it goes on running, and communicate may be called again.
        """
        if self._exchange is None:
            if self.stdin is not None and not self.stdin.closed:
                try:
                    self.stdin.flush()
                except BrokenPipeError:
                    pass  # the program does not read its input: its right
            self._take_back_files()
            self._exchange = Exchange(self._streams, input_bytes(input, None, self._encoding, self._errors))
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._running.outcome is None and not drive(self._running, self._exchange, deadline):
            raise TimeoutExpired(f"container {self.id[:12]} still runs after {timeout} seconds", self._partial())
        self._running.wait()
        self._exchange.drain()
        return self._captured(1), self._captured(2)

    def send_signal(self, signal: int) -> None:
        """Sends ``signal`` to its first process; nothing happens when it has ended."""
        self._running.kill(signal)

    def terminate(self) -> None:
        """SIGTERM. The first process of a pid namespace is deaf to it unless it has a handler: see stop and init=True."""
        self.send_signal(_SIGTERM)

    def kill(self) -> None:
        """SIGKILL: the container and everything in it ends."""
        self.send_signal(_SIGKILL)

    def stop(self, timeout: float = 10.0) -> int:
        """The image's or the caller's stop signal (SIGTERM), ``timeout`` seconds of grace, then SIGKILL. Returns the exit code."""
        if self._running.outcome is None:
            self.send_signal(self._running.stop_signal)
            if self._running.wait(timeout) is None:
                self.kill()
        return self.wait()

    # --- its cgroups -------------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return self._running.paused

    def pause(self) -> None:
        """Stops every process in it where it stands. Raises Conflict when it has ended or is paused already; Unsupported."""
        self._running.pause()

    def unpause(self) -> None:
        """Lets them go on. Raises Conflict when it is not paused."""
        self._running.unpause()

    def pressure(self) -> Pressure:
        """How much of its time it waits for CPU, memory and block I/O. Raises Unsupported in cgroup v1; Conflict."""
        from .runtime.cgroups import pressure

        return pressure(self._running.members())

    def events(self) -> Events:
        """How often it met its limits on memory and processes so far. Raises Conflict when it has ended."""
        from .runtime.cgroups import events

        return events(self._running.members())

    def update(self, **options: Unpack[UpdateOptions]) -> None:
        """Changes limits while it runs: memory, memory_swap, memory_reservation, cpus, cpu_shares, cpuset_cpus, pids,
        blkio_weight. What is not named stays. Either all of it is set, or nothing.

        Raises: InvalidArgument for a value that makes no sense or that the kernel refuses; Unsupported; Conflict when it
        has ended.
        """
        self._running.update(_options.update(self._running.request.image, options))

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(grace=self._stop_timeout if kind is None else 0.0)

    def close(self, grace: float = 0.0) -> None:
        """Closes the pipes, ends the container (SIGTERM first, with ``grace`` seconds, if any) and removes it."""
        if self.stdin is not None:
            try:
                self.stdin.close()  # many programs end when their input does
            except OSError:
                pass
        if self._running.poll() is None:
            if grace > 0:
                self.send_signal(self._running.stop_signal)
                self._running.wait(grace)
            self.kill()
            self._running.wait()
        self._close_files()

    def __del__(self) -> None:
        if getattr(self, "_running", None) is not None and self._running.outcome is None:
            import warnings

            warnings.warn(
                f"container {self.id[:12]} was never closed: use it in a with block",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            self.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _take_back_files(self) -> None:
        """The pipes go to an Exchange: the file objects give up their descriptors."""
        import os

        for number, stream in enumerate((self.stdin, self.stdout, self.stderr)):
            if stream is not None:
                self._streams.ours[number] = -1 if stream.closed else os.dup(stream.fileno())
        self._close_files()

    def _close_files(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    pass

    def _captured(self, number: int) -> bytes | str | None:
        data = None if self._exchange is None else self._exchange.output(number)
        return decoded(data, self._text, self._encoding, self._errors)

    def _partial(self) -> CompletedContainer:
        return CompletedContainer(
            args=self.args, image=self._running.request.image, id=self.id, exit_code=-1, timed_out=True,
            stdout=self._captured(1), stderr=self._captured(2), usage=self.stats(),
        )  # fmt: skip
