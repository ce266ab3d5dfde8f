"""What ``pycontain doctor`` looks at: one function per section, each a list of findings.

What the cgroups can do is asked of :mod:`pycontain.limits`, which would refuse the option: no second opinion here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from . import capabilities, limits
from ._version import __version__
from .doctor_host import mount_of
from .errors import Unsupported
from .spec.runtime import CPU, BlockIO, DeviceRule, Memory, Resources, ThrottleDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .doctor_host import Host
    from .host import HostFacts
    from .runtime.roots import Roots

__all__ = ["Finding", "MINIMUM_KERNEL", "findings"]

OK, NO, NOTE = "ok", "no", "note"
MINIMUM_KERNEL = (5, 12)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """``mark``: ok, no or note. ``blocks``: without it no container starts. ``remedy``: what to do about it."""

    section: str
    name: str
    mark: str
    text: str
    remedy: str = ""
    blocks: bool = False


def _ok(name: str, text: str) -> Finding:
    return Finding(section="", name=name, mark=OK, text=text)


def _no(name: str, text: str, remedy: str, *, blocks: bool = False) -> Finding:
    return Finding(section="", name=name, mark=NO, text=text, remedy=remedy, blocks=blocks)


def _note(name: str, text: str, remedy: str = "") -> Finding:
    return Finding(section="", name=name, mark=NOTE, text=text, remedy=remedy)


# --- versions, programs ------------------------------------------------------------------------------------------

_BIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")


def _programs(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    yield _ok("pycontain", f"pycontain {__version__}, Python {sys.version.split()[0]}, {facts.machine}")
    wrong = host.extension_error()
    if wrong:
        yield _no("extension", f"the C core cannot be loaded: {wrong}", "Install or build pycontain again", blocks=True)
    else:
        yield _ok("extension", "the C core is loaded")
    for name, what, needed in (
        ("pycontain-guardian", "cleans up when pycontain is killed", True),
        ("pycontain-init", "process 1 for --init", False),
    ):
        path = f"{_BIN}/{name}"
        if host.executable(path):
            yield _ok(name, f"{name}: {what}")
        else:
            yield _no(name, f"{path} is missing ({what})", "Install or build pycontain again", blocks=needed)
    wrong = host.seccomp_error()
    if wrong:
        yield _no("libseccomp", f"libseccomp: {wrong}", "Install libseccomp2 (libseccomp)", blocks=True)
    else:
        yield _ok("libseccomp", "libseccomp can be loaded: system calls are filtered")


# --- kernel ------------------------------------------------------------------------------------------------------

# (since, what, what it is for); the last of those needed sets MINIMUM_KERNEL
_FEATURES = (
    ((5, 2), "mount API (fsopen, move_mount)", "roots are assembled out of sight"),
    ((5, 3), "clone3, pidfd", "start and wait without races"),
    ((5, 6), "openat2", "paths cannot lead out of a root"),
    ((5, 7), "CLONE_INTO_CGROUP", "a process is born inside its limits (cgroup v2)"),
    ((5, 11), "close_range(CLOEXEC)", "no open file leaks in"),
    ((5, 12), "mount_setattr", "read-only trees in one call"),
    ((5, 14), "cgroup.kill", "a container is killed in one write (cgroup v2)"),
    ((6, 5), "overlay, layer by layer", "any number of layers; before, 13"),
    ((6, 13), "overlay by file descriptors", "no layer is looked up twice"),
    ((6, 15), "detached templates, open_tree_attr", "the fastest start; before, a few mounts more"),
)
_NAMESPACES = ("pid", "mnt", "net", "ipc", "uts", "cgroup")


def _kernel(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    version = f"{facts.kernel[0]}.{facts.kernel[1]}"
    if facts.kernel < MINIMUM_KERNEL:
        least = "{}.{}".format(*MINIMUM_KERNEL)
        yield _no("kernel", f"Linux {host.release()} is too old", f"Boot Linux {least} or newer", blocks=True)
    else:
        yield _ok("kernel", f"Linux {host.release()}")
    for since, what, purpose in _FEATURES:
        if facts.kernel >= since:
            yield _ok(what, f"{what}: {purpose}")
        elif since <= MINIMUM_KERNEL:
            yield _no(what, f"{what} came with Linux {since[0]}.{since[1]}, this is {version}", "Boot a newer kernel")
        else:
            yield _note(what, f"{what} came with Linux {since[0]}.{since[1]}: done another way here")
    yield from _seccomp_actions(host)
    for kind in _NAMESPACES:
        found = (host.read(f"/proc/sys/user/max_{kind}_namespaces") or "").strip()
        if found == "0":
            knob = f"user.max_{kind}_namespaces"
            yield _no(knob, f"{kind} namespaces are switched off ({knob} = 0)", f"sysctl {knob}=10000", blocks=True)


def _seccomp_actions(host: Host) -> Iterator[Finding]:
    actions = (host.read("/proc/sys/kernel/seccomp/actions_avail") or "").split()
    if not actions:
        yield _note("seccomp", "cannot tell whether this kernel filters system calls (no actions_avail in /proc/sys)")
    elif "errno" in actions and "allow" in actions:
        yield _ok("seccomp", f"seccomp actions: {' '.join(actions)}")
    else:
        yield _no(
            "seccomp", f"seccomp lacks the action errno (has {' '.join(actions)})",
            "Boot a kernel with CONFIG_SECCOMP_FILTER, or run with --security-opt seccomp=unconfined",
        )  # fmt: skip


# --- privileges --------------------------------------------------------------------------------------------------


def _privileges(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    if host.euid() != 0:
        yield _no("root", f"this is user {host.euid()}, not root", "Run as root: sudo pycontain ...", blocks=True)
    else:
        yield _ok("root", "running as root")
    status = host.read("/proc/self/status")
    if status is None:
        yield _note("capabilities", "cannot tell which capabilities this process has (/proc is masked or not mounted)")
        return
    held = frozenset(capabilities.names(facts.capabilities))
    lacking = capabilities.lacking(facts.capabilities)
    if lacking and host.euid() == 0:
        give = "Give them to whatever started this shell (docker run --privileged, systemd CapabilityBoundingSet=)"
        yield _no("capabilities", f"root here lacks {' '.join(lacking)}", give, blocks=True)
    known = capabilities.CAPABILITIES[: facts.last_cap + 1]
    others = [c for c in known if c not in held and c not in capabilities.NEEDED]
    if host.euid() == 0 and others:
        yield _note("missing capabilities", f"not held: {' '.join(others)}", "--cap-add cannot give them")
    elif host.euid() == 0 and not lacking:
        yield _ok("capabilities", f"all {len(known)} capabilities")
    if host.euid() == 0 and "CAP_SYS_RESOURCE" not in held:
        yield _note(
            "rlimits", "without CAP_SYS_RESOURCE a hard limit cannot be raised",
            "Keep --ulimit at or below what `ulimit -H` shows",
        )  # fmt: skip
    if "\nSeccomp:\t2" in status:
        yield _note(
            "outer filter", "this process is itself under a seccomp filter", "If a start fails with EPERM, look there"
        )


# --- cgroups -----------------------------------------------------------------------------------------------------

_DISK = (ThrottleDevice(major=8, minor=0, rate=1 << 20),)
_OPTIONS = (
    ("--memory", Resources(memory=Memory(limit=1 << 26))),
    ("--memory-swap", Resources(memory=Memory(limit=1 << 26, swap=1 << 27))),
    ("--cpus", Resources(cpu=CPU(quota=50000, period=100000))),
    ("--cpuset-cpus", Resources(cpu=CPU(cpus="0"))),
    ("--pids-limit", Resources(pids_limit=32)),
    ("--device-*-bps, --device-*-iops", Resources(block_io=BlockIO(throttle_read_bps_device=_DISK))),
    ("--blkio-weight", Resources(block_io=BlockIO(weight=500))),
)
_PLAIN = Resources(devices=(DeviceRule(allow=False),))  # what every container has that is not privileged


# every container is in these, for the accounts and the device rules; in the others only when a limit asks for it
_USED = frozenset(("cpuacct", "memory", "io", "blkio", "devices"))


def _layout(facts: HostFacts) -> str:
    v1 = any(c.version == 1 for c in facts.controllers.values())
    if not v1:
        return "v2" if facts.unified else "none"
    return "hybrid (v1 and v2)" if facts.unified else "v1"


def _cgroups(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    layout = _layout(facts)
    try:
        limits.cgroups(_PLAIN, facts)
    except Unsupported as e:
        yield _no("cgroups", f"cgroups: {layout}. {e}", "Mount the cgroup hierarchies (systemd does)", blocks=True)
    else:
        yield _ok("cgroups", f"cgroups: {layout}")
    for name, where in sorted(facts.controllers.items()):
        used = name in _USED or (name == "cpu" and where.version == 2)
        if host.writable(where.mount):
            yield _ok(f"controller {name}", f"{name}: cgroup v{where.version} at {where.mount}")
        else:
            yield _no(
                f"controller {name}", f"{name}: cgroup v{where.version} at {where.mount} cannot be written",
                "Run as root, on a host or in a container whose cgroups are mounted writable", blocks=used,
            )  # fmt: skip
    yield from _delegation(host, facts)
    for option, resources in _OPTIONS:
        try:
            limits.cgroups(resources, facts)
        except Unsupported as e:
            what, _, remedy = str(e).rpartition("). ") if "). " in str(e) else str(e).rpartition(". ")
            yield _no(option, f"{option}: {what}{')' if '). ' in str(e) else ''}", remedy)
        else:
            yield _ok(option, f"{option} works")


def _delegation(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """v2 gives controllers to child cgroups only while no process is in the parent, save at the very top."""
    top = facts.unified
    v2 = [n for n, c in sorted(facts.controllers.items()) if c.version == 2]
    if not v2 or host.read(f"{top}/cgroup.type") is None:  # the very top has no such file
        return
    enabled = (host.read(f"{top}/cgroup.subtree_control") or "").split()
    missing = [n for n in v2 if n not in enabled]
    if missing and (host.read(f"{top}/cgroup.procs") or "").strip():
        yield _no(
            "delegation", f"processes sit in {top} itself, so {' '.join(missing)} cannot be enabled below it",
            f"Move them: cd {top}; mkdir init; for p in $(cat cgroup.procs); do echo $p > init/cgroup.procs; done",
            blocks=True,
        )  # fmt: skip


# --- storage -----------------------------------------------------------------------------------------------------

# overlay refuses them as an upper layer, or they cannot hold the trusted extended attributes that it writes
_NO_UPPER = frozenset(
    ("overlay", "nfs", "nfs4", "cifs", "smb3", "vfat", "exfat", "ntfs", "9p", "fuse", "squashfs", "iso9660")
)
_LITTLE = 1 << 30


def _nearest(host: Host, path: str) -> str:
    while path != "/" and not host.exists(path):
        path = os.path.dirname(path)
    return path


def _root(host: Host, what: str, option: str, path: str) -> Iterator[Finding]:
    at = _nearest(host, path)
    mount = mount_of(host, at)
    free = host.free_bytes(at)
    kind = mount.fstype if mount else "unknown file system"
    room = f", {free / (1 << 30):.1f} GB free" if free is not None else ""
    if mount is not None and "ro" in mount.options:
        yield _no(what, f"{what} {path} lies on a read-only {kind}", f"Give a writable one: {option} DIR", blocks=True)
    elif not host.writable(at):
        yield _no(
            what, f"{what} {path}: {at} cannot be written by this user", f"Run as root, or {option} DIR", blocks=True
        )
    else:
        made = "" if at == path else " (made at the first start)"
        yield _ok(what, f"{what} {path}{made}: {kind}{room}")


def _storage(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    listed = host.read("/proc/filesystems")
    if listed is None:
        yield _note("overlay", "cannot tell whether overlay is there (/proc/filesystems cannot be read)")
    elif "overlay" in listed.split():
        yield _ok("overlay", "overlay: containers share an image's files and write to copies of their own")
    else:
        yield _no("overlay", "this kernel has no overlay file system", "modprobe overlay", blocks=True)
    yield from _root(host, "data root", "--data-root", roots.data_root)
    yield from _root(host, "run root", "PYCONTAIN_RUN_ROOT=", roots.run_root)
    at = _nearest(host, roots.data_root)
    mount, free, device = mount_of(host, at), host.free_bytes(at), host.device(at)
    if mount is not None and mount.fstype.split(".")[0] in _NO_UPPER:
        yield _no(
            "upper layer", f"{mount.fstype} cannot hold what containers write (overlay needs ext4, xfs, btrfs or tmpfs)",
            "Give a data root on another file system: --data-root DIR; in a container, a volume or a tmpfs", blocks=True,
        )  # fmt: skip
    if free is not None and free < _LITTLE:
        yield _note(
            "space", f"less than 1 GB is free for the data root {roots.data_root}", "Make room, or --data-root DIR"
        )
    if device is not None and device[0] == 0:
        yield _note(
            "disk", "the data root is on no single block device", "--device-*-bps cannot limit what is written there"
        )
    elif device is not None:
        yield _ok("disk", f"the data root's block device is {device[0]}:{device[1]}: I/O limits apply to it")
    yield from _leftovers(host, roots)


def _leftovers(host: Host, roots: Roots) -> Iterator[Finding]:
    base = f"{roots.data_root}/ephemeral"
    owners = {entry.removesuffix(".lock") for entry in host.entries(base)}
    dead = sorted(owner for owner in owners if not host.locked(f"{base}/{owner}.lock"))
    if dead:
        yield _note("leftovers", f"{len(dead)} dead owners left files in {base}", "The next start removes them")
    else:
        yield _ok("leftovers", "nothing is left of dead owners")


# --- the security modules, and what comes later ------------------------------------------------------------------


def _security(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    modules = (host.read("/sys/kernel/security/lsm") or "").strip()
    yield _note(
        "lsm", f"security modules: {modules.replace(',', ' ')}" if modules else "security modules: cannot be told"
    )
    if (host.read("/sys/module/apparmor/parameters/enabled") or "").startswith("Y"):
        yield _note("apparmor", "AppArmor is on: containers run under the profile of whoever starts them")
    enforce = (host.read("/sys/fs/selinux/enforce") or "").strip()
    if enforce:
        state = "enforcing" if enforce == "1" else "permissive"
        what = "files of bind mounts keep their labels" if enforce == "1" else "nothing is refused"
        yield _note("selinux", f"SELinux is {state}: {what}")


def _later(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    """Without root is a later version's matter; this says whether the host is ready for it."""
    limit = (host.read("/proc/sys/user/max_user_namespaces") or "").strip()
    if limit == "0":
        yield _note("user namespaces", "user namespaces are switched off", "sysctl user.max_user_namespaces=10000")
    elif limit:
        yield _ok("user namespaces", f"user namespaces: up to {limit}")
    for knob, off, remedy in (
        ("unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
    ):
        if (host.read(f"/proc/sys/kernel/{knob}") or "").strip() == off:
            yield _note(knob, f"ordinary users may not make user namespaces (kernel.{knob} = {off})", remedy)
    if (host.read("/proc/sys/user/max_time_namespaces") or "0").strip() == "0":
        yield _note("time namespaces", "no time namespaces (not used so far)")
    tools = [t for t in ("newuidmap", "newgidmap") if any(host.executable(f"{d}/{t}") for d in host.search_path() if d)]
    ranges = [f for f in ("/etc/subuid", "/etc/subgid") if (host.read(f) or "").strip()]
    if len(tools) == 2 and len(ranges) == 2:
        yield _ok("id ranges", "newuidmap, newgidmap and the ranges in /etc/subuid and /etc/subgid are there")
    else:
        yield _note(
            "id ranges", "no newuidmap, or no ranges in /etc/subuid and /etc/subgid", "Install uidmap; see subuid(5)"
        )
    count = len((host.read("/proc/self/mountinfo") or "").splitlines())
    if count > 200:
        yield _note("mounts", f"{count} mounts: whoever copies them all pays at each start; pycontain does not")


_SECTIONS = (
    ("pycontain", _programs),
    ("kernel", _kernel),
    ("privileges", _privileges),
    ("cgroups", _cgroups),
    ("storage", _storage),
    ("security modules", _security),
    ("without root (later)", _later),
)


def findings(host: Host, facts: HostFacts, roots: Roots) -> list[Finding]:
    """Everything, section by section."""
    from dataclasses import replace

    return [replace(f, section=name) for name, section in _SECTIONS for f in section(host, facts, roots)]
