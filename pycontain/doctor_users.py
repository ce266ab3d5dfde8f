"""What ``pycontain doctor`` says of user namespaces: for root's --userns, and for an ordinary user, who needs one."""

from __future__ import annotations

from .doctor_findings import finding_no, finding_note, finding_ok
from .rootless import obstacle, subordinate
from .runtime.forbidden import surroundings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .doctor_findings import Finding
    from .doctor_host import Host
    from .host import HostFacts
    from .runtime.roots import Roots

__all__ = ["ordinary_user", "user_namespaces"]

_HELPERS = ("newuidmap", "newgidmap")
_DIRECTORIES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin")  # where rootless.enter looks


def user_namespaces(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    limit = (host.read("/proc/sys/user/max_user_namespaces") or "").strip()
    if limit == "0":
        yield finding_no("user namespaces", "user namespaces are switched off", "sysctl user.max_user_namespaces=10000")
    elif limit:
        yield finding_ok("user namespaces", f"user namespaces: up to {limit}")
    else:
        yield finding_note(
            "user namespaces", "cannot tell whether there are user namespaces (/proc/sys cannot be read)"
        )
    around = surroundings(host.read("/proc/self/mountinfo") or "", host.read("/proc/self/status") or "")
    for kind, points, way in (
        ("/proc", around.covered_proc, "or run with --pid host"),
        ("/sys", around.covered_sys, "or show what is left of it: -v /sys:/sys:ro"),
    ):
        if points:
            yield finding_no(
                f"whole {kind}", f"{', '.join(points)} is covered: no user namespace may mount a {kind} of its own",
                f"Start the outer container without that (docker run --security-opt systempaths=unconfined), {way}",
            )  # fmt: skip
    yield from _time(host, facts)
    keys = (host.read("/proc/sys/kernel/keys/maxkeys") or "").strip()
    if keys:
        yield finding_ok("keyrings", f"keyrings: a session keyring for each container, {keys} keys to a user")
    else:
        yield finding_note("keyrings", "no keyrings in this kernel, or /proc/sys cannot be read: nothing to keep apart")


def _time(host: Host, facts: HostFacts) -> Iterator[Finding]:
    limit = (host.read("/proc/sys/user/max_time_namespaces") or "").strip()
    if not limit or limit == "0":
        yield finding_note("time namespaces", "no time namespaces: a bundle that asks for one is refused")
    else:
        how = "" if facts.kernel >= (6, 3) else ", by one process more (before Linux 6.3)"
        yield finding_ok("time namespaces", f"time namespaces{how}")


def ordinary_user(host: Host, facts: HostFacts, roots: Roots) -> Iterator[Finding]:
    """Blocks only the user who asks: root is told what the others would meet."""
    if facts.in_user_namespace:
        yield finding_ok("inside", f"in a user namespace with {sum(n for _, _, n in facts.uid_map)} user ids")
        if not host.owns_mounts():
            yield finding_no(
                "mount namespace", "the mount namespace belongs to an outer user namespace: nothing can be mounted",
                "Begin with one of your own: `pycontain unshare`, or unshare --user --map-root-user --mount", blocks=True,
            )  # fmt: skip
        return
    blocks = host.euid() != 0
    forbidden = obstacle(lambda path: host.read(path) or "")
    if forbidden:
        why, _, remedy = forbidden.partition(". ")
        yield finding_no("permission", f"ordinary users may not make user namespaces: {why}", remedy, blocks=blocks)
    else:
        yield finding_ok("permission", "nothing forbids ordinary users to make user namespaces")
    yield from _helpers(host, blocks=blocks)
    if blocks and "\nNoNewPrivs:\t1" in (host.read("/proc/self/status") or ""):
        yield finding_no(
            "no_new_privs", "no_new_privs is set for this process: newuidmap has no power",
            "Start it without (docker run --security-opt no-new-privileges, systemd NoNewPrivileges=)", blocks=True,
        )  # fmt: skip
    yield from _ranges(host, blocks=blocks)
    if blocks and facts.unified and not facts.cgroup_obstacle:
        yield finding_ok("delegated cgroup", f"a delegated cgroup: {facts.unified}{facts.cgroup_base}")


def _helpers(host: Host, *, blocks: bool) -> Iterator[Finding]:
    for name in _HELPERS:
        paths = [f"{d}/{name}" for d in _DIRECTORIES if host.executable(f"{d}/{name}")]
        if not paths:
            yield finding_no(name, f"{name} is not installed", "Install uidmap (shadow-utils)", blocks=blocks)
        elif not host.has_powers(paths[0]):
            yield finding_no(
                name,
                f"{paths[0]} is neither setuid root nor has it capabilities",
                f"chmod u+s {paths[0]}",
                blocks=blocks,
            )
        else:
            yield finding_ok(name, f"{paths[0]}")


def _ranges(host: Host, *, blocks: bool) -> Iterator[Finding]:
    names = host.names()
    if not blocks:  # root has all ids
        return
    for path, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        count = sum(n for _, n in subordinate(host.read(path) or "", names))
        if count == 0:
            remedy = f"usermod {option} 100000-165535 {names[0]}"
            yield finding_no(path, f"{path} gives {names[0]} no subordinate ids", remedy, blocks=True)
        elif count < 65536:
            yield finding_note(
                path, f"{path} gives {names[0]} only {count} ids: images with higher owners cannot be unpacked"
            )
        else:
            yield finding_ok(path, f"{path} gives {names[0]} {count} ids")
