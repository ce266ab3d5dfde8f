"""The Plan's vocabulary: op codes and flags as src/c/plan.h numbers them, and the kernel's mount flags.

A test holds the op names against the C core's own table.
"""

from __future__ import annotations

from .errors import InvalidArgument

OP_NAMES = (
    "NONE",
    "DIR_MAKE", "CGROUP_MAKE", "CGROUP_OPEN", "CGROUP_WRITE", "CGROUP_DEVICES", "OVERLAY", "TREE_CLONE",
    "CGROUP_JOIN", "UNSHARE", "SETNS", "PROPAGATION", "ROOT_ATTACH", "ROOT_READONLY", "MOUNT", "MOUNT_TREE", "MASK",
    "READONLY", "MAKE_DIR", "MAKE_NODE", "MAKE_LINK", "WRITE_FILE", "PROC_WRITE", "HOSTNAME", "DOMAINNAME", "LOOPBACK_UP",
    "RLIMIT", "SESSION", "STDIO", "TTY", "PDEATHSIG", "UMASK", "CAP_BOUND", "IDS", "CAPS", "CAP_AMBIENT", "NO_NEW_PRIVS",
    "SECCOMP", "CHDIR", "CLOSE_FDS",
    "USAGE", "CGROUP_REMOVE", "TREE_REMOVE",
)  # fmt: skip


class Op:
    """Op codes (enum pc_op_code)."""

    DIR_MAKE, CGROUP_MAKE, CGROUP_OPEN, CGROUP_WRITE, CGROUP_DEVICES, OVERLAY, TREE_CLONE = range(1, 8)
    CGROUP_JOIN, UNSHARE, SETNS, PROPAGATION, ROOT_ATTACH, ROOT_READONLY, MOUNT, MOUNT_TREE, MASK = range(8, 17)
    READONLY, MAKE_DIR, MAKE_NODE, MAKE_LINK, WRITE_FILE, PROC_WRITE, HOSTNAME, DOMAINNAME, LOOPBACK_UP = range(17, 26)
    RLIMIT, SESSION, STDIO, TTY, PDEATHSIG, UMASK, CAP_BOUND, IDS, CAPS, CAP_AMBIENT, NO_NEW_PRIVS = range(26, 37)
    SECCOMP, CHDIR, CLOSE_FDS = range(37, 40)
    USAGE, CGROUP_REMOVE, TREE_REMOVE = range(40, 43)


F_OPTIONAL, F_RECURSIVE, F_NOSYMLINK, F_CREATE, F_CLASSIC, F_VOLATILE, F_LAYER_FDS, F_PIVOT, F_LAYER_PLUS = (
    1 << i for i in range(9)
)
PLAN_SHARE_VM, PLAN_GATED, PLAN_LEAN = 1, 2, 4

# clone(2)
CLONE_NS = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
    "time": 0x00000080,
    "into_cgroup": 0x200000000,
}

# mount(2) flags by option: (set, clear)
_MS = {
    "ro": (1, 0), "rw": (0, 1), "nosuid": (2, 0), "suid": (0, 2), "nodev": (4, 0), "dev": (0, 4), "noexec": (8, 0),
    "exec": (0, 8), "sync": (16, 0), "async": (0, 16), "dirsync": (128, 0), "nosymfollow": (256, 0), "noatime": (1024, 0),
    "atime": (0, 1024), "nodiratime": (2048, 0), "diratime": (0, 2048), "relatime": (1 << 21, 0), "norelatime": (0, 1 << 21),
    "strictatime": (1 << 24, 0), "nostrictatime": (0, 1 << 24), "defaults": (0, 0),
}  # fmt: skip

# mount_setattr(2) attributes
_ATTR = {
    "ro": 0x1, "nosuid": 0x2, "nodev": 0x4, "noexec": 0x8, "noatime": 0x10, "strictatime": 0x20, "nodiratime": 0x80,
    "nosymfollow": 0x200000,
}  # fmt: skip

# options of a bind mount that are no attribute
BIND_WORDS = frozenset(
    ("bind", "rbind", "private", "rprivate", "slave", "rslave", "rw", "dev", "suid", "exec", "z", "Z", "defaults")
)
MOUNT_WORDS = frozenset(_MS)
ATTRIBUTE_WORDS = frozenset(_ATTR)


def parse_mount_options(options: tuple[str, ...]) -> tuple[int, str]:
    """(mount(2) flags, file system data) of a mount's options."""
    flags, data = 0, []
    for option in options:
        known = _MS.get(option)
        if known is None:
            data.append(option)
        else:
            flags = (flags | known[0]) & ~known[1]
    return flags, ",".join(data)


def mount_attributes(options: tuple[str, ...]) -> int:
    """The mount_setattr attributes of a bind mount's options. Raises InvalidArgument for an unknown word."""
    value = 0
    for option in options:
        bit = _ATTR.get(option)
        if bit is not None:
            value |= bit
        elif option not in BIND_WORDS:
            raise InvalidArgument(
                f"unknown option {option!r} of a bind mount: known are {', '.join(sorted(_ATTR))}, rw, bind, rslave, rprivate"
            )
    return value
