"""Does a request agree with itself? Pure: what only the host can tell (its CPUs, its files) is asked later.

Whatever filled the request (the command line has parsed its values, a program has not), each value is looked at here.
"""

from __future__ import annotations

import posixpath

from . import capabilities, parse
from .errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import Mount, RunRequest

__all__ = ["check"]

_MEMORY_MINIMUM = 6 << 20  # Docker's: below, not even the start-up fits
_NAMESPACES = (
    ("network", ("none", "host")),
    ("pid", ("private", "host")),
    ("ipc", ("private", "host", "none")),
    ("uts", ("private", "host")),
    ("cgroupns", ("private", "host")),
)


def check(request: RunRequest) -> None:
    """Raises InvalidArgument for a value out of bounds or two that contradict each other; one line, the first found."""
    _identity(request)
    _namespaces(request)
    _memory(request)
    _numbers(request)
    _sysctls(request)
    _mounts(request.mounts)
    on_dev = any(m.type != "tmpfs" and posixpath.normpath(m.target) == "/dev" for m in request.mounts)
    for device in request.devices:
        if on_dev and device.target.startswith("/dev/"):
            raise InvalidArgument(
                f"--device {device.target} and a volume on /dev contradict each other: the node would be made on the host; "
                "leave out one of them"
            )
        if not (device.source.startswith("/") and device.target.startswith("/")):
            raise InvalidArgument(f"device {parse.quote(device.source)}: both paths must be absolute: /dev/NAME")
    for name in (*request.cap_add, *request.cap_drop):
        capabilities.parse(name)


def _identity(r: RunRequest) -> None:
    if not r.image:
        raise InvalidArgument("the image is empty: name one, a directory (/dir, ./dir), oci:DIR[:REF] or host")
    parsers: tuple[tuple[str | None, Callable[[str], object]], ...] = (
        (r.name, parse.name),
        (r.hostname, parse.hostname),
        (r.domainname, parse.hostname),
        (r.user, parse.user),
        (r.cpuset_cpus, parse.cpuset),
        (r.cpuset_mems, lambda text: parse.cpuset(text, "memory node")),
        (r.stop_signal, parse.signal_number),
    )
    for value, parser in parsers:
        if value is not None:
            parser(value)
    if r.workdir is not None and not r.workdir.startswith("/"):
        raise parse.invalid("working directory", r.workdir, "it is not an absolute path", f"/{r.workdir}")


def _namespaces(r: RunRequest) -> None:
    for field, valid in _NAMESPACES:
        value = getattr(r, field)
        if value not in valid:
            raise parse.invalid(field, value, "there is no such mode", " or ".join(valid))
    if r.userns != "host" or r.uid_mappings or r.gid_mappings:
        _own_user_namespace(r)
    if r.uts == "host" and (r.hostname is not None or r.domainname is not None):
        which = "--hostname" if r.hostname is not None else "--domainname"
        raise InvalidArgument(
            f"{which} and --uts=host contradict each other: it would rename the host; leave out one of them"
        )
    if r.ipc != "private" and r.shm_size_bytes is not None:
        raise InvalidArgument(
            f"--shm-size and --ipc={r.ipc} contradict each other: it has no /dev/shm of its own; leave out one of them"
        )


def _own_user_namespace(r: RunRequest) -> None:
    from .idmap import userns

    userns(r.userns)
    if r.userns != "host" and (r.uid_mappings or r.gid_mappings):
        raise InvalidArgument("--userns and --uidmap/--gidmap contradict each other: leave out one of them")
    for mode, value in (("pid", r.pid), ("ipc", r.ipc)):
        if value == "host":
            raise InvalidArgument(
                f"--userns and --{mode}=host contradict each other: the container's root has no power over the host's; "
                "leave out one of them"
            )


def _memory(r: RunRequest) -> None:
    form = "at least 6m (Docker's minimum), or leave it out for no limit"
    for what, value in (("memory limit", r.memory_bytes), ("memory reservation", r.memory_reservation_bytes)):
        if value is not None and value < _MEMORY_MINIMUM:
            raise parse.invalid(what, value, "it is below 6 MB, where nothing starts", form)
    if r.memory_bytes is not None and (r.memory_reservation_bytes or 0) > r.memory_bytes:
        raise InvalidArgument(
            f"--memory-reservation {r.memory_reservation_bytes} is above --memory {r.memory_bytes}: "
            "the reservation is the part that is kept for it; write at most the limit"
        )
    swap = r.memory_swap_bytes
    if swap is not None and swap != -1:
        if r.memory_bytes is None:
            raise InvalidArgument(f"--memory-swap {swap} is memory and swap together, so it needs --memory as well")
        if swap < r.memory_bytes:
            raise InvalidArgument(
                f"--memory-swap {swap} is below --memory {r.memory_bytes}: it is memory and swap together; "
                f"write {r.memory_bytes} for no swap, more for some, -1 for any"
            )
    if r.shm_size_bytes is not None and r.shm_size_bytes <= 0:
        raise parse.invalid("size of /dev/shm", r.shm_size_bytes, "it must be above 0", "64m, the default, or more")


