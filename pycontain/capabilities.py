"""Capabilities by name and number (linux/capability.h; capabilities(7))."""

from __future__ import annotations

from .errors import InvalidArgument

__all__ = ["CAPABILITIES", "DEFAULT", "NEEDED", "lacking", "mask", "names", "parse"]

CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
    "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip

# Docker's default set, in the order of its documentation.
DEFAULT = frozenset((
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
))  # fmt: skip

# Root without one of these meets an EPERM on the way to most containers.
NEEDED = (
    "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_NET_ADMIN",
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER",
)  # fmt: skip

_NUMBER = {name: number for number, name in enumerate(CAPABILITIES)}


def parse(name: str) -> str:
    """The full name for ``net_admin``, ``NET_ADMIN`` or ``CAP_NET_ADMIN``; "ALL" stays. Raises InvalidArgument."""
    full = name.upper()
    if full == "ALL":
        return full
    if not full.startswith("CAP_"):
        full = "CAP_" + full
    if full not in _NUMBER:
        import difflib

        near = difflib.get_close_matches(full, CAPABILITIES, 1)
        hint = f": did you mean {near[0]}?" if near else ": see capabilities(7) for the names"
        raise InvalidArgument(f"unknown capability {name!r}{hint}")
    return full


def mask(capabilities: frozenset[str]) -> int:
    """The bit mask of a set of full names."""
    value = 0
    for name in capabilities:
        value |= 1 << _NUMBER[name]
    return value


def lacking(effective: int) -> tuple[str, ...]:
    """Those of NEEDED that are not in the mask, by number."""
    held = names(effective)
    return tuple(name for name in NEEDED if name not in held)


def names(value: int) -> tuple[str, ...]:
    """The full names in a bit mask, by number."""
    return tuple(name for number, name in enumerate(CAPABILITIES) if value >> number & 1)
