"""Bundles: hooks in their order, the seccomp agent, what is bound and masked; a failing part leaves nothing."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle, notify, ran, refused_bundle, user_namespace
from probes import mounts, namespace, status

import pycontain

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

KINDS = ("prestart", "createRuntime", "poststart", "poststop")


def hook(log: Path, kind: str, then: str = "", **more: Any) -> dict[str, Any]:
    """A hook that appends its name and the state on its stdin to ``log``."""
    script = f"state=$(cat); echo {kind} $HOOK $state >>{log}; {then}"
    return {"path": "/bin/sh", "args": ["hook", "-c", script], "env": ["PATH=/bin:/usr/bin", "HOOK=yes"], **more}


def called(log: Path) -> list[tuple[str, str, dict[str, Any]]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [(kind, env, json.loads(state)) for kind, env, state in (line.split(" ", 2) for line in lines)]


# --- hooks ----------------------------------------------------------------------------------------------------------


def test_hooks_are_called_in_order_with_the_state(tmp_path: Path, busybox_root: str) -> None:
    log = tmp_path / "log"
    changes = {f"hooks.{kind}": [hook(log, kind)] for kind in KINDS}
    with bundle(busybox_root, "echo program", {**changes, "annotations": {"a.b": "c"}}) as image:
        r = pycontain.run(image, text=True, timeout=20)
        states = called(log)
    assert r.stdout == "program\n"
    assert [kind for kind, _, _ in states] == list(KINDS)
    assert {env for _, env, _ in states} == {"yes"}
    assert [s["status"] for _, _, s in states] == ["creating", "creating", "running", "stopped"]  # as runc says
    assert {s["bundle"] for _, _, s in states} == {image.removeprefix("bundle:")}
    assert len({s["id"] for _, _, s in states}) == 1
    assert [("pid" in s) for _, _, s in states] == [True, True, True, False]
    assert states[0][2]["annotations"] == {"a.b": "c"}


def test_create_runtime_sees_the_namespaces_and_not_yet_the_program(tmp_path: Path, busybox_root: str) -> None:
    out = tmp_path / "out"
    script = f"pid=$(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/'); readlink /proc/$pid/ns/net >{out}; readlink /proc/$pid/ns/uts >>{out}"
    changes = {
        "hooks.createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]
    }
    inside = ran(busybox_root, "readlink /proc/self/ns/net; readlink /proc/self/ns/uts", changes)
    found = out.read_text().splitlines()
    assert found[:2] == inside.split()
    assert found[0] != namespace("self", "net")


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_hook_that_fails_ends_the_container(kind: str, tmp_path: Path, busybox_root: str) -> None:
    log = tmp_path / "log"
    changes = {
        f"hooks.{kind}": [hook(log, "one"), hook(log, "two", "echo last words >&2; exit 3"), hook(log, "three")],
        "hooks.poststop": [hook(log, "stop")],
    }
    message = refused_bundle(busybox_root, changes, "sleep 600")
    assert f"hooks.{kind}[1]" in message
    assert "status 3: last words" in message
    assert [name for name, _, _ in called(log)] == ["one", "two", "stop"]


def test_a_poststop_hook_that_fails_changes_nothing(
    tmp_path: Path, busybox_root: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    with bundle(busybox_root, "exit 5", {"hooks.poststop": [hook(log, "stop", "exit 1")]}) as image:
        assert pycontain.run(image, timeout=20).exit_code == 5
    assert "hooks.poststop[0]" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["createRuntime", "poststart"])
def test_a_hook_that_hangs_is_killed_at_its_timeout(kind: str, busybox_root: str) -> None:
    sleeper = {"path": "/bin/sleep", "args": ["sleep", "600"], "timeout": 1}
    message = refused_bundle(busybox_root, {f"hooks.{kind}": [sleeper]}, "sleep 600")
    assert f"hooks.{kind}[0]" in message
    assert "1 s" in message


@pytest.mark.parametrize("path", ["/no/such/hook", "/etc/passwd"])
def test_a_hook_that_cannot_run(path: str, busybox_root: str) -> None:
    message = refused_bundle(busybox_root, {"hooks.createRuntime": [{"path": path}]})
    assert f"hooks.createRuntime[0]: cannot run {path}" in message


def test_an_interrupt_in_a_hook_ends_everything(busybox_root: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    slow = {"path": "/bin/sleep", "args": ["sleep", "600"]}
    try:
        with bundle(busybox_root, "sleep 600", {"hooks.createRuntime": [slow]}) as image:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                pycontain.run(image, timeout=20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_child_killed_in_a_hook_is_reported(busybox_root: str) -> None:
    script = "kill -9 $(sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/')"
    killer = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}
    for changes in ({}, user_namespace()):
        message = refused_bundle(busybox_root, {**changes, "hooks.createRuntime": [killer]})
        assert "was killed before its program ran" in message


def test_two_bundles_with_hooks_start_at_once(tmp_path: Path, busybox_root: str) -> None:
    """Each hook waits for the other's: neither start holds the other up."""
    os.mkfifo(tmp_path / "a")
    os.mkfifo(tmp_path / "b")
    scripts = [f"echo x >{tmp_path}/a; cat {tmp_path}/b", f"cat {tmp_path}/a; echo x >{tmp_path}/b"]
    results: list[int] = []

    def one(script: str) -> None:
        meet = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 15}
        with bundle(busybox_root, "exit 4", {"hooks.createRuntime": [meet]}) as image:
            results.append(pycontain.run(image, timeout=20).exit_code)

    threads = [threading.Thread(target=one, args=(s,)) for s in scripts]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [4, 4]


