"""``pycontain.EngineContainer``: a container as an engine knows it, whoever has started it.

It is not :class:`pycontain.Container`, which *is* its container: it holds pipes and a pidfd, and the container ends with it. This one
holds an id, keeps nothing alive, and says and does what is true of the container at the moment of asking.
"""

from __future__ import annotations

import os
import time
from typing import Any, Literal, overload

from .engine import containers, logs
from .engine.log_lines import LogLines, said_when
from .errors import (
    Conflict,
    ContainerNotFound,
    InvalidArgument,
    PycontainError,
    SetupFailed,
    TimeoutExpired,
    errno_name,
)
from .result import CompletedContainer
from .runtime.monitor import Refused
from .streams import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import IO, TypeVar

    from typing_extensions import Unpack

    from .engine.attach import Attachment
    from .engine.containers import ContainerInfo
    from .engine.ending import Ending
    from .engine.image import Image
    from .engine.journal import JournalReader
    from .engine.logs import LogReader
    from .engine.processes import ProcessTable
    from .options import ExecOptions
    from .result import Usage
    from .runtime.entry import Entry
    from .runtime.roots import Roots

    T = TypeVar("T")

__all__ = ["EngineContainer", "answered"]

_SHORT = 12


def answered(what: str, call: Callable[[], T]) -> T:
    """``call()``: what goes wrong is a PycontainError, whatever it was."""
    try:
        return call()
    except PycontainError:
        raise
    except Refused as error:
        raise Conflict(f"cannot {what}: {error}") from None
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, (str, bytes)) else ""
        number = error.errno or 0
        raise SetupFailed(
            f"cannot {what}: {error.strerror or error} ({errno_name(number)}){where}: is it this user's, and is there room?",
            step=what.partition(" ")[0], errno=number,
        ) from None  # fmt: skip


