"""Starting one container and seeing it to its end: session, look-up, Plan, the C core, the accounts."""

from __future__ import annotations

import os
import select
import signal as signals
import time
from _thread import allocate_lock

from .. import _native, parse
from ..errors import Conflict, ImageNotFound
from ..host import probe
from ..image.usage import hold_rootfs
from ..image.workspace import release
from ..result import Outcome, Usage
from .failure import describe
from .generate import environment, init_target, program_args
from .look import forget_images, look
from .session import session_for
from .shapes import shaped
from .slots import Slots, slots_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.rootfs import RootFS
    from ..plan_bytes import Plan
    from ..request import Mount, RunRequest
    from ..spec.runtime import Resources
    from .cgroups import Member
    from .entry import Entry
    from .hooks import InsideHooks
    from .look import Resolved
    from .roots import Roots
    from .session import Session
    from .userns import Mappings

__all__ = ["Running", "start"]

_HOLD_ATTEMPTS = 4
_START_DEADLINE_NS = 60_000_000_000

_entries = allocate_lock()
_NO_MAPS: Mappings = ((), ())


def start(
    request: RunRequest,
    *,
    roots: Roots,
    stdin: int,
    stdout: int,
    stderr: int,
    console_size: tuple[int, int] = (0, 0),
    trace: _native.Trace | None = None,
    fault: _native.Fault | None = None,
    into: list[Running] | None = None,
) -> Running:
    """Starts a container; its program has begun when this returns. The three descriptors stay the caller's.

    ``into`` receives the Running before the clone: a caller that is interrupted before it has the result finds it there,
    to be aborted.

    Raises: InvalidArgument, ImageNotFound, Conflict, Unsupported, ProgramNotFound, NotExecutable, SetupFailed.
    """
    begun = time.monotonic_ns()
    if request.image.startswith("bundle:"):
        running, launch = _ready_bundle(request, roots, console_size, begun, fault)
    else:
        running, launch = _ready(request, roots, console_size, begun, fault)
    if into is not None:
        into.append(running)
    try:
        _native.start(
            running.plan.data, (stdin, stdout, stderr, *launch.slots.fds), running.started,
            deadline_ns=launch.deadline_ns(), trace=trace, fault=fault, sync=launch.sync,
        )  # fmt: skip
        if launch.started is not None:
            launch.started()
    except _native.StartFailure as failure:
        # while there is what a hook has said
        wrong = launch.inside.explain(failure, running.plan.data) if launch.inside is not None else None
        running.abort()
        if wrong is not None:
            raise wrong from None
        path = next((e[5:] for e in launch.env if e.startswith("PATH=")), None)
        raise describe(failure, running.plan, who=running.name, program=running.args[0], env_path=path) from None
    except BaseException:  # KeyboardInterrupt, a hook that failed
        running.abort()
        raise
    finally:
        if launch.inside is not None:
            launch.inside.close()
    return running


class _Launch:
    """What a start needs beside its Plan."""

    __slots__ = ("env", "inside", "slots", "started", "sync")

    def __init__(
        self, slots: Slots, env: tuple[str, ...], *, sync: Callable[[int, int, int], None] | None = None,
        started: Callable[[], None] | None = None, inside: InsideHooks | None = None,
    ) -> None:  # fmt: skip
        self.slots = slots
        self.env = env
        self.sync = sync
        self.started = started
        self.inside = inside

    def deadline_ns(self) -> int:
        """Until when the program must run; 0 when a hook may take all the time there is."""
        allowance = 0 if self.inside is None else self.inside.allowance_s
        return 0 if allowance is None else time.monotonic_ns() + _START_DEADLINE_NS + allowance * 1_000_000_000


def _ready(
    request: RunRequest, roots: Roots, console_size: tuple[int, int], begun: int, fault: _native.Fault | None
) -> tuple[Running, _Launch]:
    parse.check(request)
    if request.volumes_from:
        from .volumes_from import inherit

        request = inherit(request, roots)
    found, image_fd = _held(request, roots.data_root)
    try:
        if found.declared or any(m.type == "volume" for m in request.mounts):
            from .foreground_volumes import ready_with_volumes

            running, launch = ready_with_volumes(
                request,
                found,
                roots.data_root,
                lambda found: _ready_on(request, found, roots, console_size, begun, fault),
            )
        else:
            running, launch = _ready_on(request, found, roots, console_size, begun, fault)
    except BaseException:
        if image_fd >= 0:
            release(image_fd)
        raise
    running.image_fd = image_fd
    return running, launch


