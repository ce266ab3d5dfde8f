"""The template: one small read-only tmpfs per kind of image, whose parts go into every container.

    null      a device node 1:3, covers masked files
    empty/    covers masked directories
    top/      the topmost lower layer of every root: /dev with its nodes, empty /proc and /sys, /etc/hosts, and for the
              image "host" the covers of what must stay hidden

A layer costs nothing per start; a tmpfs with six nodes and five links costs 0.1 ms and more. Since the layer lies on top
and its directories are opaque, nothing that an image has at /dev, /proc or /sys can show through, not even a link.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from .. import _native
from ..errors import SetupFailed, Unsupported, errno_name
from ..host import probe
from ..plan_namespaces import host_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host import HostFacts
    from .userns import Mappings

__all__ = ["Template", "build"]

_ENOTSUP = 95
_BUSY_TRIES = 2000  # of a millisecond
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NOEXEC = 0x1, 0x2, 0x8
_NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
)
_HOSTS = (
    b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
    b"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


class Template:
    """``mount_fd``: the tmpfs (or directory) itself; ``top_fd``: its top/. Closed by close()."""

    __slots__ = ("mount_fd", "top_fd")

    def __init__(self, mount_fd: int, top_fd: int) -> None:
        self.mount_fd = mount_fd
        self.top_fd = top_fd

    def close(self) -> None:
        for fd in (self.mount_fd, self.top_fd):
            if fd >= 0:
                os.close(fd)
        self.mount_fd = self.top_fd = -1

    __del__ = close


def _opaque(fd: int) -> None:
    """Nothing below this directory shows through. Inside a user namespace overlay takes its marks from ``user.*``."""
    os.setxattr(fd, "user.overlay.opaque" if _in_user_namespace() else "trusted.overlay.opaque", b"y")


def _in_user_namespace() -> bool:
    return probe().in_user_namespace


def _own(fd: int, like: os.stat_result) -> None:
    """The owner that ``like`` has; in a user namespace, where root outside has no number, our own stays."""
    try:
        os.fchown(fd, like.st_uid, like.st_gid)
    except OSError:
        if not _in_user_namespace():
            raise


def _mkdir(parent: int, name: str, mode: int) -> int:
    os.mkdir(name, mode, dir_fd=parent)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    os.fchmod(fd, mode)
    return fd


def _dev(top: int) -> None:
    dev = _mkdir(top, "dev", 0o755)
    try:
        _opaque(dev)
        # no user namespace may make device nodes: containers then have a /dev of their own with the host's bound into it
        for name, major, minor in () if _in_user_namespace() else _NODES:
            os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
            os.chmod(name, 0o666, dir_fd=dev)
        for name, target in _LINKS:
            os.symlink(target, name, dir_fd=dev)
        for name, mode in (("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o755)):
            os.close(_mkdir(dev, name, mode))
    finally:
        os.close(dev)


def _parent(top: int, path: str, lower: str) -> tuple[int, str]:
    """The directory in ``top`` for the parent of ``path``, made with the owner and mode that it has below ``lower``."""
    parts = path.strip("/").split("/")
    at = os.dup(top)
    done = ""
    for part in parts[:-1]:
        done += "/" + part
        try:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        except FileNotFoundError:
            like = os.stat(lower + done, follow_symlinks=False)
            below = _mkdir(at, part, stat.S_IMODE(like.st_mode))
            _own(below, like)
        finally:
            os.close(at)
        at = below
    return at, parts[-1]


def _hide(top: int, dirs: tuple[tuple[str, int], ...], files: tuple[str, ...], lower: str) -> None:
    for path, mode in sorted(dirs):
        parent, name = _parent(top, path, lower)
        try:
            fd = _mkdir(parent, name, mode)
            _opaque(fd)
            os.close(fd)
        except FileExistsError:
            pass  # inside one that is hidden already
        finally:
            os.close(parent)
    for path in sorted(files):
        parent, name = _parent(top, path, lower)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)  # an overlay whiteout
        except FileExistsError:
            pass
        finally:
            os.close(parent)


def _etc_hosts(top: int) -> None:
    try:
        etc = _mkdir(top, "etc", 0o755)
    except FileExistsError:
        etc = os.open("etc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    try:
        fd = os.open("hosts", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=etc)
        with open(fd, "wb") as f:
            f.write(_HOSTS)
        os.chmod("hosts", 0o644, dir_fd=etc)
    finally:
        os.close(etc)


_SKELETON = (("home", 0o755), ("root", 0o700), ("run", 0o755), ("tmp", 0o1777), ("var", 0o755))


def _skeleton(top: int, links: tuple[tuple[str, str], ...]) -> None:
    """What a root has beside its software, for a root that has no layer of its own."""
    for name, target in links:
        os.symlink(target, name, dir_fd=top)
    for name, mode in _SKELETON:
        fd = _mkdir(top, name, mode)
        if name == "var":
            os.close(_mkdir(fd, "tmp", 0o1777))
        os.close(fd)


def _fill(
    root: int, hidden_dirs: tuple[tuple[str, int], ...], hidden_files: tuple[str, ...], lower: str, hosts: bool,
    links: tuple[tuple[str, str], ...],
) -> int:  # fmt: skip
    if not _in_user_namespace():
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3), dir_fd=root)
        os.chmod("null", 0o666, dir_fd=root)
    os.close(_mkdir(root, "empty", 0o555))
    like = os.stat(lower)  # before anything is open: it may have been renamed away
    top = _mkdir(root, "top", 0o755)
    os.fchmod(top, stat.S_IMODE(like.st_mode))  # a merged directory shows its topmost layer's owner and mode
    _own(top, like)
    _dev(top)
    for name in ("proc", "sys"):
        fd = _mkdir(top, name, 0o555)
        _opaque(fd)
        os.close(fd)
    _hide(top, hidden_dirs, hidden_files, lower)
    if links:
        _skeleton(top, links)
    if hosts:
        _etc_hosts(top)
    return top


def _make_readonly(root: int) -> None:
    """What was written is closed; but a process that another thread is starting just now has a copy of its descriptor, until it
    executes its program. Raises: OSError."""
    for left in range(_BUSY_TRIES, -1, -1):
        try:
            _native.superblock_readonly(root)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or not left:
                raise
        time.sleep(0.001)


def _give_away(top: int, owners: Mappings) -> None:
    """Every file to the host's id of the owner that it has inside; one that has none stays nobody's."""

    def give(name: str, at: int) -> None:
        info = os.stat(name, dir_fd=at, follow_symlinks=False)
        uid, gid = host_id(owners[0], info.st_uid), host_id(owners[1], info.st_gid)
        os.chown(name, -1 if uid is None else uid, -1 if gid is None else gid, dir_fd=at, follow_symlinks=False)

    give(".", top)
    for _, dirs, files, at in os.fwalk(".", dir_fd=top):
        for name in (*dirs, *files):
            give(name, at)


def build(
    facts: HostFacts,
    *,
    lower: str,
    hidden_dirs: tuple[tuple[str, int], ...],
    hidden_files: tuple[str, ...],
    hosts: bool,
    links: tuple[tuple[str, str], ...],
    fallback_dir: str,
    owners: Mappings = ((), ()),
) -> Template:
    """Builds a template for images on ``lower``. ``fallback_dir``: where it goes on kernels that take no detached mount
    as a layer (before 6.15); made here, removed by the session. ``owners``: whose root its files belong to, where a
    tmpfs cannot be translated.

    Raises: Unsupported, SetupFailed.
    """
    root = top = -1
    try:
        if facts.detached_templates:
            root = _native.mount_detached(
                "tmpfs", "mode=755,size=1m,nr_inodes=8192", _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NOEXEC
            )
        else:
            os.makedirs(fallback_dir, 0o700)
            root = os.open(fallback_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if lower == "/" and not links and os.fstat(root).st_dev == os.stat(lower).st_dev:
                # overlay refuses a layer below another one
                raise Unsupported(
                    f"the image 'host' needs a run root on another file system than / (before Linux 6.15): {fallback_dir} is on the same. "
                    "Mount a tmpfs there, or give --run-root"
                )
        top = _fill(root, hidden_dirs, hidden_files, lower, hosts, links)
        if owners[0]:
            _give_away(top, owners)
        if facts.detached_templates:
            _make_readonly(root)
            _native.mount_attributes(root, _MOUNT_ATTR_RDONLY)  # says so in every container's mount table too
    except OSError as e:
        for fd in (root, top):
            if fd >= 0:
                os.close(fd)
        number = e.errno or 0
        from .forbidden import cause

        remedy = cause(number) or "See `pycontain doctor`"
        if number == _ENOTSUP:
            remedy = (
                f"The file system of {fallback_dir} has no extended attributes for overlay's marks (a tmpfs has user.* since Linux "
                "6.6): give a --data-root on a disk"
            )
        raise SetupFailed(
            f"cannot build the template layer: {e.strerror} ({errno_name(number)}). {remedy}",
            step="template",
            errno=number,
        ) from None
    except Unsupported:
        os.close(root)
        raise
    return Template(root, top)
