"""The owner: this process, as the one whose containers die with it.

Everything of its containers lies below two kinds of directory with the owner's name: ``<data root>/ephemeral/<owner>/``
and, in each hierarchy, the cgroup ``/pycontain/<owner>/``. So one small guardian process, started with the first
container, can clean up after a kill -9 knowing no container by name; and when the guardian was killed too, the next
owner sweeps. Who is alive is told by a lock (flock) that the kernel drops with its holder.
"""

from __future__ import annotations

import fcntl
import os
from _thread import RLock

from .. import _native, limits
from ..errors import SetupFailed, Unsupported, errno_name
from ..image.workspace import inherit_nothing
from ..limits import CGROUP_BASE
from . import cgroup_tree
from . import template as templates
from .reservations import Reservations
from .userns import IdRanges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from ..image.rootfs import RootFS
    from ..spec.runtime import Resources
    from .cgroups import Member
    from .roots import Roots
    from .userns import Mappings

__all__ = ["CGROUP_BASE", "GUARDIAN", "Session", "close_all", "sealed_programs", "session_for"]

_SWEPT = 64
_TEMPLATES_KEPT = 64  # one per root file system: bounded for callers with thousands of them
_BIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bin")
GUARDIAN = f"{_BIN}/pycontain-guardian"
_STUB = f"{_BIN}/pycontain-exec"
_ENTER = f"{_BIN}/pycontain-enter"


_BROKEN = "Install or build pycontain again"


def _make_owners_directory(path: str) -> None:
    os.mkdir(path, 0o711)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        inherit_nothing(fd, 0o711)
    finally:
        os.close(fd)


def _on_tmpfs(path: str) -> bool:
    device = os.stat(path).st_dev
    mark = f" {os.major(device)}:{os.minor(device)} "
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        return any(" - tmpfs " in line for line in f if mark in line)


def cannot_make(group: limits.Cgroup, e: OSError) -> Unsupported:
    what = ", ".join(group.controllers) or "cgroup v2"
    return Unsupported(
        f"cannot make a cgroup for {what} below {group.mount}{group.base}{CGROUP_BASE}: {e.strerror} "
        f"({errno_name(e.errno or 0)}). Run as root on a host whose cgroup hierarchies are writable; `pycontain doctor` shows them"
    )


def _check_powers(facts: HostFacts) -> None:
    """Raises Unsupported for a process that can start no container at all, saying how it could."""
    if facts.capabilities >> 21 & 1:  # CAP_SYS_ADMIN
        return
    if os.geteuid() != 0:
        raise Unsupported(
            f"user {os.geteuid()} is not root, and a program that is running already cannot become root of a user namespace: "
            "start it by `pycontain unshare PROGRAM`, or as root"
        )
    if not os.path.exists("/proc/self/status"):
        raise Unsupported(
            "/proc is not mounted here, and no container can be made without it: mount -t proc proc /proc"
        )
    raise Unsupported(
        "root here lacks CAP_SYS_ADMIN, without which no container can be made: give it to whatever started this shell "
        "(docker run --privileged, systemd CapabilityBoundingSet=)"
    )


def sealed(program: str) -> int:
    """A descriptor of a sealed copy. Raises: SetupFailed."""
    try:
        return _native.sealed_copy(program)
    except OSError as e:
        from .forbidden import cause

        raise SetupFailed(
            f"cannot make a sealed copy of {program}: {e.strerror} ({errno_name(e.errno or 0)}). {cause(e.errno or 0) or _BROKEN}",
            step="stub",
            errno=e.errno or 0,
        ) from None


