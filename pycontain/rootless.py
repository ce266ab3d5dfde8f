"""Running as an ordinary user: the process moves into a user namespace of its own, as its root, and begins again there.

Root of that namespace is the user outside; ids from 1 on are the subordinate ids that /etc/subuid and /etc/subgid give him,
written by newuidmap and newgidmap. In there everything else works as for root, as far as the kernel lets a user namespace:
no device nodes, no id-mapped mounts of the host's file systems, overlay with its marks in ``user.*``.
Kernel: user_namespaces(7); newuidmap(1), subuid(5).
"""

from __future__ import annotations

import os
import sys

from .errors import Unsupported, errno_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["MARK", "enter", "is_inside", "join", "needed", "obstacle", "outside", "subordinate"]

MARK = "_PYCONTAIN_ROOTLESS"  # "UID:GID" of the user outside
_NEWUSER_NEWNS = 0x10000000 | 0x00020000
_CAP_SYS_ADMIN = 21


def is_inside() -> bool:
    """Whether this process has begun again in a user namespace of its own."""
    return outside() is not None


def outside() -> int | None:
    """The uid outside of one who is root here only in a user namespace that :func:`enter` has made; else None."""
    if os.geteuid() != 0:
        return None
    uid = os.environ.get(MARK, "").partition(":")[0]
    # a word in the environment alone proves nothing: it outlives `sudo -E`, and root would then work in a user's home
    return int(uid) if uid.isdigit() and not _is_first_namespace() else None


def _is_first_namespace() -> bool:
    try:
        with open("/proc/self/uid_map", encoding="ascii") as f:
            return f.read().split() == ["0", "0", "4294967295"]
    except OSError:
        return True


def needed() -> bool:
    """Whether containers can only be started from a user namespace: we are nobody's root yet."""
    return os.geteuid() != 0


def enter() -> NoReturn:
    """Moves this process into a user namespace and executes its own command line again there.

    Only for a process of one thread. Raises Unsupported, naming what this host or this user lacks.
    """
    uid, gid = os.getuid(), os.getgid()
    if not os.path.exists("/proc/self/status"):
        raise Unsupported(
            "/proc is not mounted here, and no container can be made without it. Mount it as root: mount -t proc proc /proc"
        )
    ranges = _subordinate("/etc/subuid", uid), _subordinate("/etc/subgid", uid)
    helpers = _program("newuidmap"), _program("newgidmap")
    _unshare_with_maps(uid, gid, ranges, helpers)
    os.environ[MARK] = f"{uid}:{gid}"
    words = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    os.execv(sys.executable, words)


def join(pid: int) -> None:
    """Moves this process into the user namespace that the container of this first process was started from, as its root: what
    runs in there, a namespace of one's own has no power over.

    Only for a process of one thread, whose user has started the container. Raises: OSError.
    """
    from . import _native

    uid, gid = os.getuid(), os.getgid()
    own = os.stat("/proc/self/ns/user")
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while (parent := _parent(fd)) >= 0:  # of a container with one of its own
            above = os.fstat(parent)
            if (above.st_dev, above.st_ino) == (own.st_dev, own.st_ino):
                os.close(parent)
                break
            os.close(fd)
            fd = parent
        _native.setns(fd, 0x10000000)
    finally:
        os.close(fd)
    os.environ[MARK] = f"{uid}:{gid}"


def _parent(fd: int) -> int:
    """The user namespace that this one was made in; -1: it is out of sight."""
    import fcntl

    try:
        return fcntl.ioctl(fd, 0xB702)  # NS_GET_PARENT
    except OSError:
        return -1


def _names(uid: int) -> tuple[str, ...]:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name, str(uid)
    except KeyError:
        return (str(uid),)