# --- the seccomp agent ------------------------------------------------------------------------------------------------


class _Request(ctypes.Structure):
    _fields_ = [
        ("id", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("nr", ctypes.c_int32),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    ]


class _Answer(ctypes.Structure):
    _fields_ = [("id", ctypes.c_uint64), ("val", ctypes.c_int64), ("error", ctypes.c_int32), ("flags", ctypes.c_uint32)]


_RECV, _SEND = 0xC0502100, 0xC0182101
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def agent(path: Path, error: int) -> Iterator[list[dict[str, Any]]]:
    """A seccomp agent that answers one notification with ``error``; what it was told."""
    told: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(15)

        def serve() -> None:
            with server.accept()[0] as peer:
                data, fds, _, _ = socket.recv_fds(peer, 1 << 16, 4)
            told.append(json.loads(data))
            request, answer = _Request(), _Answer()
            assert libc.ioctl(fds[0], _RECV, ctypes.byref(request)) == 0, os.strerror(ctypes.get_errno())
            told.append({"pid": request.pid, "fds": len(fds)})
            answer.id, answer.error = request.id, -error
            libc.ioctl(fds[0], _SEND, ctypes.byref(answer))
            for fd in fds:
                os.close(fd)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield told
        finally:
            thread.join()


@pytest.mark.parametrize("where", ["host", "user"])
def test_an_agent_answers_a_notification(where: str, tmp_path: Path, busybox_root: str) -> None:
    changes = {
        **notify(tmp_path / "agent", "mkdir", "mkdirat"),
        **(user_namespace() if where == "user" else {}),
        "process.noNewPrivileges": where == "user",
    }
    with agent(tmp_path / "agent", errno.EXDEV) as told:
        out = ran(busybox_root, "mkdir /tmp/x 2>&1; echo ended", changes)
    assert "Cross-device link" in out or "nvalid cross-device" in out
    first, second = told
    assert first["fds"] == ["seccompFd"]
    assert (first["metadata"], first["state"]["status"], second["fds"]) == ("for the agent", "creating", 1)
    assert first["pid"] == first["state"]["pid"]


def test_without_an_agent_nothing_starts(tmp_path: Path, busybox_root: str) -> None:
    message = refused_bundle(busybox_root, notify(tmp_path / "nobody", "mkdir"), "sleep 600")
    assert "linux.seccomp.listenerPath" in message
    assert "ENOENT" in message
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "deaf"))
        assert "ECONNREFUSED" in refused_bundle(busybox_root, notify(tmp_path / "deaf", "mkdir"))


# --- what is shown --------------------------------------------------------------------------------------------------


def test_the_root_is_the_bundles_own_directory(busybox_root: str) -> None:
    assert ran(busybox_root, "touch /root/made && ls /root", {"root.readonly": False}) == "made\n"
    assert Path(busybox_root, "root/made").exists()
    os.unlink(f"{busybox_root}/root/made")
    with bundle(busybox_root, "touch /root/x") as image:
        assert "Read-only" in str(pycontain.run(image, text=True).stderr)


def test_default_devices_and_links_are_there(busybox_root: str) -> None:
    script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; readlink /dev/fd; readlink /dev/ptmx"
    for changes in ({}, user_namespace()):
        assert ran(busybox_root, script, changes) == "/proc/self/fd\npts/ptmx\n"


def test_masks_and_read_only_paths(busybox_root: str) -> None:
    changes = {
        "linux.maskedPaths": ["/proc/version", "/proc/fs", "/no/such"],
        "linux.readonlyPaths": ["/proc/sys", "/no/such"],
    }
    for more in ({}, user_namespace()):
        with (
            bundle(busybox_root, "sleep 600", {**changes, **more}) as image,
            pycontain.Container(image, stop_timeout=0.0) as c,
        ):
            found = mounts(c.pid)
            assert found["/proc/version"][1] in ("tmpfs", "devtmpfs")
            assert "ro" in found["/proc/sys"][2]
            assert os.listdir(f"/proc/{c.pid}/root/proc/fs") == []


def test_only_the_documents_capabilities(busybox_root: str) -> None:
    caps = {
        "bounding": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "permitted": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL", "CAP_CHOWN"],
    }
    with (
        bundle(busybox_root, "sleep 600", {"process.capabilities": caps, "process.user.uid": 1000}) as image,
        pycontain.Container(image, stop_timeout=0.0) as c,
    ):
        found = status(c.pid)
        assert {found[f] for f in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {f"{1 << 5:016x}"}
        assert found["CapBnd"] == f"{1 << 5 | 1:016x}"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linux.namespaces": [], "hostname": ""}, "\"mount\""),
        ({"linux.namespaces[5]": {"type": "user"}}, "uidMappings"),
        ({"linux.uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}, "uidMappings"),
        ({"linux.intelRdt": {"closID": "x"}}, "intelRdt"),
        ({"process.apparmorProfile": "x"}, "apparmor"),
        ({"process.selinuxLabel": "x"}, "selinux"),
        ({"linux.mountLabel": "x"}, "selinux"),
        ({"root.path": "/no/such"}, "root.path"),
        ({"mounts[3]": {"destination": "/v", "type": "bind", "source": "/no/such", "options": ["bind"]}}, "mounts[3].source"),
        (notify("/run/agent", "mkdir", "write"), "linux.seccomp.syscalls[0].names"),
        ({"linux.rootfsPropagation": "sideways"}, "rootfsPropagation"),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_run(changes: dict[str, Any], words: str, busybox_root: str) -> None:
    with bundle(busybox_root, "true", changes) as image, pytest.raises(pycontain.PycontainError) as caught:
        pycontain.run(image)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
