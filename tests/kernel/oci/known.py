"""Where the peers (runc 1.1.5 and crun 1.8.1, as in Debian 12) differ from each other in every document, and we from them."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

__all__ = ["EVERYWHERE", "OURS_DIFFER", "VERSIONS", "Known", "crun", "runc"]

VERSIONS = {"runc": "1.1.5", "crun": "1.8.1"}  # that all the tables were recorded with


@dataclass(frozen=True)
class Known:
    """``runtime`` is the one whose ``field`` is not to be compared with: the other's, or the expectation, is right.
    ``sometimes``: a race of that runtime's, so that the difference need not be seen."""

    runtime: str
    field: str  # a pattern: "mount * options"
    reason: str
    sometimes: bool = False

    def covers(self, runtime: str, name: str) -> bool:
        return runtime == self.runtime and fnmatch.fnmatchcase(name, self.field)


def runc(field: str, reason: str) -> Known:
    return Known("runc", field, reason)


def crun(field: str, reason: str) -> Known:
    return Known("crun", field, reason)


_NULL = "masks a file with the host's /dev/null, read-only; runc with the container's, writable"

_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

EVERYWHERE: tuple[Known, ...] = (
    crun("cgroup of v2", "cgroup v2 is hidden from crun, which refuses hybrid hosts (runtimes.py)"),
    crun("dev core", "makes /dev/core where the host has no /proc/kcore, too"),
    crun("keyring", "names the session keyring by the id alone, and gives other permissions than runc's _ses.<id>"),
    *(
        crun(f"mount /proc/{name}{field}", _NULL)
        for name in ("keys", "timer_list")
        for field in ("", " options", " source", " super")
    ),
    *(
        crun(f"mount {at} super", "its tmpfs over a masked directory is writable below a ro mount")
        for at in ("/proc/acpi", "/sys/firmware")
    ),
    crun("fd [012]", "gives the pipes to the process' group too, runc to its user only"),
    *(crun(f"mount /dev/{n} options", "binds devices nosuid,noexec in a user namespace") for n in _DEVICES),
    crun("cgroup devices/devices.list", "allows /dev/console (5:1) to all, and tun (10:200) to none"),
    crun("mount /sys super", "makes the mount read-only, runc the superblock too"),
    crun("mount /sys/fs/cgroup source", "names the tmpfs over the v1 hierarchies cgroup"),
    crun("mount /sys/fs/cgroup super", "its tmpfs has size=1024k, and no mode"),
)

# (case, field), both patterns: why we differ on purpose
_COVER = "masks are clones of one read-only template, whose superblock nobody can make writable"
_STRICT = "read-only paths are nosuid, nodev and noexec as well"
_REFUSED = "the specification calls it wrong, and ours says so"
_MEMBER = "joins the hierarchies that it limits, counts, freezes or kills in, no others"
OURS_DIFFER: dict[tuple[str, str], str] = {
    ("*", "pdeathsig"): "a container ends with the process that started it",
    ("*", "keyring"): "permissions are the kernel's own; runc lets every process of the user search it",
    ("*", "cgroup of cpuset"): _MEMBER,
    ("*", "cgroup of name=systemd"): _MEMBER,
    ("*", "mount /sys/fs/cgroup/cpuset*"): _MEMBER,
    ("*", "mount /sys/fs/cgroup/systemd*"): _MEMBER,
    **{
        ("*", f"mount {path}{field}"): _COVER
        for path in ("/proc/acpi", "/proc/keys", "/proc/timer_list", "/sys/firmware")
        for field in ("", " source", " options", " super")
    },
    **{("*", f"mount /proc/{name} options"): _STRICT for name in ("bus", "fs", "irq", "sys")},
    **{
        ("masked-*", f"mount {path}{field}"): _COVER
        for path in ("/file", "/dir", "/dir#2", "/dev/full", "/dev/shm#2")
        for field in ("", " source", " options", " super")
    },
    ("read-only-and-masked", "mount /dir/sub*"): _COVER,
    ("masked-*", "stat:/d*"): _COVER,
    ("masked-own-mount", "dev shm"): _COVER,
    **{("read-only-*", f"mount {path} options"): _STRICT for path in ("/file", "/dir", "/dev#2")},
    ("*", "cgroup devices/devices.list"): "tun (10:200) is allowed to those who ask for it; equal rules show merged",
    ("rules-for-tun", "open:rw:/dev/net/tun"): "tun (10:200) is allowed to those who ask for it",
    ("masked-relative", "started"): _REFUSED,
    ("read-only-relative", "started"): _REFUSED,
    ("device-relative", "started"): _REFUSED,
    ("device-twice", "started"): _REFUSED,
    ("errno-of-allow", "started"): _REFUSED,
    ("maps-without-user", "started"): _REFUSED,
    ("offsets-without-time", "started"): _REFUSED,
    ("bind-dots", "started"): "a destination with .. that leaves the root is refused, not resolved inside",
    ("bind-unknown-option", "started"): "a bind has no file system that could know the word: a mistake is said",
    ("memory-kernel", "started"): "a limit that the kernel no longer has is an error",
    ("pids-zero", "cgroup pids/pids.max"): "0 is the least the kernel can do, as in later runc, not no limit",
    (
        "scheduler-fifo",
        "started",
    ): "what the kernel refuses (no real-time budget in this cgroup) is an error; the peers ignore it",
    ("env-twice", "env twice"): "the environment is passed on as it stands, as crun does",
    (
        "propagation-shared",
        "mount /there/sub propagation",
    ): "what is said of a tree that stays a peer holds for all of it",
    ("ridmap", "mount /there/sub options"): "ridmap carries the mounts below",
    ("tmpfs-without-source", "mount /there source"): "a mount without a source shows its type",
    ("overlay*", "mount /there super"): "layers are given one by one (lowerdir+)",
    ("cgroup-writable", "mkdir:/sys/fs/cgroup/x"): "the directory over the hierarchies is mode 755, as in crun",
    ("cgroup-elsewhere", "mount /there/cpuset*"): _MEMBER,
    ("cgroup-elsewhere", "mount /there/systemd*"): _MEMBER,
    ("root-propagation-slave", "mount / propagation"): "the root itself is the slave that the document asks for",
    **{
        (f"path-{kind}", f"{what}*"): "relative to a base of ours, /pycontain, where its owner's are found"
        for kind in ("unsaid", "relative")
        for what in ("cgroup of ", "mount /sys/fs/cgroup/")
    },
    ("*", "dev core"): "always there, as Docker and crun have it",
    ("*", "tty.modes"): "output modes are the kernel's own, as with crun; runc clears ONLCR",
}
