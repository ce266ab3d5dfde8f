"""One program executed in a running container, from its Plan (kept by shape) to its end."""

from __future__ import annotations

import os
import select
import signal as signals
import time
from _thread import start_new_thread

from .. import _native
from ..errors import Conflict, InvalidArgument
from ..ops import CLONE_NS
from ..plan_exec import Wish, plan_exec
from ..record import record
from ..result import Outcome, Usage
from .failure import describe
from .stillness import alone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan_bytes import Plan
    from .entry import Entry

__all__ = ["ExecRequest", "Executing", "start_exec"]

_START_DEADLINE_NS = 60_000_000_000
_EBUSY, _ENODEV = 16, 19
_CAP_SETGID = 6
_TRACED_S = 1.0


@record
class ExecRequest:
    """``env``: over the container's own; ``user``, ``workdir``: None for the container's; ``follows``: the program is killed when
    the process that started it ends."""

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    user: str | None = None
    workdir: str | None = None
    privileged: bool = False
    terminal: bool = False
    console_size: tuple[int, int] = (0, 0)
    follows: bool = True


def start_exec(
    entry: Entry, request: ExecRequest, *, stdin: int, stdout: int, stderr: int, fault: _native.Fault | None = None,
    into: list[Executing] | None = None,
) -> Executing:  # fmt: skip
    """Starts a program in the container; it has begun when this returns. The three descriptors stay the caller's.

    ``into`` receives the Executing before the clone: a caller that is interrupted before it has the result finds it there, to be
    aborted. Raises: InvalidArgument, Conflict (it has ended, or is paused), Unsupported, ProgramNotFound, NotExecutable, SetupFailed.
    """
    begun = time.monotonic_ns()
    _check(request)
    with (
        entry,
        alone(entry.directory, entry.name, own=True, shared=True),
    ):  # who pauses it meanwhile would miss this process
        if entry.paused():
            raise Conflict(f"Container {entry.name} is paused, unpause the container before exec")
        env, ids = _identity(entry, request)
        for attempt in range(2):
            made = _shaped(entry, request, ids).with_process(request.args, env)
            executing = Executing(entry, request, made, begun)
            if into is not None:
                into[:] = [executing]
            try:
                _execute(entry, executing, (stdin, stdout, stderr), fault)
                return executing
            except _native.StartFailure as failure:
                executing.close_tty()
                entry.check_lives()
                if attempt == 0 and failure.errno in (_EBUSY, _ENODEV) and fault is None:
                    # it has moved its first process into a cgroup below, or somebody has moved it elsewhere
                    _look_again(entry)
                    continue
                path = next((e[5:] for e in env if e.startswith("PATH=")), None)
                raise describe(
                    failure, made, who=f"an exec in {entry.name}", program=request.args[0], env_path=path
                ) from None
            except BaseException:  # KeyboardInterrupt
                executing.abort()
                raise
    raise AssertionError("unreachable")


def _execute(entry: Entry, executing: Executing, streams: tuple[int, int, int], fault: _native.Fault | None) -> None:
    enter, stub = entry.programs
    cgroups = (*((entry.v2_cgroup,) if entry.v2_cgroup is not None else ()), *entry.v1_cgroups)
    _native.start(
        executing.plan.data, (*streams, -1, -1, -1, stub, enter, entry.pidfd.fd, *(each.fd for each in cgroups)),
        executing.started, deadline_ns=time.monotonic_ns() + _START_DEADLINE_NS, fault=fault,
    )  # fmt: skip


def _look_again(entry: Entry) -> None:
    try:
        entry.look_for_cgroups()
    except FileNotFoundError:
        raise entry.ended() from None


def _check(request: ExecRequest) -> None:
    if not request.args or not request.args[0]:
        raise InvalidArgument("no command: name the program that is to be executed in the container")
    if request.workdir is not None and not request.workdir.startswith("/"):
        raise InvalidArgument(
            f"working directory {request.workdir!r}: it is not an absolute path: write /{request.workdir}"
        )


def _identity(entry: Entry, request: ExecRequest) -> tuple[tuple[str, ...], tuple[int, int, tuple[int, ...]] | None]:
    """The environment, and who the program is: None for who the container is."""
    ids = home = None
    if request.user:
        user = entry.user(request.user)
        ids, home = (user.uid, user.gid, user.additional_gids), user.home
    env = entry.of.env
    if not request.env and home is None and not request.terminal and ("TERM" in entry.given or "TERM=xterm" not in env):
        return env, ids
    merged = {name: value for name, _, value in (each.partition("=") for each in env)}
    if "TERM" not in entry.given:  # by the start's own -t
        merged.pop("TERM", None)
    if request.terminal:
        merged.setdefault("TERM", "xterm")
    if home is not None and "HOME" not in entry.given:
        merged["HOME"] = home
    merged.update(request.env)
    return tuple(f"{name}={value}" for name, value in merged.items()), ids