def subordinate(text: str, names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """(start, count) of every range that ``text``, of /etc/subuid or /etc/subgid, gives to one of ``names``."""
    found = []
    for line in text.splitlines():
        name, _, numbers = line.strip().partition(":")
        start, _, count = numbers.partition(":")
        if name in names and start.isdecimal() and count.isdecimal() and int(count) > 0:
            found.append((int(start), int(count)))
    return tuple(found)


def _subordinate(path: str, uid: int) -> tuple[tuple[int, int], ...]:
    names = _names(uid)
    text = ""
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            text = f.read()
    except OSError:
        pass  # as good as empty
    found = subordinate(text, names)
    if not found:
        raise Unsupported(
            f"cannot run as the ordinary user {names[0]}: {path} gives it no subordinate ids. As root: "
            f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {names[0]}; or run pycontain as root"
        )
    return found


def _program(name: str) -> str:
    for directory in ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"):
        path = f"{directory}/{name}"
        if os.access(path, os.X_OK):
            return path
    raise Unsupported(
        f"cannot run as an ordinary user: {name} is not installed. Install uidmap (shadow-utils), or run as root"
    )


def _unshare_with_maps(
    uid: int, gid: int, ranges: tuple[tuple[tuple[int, int], ...], ...], helpers: tuple[str, str]
) -> None:
    """newuidmap must be run from outside, by a child that has stayed there."""
    from . import _native

    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    said_read, said_write = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(go_write)
            os.dup2(said_write, 2)  # what a helper complains about becomes part of our one line
            status = _write_maps(go_read, parent, (uid, gid), ranges, helpers)
        finally:
            os._exit(status)  # whatever was raised, a KeyboardInterrupt too: the caller's code is not this child's
    os.close(go_read)
    os.close(said_write)
    try:
        _native.unshare(_NEWUSER_NEWNS)
        os.write(go_write, b"x")
    except OSError as e:
        raise _refused(e.errno or 0) from None
    finally:
        os.close(go_write)
        said = os.read(said_read, 1000).decode("utf-8", "replace").strip()  # until it ends, or has said something
        os.close(said_read)
        _, status = os.waitpid(child, 0)
    if status != 0 or os.geteuid() != 0:
        words = " ".join(said.split()) or "it said nothing"
        if _status("NoNewPrivs") == "1":
            raise Unsupported(
                f"cannot map the subordinate ids: {' and '.join(helpers)} have no power here ({words}): whoever started this process "
                "has set no_new_privs (docker run --security-opt no-new-privileges, systemd NoNewPrivileges=). Start it without"
            )
        raise Unsupported(
            f"cannot map the subordinate ids: {' or '.join(helpers)} failed ({words}). Both must be setuid root or have their "
            "capability, and the ranges in /etc/subuid and /etc/subgid must not overlap; or run pycontain as root"
        )


def _write_maps(
    go: int,
    parent: int,
    own: tuple[int, int],
    ranges: tuple[tuple[tuple[int, int], ...], ...],
    helpers: tuple[str, str],
) -> int:
    """In the child: an exit status."""
    if os.read(go, 1) != b"x":
        return 1
    for outside, given, helper in zip(own, ranges, helpers, strict=True):
        words = [helper, str(parent), "0", str(outside), "1"]
        inside = 1
        for start, count in given:
            words += [str(inside), str(start), str(count)]
            inside += count
        if os.spawnv(os.P_WAIT, helper, words) != 0:
            return 1
    return 0


def _status(field: str) -> str:
    _, _, rest = _knob("/proc/self/status").partition(f"\n{field}:\t")
    return rest.partition("\n")[0]


def _knob(path: str) -> str:
    try:
        with open(path, encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return ""


def obstacle(read: Callable[[str], str] = _knob) -> str:
    """Why this host lets an ordinary user make no user namespace; "" when nothing says so. ``read``: the text of a file,
    "" when there is none."""
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
        return (
            "AppArmor forbids it to programs without a profile (kernel.apparmor_restrict_unprivileged_userns=1). Set it to 0, or "
            "give this Python a profile with the rule `userns,`"
        )
    if read("/proc/sys/kernel/unprivileged_userns_clone").strip() == "0":
        return "kernel.unprivileged_userns_clone is 0. Set it to 1"
    if read("/proc/sys/user/max_user_namespaces").strip() == "0":
        return "user.max_user_namespaces is 0. Raise it"
    return ""


def _refused(number: int) -> Unsupported:
    why = obstacle() or {
        28: "too many of them already (user.max_user_namespaces). Raise it",
        22: "this process has more than one thread, or this kernel has no user namespaces. Run pycontain as a program of its own",
    }.get(number, "the host, or the container that this runs in, forbids it. `pycontain doctor` shows what is missing")
    return Unsupported(
        f"cannot make a user namespace as an ordinary user ({errno_name(number)}): {why}; or run as root"
    )
