"""Joining namespaces by their paths, and time namespaces with offsets: the kernel is asked which ones a process is in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle, holder, ran, refused_bundle, user_namespace
from probes import namespace

import pycontain
from pycontain.errors import SetupFailed

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

# kind in the document, unshare's flags, name in /proc/PID/ns, index in the document's namespaces
KINDS = {
    "network": (("--net",), "net", 4),
    "uts": (("--uts",), "uts", 3),
    "ipc": (("--ipc",), "ipc", 2),
    "cgroup": (("--cgroup",), "cgroup", 5),
    "pid": (("--pid", "--fork", "--mount-proc"), "pid", 1),
    "mount": (("--mount",), "mnt", 0),
    "time": (("--time", "--monotonic", "5000", "--fork"), "time", 5),
}


def joined(kind: str, pid: int) -> dict[str, Any]:
    _, name, index = KINDS[kind]
    return {f"linux.namespaces[{index}]": {"type": kind, "path": f"/proc/{pid}/ns/{name}"}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_is_joined_by_its_path(kind: str, busybox_root: str) -> None:
    flags, name, _ = KINDS[kind]
    with holder(*flags) as pid:
        theirs = namespace(pid, name)
        changes = joined(kind, pid)
        if kind == "pid":  # the holder's processes are in sight
            assert ran(busybox_root, "readlink /proc/self/ns/pid; ls -d /proc/1", changes).split() == [
                theirs,
                "/proc/1",
            ]
        else:
            assert ran(busybox_root, f"readlink /proc/self/ns/{name}", changes).strip() == theirs
        assert theirs != namespace("self", name)
        assert os.path.exists(f"/proc/{pid}")


def test_user_and_all_others_are_joined_together(busybox_root: str) -> None:
    setup = "hostname inside"
    with holder(
        "--user", "--map-root-user", "--net", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", setup=setup
    ) as pid:
        changes: dict[str, Any] = {
            "linux.namespaces[5]": {"type": "user", "path": f"/proc/{pid}/ns/user"},
            "hostname": "",
            "root.readonly": False,
        }
        for kind in ("network", "uts", "ipc", "pid"):
            changes.update(joined(kind, pid))
        found = ran(
            busybox_root, "for n in user net uts ipc pid; do readlink /proc/self/ns/$n; done; hostname; id -u", changes
        )
        assert found.split() == [namespace(pid, n) for n in ("user", "net", "uts", "ipc", "pid")] + ["inside", "0"]


def test_a_new_user_namespace_and_joined_others(busybox_root: str) -> None:
    with holder("--net") as pid:
        changes = {**user_namespace(), **joined("network", pid)}
        found = ran(busybox_root, "readlink /proc/self/ns/net; cat /proc/self/uid_map", changes).split()
        assert found == [namespace(pid, "net"), "0", "300000", "65536"]


def test_the_first_process_is_the_engines_child_and_its_end_is_seen(busybox_root: str) -> None:
    with holder("--pid", "--fork", "--mount-proc") as pid:
        with bundle(busybox_root, "kill -9 $$", joined("pid", pid)) as image:
            r = pycontain.run(image, timeout=20)
        assert (r.exit_code, r.signal) == (137, 9)
        with (
            bundle(busybox_root, "sleep 600", joined("pid", pid)) as image,
            pycontain.Container(image, stop_timeout=0.0) as c,
        ):
            assert namespace(c.pid, "pid") == namespace(pid, "pid")
            status = Path(f"/proc/{c.pid}/status").read_text()
            assert f"PPid:\t{os.getpid()}\n" in status


# In a mount namespace of its own, whose root is shared with the holder's as a host's is with that of `unshare`.
SHARED = """
import ctypes, os, sys
sys.path[:0] = [sys.argv[2]]
from bundles import holder, ran
libc = ctypes.CDLL(None)
assert libc.unshare(0x20000) == 0
for flags in (1 << 18, 1 << 20):
    assert libc.mount(b"none", b"/", None, flags | 1 << 14, None) == 0
def mounts():
    return [line.split()[4] for line in open("/proc/self/mountinfo")]
