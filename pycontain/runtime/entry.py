"""What an exec needs of a running container, and no more: whoever keeps containers can make an :class:`Entry` of one.

Everything is asked of the kernel about the container's first process, held by its pidfd: the number alone could be another's.
"""

from __future__ import annotations

import os
import select
import stat
from _thread import allocate_lock

from .. import _native
from ..errors import Conflict, InvalidArgument, Unsupported, errno_name
from ..hierarchies import cgroup_directories
from ..host import id_map, probe
from ..image.users import resolve_user
from ..ops import CLONE_NS
from ..plan_exec import inherited
from ..spec.runtime import IDMapping
from .userns import Descriptor, check_mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..host import HostFacts
    from ..image.users import ResolvedUser
    from ..plan_bytes import Plan
    from .foreground import Foreground
    from .running import Running
    from .userns import Mappings

__all__ = ["Entry", "entry_of", "entry_of_found", "is_frozen"]

_FILES = {
    "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "user": "user", "cgroup": "cgroup",
    "time": "time",
}  # fmt: skip
_FILE_LIMIT = 4 << 20  # bytes of a container's passwd or group
_PLANS_KEPT = 32
_PF_EXITING = 4


class Entry:
    """``plan``: the bytes of its start's; ``given``: names of the variables that the image and the caller gave it, others are the
    engine's own; ``directory``: its own, for the lock that holds off a pause; ``programs``: sealed pycontain-enter, pycontain-exec.

    Raises: Conflict: it has ended; Unsupported: this process has no power over it.
    """

    def __init__(
        self, *, id: str, name: str, image: str, pid: int, pidfd: Descriptor, plan: bytes, given: frozenset[str] | None,
        group_add: tuple[str, ...], directory: str, programs: tuple[int, int], facts: HostFacts, paused: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.id, self.name, self.image = id, name, image
        self.pid, self.pidfd = pid, pidfd
        self.group_add, self.directory, self.programs, self.facts = group_add, directory, programs, facts
        self.paused = paused
        self.of = inherited(plan)
        self.given = frozenset(each.partition("=")[0] for each in self.of.env) if given is None else given
        self.plans: dict[tuple[object, ...], Plan] = {}
        self.v1_cgroups: tuple[Descriptor, ...] = ()
        self.v2_cgroup: Descriptor | None = None
        self._lock = allocate_lock()
        self._users = 0
        self._closed = False
        try:
            self.namespaces = self._namespaces()
            self.maps = self._maps() if self.namespaces & CLONE_NS["user"] else ((), ())
            self.look_for_cgroups()
        except FileNotFoundError:
            raise self.ended() from None
        except PermissionError as e:
            raise Unsupported(
                f"cannot exec into container {name}: {e.strerror} ({errno_name(e.errno or 0)}): it belongs to another user, or this "
                "process lacks CAP_SYS_PTRACE over it. Run as the user who has started it, or as root"
            ) from None
        self.check_lives()

    def ended(self) -> Conflict:
        return Conflict(f"container {self.name} has ended")

    def check_lives(self) -> None:
        """Raises: Conflict: it has ended, or is about to: from then on nobody can come to it."""
        poller = select.poll()
        poller.register(self.pidfd.fd, select.POLLIN)
        # asked in this order: while the pidfd says that it has not ended, the number is its own
        exiting = _is_exiting(self.pid)
        if poller.poll(0) or exiting:
            raise self.ended()

    def __enter__(self) -> None:
        """In use: close() does not take effect until it is not. Raises: Conflict: it is closed."""
        with self._lock:
            if self._closed:
                raise self.ended()
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
        if self._closed:
            self.close()

    def close(self) -> None:
        """The container has ended, or nobody wants anything of it any more. Idempotent."""
        with self._lock:
            self._closed = True
            if self._users:
                return
        for each in (self.pidfd, *self.v1_cgroups, *((self.v2_cgroup,) if self.v2_cgroup is not None else ())):
            each.close()

    def keep(self, key: tuple[object, ...], made: Plan) -> Plan:
        if len(self.plans) >= _PLANS_KEPT:
            self.plans.pop(next(iter(self.plans)))
        self.plans[key] = made
        return made

    # --- what it is in ----------------------------------------------------------------------------------------------

    def _namespaces(self) -> int:
        """Those that differ from ours. Its own user namespace would refuse one who is in it already."""
        found = 0
        for kind, file in _FILES.items():
            if kind in self.facts.missing_namespaces:
                continue
            theirs, ours = os.stat(f"/proc/{self.pid}/ns/{file}"), os.stat(f"/proc/self/ns/{file}")
            if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
                found |= CLONE_NS[kind]
        return found

    def _maps(self) -> Mappings:
        uid, gid = (id_map(_text(f"/proc/{self.pid}/{file}")) for file in ("uid_map", "gid_map"))
        return tuple(IDMapping(container_id=a, host_id=b, size=n) for a, b, n in uid), tuple(
            IDMapping(container_id=a, host_id=b, size=n) for a, b, n in gid
        )

    def look_for_cgroups(self) -> None:
        """Where its first process is now and we are not. What we may not write to, and is not made for it, it has come into
        with whoever started it: not ours to join."""
        mountinfo = _text("/proc/self/mountinfo")
        ours = cgroup_directories(mountinfo, _text("/proc/self/cgroup"))
        v1: list[Descriptor] = []
        v2: Descriptor | None = None
        for names, (version, path, directory) in cgroup_directories(
            mountinfo, _text(f"/proc/{self.pid}/cgroup")
        ).items():
            if names in ours and ours[names][1] == path:
                continue
            if self.id not in path and not os.access(directory, os.W_OK):
                continue
            found = Descriptor(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            if version == 2:
                v2 = found
            else:
                v1.append(found)
        self.v1_cgroups, self.v2_cgroup = tuple(v1), v2
        self.plans.clear()

    # --- its users --------------------------------------------------------------------------------------------------

    def user(self, text: str) -> ResolvedUser:
        """Resolved by the container's own files as they are now. Raises: InvalidArgument."""
        try:
            root = os.open(f"/proc/{self.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self.ended() from None
        try:
            passwd, group = (self._file(root, file) for file in ("etc/passwd", "etc/group"))
        finally:
            os.close(root)
        self.check_lives()
        found = resolve_user(text, passwd, group, self.group_add)
        if self.maps[0] or self.facts.in_user_namespace:
            check_mapped(self.maps, self.facts, found.uid, found.gid, found.additional_gids)
        return found

    def _file(self, root: int, path: str) -> bytes:
        """b"" when there is none. Looked at before it is opened: opening a device can do things, opening a pipe never end."""
        resolve = _native.RESOLVE_IN_ROOT | _native.RESOLVE_NO_MAGICLINKS
        try:
            seen = _native.openat2(root, path, os.O_PATH, resolve=resolve)
            try:
                if not stat.S_ISREG(os.fstat(seen).st_mode):
                    raise InvalidArgument(f"cannot read /{path} of container {self.name}: it is not a regular file")
                fd = os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
            finally:
                os.close(seen)
            with open(fd, "rb") as file:
                data = file.read(_FILE_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        except OSError as e:
            raise InvalidArgument(
                f"cannot read /{path} of container {self.name}: {e.strerror} ({errno_name(e.errno or 0)})"
            ) from None
        if len(data) > _FILE_LIMIT:
            raise InvalidArgument(
                f"cannot read /{path} of container {self.name}: it is larger than {_FILE_LIMIT} bytes"
            )
        return data


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        try:
            return file.read()
        except ProcessLookupError:  # ended since
            raise FileNotFoundError(path) from None


def _is_exiting(pid: int) -> bool:
    try:
        return bool(int(_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[6]) & _PF_EXITING)
    except FileNotFoundError:
        return True


def is_frozen(pid: int) -> bool:
    """Whether somebody has paused it."""
    from .cgroups import Member
    from .cgroups import is_frozen as member_is_frozen

    try:
        found = cgroup_directories(_text("/proc/self/mountinfo"), _text(f"/proc/{pid}/cgroup"))
    except FileNotFoundError:
        return False
    return any(
        member_is_frozen(Member(controllers=names, version=version, directory=directory))
        for names, (version, _, directory) in found.items()
        if not names or "freezer" in names
    )


def entry_of_found(found: Foreground, programs: tuple[int, int]) -> Entry:
    """Of a container of another process. Raises: Conflict: it has ended; Unsupported: not from here."""
    from .foreground import begun_at

    ended = Conflict(f"container {found.name} has ended")
    try:
        pidfd = Descriptor(os.pidfd_open(found.pid))
    except ProcessLookupError:
        raise ended from None
    try:
        with open(found.plan, "rb") as file:
            plan = file.read()
        if begun_at(found.pid) != found.begun:  # another one's number by now; asked once the pidfd is held
            raise ended
        return Entry(
            id=found.id, name=found.name, image=found.image, pid=found.pid, pidfd=pidfd, plan=plan,
            given=frozenset(each.partition("=")[0] for each in found.config.env), group_add=found.group_add,
            directory=found.directory, programs=programs, facts=probe(), paused=lambda: is_frozen(found.pid),
        )  # fmt: skip
    except BaseException as e:
        pidfd.close()
        if isinstance(e, FileNotFoundError):
            raise ended from None
        raise


def entry_of(running: Running) -> Entry:
    """Of a container of this process. Raises: Conflict: it has ended."""
    pidfd = running.pidfd
    try:
        held = Descriptor(os.dup(pidfd))
    except OSError:
        raise Conflict(f"container {running.name} has ended") from None
    given = None
    if running.rootfs is not None:
        of_image = (each.partition("=")[0] for each in running.rootfs.config.env)
        given = frozenset((*of_image, *(name for name, _ in running.request.env)))
    session = running.session
    try:
        return Entry(
            id=running.id, name=running.name, image=running.image, pid=running.pid, pidfd=held, plan=running.plan.data,
            given=given, group_add=running.request.group_add, directory=running.directory, programs=session.programs(),
            facts=session.facts, paused=lambda: running.paused,
        )  # fmt: skip
    except BaseException:
        held.close()
        raise