class EngineContainer:
    """A container that an :class:`pycontain.Engine` has made or found: one that stays, or one in the foreground of some process.

    Every attribute but ``id`` is read anew when it is asked for (some 0.1 ms); for several that fit together take :attr:`info`.
    Objects may be used by several threads at once; two are equal when they are the same container. As a context manager it removes
    the container at the end of the block, whatever happened in it.

    Whatever it does raises ContainerNotFound when the container is no more. One that runs in the foreground of a process cannot be
    started, waited for, renamed or removed by others, and has no log: Conflict.
    """

    __slots__ = ("_id", "_roots")

    def __init__(self, roots: Roots, container_id: str) -> None:
        self._roots = roots
        self._id = container_id

    def _do(self, verb: str, call: Callable[[], T]) -> T:
        return answered(f"{verb} container {self.short_id}", call)

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""
        return self._id

    @property
    def short_id(self) -> str:
        return self._id[:_SHORT]

    @property
    def info(self) -> ContainerInfo:
        """All that a list of containers shows, of one moment."""
        return self._do("look at", lambda: containers.find_container(self._roots, self._id))

    def reload(self) -> None:
        """Only looks whether it is still there: attributes are never old. For programs written for docker-py."""
        _ = self.info

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def image(self) -> str:
        """As it was asked for: "debian:12", "host"; see :attr:`image_id`."""
        return self.info.image

    @property
    def image_id(self) -> str:
        """ "sha256:..."; "" when its root is no image's."""
        return self.info.image_id

    @property
    def labels(self) -> dict[str, str]:
        """The image's, and its own."""
        return dict(self.info.labels)

    @property
    def status(self) -> str:
        """Docker's: "created", "running", "paused", "restarting", "exited" or "dead"."""
        return self.info.state

    @property
    def pid(self) -> int:
        """Of its first process, as this host sees it; 0 when it does not run."""
        return self.info.pid

    @property
    def exit_code(self) -> int | None:
        """128 + n after signal n, 255 when its monitor was killed; None before its end."""
        info = self.info
        return info.exit_code if info.state in ("exited", "dead") else None

    @property
    def created(self) -> datetime:
        """With the time zone UTC, as the other two."""
        from datetime import datetime, timezone

        return datetime.fromtimestamp(self.info.created, timezone.utc)

    @property
    def started_at(self) -> datetime | None:
        """Of its last start; None when it has never been started."""
        info = self.info
        return _instant(info.started_at) if info.stays else self.created

    @property
    def finished_at(self) -> datetime | None:
        """Of its last end."""
        return _instant(self.info.finished_at)

    @property
    def ports(self) -> dict[str, list[tuple[str, int]]]:
        """Published ports: none, as long as there are no networks but loopback and the host's."""
        return {}

    def inspect(self, *, size: bool = False) -> dict[str, Any]:
        """Docker's document of it (Engine API 1.50), ready for JSON. ``size``: with SizeRw and SizeRootFs, in bytes."""
        from .engine.container_details import details
        from .engine.container_document import document_of

        return self._do("inspect", lambda: document_of(details(self._roots, self._id, with_sizes=size)))

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Its program has begun when this returns; nothing happens when it runs. Raises: as a run; Conflict: it is paused."""
        self._do("start", lambda: containers.start(self._roots, self._id))

    def stop(self, timeout: float | None = None, *, signal: str | int = "") -> None:
        """Its stop signal, or ``signal``; after ``timeout`` whole seconds (None: its own ``stop_timeout``; negative: never) SIGKILL.
        Ends its restart policy. It has ended when this returns; nothing happens when it does not run."""
        self._do("stop", lambda: containers.stop(self._roots, self._id, signal=_word(signal), grace_s=timeout))

    def restart(self, timeout: float | None = None) -> None:
        """:meth:`stop`, and :meth:`start`."""
        self._do("restart", lambda: containers.restart(self._roots, self._id, grace_s=timeout))

    def kill(self, signal: str | int = "KILL") -> None:
        """Sends a signal ("HUP", "SIGHUP", 1) to its first process. SIGKILL ends its restart policy. Raises: Conflict: it does not run."""
        self._do("kill", lambda: containers.kill(self._roots, self._id, _word(signal)))

    def pause(self) -> None:
        """Stops every process in it where it stands. Raises: Conflict: it is paused, or does not run; Unsupported: no freezer."""
        self._do("pause", lambda: containers.pause(self._roots, self._id))

    def unpause(self) -> None:
        """Lets them go on. Raises: Conflict: it is not paused."""
        self._do("unpause", lambda: containers.unpause(self._roots, self._id))

    def wait(self, timeout: float | None = None) -> int:
        """Waits, at most ``timeout`` seconds, until it has ended for good, its restart policy included: its exit code. At once when
        it does not run; 0 when it was never started.

        Raises: TimeoutExpired, and it goes on; ContainerNotFound: it was removed before its exit code was read.
        """
        code = self._do("wait for", lambda: containers.wait(self._roots, self._id, timeout_s=timeout))
        if code is None:
            raise self._still_runs(timeout)
        return code

    def _ending(self) -> Ending:
        return self._do("wait for", lambda: containers.ending(self._roots, self._id))

    def _ask_to_stop(self, timeout: float | None, signal: str | int, *, keep: bool = False) -> bool:
        return self._do(
            "stop",
            lambda: containers.ask_to_stop(self._roots, self._id, signal=_word(signal), grace_s=timeout, keep=keep),
        )

    def _restarted(self) -> None:
        containers.note_restart(self._roots, self._id)

    def _still_runs(self, timeout: float | None) -> TimeoutExpired:
        info = self.info
        so_far = CompletedContainer(args=(), image=info.image, id=self._id, exit_code=-1, timed_out=True)
        return TimeoutExpired(f"container {info.name} still runs after {timeout} seconds", so_far)

    def rename(self, name: str) -> None:
        """Raises: Conflict: the name is in use, or is its own; InvalidArgument: it is none."""
        self._do("rename", lambda: containers.rename(self._roots, self._id, name))

    def remove(self, *, force: bool = False, volumes: bool = False) -> None:
        """With all that it has written in its root. ``force``: it is killed first. ``volumes``: with its anonymous volumes, unless
        others use them. Raises: Conflict: it runs."""
        self._do("remove", lambda: containers.remove(self._roots, self._id, force=force, volumes=volumes))

    # --- inside ------------------------------------------------------------------------------------------------------

    def exec(
        self, args: Sequence[str], *, input: bytes | str | None = None, stdin: int | IO[Any] | None = None,
        stdout: int | IO[Any] | None = PIPE, stderr: int | IO[Any] | None = PIPE, text: bool = False, encoding: str = "utf-8",
        errors: str = "replace", timeout: float | None = None, check: bool = False, **options: Unpack[ExecOptions],
    ) -> CompletedContainer:  # fmt: skip
        """One more program in it, from start to end, as :meth:`pycontain.Container.exec`: same arguments, result and errors."""
        from .inside import execute

        return self._do(
            "execute a program in",
            lambda: execute(
                self._entry, args, input=input, stdin=stdin, stdout=stdout, stderr=stderr, text=text, encoding=encoding,
                errors=errors, timeout=timeout, check=check, once=True, **options,
            ),
        )  # fmt: skip

    def attach(self) -> Attachment:
        """A connection to its streams, from now on; use it in a ``with`` block, by one thread. ``receive()``: (1 or 2, bytes), None at
        its end; ``send(data)`` for its input, if it was made with ``stdin_open``; ``resize(rows, columns)`` of its terminal;
        ``detach()``; ``fileno()`` for who waits by poll. A reader that takes nothing for ten seconds is let go.

        Raises: Conflict: it does not run, or is paused.
        """
        from .engine.attach import attach

        return self._do("attach to", lambda: attach(self._roots, self._id))

    def _entry(self) -> Entry:
        from .runtime.entry import entry_of_found
        from .runtime.session import sealed_programs

        return self._do(
            "enter", lambda: entry_of_found(containers.find_running(self._roots, self._id), sealed_programs())
        )

    def top(self, ps_args: Sequence[str] = ()) -> ProcessTable:
        """Its processes, by the host's ps(1) (``ps_args``: default -ef): titles of columns, and a tuple of cells for each process.

        Raises: Conflict: it does not run; InvalidArgument: ps does not take the arguments, or shows no PID.
        """
        from .engine.processes import top

        if isinstance(ps_args, str):
            ps_args = ps_args.split()
        return self._do("list the processes of", lambda: top(self._roots, self._id, ps_args))

    @overload
    def stats(self, stream: Literal[False] = False) -> Usage: ...
    @overload
    def stats(self, stream: Literal[True], interval: float = 1.0) -> Iterator[Usage]: ...
    def stats(self, stream: bool = False, interval: float = 1.0) -> Usage | Iterator[Usage]:
        """What it has used since its last start, and uses now. ``stream``: each ``interval`` seconds, until it has ended for good.

        Raises: Conflict: it does not run.
        """
        return self._stats_until_end(interval) if stream else self._usage()

    def _usage(self) -> Usage:
        from .runtime.live_usage import usage_of_found

        return self._do("measure", lambda: usage_of_found(containers.find_running(self._roots, self._id)))

    def _usage_unless_over(self) -> Usage | Literal[False] | None:
        """None: it has no process at this moment; False: it will have none any more."""
        try:
            return self._usage()
        except Conflict:
            return None if self.info.is_alive else False
        except ContainerNotFound:
            return False

    def _stats_until_end(self, interval: float) -> Iterator[Usage]:
        while (usage := self._usage_unless_over()) is not False:
            if usage is not None:
                yield usage
            time.sleep(interval)

    # --- what it has said and written --------------------------------------------------------------------------------

    @overload
    def logs(
        self, *, text: Literal[False] = False, stdout: bool = True, stderr: bool = True, since: datetime | float | None = None,
        until: datetime | float | None = None, tail: int | None = None, timestamps: bool = False, follow: bool = False,
    ) -> LogLines[bytes]: ...  # fmt: skip
    @overload
    def logs(
        self, *, text: Literal[True], stdout: bool = True, stderr: bool = True, since: datetime | float | None = None,
        until: datetime | float | None = None, tail: int | None = None, timestamps: bool = False, follow: bool = False,
    ) -> LogLines[str]: ...  # fmt: skip
    def logs(
        self, *, text: bool = False, stdout: bool = True, stderr: bool = True, since: datetime | float | None = None,
        until: datetime | float | None = None, tail: int | None = None, timestamps: bool = False, follow: bool = False,
    ) -> LogLines[Any]:  # fmt: skip
        """An iterator of the lines that it has said, as bytes or (``text``) str, each with its newline; one of more than 16 KiB comes
        in pieces, of which only the last has one. What was not UTF-8 is U+FFFD, as in Docker's logs.

        ``since``, ``until``: a datetime with a zone, or seconds since 1970. ``tail``: the last so many. ``timestamps``: each with its
        time, RFC 3339, before it. ``follow``: and those that it says from now on, until it has ended for good.
        Raises: Conflict: it keeps no log; InvalidArgument: a datetime without a zone.
        """
        reader = self._do("read the log of", lambda: self._log(since, until, tail, follow))
        shown = logs.Shown(stdout=stdout, stderr=stderr, timestamps=timestamps)
        return LogLines(reader, shown, str if text else bytes)

    def _log(
        self, since: datetime | float | None, until: datetime | float | None, tail: int | None, follow: bool
    ) -> LogReader | JournalReader:
        if tail is not None and tail < 0:
            raise InvalidArgument(f"tail={tail}: it is less than 0: leave it out for all lines")
        return logs.open_log(
            self._roots, self._id, tail=tail, since=said_when(since), until=said_when(until), follow=follow
        )

    def diff(self) -> list[tuple[str, str]]:
        """What it has changed in its root: ("A" added, "C" changed or "D" deleted, the path), by path."""
        from .engine.container_details import changes

        return self._do("list changes of", lambda: changes(self._roots, self._id))

    def commit(
        self, name: str = "", *, changes: Sequence[str] = (), author: str = "", message: str = "", pause: bool = True,
        compression: str = "gzip", level: int | None = None,
    ) -> Image:  # fmt: skip
        """As :meth:`pycontain.Container.commit`. Raises: Conflict: it waits for its next start."""
        from .engine.image import commit_known

        return self._do(
            "commit",
            lambda: commit_known(
                self._roots, self._id, name, changes=changes, author=author, message=message, pause=pause,
                compression=compression, level=level,
            ),
        )  # fmt: skip

    def export(self, target: str | os.PathLike[str] | IO[bytes]) -> None:
        """All its files, its own and its image's, as a tar. Raises: Conflict: it waits for its next start."""
        from .engine.image import export_known

        self._do("export", lambda: export_known(self._roots, self._id, target))

    # --- as an object ------------------------------------------------------------------------------------------------

    def __enter__(self) -> EngineContainer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.remove(force=True)
        except ContainerNotFound:
            pass  # by somebody else, or by itself

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EngineContainer) and (self._id, self._roots) == (other._id, other._roots)

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        return f"<EngineContainer {self.short_id}>"


def _word(signal: str | int) -> str:
    return str(int(signal)) if isinstance(signal, int) else signal


def _instant(text: str) -> datetime | None:
    from .image.instants import parse_instant

    return parse_instant(text) if text else None