def _shaped(entry: Entry, request: ExecRequest, ids: tuple[int, int, tuple[int, ...]] | None) -> Plan:
    key = (ids, request.workdir, request.privileged, request.terminal, request.console_size, request.follows)
    found = entry.plans.get(key)
    if found is not None:
        return found
    facts = entry.facts
    own_user = bool(entry.namespaces & CLONE_NS["user"])
    wish = Wish(
        namespaces=entry.namespaces, v1_cgroups=len(entry.v1_cgroups), v2_cgroup=entry.v2_cgroup is not None, ids=ids,
        cwd=request.workdir or "", privileged=request.privileged,
        all_caps=(2 << facts.last_cap) - 1 if own_user else facts.capabilities, terminal=request.terminal,
        console_size=request.console_size, follows=request.follows, drops_groups=bool(facts.capabilities >> _CAP_SETGID & 1),
        maps=entry.maps,
    )  # fmt: skip
    return entry.keep(key, plan_exec(entry.of, wish, args=("true",), env=()))


def _reap_later(pidfd: int) -> None:
    try:
        _native.reap(pidfd, _native.Exit(), block=True)
    except OSError:
        pass  # somebody else in this process has reaped it
    finally:
        os.close(pidfd)


class Executing:
    """A program that was started. ``pidfd`` becomes readable when it has ended; then poll() or wait() give its Outcome.

    Its container cannot come to its end before it has been waited for: the kernel keeps the first process of a pid namespace
    until all others are reaped. ``tty_fd`` is the pty's master, or -1; close_tty() closes it.
    """

    def __init__(self, entry: Entry, request: ExecRequest, made: Plan, begun_ns: int) -> None:
        self.id, self.name, self.image = entry.id, entry.name, entry.image
        self.request, self.plan = request, made
        self.args = request.args
        self.started = _native.Started()
        self.outcome: Outcome | None = None
        self._end = _native.Exit()
        self._ended_ns = 0
        self._begun_ns = begun_ns
        self._tty_open = True

    @property
    def pid(self) -> int:
        return self.started.pid

    @property
    def pidfd(self) -> int:
        """-1 once the Outcome is known."""
        return self.started.pidfd if self.outcome is None else -1

    @property
    def tty_fd(self) -> int:
        return self.started.tty_fd if self._tty_open else -1

    def close_tty(self) -> None:
        if self.tty_fd >= 0:
            fd, self._tty_open = self.tty_fd, False
            os.close(fd)

    def kill(self, signal: int = 9) -> None:
        """Sends a signal to the program; nothing happens when it has ended."""
        if self.outcome is None:
            try:
                signals.pidfd_send_signal(self.pidfd, signal)
            except ProcessLookupError:
                pass

    def abort(self) -> None:
        """Ends it at whatever stage it is: not started, running, ended."""
        if self.outcome is None and self.started.pidfd >= 0:
            self.kill()
            try:
                self.wait()
            except Conflict:
                pass  # somebody in there traces it: it is dead all the same
        self.close_tty()

    def note_end(self) -> None:
        """Says that ``pidfd`` was seen to be readable."""
        self._ended_ns = self._ended_ns or time.monotonic_ns()

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """The Outcome; None when it has not ended within ``timeout_s`` seconds."""
        if self.outcome is None and not self._ended_ns:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if not poller.poll(None if timeout_s is None else max(0.0, timeout_s * 1000)):
                return None
            self.note_end()
        return self.poll() or self._held_by_tracer()

    def _held_by_tracer(self) -> Outcome | None:
        """It has ended, and cannot be reaped: who traces it, inside, must let go of it first, and may never do so. Then a thread
        waits on, for until then the container itself cannot end either. Raises: Conflict."""
        end = time.monotonic() + _TRACED_S
        while time.monotonic() < end:
            time.sleep(0.01)
            if self.poll() is not None:
                return self.outcome
        pidfd = os.dup(self.started.pidfd)
        start_new_thread(_reap_later, (pidfd,))
        self.outcome = Outcome(exit_code=128 + signals.SIGKILL, signal=signals.SIGKILL)
        os.close(self.started.pidfd)
        raise Conflict(
            f"{self.args[0]!r} in container {self.name} has ended, but a process in there traces it and does not let go of it: how "
            "it has ended cannot be known"
        )

    def poll(self) -> Outcome | None:
        """The Outcome when it has ended; None while it runs."""
        if self.outcome is not None:
            return self.outcome
        pidfd = self.started.pidfd
        if not _native.reap(pidfd, self._end, block=False):
            return None
        self.note_end()
        self.outcome = self._outcome()
        os.close(pidfd)
        return self.outcome

    def _outcome(self) -> Outcome:
        """What the kernel knows of one process and of those children that it has waited for; its memory is the container's."""
        s, end, ended_ns = self.started, self._end, self._ended_ns
        exited = end.code == _native.CLD_EXITED
        return Outcome(
            exit_code=end.status if exited else 128 + end.status,
            signal=None if exited else end.status,
            usage=Usage(
                cpu_user_s=end.user_ns / 1e9, cpu_system_s=end.system_ns / 1e9, wall_s=(ended_ns - s.execed_ns) / 1e9
            ),
            phases={
                "plan": (s.begun_ns - self._begun_ns) / 1e9,
                "spawn": (s.execed_ns - s.begun_ns) / 1e9,
                "run": (ended_ns - s.execed_ns) / 1e9,
                "reap": (time.monotonic_ns() - ended_ns) / 1e9,
            },
        )