def _ready_on(
    request: RunRequest, found: Resolved, roots: Roots, console_size: tuple[int, int], begun: int,
    fault: _native.Fault | None,
) -> tuple[Running, _Launch]:  # fmt: skip
    session = session_for(roots, probe())
    maps = session.ids.mappings(request)
    container_id = os.urandom(32).hex()
    try:
        shape = shaped(request, found, maps, session, console_size)
        session.ensure_cgroups(shape.resources)
        slots = slots_for(session, found.rootfs, maps, hosts=shape.hosts)
        if request.name is not None:
            session.reserved.reserve_name(request.name, container_id)
    except BaseException:
        session.ids.release(request, maps)
        raise
    hostname = request.hostname or ("" if request.uts == "host" else container_id[:12])
    args = program_args(request, found)
    env = environment(request, found, hostname)
    made = shape.plan.with_id(container_id).with_process(
        (init_target(found), "--", *args) if request.init else args, env
    )
    running = Running(container_id, request, args, made, session, begun, fault, shape.resources, maps)
    running.rootfs = found.rootfs
    running.mounts = request.mounts
    return running, _Launch(slots, env)


def _held(request: RunRequest, data_root: str) -> tuple[Resolved, int]:
    """What the request depends on, and the descriptor that keeps its image, or -1."""
    for attempt in range(_HOLD_ATTEMPTS):
        found = look(request, data_root=data_root)
        try:
            return found, hold_rootfs(data_root, request.image, found.rootfs)
        except ImageNotFound:
            # removed since it was looked up; another one may have the name by now, or a pull bring it
            forget_images()
            if attempt == _HOLD_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _ready_bundle(
    request: RunRequest, roots: Roots, console_size: tuple[int, int], begun: int, fault: _native.Fault | None
) -> tuple[Running, _Launch]:
    from .bundle import after_end, after_start, open_bundle

    container_id = os.urandom(32).hex()
    bundle = open_bundle(request, roots, container_id, console_size)
    session = session_for(roots, probe())
    process, resources = bundle.spec.process, bundle.spec.linux.resources
    running = Running(container_id, request, process.args, bundle.plan, session, begun, fault, resources)
    running.after = after_end(bundle)
    return running, _Launch(
        Slots(bundle.template, bundle.translation, session.stub_fd, bundle.inside.given), process.env, sync=bundle.sync,
        started=lambda: after_start(bundle, running), inside=bundle.inside,
    )  # fmt: skip