class Session:
    """What one process shares among its containers on one pair of roots.

    ``detached``: the id of the one container that it is made for, whose monitor becomes the owner (:meth:`hand_over`); it has no
    guardian, and its cgroup is the container's own.
    """

    def __init__(self, roots: Roots, facts: HostFacts, *, detached: str = "") -> None:
        _check_powers(facts)
        self._detached = detached
        self.roots = roots
        self.facts = facts
        self.owner = f"{f'c{detached}' if detached else os.getpid()}-{os.urandom(6).hex()}"
        self.directory = f"{roots.data_root}/ephemeral/{self.owner}"
        self.volatile = True  # upper layers are worth marking as never to be synced
        self.cgroup_parent = f"{CGROUP_BASE}/{self.owner}"
        self._lock = RLock()  # starts come from many threads
        self._cgroups_made: set[str] = set()
        self._resources_made: set[Resources] = set()
        self._templates: dict[tuple[object, ...], templates.Template] = {}
        self.reserved = Reservations(roots, self.owner)
        self.ids = IdRanges(roots.run_root, self.owner, facts, self.reserved.forget_dead_in)
        self._guardian = -1
        self._lock_fd = -1
        self._alive_fd = -1  # write end of the guardian's pipe
        self.stub_fd = -1  # sealed copy of pycontain-exec
        self.enter_fd = -1  # of pycontain-enter, from the first exec on
        self._open()

    # --- begin and end ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        base = f"{self.roots.data_root}/ephemeral"
        try:
            os.makedirs(base, 0o711, exist_ok=True)
            while not self._lock_owner():
                pass
            _make_owners_directory(self.directory)
            self.volatile = not _on_tmpfs(self.directory)  # nothing there to sync: the mark would only cost
        except OSError as e:
            number = e.errno or 0
            self._release()
            remedy = "Give a --data-root that this user may write to"
            if number not in (1, 2, 13, 20, 30):
                remedy = "See `pycontain doctor`"
            elif os.geteuid() != 0:
                remedy = f"Run as root, or g{remedy[1:]}"
            raise SetupFailed(
                f"cannot use the data root {self.roots.data_root}: {e.strerror} ({errno_name(number)}). {remedy}",
                step="data root",
                errno=number,
            ) from None
        try:
            self._sweep(base, most=_SWEPT if self._detached else 0)
            if not self._detached:
                self._start_guardian()
            self.stub_fd = sealed(_STUB)
        except BaseException:
            self._remove_all()
            raise

    def _lock_owner(self) -> bool:
        """Makes the file whose lock says that we live. False when another owner's sweep has taken it for a dead one's,
        between its making and its locking, and has removed it."""
        self._lock_fd = os.open(f"{self.directory}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        if os.fstat(self._lock_fd).st_nlink > 0:
            return True
        os.close(self._lock_fd)
        self._lock_fd = -1
        return False

    def _cgroup_dirs(self, owner: str) -> list[str]:
        """In every hierarchy; v1's freezer first, for nobody dies frozen there."""
        usable = [c for c in self.facts.controllers.values() if not c.obstacle]
        freezer = [c for n, c in self.facts.controllers.items() if n == "freezer" and not c.obstacle]
        bases = [c.mount + c.base for c in (*freezer, *usable)]
        if self.facts.unified and not self.facts.cgroup_obstacle:
            bases.append(self.facts.unified + self.facts.cgroup_base)
        return [f"{base}{CGROUP_BASE}/{owner}" for base in dict.fromkeys(bases)]

    def _start_guardian(self) -> None:
        read_end, self._alive_fd = os.pipe2(os.O_CLOEXEC)
        argv = [
            GUARDIAN,
            *self._cgroup_dirs(self.owner),
            "--",
            self.directory,
            self._template_dir,
            f"{self.directory}.lock",
        ]
        try:
            _, self._guardian = _native.spawn_helper(argv, read_end)
        except OSError as e:
            from .forbidden import cause

            raise SetupFailed(
                f"cannot start the guardian {GUARDIAN}: {e.strerror} ({errno_name(e.errno or 0)}). {cause(e.errno or 0) or _BROKEN}",
                step="guardian",
                errno=e.errno or 0,
            ) from None
        finally:
            os.close(read_end)

    def programs(self) -> tuple[int, int]:
        """Sealed copies of pycontain-enter and of pycontain-exec, for an exec."""
        if self.enter_fd < 0:
            with self._lock:
                if self.enter_fd < 0:
                    self.enter_fd = sealed(_ENTER)
        return self.enter_fd, self.stub_fd

    @property
    def _fallback_dir(self) -> str:
        """Where templates lie that cannot be detached. In a user namespace the marks of overlay are user.* attributes,
        which a tmpfs had none of before 6.6: then beside the layers, on a disk."""
        return f"{self.directory}/templates" if self.facts.in_user_namespace else self._template_dir

    @property
    def _template_dir(self) -> str:
        return f"{self.roots.run_root}/templates-{self.owner}"

    def sweep(self) -> None:
        """Removes what dead owners have left. Raises: OSError."""
        self._sweep(f"{self.roots.data_root}/ephemeral")

    def _sweep(self, base: str, most: int = 0) -> None:
        """Removes what dead owners left whose guardian was killed as well. ``most`` of them: whoever has a thousand containers that
        stay does not look at all of them to start one more."""
        entries = os.listdir(base)
        if most and len(entries) > most:
            import random

            entries = random.sample(entries, most)
        for entry in entries:
            owner = entry.removesuffix(".lock")
            if owner == self.owner:
                continue
            try:
                fd = os.open(f"{base}/{owner}.lock", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                fd = -1
            try:
                if fd >= 0:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove_owner(owner)
            except OSError:
                pass  # alive, or another sweeper is at it
            finally:
                if fd >= 0:
                    os.close(fd)
        self.reserved.forget_dead()

    def _remove_owner(self, owner: str) -> None:
        for cgroup in self._cgroup_dirs(owner):
            _native.remove_cgroup(cgroup)
            try:
                os.rmdir(os.path.dirname(cgroup))
            except OSError:
                pass  # other owners are in it, or it never was
        if owner == self.owner and self.facts.unified:
            cgroup_tree.step_back(self.facts.unified + self.facts.cgroup_base)
        _native.remove_tree(f"{self.roots.data_root}/ephemeral/{owner}")
        _native.remove_tree(f"{self.roots.run_root}/templates-{owner}")
        self.reserved.forget_all_of(owner)
        _native.remove_tree(f"{self.roots.data_root}/ephemeral/{owner}.lock")

    def _release(self) -> None:
        for fd in (self._alive_fd, self._lock_fd, self.stub_fd, self.enter_fd):
            if fd >= 0:
                os.close(fd)
        self._alive_fd = self._lock_fd = self.stub_fd = self.enter_fd = -1

    def _remove_all(self) -> None:
        for t in self._templates.values():
            t.close()
        self._templates.clear()
        self.reserved.release_names()
        self.ids.close()
        self._remove_owner(self.owner)
        self._release()
        if self._guardian >= 0:  # it sees the pipe close, finds nothing and ends
            _native.reap(self._guardian, _native.Exit(), block=True)
            os.close(self._guardian)
            self._guardian = -1

    def close(self) -> None:
        """Kills and removes everything of this owner."""
        self._remove_all()

    @property
    def lock_fd(self) -> int:
        """Who has it open keeps the owner alive."""
        return self._lock_fd

    def left_at_end(self) -> tuple[list[str], list[str]]:
        """What an owner that has ended leaves: cgroups, and directories and files."""
        trees = [self.directory, self._template_dir, f"{self.directory}.lock"]
        return self._cgroup_dirs(self.owner), trees

    def hand_over(self) -> None:
        """Somebody else is the owner now, and has the descriptors that matter: ours are closed, nothing is removed."""
        self.disown()

    def disown(self) -> None:
        """In a forked child: closes the copies of descriptors, touches nothing else."""
        for t in self._templates.values():
            t.close()
        self._templates.clear()
        self.ids.disown()
        if self._guardian >= 0:
            os.close(self._guardian)
            self._guardian = -1
        self._release()

    # --- cgroups --------------------------------------------------------------------------------------------------

    def ensure_cgroups(self, resources: Resources) -> None:
        """Makes the owner's part of each hierarchy that a container with ``resources`` is in. Raises Unsupported."""
        if resources in self._resources_made:
            return
        with self._lock:
            self._make_cgroups(resources)

    def _make_cgroups(self, resources: Resources) -> None:
        for group in limits.cgroups(resources, self.facts):
            self._make_parent(group)
            if group.shared:
                self._ensure_devices(group, resources)
        self._resources_made.add(resources)

    def _make_parent(self, group: limits.Cgroup, needed: frozenset[str] | None = None) -> None:
        if group.version == 1 and group.mount in self._cgroups_made and not group.writes:
            return
        try:
            cgroup_tree.make_owner(group, self.cgroup_parent, self.facts, needed, alone=bool(self._detached))
        except OSError as e:
            raise cannot_make(group, e) from None
        self._cgroups_made.add(group.mount)

    def _ensure_devices(self, group: limits.Cgroup, resources: Resources) -> None:
        path = limits.path_of(group, self.cgroup_parent, "")
        try:
            os.mkdir(path, 0o755)
        except FileExistsError:
            return
        except OSError as e:
            raise cannot_make(group, e) from None
        try:
            for file, value in limits.device_writes(resources.devices):
                cgroup_tree.write(f"{path}/{file}", value)
        except OSError as e:
            os.rmdir(path)  # a half-made one would be joined by the next container
            raise cannot_make(group, e) from None

    def late_cgroup(self, name: str, container_id: str) -> Member:
        """A cgroup for a running container in one more hierarchy: that of the controller ``name``, or cgroup v2's for "".
        Removed with the owner, or before. Raises Unsupported."""
        from .late_cgroup import late_cgroup

        with self._lock:
            return late_cgroup(name, self.cgroup_parent, container_id, self.facts)

    # --- templates ------------------------------------------------------------------------------------------------

    def template(self, rootfs: RootFS, *, hosts: bool, maps: Mappings = ((), ())) -> templates.Template:
        """The template for this image, built at its first use; where it cannot be translated, one for each id map."""
        owners = ((), ()) if self.facts.detached_templates or self.facts.in_user_namespace else maps
        lower = rootfs.files[0] if rootfs.hidden_dirs or rootfs.hidden_files else rootfs.files[-1]
        key = (lower, rootfs.hidden_dirs, rootfs.hidden_files, rootfs.links, hosts, owners)
        found = self._templates.get(key)
        if found is not None:
            return found
        with self._lock:
            return self._templates.get(key) or self._build_template(key, rootfs, lower, hosts, owners)

    def _build_template(
        self, key: tuple[object, ...], rootfs: RootFS, lower: str, hosts: bool, owners: Mappings
    ) -> templates.Template:
        if len(self._templates) >= _TEMPLATES_KEPT:
            # not closed here: another thread may be starting a container with it; its fds end with the last user
            self._templates.pop(next(iter(self._templates)))
        made = self._templates[key] = templates.build(
            self.facts, lower=lower, hidden_dirs=rootfs.hidden_dirs, hidden_files=rootfs.hidden_files, hosts=hosts,
            links=rootfs.links, owners=owners,
            fallback_dir=f"{self._fallback_dir}/{os.urandom(6).hex()}",
        )  # fmt: skip
        return made


_sessions: dict[Roots, Session] = {}
_sessions_lock = RLock()


def _after_fork_in_child() -> None:
    """A forked child owns nothing of its parent's: it drops its copies of the descriptors, above all the guardian's pipe
    and the lock, which would make a dead parent look alive."""
    global _sessions_lock
    _sessions_lock = RLock()  # the parent's may have been held by another thread
    for session in _sessions.values():
        session.disown()
    _sessions.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


def session_for(roots: Roots, facts: HostFacts) -> Session:
    """This process's session on ``roots``, opened at the first call; a forked child gets its own."""
    found = _sessions.get(roots)
    if found is not None:
        return found
    with _sessions_lock:
        found = _sessions.get(roots)
        if found is None:
            import atexit

            atexit.unregister(close_all)
            atexit.register(close_all)
            found = _sessions[roots] = Session(roots, facts)
        return found


_programs: list[int] = []


def sealed_programs() -> tuple[int, int]:
    """As :meth:`Session.programs`, for a process that may have no containers of its own: made once."""
    with _sessions_lock:
        if not _programs:
            enter = sealed(_ENTER)
            try:
                _programs[:] = [enter, sealed(_STUB)]
            except BaseException:
                os.close(enter)
                raise
        return _programs[0], _programs[1]


def close_all() -> None:
    """Ends every session of this process; the next start opens a new one."""
    while _programs:
        os.close(_programs.pop())
    while _sessions:
        _, session = _sessions.popitem()
        session.close()
