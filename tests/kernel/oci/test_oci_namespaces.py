"""`linux.namespaces`, id mappings and time offsets: each new, each the host's, each joined by path."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from census import poll_until

from .bundles import DELETE, Bundle
from .comparison import Case, Comparison, with_known
from .known import crun, runc
from .runtimes import OURS, descendants

pytestmark = pytest.mark.kernel

_BASE = ("pid", "network", "ipc", "uts", "mount")
_LINKS = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "cgroup": "cgroup",
    "time": "time",
}
_LINKS |= {"user": "user"}
_FLAGS = {"network": "--net", "time": "--time"}  # of unshare(1), where they are not the namespace's name
_MAPS = {name: [{"containerID": 0, "hostID": 100000, "size": 65536}] for name in ("uid", "gid")}


def _types(*names: str) -> dict[str, list[dict[str, str]]]:
    return {"linux.namespaces": [{"type": name} for name in names]}


def _without(name: str) -> tuple[str, ...]:
    return tuple(n for n in _BASE if n != name)


def _holder(bundle: Bundle, name: str) -> int:
    """A process in a new namespace of this type, which lives as long as the bundle."""
    flag = _FLAGS.get(name, f"--{name}")
    extra = ["--fork", "--kill-child"] if name in ("pid", "time") else []
    held = subprocess.Popen(["unshare", flag, *extra, "sleep", "600"])
    bundle.cleanup.callback(held.wait, 10)
    bundle.cleanup.callback(held.kill)

    def inside() -> int:
        """The process that sleeps: it is in the namespace."""
        for pid in (held.pid, *descendants(held.pid)):
            with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                if f.read() == "sleep\n":
                    return pid
        return 0

    assert poll_until(lambda: inside() != 0)
    if name == "user":
        for kind in ("uid", "gid"):
            Path(f"/proc/{inside()}/{kind}_map").write_text("0 100000 65536")
    return inside()


def _joining(name: str) -> Callable[[Bundle], None]:
    def prepare(bundle: Bundle) -> None:
        path = f"/proc/{_holder(bundle, name)}/ns/{_LINKS[name]}"
        bundle.words[f"ns {name}"] = os.readlink(path)
        spaces = bundle.document["linux"]["namespaces"]
        spaces[:] = [n for n in spaces if n["type"] != name] + [{"type": name, "path": path}]
        if name == "user":
            _mapped_root(bundle)

    return prepare


def _joined(name: str) -> Case:
    changes = {"linux.uidMappings": _MAPS["uid"], "linux.gidMappings": _MAPS["gid"]} if name == "user" else {}
    return Case(f"{name}-joined", changes, prepare=_joining(name), expect={f"ns {_LINKS[name]}": f"ns {name}"})


def _mapped_root(bundle: Bundle) -> None:
    """The root belongs to the container's root, so that mount points can be made in it."""
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)


_USER = {**_types(*_BASE, "user"), "linux.uidMappings": _MAPS["uid"], "linux.gidMappings": _MAPS["gid"]}
_NO_CGROUP_MOUNT = {"mounts[/sys/fs/cgroup]": DELETE}
_NO_SYS = {"mounts[/sys/fs/cgroup]": DELETE, "mounts[/sys]": DELETE}
_OFFSETS = {"boottime": {"secs": 86400}, "monotonic": {"secs": 172800, "nanosecs": 5}}
_WRITTEN = "monotonic      172800         5\nboottime        86400         0"

