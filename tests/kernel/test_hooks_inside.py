"""createContainer and startContainer hooks: where they run, as whom, what they can reach, and every way in which they fail."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle, holder, ran, refused_bundle, user_namespace
from probes import namespace

import pycontain
from pycontain.runtime import running

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

INSIDE = ("createContainer", "startContainer")
KINDS = ("prestart", "createRuntime", *INSIDE, "poststart", "poststop")
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")


def shell(script: str, **more: Any) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], **more}


@pytest.fixture
def log(base: str) -> Iterator[Path]:
    """A file that is /log in the container, too, and that everybody may find and write to."""
    made = Path(base) / "log"
    made.touch()
    made.chmod(0o666)
    yield made
    made.unlink()


def with_log(log: Path) -> dict[str, Any]:
    bind = {"destination": "/log", "type": "bind", "source": str(log), "options": ["bind"]}
    return {"root.readonly": False, "mounts[3]": bind}


def to(log: Path, kind: str) -> str:
    return "/log" if kind == "startContainer" else str(log)


USERS: dict[str, dict[str, Any]] = {"root": {}, "user namespace": user_namespace()}
each_user = pytest.mark.parametrize("users", USERS)
each_kind = pytest.mark.parametrize("kind", INSIDE)


def test_all_six_are_called_in_order(log: Path, busybox_root: str) -> None:
    hooks = {f"hooks.{k}": [shell(f"echo {k} {n} >>{to(log, k)}") for n in (1, 2)] for k in KINDS}
    wait = "while ! grep -q 'poststart 2' /log; do usleep 1000; done"
    ran(busybox_root, f"echo program >>/log; {wait}", with_log(log) | hooks)
    lines = log.read_text().splitlines()
    lines.remove("program")  # beside poststart
    assert lines == [f"{k} {n}" for k in KINDS for n in (1, 2)]


@each_user
@each_kind
def test_it_is_in_the_programs_namespaces(kind: str, users: str, log: Path, busybox_root: str) -> None:
    look = "for n in mnt pid net ipc uts user; do readlink /proc/self/ns/$n; done"
    changes = with_log(log) | {f"hooks.{kind}": [shell(f"{look} >>{to(log, kind)}")]} | USERS[users]
    inside = ran(busybox_root, look, changes).split()
    assert log.read_text().split() == inside
    for name, link in zip(NAMESPACES, inside, strict=False):
        assert link != namespace("self", name)


@each_user
@each_kind
def test_what_it_is_told(kind: str, users: str, log: Path, busybox_root: str) -> None:
    changes = {f"hooks.{kind}": [shell(f"cat >>{to(log, kind)}"), shell(f"cat >>{to(log, kind)}")]}
    with bundle(busybox_root, "true", with_log(log) | changes | USERS[users]) as image:
        pycontain.run(image, timeout=20)
    first, second = log.read_text().replace("}{", "}\n{").splitlines()
    assert first == second  # each reads it from its beginning
    state = json.loads(first)
    assert (state["status"], state["pid"]) == ("creating" if kind == "createContainer" else "created", 1)
    assert state["bundle"] == image.removeprefix("bundle:")


def test_create_container_is_root_among_the_hosts_files(log: Path, busybox_root: str) -> None:
    """Before pivot_root: its path and what it sees are the runtime's, with the container's mounts in their place."""
    script = f"id -u; pwd; ls -d {log.parent}; ls {busybox_root}/proc | grep -c '^[0-9]'; grep CapBnd /proc/self/status"
    changes = with_log(log) | {"hooks.createContainer": [shell(f"({script}) >>{log}")], "process.user.uid": 1000}
    ran(busybox_root, "true", changes)
    found = log.read_text().split()
    assert found[:3] == ["0", busybox_root, str(log.parent)]
    assert int(found[3]) >= 2  # the container's own procfs
    assert int(found[5], 16) == int(status_of_self("CapBnd"), 16)


def status_of_self(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(field + ":"))


@each_user
def test_what_create_container_mounts_is_there_and_not_on_the_host(users: str, log: Path, busybox_root: str) -> None:
    """What device hooks do."""
    at = f"{busybox_root}/tmp/mounted"
    hook = shell(f"mkdir -p {at} && mount -t tmpfs made {at} && touch {at}/inside")
    changes = {"hooks.createContainer": [hook], "mounts[2]": {"destination": "/unused", "type": "tmpfs"}}
    os.makedirs(at, exist_ok=True)
    before = Path("/proc/self/mountinfo").read_text()
    assert ran(busybox_root, "ls /tmp/mounted", with_log(log) | changes | USERS[users]) == "inside\n"
    assert Path("/proc/self/mountinfo").read_text() == before and os.listdir(at) == []


@each_user
def test_nothing_of_the_host_is_left_for_the_program(users: str, log: Path, busybox_root: str) -> None:
    changes = with_log(log) | USERS[users]
    without = ran(busybox_root, "cut -d' ' -f5 /proc/self/mountinfo", changes).split()
    changes["hooks.createContainer"] = [shell("true")]
    script = "cut -d' ' -f5 /proc/self/mountinfo; ls -a / >/log; cd ..; pwd; ls -d /proc/1/root/bin"
    found = ran(busybox_root, script, changes).split()
    assert found == [*without, "/", "/proc/1/root/bin"]
    assert "var" in log.read_text().split() and "job" not in log.read_text().split()


AS = "grep -E '^(Uid|Groups|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -n; umask; pwd; cat /proc/self/oom_score_adj"


def test_start_container_is_what_the_program_will_be(log: Path, busybox_root: str) -> None:
    """Its file is the image's own: it must not have more power than that."""
    changes = with_log(log) | {
        "hooks.startContainer": [shell(f"({AS}) >>/log")],
        "process.user": {"uid": 1000, "gid": 1001, "additionalGids": [5], "umask": 0o27},
        "process.noNewPrivileges": True,
        "process.cwd": "/tmp",
        "process.oomScoreAdj": 77,
        "process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 40, "hard": 40}],
        "linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]},
    }  # fmt: skip
    assert ran(busybox_root, AS, changes) == log.read_text()
    assert "CapEff:\t0000000000000000" in log.read_text() and "Seccomp:\t2" in log.read_text()


