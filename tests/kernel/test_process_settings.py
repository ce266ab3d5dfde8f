"""What a document says of its process, read back from the kernel."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle, ran, refused_bundle, user_namespace
from probes import limits

import pycontain
from pycontain.errors import SetupFailed

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

libc = ctypes.CDLL(None, use_errno=True)
SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}[os.uname().machine]


class running:
    """A bundle's container that sleeps; its pid."""

    def __init__(self, root: str, changes: dict[str, Any]) -> None:
        self._bundle = bundle(root, "sleep 600", changes)

    def __enter__(self) -> int:
        self._container = pycontain.Container(self._bundle.__enter__(), stop_timeout=0.0)
        return self._container.pid

    def __exit__(self, *error: Any) -> None:
        self._container.__exit__(None, None, None)
        self._bundle.__exit__(*error)


@pytest.mark.parametrize(
    ("scheduler", "policy", "nice"),
    [
        ({"policy": "SCHED_OTHER", "nice": 7}, 0, 7),
        ({"policy": "SCHED_BATCH", "nice": 19}, 3, 19),
        ({"policy": "SCHED_IDLE"}, 5, 0),
    ],
)
def test_scheduler(scheduler: dict[str, Any], policy: int, nice: int, busybox_root: str) -> None:
    with running(busybox_root, {"process.scheduler": scheduler}) as pid:
        assert os.sched_getscheduler(pid) == policy
        assert os.getpriority(os.PRIO_PROCESS, pid) == nice


@pytest.mark.parametrize("policy", ["SCHED_FIFO", "SCHED_RR"])
def test_real_time_scheduler(policy: str, busybox_root: str) -> None:
    change = {"process.scheduler": {"policy": policy, "priority": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}}
    try:
        with running(busybox_root, change) as pid:
            assert os.sched_getscheduler(pid) & ~0x40000000 == {"SCHED_FIFO": 1, "SCHED_RR": 2}[policy]
            assert os.sched_getparam(pid).sched_priority == 5
    except SetupFailed as e:
        assert "scheduler" in str(e)
        assert "EPERM" in str(e)  # no real-time budget in the cgroup, or no CAP_SYS_NICE


@pytest.mark.parametrize(("word", "class_", "priority"), [("IOPRIO_CLASS_BE", 2, 6), ("IOPRIO_CLASS_IDLE", 3, 0)])
def test_io_priority(word: str, class_: int, priority: int, busybox_root: str) -> None:
    change = {"process.ioPriority": {"class": word, "priority": priority}}
    with running(busybox_root, change) as pid:
        assert libc.syscall(SYS_IOPRIO_GET, 1, pid) == class_ << 13 | priority


def test_personality(busybox_root: str) -> None:
    found = ran(busybox_root, "cat /proc/self/personality; uname -m", {"linux.personality": {"domain": "LINUX32"}})
    if os.uname().machine == "x86_64":
        assert found.split() == ["00000008", "i686"]
    assert ran(busybox_root, "cat /proc/self/personality", {"linux.personality": {"domain": "LINUX"}}) == "00000000\n"