NAMESPACES = (
    Case("pid-host", _types(*_without("pid")), expect={"ns pid": "host", "pid is 1": "False"}),
    Case("network-host", {**_types(*_without("network"))}, expect={"ns net": "host"}),
    Case("network-host-without-sys", {**_types(*_without("network")), **_NO_SYS}, expect={"ns net": "host"}),
    Case("ipc-host", {**_types(*_without("ipc")), "mounts[/dev/mqueue]": DELETE}, expect={"ns ipc": "host"}),
    Case("uts-host", {**_types(*_without("uts")), "hostname": DELETE}, expect={"ns uts": "host"}),
    Case("uts-host-with-hostname", _types(*_without("uts")), expect={"started": "no"}),
    Case("mount-host", _types(*_without("mount")), expect={"started": "no"}),
    Case("cgroup-new", _types(*_BASE, "cgroup"), expect={"ns cgroup": "new", "cgroup of memory": "/"}),
    Case(
        "cgroup-new-without-mount",
        {**_types(*_BASE, "cgroup"), **_NO_CGROUP_MOUNT},
        expect={"ns cgroup": "new", "cgroup of pids": "/"},
    ),
    Case("time-new", _types(*_BASE, "time"), expect={"ns time": "new"}),
    Case(
        "time-offsets-pid-host",
        {**_types(*_without("pid"), "time"), "linux.timeOffsets": _OFFSETS},
        expect={
            "ns time": "new",
            "clock boottime": "86400",
            "clock monotonic": "172800",
            "proc.timens_offsets": _WRITTEN,
        },
    ),
    Case(
        "time-offsets",
        {**_types(*_BASE, "time"), "linux.timeOffsets": _OFFSETS},
        expect={
            "ns time": "new",
            "clock boottime": "86400",
            "clock monotonic": "172800",
            "proc.timens_offsets": _WRITTEN,
        },
    ),
    Case("user-new", _USER, prepare=_mapped_root, expect={"ns user": "new", "proc.uid_map": "0     100000      65536"}),
    Case(
        "user-new-as-user",
        {**_USER, "process.user": {"uid": 1000, "gid": 1000, "additionalGids": [5, 2000]}},
        prepare=_mapped_root,
        expect={"status Uid": "1000 1000 1000 1000", "status Groups": "5 2000"},
    ),
    Case(
        "user-new-with-cgroup",
        {**_USER, **_types(*_BASE, "user", "cgroup")},
        prepare=_mapped_root,
        expect={"ns user": "new", "ns cgroup": "new"},
    ),
    Case(
        "user-several-maps",
        {
            **_USER,
            "linux.uidMappings": [
                {"containerID": 0, "hostID": 100000, "size": 1000},
                {"containerID": 5000, "hostID": 300000, "size": 9},
            ],
        },
        prepare=_mapped_root,
        expect={"proc.uid_map": "0     100000       1000\n      5000     300000          9"},
    ),
    Case("user-without-maps", _types(*_BASE, "user"), prepare=_mapped_root, expect={"started": "no"}),
    Case(
        "user-to-root",
        {
            **_USER,
            "linux.uidMappings": [{"containerID": 0, "hostID": 0, "size": 65536}],
            "linux.gidMappings": [{"containerID": 0, "hostID": 0, "size": 65536}],
        },
    ),
    Case(
        "user-id-outside-map",
        {**_USER, "process.user": {"uid": 70000, "gid": 0}},
        prepare=_mapped_root,
        expect={"started": "no"},
    ),
    Case("maps-without-user", {"linux.uidMappings": _MAPS["uid"], "linux.gidMappings": _MAPS["gid"]}),
    Case("offsets-without-time", {"linux.timeOffsets": _OFFSETS}),
    Case("twice", _types(*_BASE, "ipc"), expect={"started": "no"}),
    Case("unknown", _types(*_BASE, "moon"), expect={"started": "no"}),
    Case(
        "path-missing",
        {"linux.namespaces": [{"type": "mount"}, {"type": "ipc", "path": "/no/such"}]},
        expect={"started": "no"},
    ),
    Case(
        "path-of-other-type",
        {"linux.namespaces": [{"type": "mount"}, {"type": "ipc", "path": "/proc/self/ns/uts"}]},
        expect={"started": "no"},
    ),
    *(_joined(name) for name in _LINKS),
)

_SOURCE = crun("mount /sys/fs/cgroup/* source", "names a cgroup mount in a cgroup namespace by its path")
_MQUEUE = runc("dev mqueue", "leaves mqueue's root to a group outside the user namespace")
_NO_TIME = runc("started", "has no time namespaces")
_NO_OFFSETS = "does not set the offsets"
_TIME_AND_PID = crun("started", "makes PID 1 of the new pid namespace end, on its way into a new time namespace")

KNOWN = {
    "mount-host": (crun("started", "masks paths in the host's mount namespace"),),
    "cgroup-new": (_SOURCE,),
    "cgroup-joined": (_SOURCE,),
    "time-new": (_NO_TIME, _TIME_AND_PID),
    "time-offsets": (_NO_TIME, _TIME_AND_PID),
    "time-offsets-pid-host": (_NO_TIME, crun("clock *", _NO_OFFSETS), crun("proc.timens_offsets", _NO_OFFSETS)),
    "time-joined": (_NO_TIME, _TIME_AND_PID),
    "user-new": (_MQUEUE,),
    "user-new-as-user": (_MQUEUE,),
    "user-new-with-cgroup": (_MQUEUE, _SOURCE),
    "user-several-maps": (_MQUEUE,),
    "user-joined": (_MQUEUE,),
    "twice": (crun("started", "takes a namespace twice"),),
}

CASES = with_known(NAMESPACES, KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