class Running:
    """A started container. ``pidfd`` becomes readable when it has ended; then poll() or wait() give its Outcome.

    ``tty_fd`` is the pty's master, or -1; close_tty() closes it.
    """

    def __init__(
        self, container_id: str, request: RunRequest, args: tuple[str, ...], made: Plan, session: Session, begun_ns: int,
        fault: _native.Fault | None, resources: Resources, maps: Mappings = _NO_MAPS,
    ) -> None:  # fmt: skip
        self.id = container_id
        self.name = request.name or container_id[:12]
        self.request = request
        self.args = args
        self.plan = made
        self.started = _native.Started()
        self.outcome: Outcome | None = None
        self._end = _native.Exit()
        self._ended_ns = 0
        self._tty_open = True
        self._session = session
        self._begun_ns = begun_ns
        self._fault = fault
        self._maps = maps
        self.after: Callable[[], None] | None = None  # once, when it is gone
        self.rootfs: RootFS | None = None
        self.mounts: tuple[Mount, ...] = ()  # the request's and the image's; every volume with its name
        self.image_fd = -1  # keeps its image from being removed (image/usage.py)
        self._resources = resources
        self._late: tuple[Member, ...] = ()  # cgroups that it has been moved into since
        self.paused = False
        self._entry: tuple[int, Entry] | None = None  # made when it had so many late cgroups

    @property
    def pid(self) -> int:
        return self.started.pid

    @property
    def image(self) -> str:
        return self.request.image

    @property
    def session(self) -> Session:
        return self._session

    @property
    def owner(self) -> str:
        return self._session.owner

    @property
    def data_root(self) -> str:
        return self._session.roots.data_root

    @property
    def directory(self) -> str:
        """Where its upper directory is, as long as it lives."""
        return f"{self._session.directory}/{self.id}"

    @property
    def stop_signal(self) -> int:
        """The number of what asks it to end: the request's, else the image's, else SIGTERM."""
        of_image = self.rootfs.config.stop_signal if self.rootfs is not None else ""
        wanted = self.request.stop_signal or of_image
        return parse.signal_number(wanted) if wanted else signals.SIGTERM

    @property
    def maps(self) -> Mappings:
        return self._maps

    @property
    def pidfd(self) -> int:
        """-1 once the Outcome is known."""
        return self.started.pidfd if self.outcome is None else -1

    @property
    def tty_fd(self) -> int:
        return self.started.tty_fd if self._tty_open else -1

    def abort(self) -> None:
        """Ends and removes it at whatever stage it is: not started, running, ended."""
        if self.outcome is None and self.started.pidfd >= 0:
            self.kill()
            self.wait()
        self._release()
        self.close_tty()

    def _release(self) -> None:
        """What it had reserved is free again."""
        if self.request.name is not None:
            self._session.reserved.release_name(self.request.name)
        maps, self._maps = self._maps, _NO_MAPS
        self._session.ids.release(self.request, maps)
        image_fd, self.image_fd = self.image_fd, -1
        if image_fd >= 0:
            release(image_fd)
        after, self.after = self.after, None
        if after is not None:
            after()

    def kill(self, signal: int = 9) -> None:
        """Sends a signal to the container's first process; nothing happens when it has ended."""
        if self.outcome is None:
            try:
                signals.pidfd_send_signal(self.pidfd, signal)
            except ProcessLookupError:
                pass
            if signal == 9:  # in cgroup v1 nobody dies frozen
                if self.paused:
                    self._thaw()
                elif self.rootfs is not None and not self._session.facts.unified:
                    self._thaw_others()

    def _thaw_others(self) -> None:
        """What another process has paused."""
        from .foreground import of_running
        from .stillness import unpause

        try:
            unpause(of_running(self))
        except (Conflict, OSError):
            pass  # nobody has; or it has ended

    def wait(self, timeout_s: float | None = None) -> Outcome | None:
        """The Outcome; None when it has not ended within ``timeout_s`` seconds."""
        if self.outcome is None and not self._ended_ns:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            if not poller.poll(None if timeout_s is None else max(0.0, timeout_s * 1000)):
                return None
            self.note_end()
        return self.poll()

    def note_end(self) -> None:
        """Says that ``pidfd`` was seen to be readable: this is the moment that the accounts take for the end."""
        self._ended_ns = self._ended_ns or time.monotonic_ns()

    def poll(self) -> Outcome | None:
        """The Outcome when it has ended, having removed everything; None while it runs."""
        if self.outcome is not None:
            return self.outcome
        pidfd = self.started.pidfd
        if not _native.reap(pidfd, self._end, block=False):
            return None
        self.note_end()
        raw, _left = _native.finish(self.plan.data, self._fault)  # what could not be removed is swept with the owner
        for member in self._late:
            _native.remove_cgroup(member.directory)
        self._release()
        self.outcome = self._outcome(self._end, raw, self._ended_ns)
        self._close_entry()
        os.close(pidfd)
        return self.outcome

    def close_tty(self) -> None:
        if self.tty_fd >= 0:
            fd, self._tty_open = self.tty_fd, False
            os.close(fd)

    def _outcome(self, end: _native.Exit, raw: _native.RawUsage, ended_ns: int) -> Outcome:
        s = self.started
        exited = end.code == _native.CLD_EXITED
        counted = raw.have & 3
        usage = Usage(
            cpu_user_s=(raw.cpu_user_ns if counted else end.user_ns) / 1e9,
            cpu_system_s=(raw.cpu_system_ns if counted else end.system_ns) / 1e9,
            memory_peak_bytes=raw.memory_peak_bytes if raw.have & 12 and raw.memory_peak_bytes else None,
            io_read_bytes=raw.io_read_bytes if raw.have & 48 else None,
            io_write_bytes=raw.io_write_bytes if raw.have & 48 else None,
            wall_s=(ended_ns - s.execed_ns) / 1e9,
        )
        return Outcome(
            exit_code=end.status if exited else 128 + end.status,
            signal=None if exited else end.status,
            oom_killed=raw.oom_kills > 0,
            usage=usage,
            phases={
                "plan": (s.begun_ns - self._begun_ns) / 1e9,
                "spawn": (s.execed_ns - s.begun_ns) / 1e9,
                "run": (ended_ns - s.execed_ns) / 1e9,
                "reap": (time.monotonic_ns() - ended_ns) / 1e9,
            },
        )

    def entry(self) -> Entry:
        """What an exec needs. Raises: Conflict: it has ended."""
        from .entry import entry_of

        if self.outcome is not None:
            raise Conflict(f"container {self.name} has ended")
        with _entries:  # one for all threads: what another had made beside it would be nobody's to close
            known, late = self._entry, len(self._late)
            if known is None or known[0] != late:
                self._close_entry()
                known = self._entry = late, entry_of(self)
            return known[1]

    def _close_entry(self) -> None:
        known, self._entry = self._entry, None
        if known is not None:
            known[1].close()

    # --- its cgroups ----------------------------------------------------------------------------------------------

    def members(self) -> tuple[Member, ...]:
        """The cgroups that it alone is in. Raises Conflict when it has ended."""
        from ..limits import cgroups, path_of
        from .cgroups import Member

        if self.outcome is not None:
            raise Conflict(f"container {self.name} has ended")
        made = cgroups(self._resources, self._session.facts)
        own = tuple(
            Member(
                controllers=g.controllers, version=g.version, directory=path_of(g, self._session.cgroup_parent, self.id)
            )
            for g in made
            if not g.shared
        )
        return own + self._late

    def pause(self) -> None:
        """Raises Conflict when it has ended or is paused; Unsupported; SetupFailed."""
        from .stillness import alone

        if self.paused:
            raise Conflict(f"container {self.name} is already paused")
        members = self.members()
        with alone(self.directory, self.name, own=True):  # a commit by somebody else would thaw it when it is done
            self._freeze(members)
        self.paused = True

    def _freeze(self, members: tuple[Member, ...]) -> None:
        from . import cgroups

        if not any(m.version == 2 or "freezer" in m.controllers for m in members):
            # v1 starts go without the freezer hierarchy, which costs each of them 100 us. Frozen first, then filled: who
            # arrives stands still and cannot fork. v2's is preferred: who is frozen there can be killed.
            facts = self._session.facts
            v2 = bool(facts.unified) and not facts.cgroup_obstacle
            member = self._session.late_cgroup("" if v2 else "freezer", self.id)
            self._late += (member,)
            try:
                cgroups.freeze((member,))
                cgroups.move_all(members, member.directory)
            except BaseException:
                cgroups.thaw((member,))
                raise
            members = (member,)
        cgroups.freeze(members)

    def unpause(self) -> None:
        """Raises Conflict when it is not paused, or has ended."""
        from .stillness import alone

        if not self.paused:
            raise Conflict(f"container {self.name} is not paused")
        with alone(self.directory, self.name, own=True):  # a commit in between wants the files of one moment
            self._thaw()

    def _thaw(self) -> None:
        from .cgroups import thaw

        self.paused = False
        thaw(self.members())

    def update(self, resources: Resources) -> None:
        """New limits. Raises as cgroups.update."""
        from .. import limits
        from . import cgroups

        facts = self._session.facts
        members = self.members()
        for name in limits.writes_of(resources, facts):
            if any(name in m.controllers for m in members):
                continue
            late = self._session.late_cgroup(name, self.id)
            if late.version == 1:
                self._late += (late,)
                cgroups.move_all(members, late.directory)
        cgroups.update(self.members(), resources, facts)

    def usage_so_far(self) -> Usage:
        """In all, when it has ended."""
        from .live_usage import live_usage

        if self.outcome is None:
            wall_s = (time.monotonic_ns() - self.started.execed_ns) / 1e9
            try:
                return live_usage(self.plan.data, self.members(), wall_s)
            except Conflict:
                self.wait()  # just now
        assert self.outcome is not None
        return self.outcome.usage