@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="this kernel has no NUMA")
def test_memory_policy(busybox_root: str) -> None:
    change = {"linux.memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}}
    with running(busybox_root, change) as pid:
        assert "bind" in Path(f"/proc/{pid}/numa_maps").read_text()
    bad = {"linux.memoryPolicy": {"mode": "MPOL_BIND", "nodes": "1023"}}
    assert "memory policy" in refused_bundle(busybox_root, bad)


@pytest.mark.parametrize("mask", [0, 0o077, 0o777])
def test_umask(mask: int, busybox_root: str) -> None:
    with running(busybox_root, {"process.user.umask": mask}) as pid:
        assert f"Umask:\t{mask:04o}\n" in Path(f"/proc/{pid}/status").read_text()


def test_resource_limits(busybox_root: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = [
        ("NOFILE", 64, 128),
        ("CORE", 0, 0),
        ("STACK", 1 << 20, 1 << 22),
        ("CPU", 100, 200),
        ("MEMLOCK", 4096, 4096),
    ]
    change = {"process.rlimits": [{"type": f"RLIMIT_{n}", "soft": s, "hard": h} for n, s, h in wanted]}
    names = ["Max open files", "Max core file size", "Max stack size", "Max cpu time", "Max locked memory"]
    for more in ({}, user_namespace()):
        with running(busybox_root, {**change, **more}) as pid:
            found = limits(pid)
        assert [found[n] for n in names] == [(str(s), str(h)) for _, s, h in wanted]
    assert hard > 128


@pytest.mark.parametrize("score", [0, 500, 1000])
def test_oom_score(score: int, busybox_root: str) -> None:
    before = Path("/proc/self/oom_score_adj").read_text()
    for more in ({}, user_namespace()):
        with running(busybox_root, {"process.oomScoreAdj": score, **more}) as pid:
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == f"{score}\n"
        assert Path("/proc/self/oom_score_adj").read_text() == before  # its memory was ours for a while


def test_no_new_privileges_and_seccomp_mode(busybox_root: str) -> None:
    with running(busybox_root, {"process.noNewPrivileges": True, **user_namespace()}) as pid:
        assert "NoNewPrivs:\t1\n" in Path(f"/proc/{pid}/status").read_text()


def test_names(busybox_root: str) -> None:
    for more in ({}, user_namespace()):
        changes = {"hostname": "one", "domainname": "two.org", **more}
        assert ran(busybox_root, "hostname; cat /proc/sys/kernel/domainname", changes).split() == ["one", "two.org"]


@pytest.mark.parametrize("more", [{}, user_namespace()])
def test_sysctls(more: dict[str, Any], busybox_root: str) -> None:
    wanted = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096", "net.core.somaxconn": "77"}
    found = ran(
        busybox_root,
        "cd /proc/sys; cat net/ipv4/ip_forward kernel/msgmax net/core/somaxconn",
        {"linux.sysctl": wanted, **more},
    )
    assert found.split() == ["1", "4096", "77"]


# --- keyrings -------------------------------------------------------------------------------------------------------

KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
ADD_KEY = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
_GET_KEYRING_ID, _DESCRIBE, _SEARCH, _UNLINK, _SESSION = 0, 6, 10, 9, -3

LOOK = f"""
import ctypes
libc = ctypes.CDLL(None)
b = ctypes.create_string_buffer(200)
libc.syscall({KEYCTL}, {_DESCRIBE}, {_SESSION}, b, 200)
print(b.value.decode().rpartition(";")[2])
print(libc.syscall({KEYCTL}, {_SEARCH}, {_SESSION}, b"user", b"pycontain-test-key", 0))
"""


KEEPERS: list[dict[str, Any]] = [{}, {"userns": "auto"}, {"pid": "host"}]


def test_the_callers_session_keyring_stays_outside() -> None:
    key = libc.syscall(ADD_KEY, b"user", b"pycontain-test-key", b"secret", 6, _SESSION)
    if key < 0:
        pytest.skip("this kernel has no keyrings")
    try:
        assert libc.syscall(KEYCTL, _SEARCH, _SESSION, b"user", b"pycontain-test-key", 0) == key
        for more in KEEPERS:
            r = pycontain.run(
                "host", ["python3", "-I", "-S", "-c", LOOK], text=True, seccomp="unconfined", timeout=20, **more
            )
            name, found = str(r.stdout).split()
            assert name.startswith("_ses.")
            assert found == "-1"
        assert libc.syscall(KEYCTL, _SEARCH, _SESSION, b"user", b"pycontain-test-key", 0) == key
    finally:
        libc.syscall(KEYCTL, _UNLINK, key, _SESSION)


# --- refused --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.scheduler", {"policy": "SCHED_SOON"}),
        ("process.scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_X"]}),
        ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}),
        ("process.ioPriority", {"class": "X", "priority": 1}),
        ("linux.personality", {"domain": "SOLARIS"}),
        ("linux.memoryPolicy", {"mode": "MPOL_X", "nodes": "0"}),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0-x"}),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "²"}),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "9" * 5000}),
        ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0-1024"}),
    ],
)  # fmt: skip
def test_values_that_are_none(path: str, value: dict[str, Any], busybox_root: str) -> None:
    assert path in refused_bundle(busybox_root, {path: value})