def test_start_container_is_the_images_own_file(log: Path, tmp_path: Path, busybox_root: str) -> None:
    own = tmp_path / "own"
    own.write_text("#!/bin/sh\ntest -e /etc/shadow && exit 1\necho from inside >/log\n")
    own.chmod(0o755)
    bind = {"destination": "/hook", "type": "bind", "source": str(own), "options": ["bind"]}
    ran(busybox_root, "true", with_log(log) | {"mounts[4]": bind, "hooks.startContainer": [{"path": "/hook"}]})
    assert log.read_text() == "from inside\n"
    assert not os.path.exists("/hook")


# What a hostile one finds of the engine's, beside the program to be. Process 1 is the sealed stub by then.
REACH = r"""
for fd in /proc/self/fd/*; do readlink $fd; done | grep -v '^/memfd:pycontain-state\|^pipe:\|^/proc/.*/fd$\|^$'
(echo x >/proc/self/fd/0) 2>/dev/null && echo state-written
(echo x >/proc/1/exe) 2>/dev/null && echo stub-written
[ -e /etc/shadow ] && echo host-seen
[ "$(readlink /proc/1/exe)" = "/memfd:pycontain-exec (deleted)" ] || readlink /proc/1/exe
tr '\0' '\n' </proc/1/environ | grep -v ^PATH= | grep -v ^HOME=
exit 0
"""
ALL = {k: ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"] for k in ("bounding", "effective", "permitted")}


def test_what_a_hostile_hook_finds(log: Path, busybox_root: str) -> None:
    hook = shell(f"exec >>/log 2>>/log; {REACH}")
    ran(busybox_root, "true", with_log(log) | {"hooks.startContainer": [hook], "process.capabilities": ALL})
    assert set(log.read_text().split("\n")) <= {"/log", ""}, log.read_text()


@each_kind
def test_one_that_fails_ends_the_container(kind: str, log: Path, busybox_root: str) -> None:
    where = to(log, kind)
    changes = with_log(log) | {
        f"hooks.{kind}": [
            shell(f"echo one >>{where}"), shell(f"echo two >>{where}; echo last words >&2; exit 3"),
            shell(f"echo three >>{where}"),
        ],
        "hooks.poststop": [shell(f"cat >/dev/null; echo stop >>{log}")],
    }  # fmt: skip
    message = refused_bundle(busybox_root, changes, "echo program >>/log")
    assert message == f"hooks.{kind}[1]: /bin/sh failed with status 3: last words"
    assert log.read_text().split() == ["one", "two", "stop"]


@each_user
@each_kind
def test_a_signal_and_a_missing_file(kind: str, users: str, busybox_root: str) -> None:
    def refused(hook: dict[str, Any]) -> str:
        return refused_bundle(busybox_root, {f"hooks.{kind}": [shell("true"), hook]} | USERS[users])

    assert refused(shell("kill -TERM $$")) == f"hooks.{kind}[1]: /bin/sh failed with signal 15"
    assert f"hooks.{kind}[1]: cannot run /no/such: No such file or directory (ENOENT)" in refused({"path": "/no/such"})
    assert f"hooks.{kind}[1]: cannot run /etc/passwd: Permission denied (EACCES)" in refused({"path": "/etc/passwd"})
    assert f"hooks.{kind}[1]: cannot run /etc: Permission denied (EACCES)" in refused({"path": "/etc"})


@each_kind
def test_one_that_hangs_is_killed_at_its_timeout(kind: str, log: Path, busybox_root: str) -> None:
    hook = {"path": "/bin/sleep", "args": ["sleep", "600"], "timeout": 1}
    changes = {f"hooks.{kind}": [hook], "hooks.poststop": [shell(f"cat >/dev/null; echo stop >>{log}")]}
    message = refused_bundle(busybox_root, changes, "sleep 600")
    assert message == f"hooks.{kind}[0]: /bin/sleep has not ended in 1 s and was killed"
    assert log.read_text() == "stop\n"


@each_kind
def test_one_that_says_much_and_one_that_leaves_a_child_behind(kind: str, busybox_root: str) -> None:
    much = shell("yes | head -c 1000000; yes | head -c 1000000 >&2")
    child = shell("sleep 600 & exit 0")  # which holds its output open
    assert ran(busybox_root, "echo program", {f"hooks.{kind}": [much, child, much]}) == "program\n"
    last = shell("yes | head -c 100000; echo; echo the last; exit 9")
    assert refused_bundle(busybox_root, {f"hooks.{kind}": [last]}).endswith("failed with status 9: the last")


@each_kind
@pytest.mark.parametrize("timeout", [{}, {"timeout": 60}], ids=["no timeout", "a timeout"])
def test_its_time_is_its_own(
    kind: str, timeout: dict[str, int], busybox_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However soon the start itself must be done."""
    monkeypatch.setattr(running, "_START_DEADLINE_NS", 300_000_000)
    assert ran(busybox_root, "echo program", {f"hooks.{kind}": [shell("sleep 1", **timeout)]}) == "program\n"


@contextmanager
def interrupted(after_s: float) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, after_s)
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@each_user
@each_kind
def test_an_interrupt_ends_everything(kind: str, users: str, busybox_root: str) -> None:
    changes = {f"hooks.{kind}": [shell("sleep 600")]} | USERS[users]
    with bundle(busybox_root, "sleep 600", changes) as image, interrupted(0.3):
        pycontain.run(image)


def test_in_joined_namespaces(log: Path, busybox_root: str) -> None:
    """The number that it is told is the one in the namespace that it is in."""
    with holder("--pid", "--net", "--fork", "--mount-proc") as pid:
        joined = {
            f"linux.namespaces[{i}]": {"type": t, "path": f"/proc/{pid}/ns/{n}"}
            for i, t, n in ((1, "pid", "pid"), (4, "network", "net"))
        }
        script = "exec >>LOG; sed 's/.*\"pid\": \\([0-9]*\\).*/\\1/'; echo; readlink /proc/self/ns/net"
        hooks = {f"hooks.{k}": [shell(script.replace("LOG", to(log, k)))] for k in INSIDE}
        own = ran(busybox_root, "echo $$; readlink /proc/self/ns/net", with_log(log) | joined | hooks).split()
        assert log.read_text().split() == own * 2 and own[0] != "1"
        mount = {"linux.namespaces[0]": {"type": "mount", "path": f"/proc/{pid}/ns/mnt"}}
        message = refused_bundle(busybox_root, mount | {"hooks.createContainer": [shell("true")]})
    assert "hooks.createContainer: in a mount namespace that is joined" in message


def test_a_filter_that_lets_it_not_be_made(busybox_root: str) -> None:
    deny = {"names": ["clone", "clone3", "fork", "vfork"], "action": "SCMP_ACT_ERRNO"}
    changes = {
        "linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [deny]},
        "hooks.startContainer": [shell("true")],
    }
    assert "hooks.startContainer[0]: cannot run /bin/sh: Operation not permitted (EPERM)" in refused_bundle(
        busybox_root, changes
    )
    changes["hooks.createContainer"] = changes.pop("hooks.startContainer")  # before the filter
    assert ran(busybox_root, "echo program", changes) == "program\n"