before = mounts()
with holder("--mount", "--propagation", "unchanged") as pid:
    change = {"linux.namespaces[0]": {"type": "mount", "path": f"/proc/{pid}/ns/mnt"}}
    print(ran(sys.argv[1], "ls /bin/busybox", change), sorted(set(mounts()) ^ set(before)), len(mounts()) - len(before))
"""


def test_a_joined_mount_namespace_lets_nothing_out(busybox_root: str) -> None:
    words = [sys.executable, "-c", SHARED, busybox_root, os.path.dirname(__file__)]
    r = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert r.stdout == "/bin/busybox\n [] 0\n", r.stderr


# --- what is no such namespace -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/proc/self/ns/uts", "/dev/null", "/etc/passwd", "/", "/proc/self/mountinfo", "/proc/self/fd"]
)
def test_a_path_of_another_kind_is_refused(path: str, busybox_root: str) -> None:
    message = refused_bundle(busybox_root, {"linux.namespaces[4]": {"type": "network", "path": path}})
    assert path in message
    assert "network" in message or "ermission" in message


def test_a_namespace_that_has_gone_is_refused(busybox_root: str) -> None:
    with holder("--net") as pid:
        changes = joined("network", pid)
    message = refused_bundle(busybox_root, changes)
    assert f"/proc/{pid}/ns/net" in message
    assert "ENOENT" in message


def test_a_fifo_in_a_namespaces_place_does_not_hang(tmp_path: Path, busybox_root: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    message = refused_bundle(busybox_root, {"linux.namespaces[4]": {"type": "network", "path": str(tmp_path / "fifo")}})
    assert "fifo" in message


def test_a_user_namespace_of_our_own_cannot_be_joined(busybox_root: str) -> None:
    change = {"linux.namespaces[5]": {"type": "user", "path": "/proc/self/ns/user"}}
    with bundle(busybox_root, "true", change) as image, pytest.raises(SetupFailed) as caught:
        pycontain.run(image)
    assert "user" in str(caught.value)
    assert "EINVAL" in str(caught.value)


def test_a_pinned_namespace_file(tmp_path: Path, busybox_root: str) -> None:
    pin = tmp_path / "net"
    pin.touch()
    with holder("--net") as pid:
        theirs = namespace(pid, "net")
        subprocess.run(["mount", "--bind", f"/proc/{pid}/ns/net", str(pin)], check=True)
    try:
        change = {"linux.namespaces[4]": {"type": "network", "path": str(pin)}}
        assert ran(busybox_root, "readlink /proc/self/ns/net", change).strip() == theirs
    finally:
        subprocess.run(["umount", str(pin)], check=True)


# --- time ------------------------------------------------------------------------------------------------------------


def test_offsets_are_read_back_inside(busybox_root: str) -> None:
    offsets = {"monotonic": {"secs": 100000, "nanosecs": 5}, "boottime": {"secs": -1, "nanosecs": 999999999}}
    changes = {"linux.namespaces[5]": {"type": "time"}, "linux.timeOffsets": offsets}
    found = ran(
        busybox_root, "cat /proc/self/timens_offsets; readlink /proc/self/ns/time; cat /proc/uptime", changes
    ).split()
    assert found[:6] == ["monotonic", "100000", "5", "boottime", "-1", "999999999"]
    assert found[6] != namespace("self", "time")


def test_offsets_in_a_user_namespace(busybox_root: str) -> None:
    changes = {
        **user_namespace(),
        "linux.namespaces[6]": {"type": "time"},
        "linux.timeOffsets": {"boottime": {"secs": 777777, "nanosecs": 0}},
    }
    before = float(Path("/proc/uptime").read_text().split()[0])
    uptime = float(ran(busybox_root, "cat /proc/uptime", changes).split()[0])
    assert 777777 <= uptime - before < 777777 + 60


def test_an_offset_that_the_kernel_refuses(busybox_root: str) -> None:
    changes = {
        "linux.namespaces[5]": {"type": "time"},
        "linux.timeOffsets": {"monotonic": {"secs": -(2**40), "nanosecs": 0}},
    }
    assert "timens_offsets" in refused_bundle(busybox_root, changes)
