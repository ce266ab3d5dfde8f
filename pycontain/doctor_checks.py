"""What ``pycontain doctor`` looks at: one function per section, each a list of findings.

What the cgroups can do is asked of :mod:`pycontain.limits`, which would refuse the option: no second opinion here.
"""

from __future__ import annotations

import os
import sys

from . import capabilities, limits
from ._version import __version__
from .doctor_findings import finding_no, finding_note, finding_ok
from .doctor_host import mount_of
from .doctor_users import ordinary_user, user_namespaces
from .errors import Unsupported
from .spec.runtime import CPU, BlockIO, DeviceRule, Memory, Resources, ThrottleDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .doctor_findings import Finding
    from .doctor_host import Host
    from .host import HostFacts
    from .runtime.roots import Roots

__all__ = ["MINIMUM_KERNEL", "findings"]

MINIMUM_KERNEL = (5, 10)


# --- versions, programs ------------------------------------------------------------------------------------------

_BIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin")


def _programs(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    yield finding_ok("pycontain", f"pycontain {__version__}, Python {sys.version.split()[0]}, {facts.machine}")
    wrong = host.extension_error()
    if wrong:
        yield finding_no(
            "extension", f"the C core cannot be loaded: {wrong}", "Install or build pycontain again", blocks=True
        )
    else:
        yield finding_ok("extension", "the C core is loaded")
    for name, what, needed in (
        ("pycontain-guardian", "cleans up when pycontain is killed", True),
        ("pycontain-init", "process 1 for --init", False),
        ("pycontain-monitor", "the parent of a detached container", False),
        ("pycontain-launch", "starts it", False),
    ):
        path = f"{_BIN}/{name}"
        if host.executable(path):
            yield finding_ok(name, f"{name}: {what}")
        else:
            yield finding_no(name, f"{path} is missing ({what})", "Install or build pycontain again", blocks=needed)
    wrong = host.seccomp_error()
    if wrong:
        yield finding_no("libseccomp", f"libseccomp: {wrong}", "Install libseccomp2 (libseccomp)", blocks=True)
    else:
        yield finding_ok("libseccomp", "libseccomp can be loaded: system calls are filtered")


# --- kernel ------------------------------------------------------------------------------------------------------

# (since, what, what it is for); the last of those needed sets MINIMUM_KERNEL
_FEATURES = (
    ((5, 2), "mount API (fsopen, move_mount)", "roots are assembled out of sight"),
    ((5, 3), "clone3, pidfd", "start and wait without races"),
    ((5, 6), "openat2", "paths cannot lead out of a root"),
    ((5, 7), "CLONE_INTO_CGROUP", "a process is born inside its limits (cgroup v2)"),
    ((5, 9), "close_range", "no open file leaks in"),
    (
        (5, 11),
        "overlay in user namespaces",
        "an ordinary user's containers; before, only with a bundle's own directory",
    ),
    (
        (5, 12),
        "mount_setattr",
        "volumes with translated owners, read-only trees in one call; before, without, and one by one",
    ),
    ((5, 14), "cgroup.kill", "a container is killed in one write (cgroup v2)"),
    ((5, 19), "overlay on id-mapped layers", "--userns auto for root; before, only with a bundle's own directory"),
    ((6, 3), "id-mapped tmpfs", "a volume on a tmpfs with --userns auto; before, with :noidmap"),
    ((6, 5), "overlay, layer by layer", "any number of layers; before, 13"),
    ((6, 6), "user.* attributes on tmpfs", "an ordinary user's data root may be a tmpfs; before, a disk"),
    ((6, 13), "overlay by file descriptors", "no layer is looked up twice"),
    ((6, 15), "detached templates, open_tree_attr", "the fastest start; before, a few mounts more"),
)
_NAMESPACES = ("pid", "mnt", "net", "ipc", "uts", "cgroup")


def _kernel(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    version = f"{facts.kernel[0]}.{facts.kernel[1]}"
    if facts.kernel < MINIMUM_KERNEL:
        least = "{}.{}".format(*MINIMUM_KERNEL)
        yield finding_no("kernel", f"Linux {host.release()} is too old", f"Boot Linux {least} or newer", blocks=True)
    else:
        yield finding_ok("kernel", f"Linux {host.release()}")
    for since, what, purpose in _FEATURES:
        if facts.kernel >= since:
            yield finding_ok(what, f"{what}: {purpose}")
        elif since <= MINIMUM_KERNEL:
            yield finding_no(
                what, f"{what} came with Linux {since[0]}.{since[1]}, this is {version}", "Boot a newer kernel"
            )
        else:
            before = f": {purpose}" if "; before" in purpose else ": done another way here"
            yield finding_note(what, f"{what} came with Linux {since[0]}.{since[1]}{before}")
    yield from _refused_calls(host)
    yield from _seccomp_actions(host)
    for kind in _NAMESPACES:
        found = (host.read(f"/proc/sys/user/max_{kind}_namespaces") or "").strip()
        if found == "0":
            knob = f"user.max_{kind}_namespaces"
            yield finding_no(
                knob, f"{kind} namespaces are switched off ({knob} = 0)", f"sysctl {knob}=10000", blocks=True
            )


def _refused_calls(host: Host) -> Iterator[Finding]:
    """By a kernel that is too old, says it is newer than it is (gVisor), or an outer container's filter."""
    refused = host.refused_calls()
    for number, why in ((38, "do not exist here"), (1, "are forbidden here")):
        names = sorted(name for name, errno in refused.items() if errno == number)
        if names:
            yield finding_no(
                f"system calls {why.partition(' here')[0]}", f"system calls that {why}: {' '.join(names)}",
                "Run outside of the container or sandbox whose filter hides them, or on a newer kernel", blocks=True,
            )  # fmt: skip


def _seccomp_actions(host: Host) -> Iterator[Finding]:
    actions = (host.read("/proc/sys/kernel/seccomp/actions_avail") or "").split()
    if not actions:
        yield finding_note(
            "seccomp", "cannot tell whether this kernel filters system calls (no actions_avail in /proc/sys)"
        )
    elif "errno" in actions and "allow" in actions:
        yield finding_ok("seccomp", f"seccomp actions: {' '.join(actions)}")
    else:
        yield finding_no(
            "seccomp", f"seccomp lacks the action errno (has {' '.join(actions)})",
            "Boot a kernel with CONFIG_SECCOMP_FILTER, or run with --security-opt seccomp=unconfined",
        )  # fmt: skip


# --- privileges --------------------------------------------------------------------------------------------------


def _privileges(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    if host.euid() != 0:
        yield finding_ok("user", f"user {host.euid()}: containers are started as root of a user namespace (see below)")
    elif facts.in_user_namespace:
        yield finding_ok("root", "root of a user namespace, which is somebody's ordinary user outside")
    else:
        yield finding_ok("root", "running as root")
    status = host.read("/proc/self/status")
    if status is None:
        yield finding_note(
            "capabilities", "cannot tell which capabilities this process has (/proc is masked or not mounted)"
        )
        return
    held = frozenset(capabilities.names(facts.capabilities))
    lacking = capabilities.lacking(facts.capabilities)
    if host.euid() != 0:
        return
    if lacking:
        give = "Give them to whatever started this shell (docker run --privileged, systemd CapabilityBoundingSet=)"
        yield finding_no("capabilities", f"root here lacks {' '.join(lacking)}", give, blocks=True)
    known = capabilities.CAPABILITIES[: facts.last_cap + 1]
    others = [c for c in known if c not in held and c not in capabilities.NEEDED]
    if others:
        yield finding_note("missing capabilities", f"not held: {' '.join(others)}", "--cap-add cannot give them")
    elif not lacking:
        yield finding_ok("capabilities", f"all {len(known)} capabilities")
    if "CAP_SYS_RESOURCE" not in held:
        yield finding_note(
            "rlimits", "without CAP_SYS_RESOURCE a hard limit cannot be raised",
            "Keep --ulimit at or below what `ulimit -H` shows",
        )  # fmt: skip
    if "\nSeccomp:\t2" in status:
        yield finding_note(
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


_DELEGATE = "Begin in a cgroup of your own: systemd-run --user --scope -p Delegate=yes pycontain ..."


def _why_none(facts: HostFacts) -> str:
    if any(c.version == 2 for c in facts.controllers.values()) and facts.cgroup_obstacle:
        return facts.cgroup_obstacle
    return next(c.obstacle for c in facts.controllers.values())


def _cgroups(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    layout = _layout(facts)
    ordinary = (
        host.euid() != 0 or facts.in_user_namespace
    )  # there without device rules, so without any cgroup if need be
    try:
        limits.cgroups(Resources() if ordinary else _PLAIN, facts)
    except Unsupported as e:
        yield finding_no(
            "cgroups", f"cgroups: {layout}. {e}", "Mount the cgroup hierarchies (systemd does)", blocks=True
        )
    else:
        yield finding_ok("cgroups", f"cgroups: {layout}")
    if ordinary and facts.controllers and all(c.obstacle for c in facts.controllers.values()):
        yield finding_no("limits", f"no limits and no accounts of cgroups: {_why_none(facts)}", _DELEGATE)
        return
    for name, where in sorted(facts.controllers.items()):
        if not where.obstacle:
            at = where.mount + where.base
            yield finding_ok(f"controller {name}", f"{name}: cgroup v{where.version} at {at}")
            continue
        used = not ordinary and (name in _USED or (name == "cpu" and where.version == 2))
        remedy = _DELEGATE if ordinary else "Run on a host, or in a container, whose cgroups are mounted writable"
        yield finding_no(f"controller {name}", f"{name}: {where.obstacle}", remedy, blocks=used and name == "devices")
    yield from _delegation(host, facts)
    for option, resources in _OPTIONS:
        try:
            limits.cgroups(resources, facts)
        except Unsupported as e:
            what, _, remedy = str(e).rpartition("). ") if "). " in str(e) else str(e).rpartition(". ")
            yield finding_no(option, f"{option}: {what}{')' if '). ' in str(e) else ''}", remedy)
        else:
            yield finding_ok(option, f"{option} works")


def _delegation(host: Host, facts: HostFacts) -> Iterator[Finding]:
    """v2 gives controllers to child cgroups only while no process is in the parent, save at the very top."""
    top = facts.unified
    v2 = [n for n, c in sorted(facts.controllers.items()) if c.version == 2]
    if not v2 or host.read(f"{top}/cgroup.type") is None:  # the very top has no such file
        return
    enabled = (host.read(f"{top}/cgroup.subtree_control") or "").split()
    missing = [n for n in v2 if n not in enabled]
    if missing and (host.read(f"{top}/cgroup.procs") or "").strip():
        yield finding_no(
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
        yield finding_no(
            what, f"{what} {path} lies on a read-only {kind}", f"Give a writable one: {option} DIR", blocks=True
        )
    elif not host.writable(at):
        yield finding_no(
            what, f"{what} {path}: {at} cannot be written by this user", f"Run as root, or {option} DIR", blocks=True
        )
    else:
        made = "" if at == path else " (made at the first start)"
        yield finding_ok(what, f"{what} {path}{made}: {kind}{room}")


def _storage(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    listed = host.read("/proc/filesystems")
    if listed is None:
        yield finding_note("overlay", "cannot tell whether overlay is there (/proc/filesystems cannot be read)")
    elif "overlay" in listed.split():
        yield finding_ok("overlay", "overlay: containers share an image's files and write to copies of their own")
    else:
        yield finding_no("overlay", "this kernel has no overlay file system", "modprobe overlay", blocks=True)
    yield from _root(host, "data root", "--data-root", roots.data_root)
    yield from _root(host, "run root", "PYCONTAIN_RUN_ROOT=", roots.run_root)
    at = _nearest(host, roots.data_root)
    mount, free, device = mount_of(host, at), host.free_bytes(at), host.device(at)
    if mount is not None and mount.fstype.split(".")[0] in _NO_UPPER:
        yield finding_no(
            "upper layer", f"{mount.fstype} cannot hold what containers write (overlay needs ext4, xfs, btrfs or tmpfs)",
            "Give a data root on another file system: --data-root DIR; in a container, a volume or a tmpfs", blocks=True,
        )  # fmt: skip
    if free is not None and free < _LITTLE:
        yield finding_note(
            "space", f"less than 1 GB is free for the data root {roots.data_root}", "Make room, or --data-root DIR"
        )
    if device is not None and device[0] == 0:
        yield finding_note(
            "disk", "the data root is on no single block device", "--device-*-bps cannot limit what is written there"
        )
    elif device is not None:
        yield finding_ok("disk", f"the data root's block device is {device[0]}:{device[1]}: I/O limits apply to it")
    yield from _leftovers(host, roots)


def _leftovers(host: Host, roots: Roots) -> Iterator[Finding]:
    base = f"{roots.data_root}/ephemeral"
    owners = {entry.removesuffix(".lock") for entry in host.entries(base)}
    dead = sorted(owner for owner in owners if not host.locked(f"{base}/{owner}.lock"))
    if dead:
        yield finding_note("leftovers", f"{len(dead)} dead owners left files in {base}", "The next start removes them")
    else:
        yield finding_ok("leftovers", "nothing is left of dead owners")


# --- the security modules, and what comes later ------------------------------------------------------------------


def _security(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    modules = (host.read("/sys/kernel/security/lsm") or "").strip()
    yield finding_note(
        "lsm", f"security modules: {modules.replace(',', ' ')}" if modules else "security modules: cannot be told"
    )
    if (host.read("/sys/module/apparmor/parameters/enabled") or "").startswith("Y"):
        listed = host.read("/sys/kernel/security/apparmor/profiles")
        count = "profiles cannot be listed" if listed is None else f"{len(listed.splitlines())} profiles are loaded"
        yield finding_ok("apparmor", f"AppArmor is on: --security-opt apparmor=PROFILE works; {count}")
        own = (host.read("/proc/self/attr/current") or "").strip("\0\n")
        if own and own != "unconfined":
            yield finding_note(
                "apparmor profile", f"this process is confined by the AppArmor profile {own}: containers inherit it"
            )
    enforce = (host.read("/sys/fs/selinux/enforce") or "").strip()
    if enforce:
        state = "enforcing" if enforce == "1" else "permissive"
        what = "; volumes keep their labels" if enforce == "1" else "; nothing is refused"
        yield finding_ok("selinux", f"SELinux is {state}: --security-opt label=type:TYPE works{what}")


def _mounts(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    count = len((host.read("/proc/self/mountinfo") or "").splitlines())
    if count > 200:
        yield finding_note("mounts", f"{count} mounts: whoever copies them all pays at each start; pycontain does not")


_SECTIONS = (
    ("pycontain", _programs),
    ("kernel", _kernel),
    ("privileges", _privileges),
    ("cgroups", _cgroups),
    ("storage", _storage),
    ("security modules", _security),
    ("user namespaces", user_namespaces),
    ("an ordinary user", ordinary_user),
    ("mounts", _mounts),
)


def findings(host: Host, facts: HostFacts, roots: Roots) -> list[Finding]:
    """Everything, section by section."""
    from dataclasses import replace

    return [replace(f, section=name) for name, section in _SECTIONS for f in section(host, facts, roots)]