def _numbers(r: RunRequest) -> None:
    bounds = (
        ("CPU shares", r.cpu_shares, 2, 262144, "1024, the default"),
        ("block I/O weight", r.blkio_weight, 10, 1000, "500, the usual one"),
        ("OOM score adjustment", r.oom_score_adj, -1000, 1000, "0, the default"),
    )
    for what, number, low, high, form in bounds:
        if number is not None and not low <= number <= high:
            raise parse.invalid(what, number, f"it is not from {low} to {high}", form)
    if r.pids_limit is not None and r.pids_limit < -1:
        raise parse.invalid("limit of processes", r.pids_limit, "it is negative", "1 or more, or -1 for no limit")
    for what, given in (("CPU Period", r.cpu_period_us), ("CPU Quota", r.cpu_quota_us)):
        if r.cpus and given:
            raise InvalidArgument(
                f"Conflicting options: Nano CPUs and {what} cannot both be set: leave out one of them"
            )
    if r.cpu_period_us and not 1000 <= r.cpu_period_us <= 1_000_000:
        why = "it cannot be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        raise parse.invalid("CPU CFS period", r.cpu_period_us, why, "100000, the usual one")
    if r.cpu_quota_us and r.cpu_quota_us != -1 and r.cpu_quota_us < 1000:
        raise parse.invalid(
            "CPU CFS quota", r.cpu_quota_us, "it cannot be less than 1ms (i.e. 1000)", "-1 for no limit"
        )
    if (r.cpu_rt_runtime_us or 0) > (r.cpu_rt_period_us or 1_000_000):
        raise InvalidArgument(
            "cpu real-time runtime cannot be higher than cpu real-time period: write a shorter runtime"
        )
    if r.cpus and not 0.01 <= r.cpus <= 1e6:
        raise parse.invalid("number of CPUs", r.cpus, "it is out of range", "0.01 or more")
    for limit in r.ulimits:
        if min(limit.soft, limit.hard) < -1 or (limit.hard != -1 and not 0 <= limit.soft <= limit.hard):
            why = "the soft limit must be from 0 to the hard one"
            raise parse.invalid("ulimit", f"{limit.name}={limit.soft}:{limit.hard}", why, "-1 for unlimited")
    for rate in (*r.device_read_bps, *r.device_write_bps, *r.device_read_iops, *r.device_write_iops):
        if rate.rate < 1 or not rate.path.startswith("/"):
            raise parse.invalid("rate", f"{rate.path}:{rate.rate}", "it is no path and rate above 0", "/dev/sda:10mb")


def _sysctls(r: RunRequest) -> None:
    for name, value in r.sysctls:
        parse.sysctl(f"{name}={value}")
        namespace = parse.sysctl_namespace(name)
        if namespace == "network" and r.network == "host":
            raise InvalidArgument(f"--sysctl {name} and --network=host contradict each other: it would change the host")
        if namespace == "ipc" and r.ipc == "host":
            raise InvalidArgument(f"--sysctl {name} and --ipc=host contradict each other: it would change the host")


def _volume(m: Mount, given: str) -> None:
    if m.source:
        parse.volume_name(m.source)
    elif not m.anonymous:
        raise parse.invalid("mount", given, "the volume has no name", f"NAME:{m.target}")
    elif m.subpath:
        raise parse.invalid("mount", given, "a new volume has nothing at a subpath", f"source=NAME,target={m.target}")
    parts = m.subpath.split("/")
    if m.subpath and (".." in parts or not parts[0] or "\0" in m.subpath or len(m.subpath) > 4000):
        raise parse.invalid("mount", given, "the subpath leads out of the volume", "volume-subpath=some/directory")


def _mounts(mounts: tuple[Mount, ...]) -> None:
    seen: set[str] = set()
    for m in mounts:
        # compared in the shortest form: /a/../proc is /proc
        target = "/" + posixpath.normpath(m.target).lstrip("/")
        given = f"{m.source}:{m.target}" if m.source else m.target
        if m.type not in ("bind", "tmpfs", "volume"):
            raise parse.invalid("mount", given, f"there is no type {parse.quote(m.type)}", "bind, volume or tmpfs")
        if not m.target.startswith("/") or "\0" in m.target:
            raise parse.invalid("mount", given, "the target is not an absolute path", f"/{m.target.lstrip('/')}")
        if target == "/":
            raise parse.invalid("mount", given, "the target is the root itself", "/SOMEWHERE, or --rootfs DIR")
        if target == "/proc" or target.startswith("/proc/"):
            why = "a mount there would cover what guards /proc"
            raise parse.invalid("mount", given, why, "another target")
        if target in seen:
            raise InvalidArgument(f"two mounts have the target {parse.quote(target)}: leave out one of them")
        seen.add(target)
        if m.type == "bind" and (not m.source or "\0" in m.source):
            raise parse.invalid("mount", given, "the source is empty or has a NUL byte", f"/SOURCE:{target}")
        if m.type == "volume":
            _volume(m, given)
        if m.type != "tmpfs" and (m.size_bytes is not None or m.mode is not None):
            raise parse.invalid("mount", given, "only a tmpfs has a size and a mode", f"a tmpfs on {target}")
        if m.type == "tmpfs" and m.source:
            raise parse.invalid("mount", given, "a tmpfs has no source", f"a tmpfs on {target}")
