"""What ``pycontain doctor`` asks the host, behind one seam: every answer may be missing, none raises.

Inside a container, or as an ordinary user, half of these files are masked or unreadable; the doctor says so and goes on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .hierarchies import survey
from .host import Controller, HostFacts, id_map

__all__ = ["Host", "MountEntry", "facts_of", "mount_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MountEntry:
    """One line of /proc/self/mountinfo."""

    mount_point: str
    fstype: str
    options: frozenset[str]


class Host:
    """The real host. A test's fake overrides what it needs."""

    def read(self, path: str) -> str | None:
        """The text of a file; None when it is missing or may not be read."""
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as f:
                return f.read()
        except OSError:
            return None

    def entries(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def executable(self, path: str) -> bool:
        return os.access(path, os.X_OK)

    def writable(self, path: str) -> bool:
        return os.access(path, os.W_OK)

    def free_bytes(self, path: str) -> int | None:
        try:
            found = os.statvfs(path)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    def device(self, path: str) -> tuple[int, int] | None:
        """Device number of the file system ``path`` is on; major 0 is no block device."""
        try:
            number = os.stat(path).st_dev
        except OSError:
            return None
        return os.major(number), os.minor(number)

    def locked(self, path: str) -> bool:
        """Whether a living process holds the lock file ``path``."""
        import fcntl

        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as e:
            return not isinstance(e, FileNotFoundError)  # one we may not open: taken for alive
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def release(self) -> str:
        return os.uname().release

    def machine(self) -> str:
        return os.uname().machine

    def euid(self) -> int:
        return os.geteuid()

    def names(self) -> tuple[str, ...]:
        """Of this user, as /etc/subuid may call him: by name and by number."""
        import pwd

        uid = os.geteuid()
        try:
            return pwd.getpwuid(uid).pw_name, str(uid)
        except KeyError:
            return (str(uid),)

    def has_powers(self, path: str) -> bool:
        """Whether a program is more than its caller: setuid root, or with capabilities of its own."""
        try:
            if os.stat(path).st_mode & 0o4000 and os.stat(path).st_uid == 0:
                return True
            return bool(os.getxattr(path, "security.capability"))
        except OSError:
            return False

    def owns_mounts(self) -> bool:
        from .runtime.forbidden import owns_mounts

        return owns_mounts()

    def refused_calls(self) -> dict[str, int]:
        """System calls that a start needs and that do not get as far as looking at their arguments: name -> errno, ENOSYS
        or EPERM. Each is tried with arguments that no kernel accepts."""
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        bad, null = ctypes.c_long(-1), ctypes.c_void_p()
        wrong = {}
        calls = {**_CALLS, "mount_setattr": 442} if _kernel(self.release()) >= (5, 12) else _CALLS
        for name, number in calls.items():
            if libc.syscall(ctypes.c_long(number), bad, null, bad, bad, bad) < 0:
                wrong[name] = ctypes.get_errno()
        privileged = (
            os.geteuid() == 0 and self.owns_mounts() and bool(_capabilities(self.read("/proc/self/status")) >> 21 & 1)
        )
        # to an ordinary user the kernel itself says EPERM to some, before it looks
        return {name: e for name, e in wrong.items() if e == 38 or (e == 1 and privileged)}

    def search_path(self) -> list[str]:
        return (os.environ.get("PATH") or os.defpath).split(":")

    def extension_error(self) -> str:
        """Why the C core cannot be loaded; "" when it can."""
        try:
            from . import _native  # noqa: F401
        except ImportError as e:
            return str(e)
        return ""

    def seccomp_error(self) -> str:
        """Why libseccomp cannot be loaded; "" when it can."""
        try:
            from . import _native

            _native.seccomp_resolve("read", 0xC000003E)
        except ImportError as e:
            return str(e)
        except OSError as e:
            return e.strerror or str(e)
        return ""


# the same numbers on every architecture since Linux 5.0
_CALLS = {  # without mount_setattr there is another way (HostFacts.mount_setattr)
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "pidfd_open": 434, "clone3": 435,
    "close_range": 436, "openat2": 437,
}  # fmt: skip


def _kernel(release: str) -> tuple[int, int]:
    numbers = [0, 0]
    for i, part in enumerate(release.split(".")[:2]):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        numbers[i] = int(digits or 0)
    return numbers[0], numbers[1]


def _capabilities(status: str | None) -> int:
    for line in (status or "").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _optional_files(host: Host, controllers: dict[str, Controller]) -> frozenset[str]:
    wanted = (("memory", "memory.memsw.limit_in_bytes"), ("blkio", "blkio.weight"), ("blkio", "blkio.bfq.weight"))
    return frozenset(f for name, f in wanted if name in controllers and host.exists(f"{controllers[name].mount}/{f}"))


def facts_of(host: Host) -> HostFacts:
    """What planning would know of this host, by way of the seam; cgroup questions are put to the same code."""
    found = survey(
        host.read("/proc/self/mountinfo") or "", host.read("/proc/self/cgroup") or "",
        read=lambda path: host.read(path) or "", writable=host.writable, pid=os.getpid(),
    )  # fmt: skip
    controllers = found.controllers
    files = _optional_files(host, controllers)
    memory = controllers.get("memory")
    last = (host.read("/proc/sys/kernel/cap_last_cap") or "").strip()
    return HostFacts(
        kernel=_kernel(host.release()),
        machine=host.machine(),
        controllers=controllers,
        unified=found.unified,
        cgroup_base=found.base,
        cgroup_obstacle=found.obstacle,
        capabilities=_capabilities(host.read("/proc/self/status")),
        last_cap=int(last) if last.isdigit() else 40,
        swap_accounting=memory is not None and (memory.version == 2 or "memory.memsw.limit_in_bytes" in files),
        memory_files=files,
        uid_map=id_map(host.read("/proc/self/uid_map") or ""),
        gid_map=id_map(host.read("/proc/self/gid_map") or ""),
    )


@dataclass(slots=True)
class _Best:
    entry: MountEntry | None = None
    length: int = field(default=-1)


def mount_of(host: Host, path: str) -> MountEntry | None:
    """The mount that ``path`` lies on; None when mountinfo cannot tell."""
    best = _Best()
    for line in (host.read("/proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(tail) < 3:
            continue
        point = fields[4].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best.length:  # of two on the same point the later covers the earlier
            options = frozenset(fields[5].split(",")) | frozenset(tail[2].split(","))
            best = _Best(MountEntry(mount_point=point, fstype=tail[0], options=options), len(point))
    return best.entry
