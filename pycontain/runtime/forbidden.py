"""Why a system call was refused that no option asked to be refused: what of this process's own surroundings explains it.

Asked only when something has failed. Everything is read from /proc; what cannot be read explains nothing.
"""

from __future__ import annotations

import os

from ..capabilities import lacking
from ..host import probe
from ..record import record

__all__ = ["Surroundings", "cause", "covered", "owns_mounts", "surroundings"]

_EPERM, _ENOSYS = 1, 38
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)
# Directories that the kernel keeps for ever empty: a mount on one of them hides nothing.
_EMPTY = ("/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd", "/sys/fs/", "/sys/kernel/", "/sys/firmware/efi/efivars")


@record
class Surroundings:
    """``filtered``: under a seccomp filter; ``no_new_privileges``: setuid programs have no effect."""

    covered_proc: tuple[str, ...] = ()
    covered_sys: tuple[str, ...] = ()
    sys_mounted: bool = True
    filtered: bool = False
    no_new_privileges: bool = False


def covered(top: str, mountinfo: str) -> tuple[str, ...]:
    """What lies over parts of ``top``, /proc or /sys: a kernel lets a user namespace mount such a file system only while
    nothing of one that is in sight is covered (fs/namespace.c, mount_too_revealing)."""
    points = [fields[4] for fields in (line.split(" ", 5) for line in mountinfo.splitlines()) if len(fields) == 6]
    return tuple(dict.fromkeys(p for p in points if p.startswith(top + "/") and not p.startswith(_EMPTY)))


def surroundings(mountinfo: str, status: str) -> Surroundings:
    """From the texts of /proc/self/mountinfo and /proc/self/status."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return Surroundings(
        covered_proc=covered("/proc", mountinfo),
        covered_sys=covered("/sys", mountinfo),
        sys_mounted=not mountinfo or " - sysfs " in mountinfo,
        filtered=fields.get("Seccomp") == "2",
        no_new_privileges=fields.get("NoNewPrivs") == "1",
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as f:
            return f.read()
    except OSError:
        return ""


def owns_mounts() -> bool:
    """Whether our mount namespace belongs to our user namespace, without which nothing can be mounted in it."""
    import fcntl

    try:
        with open("/proc/self/ns/mnt", "rb") as mounts:
            owner = fcntl.ioctl(mounts, _NS_GET_USERNS)
    except OSError as e:
        return e.errno != _EPERM  # it is an outer one's; anything else tells nothing
    try:
        return os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino
    except OSError:
        return True
    finally:
        os.close(owner)


def cause(number: int, what: str = "") -> str:
    """A sentence for the refusal ``number`` of ``what`` ("mount proc on /proc"), with a remedy; "" when nothing explains
    it."""
    if number not in (_EPERM, _ENOSYS):
        return ""
    if number == _ENOSYS:
        return (
            "This kernel lacks a system call that pycontain needs, or an outer container hides it (its seccomp filter, gVisor): "
            "`pycontain doctor` lists them"
        )
    around = surroundings(_text("/proc/self/mountinfo"), _text("/proc/self/status"))
    for kind, points, way in (
        ("proc", around.covered_proc, "--pid host"),
        ("sysfs", around.covered_sys, "show what is left of it: -v /sys:/sys:ro"),
    ):
        if points and what.startswith(f"mount {kind}"):
            return (
                f"Of this host's {kind} {', '.join(points)} is covered, as in an outer container, and then no "
                f"user namespace may mount one of its own: start the outer one without (docker run --security-opt "
                f"systempaths=unconfined), or {way}"
            )
    if what.startswith("mount sysfs") and not around.sys_mounted:
        return "/sys is not mounted here, and then no user namespace may mount one of its own: mount -t sysfs sys /sys"
    if what.startswith("ids") and _text("/proc/self/setgroups").strip() == "deny":
        return (
            "This user namespace was made without newgidmap and forbids setgroups, so that the caller's groups would stay with the "
            "container: begin in one that `pycontain unshare` has made"
        )
    if not owns_mounts():
        return (
            "This process is root of a user namespace that its mount namespace does not belong to: begin with one of its own "
            "(`pycontain unshare`, or unshare --mount)"
        )
    absent = lacking(probe().capabilities)
    if absent:
        return f"Root here lacks {', '.join(absent)}: give it that, as `docker run --privileged` does"
    if around.filtered:
        return "This process is under a seccomp filter, of an outer container perhaps, which may forbid the call: start that one without"
    return ""
