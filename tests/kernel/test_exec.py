"""``Container.exec``: the program is in everything that the container's first process is in, and is no more than it.

The kernel is asked, by /proc of the host. What an attacker inside could do is in test_escapes_entering.py, the command in
test_exec_command.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle
from census import left_by
from probes import DEADLINE_S, cgroup_dirs, limits, living, namespace, runs, status, until

import pycontain
from pycontain import _native, aio
from pycontain.disassemble import decode
from pycontain.errors import (
    Conflict,
    ContainerExited,
    InvalidArgument,
    NotExecutable,
    ProgramNotFound,
    SetupFailed,
    TimeoutExpired,
)
from pycontain.runtime.executing import ExecRequest, Executing, start_exec
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

KINDS = ("mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time")


def said(c: pycontain.Container, script: str, **options: Any) -> str:
    """What a script prints in the container; it must succeed."""
    r = c.exec(["sh", "-c", script], text=True, timeout=DEADLINE_S, **options)
    assert r.exit_code == 0, (r.exit_code, r.stdout, r.stderr)
    assert isinstance(r.stdout, str)
    return r.stdout


@contextlib.contextmanager
def executing(
    c: pycontain.Container, *args: str, fault: _native.Fault | None = None, **wish: Any
) -> Iterator[Executing]:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    request = ExecRequest(args=args or ("sleep", "600"), **wish)
    try:
        found = start_exec(c._running.entry(), request, stdin=null, stdout=null, stderr=null, fault=fault)
    finally:
        os.close(null)
    try:
        yield found
    finally:
        found.abort()


# --- what it is in ----------------------------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "everything limited": {"memory": "256m", "cpus": 0.5, "pids": 50, "network": "none", "read_only": True},
    "host's": {"pid": "host", "network": "host", "ipc": "host", "uts": "host", "cgroupns": "host"},
    "user namespace": {"userns": "auto"},
    "privileged": {"privileged": True},
    "traced": {"cap_add": ["SYS_PTRACE"]},
    "user": {"user": "1000:100", "group_add": ["5"], "no_new_privileges": True},
    "init": {"init": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_in_the_same_namespaces_and_cgroups(options: dict[str, Any]) -> None:
    with living(**options) as c, executing(c) as e:
        assert [namespace(e.pid, kind) for kind in KINDS] == [namespace(c.pid, kind) for kind in KINDS]
        assert cgroup_dirs(e.pid) == cgroup_dirs(c.pid)
        assert os.stat(f"/proc/{e.pid}/root/.").st_ino == os.stat(f"/proc/{c.pid}/root/.").st_ino
        assert os.readlink(f"/proc/{e.pid}/cwd") == os.readlink(f"/proc/{c.pid}/cwd")


SAME = (
    "Uid", "Gid", "Groups", "Umask", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters",
    "SigBlk", "SigIgn",
)  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_it_is_no_more_than_the_first_process(options: dict[str, Any]) -> None:
    options = {**options, "ulimits": {"nofile": (77, 88)}}
    if options.get("init"):
        del options["init"]  # docker-init's own mask of signals is another
    with living(**options) as c, executing(c) as e:
        theirs, own = status(c.pid), status(e.pid)
        assert {name: own[name] for name in SAME} == {name: theirs[name] for name in SAME}
        assert limits(e.pid) == limits(c.pid)


def test_only_the_streams_are_open() -> None:
    with living() as c:
        # ls has one for the directory itself
        assert said(c, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]
        with executing(c) as e:
            assert sorted(os.listdir(f"/proc/{e.pid}/fd")) == ["0", "1", "2"]


def test_a_descriptor_of_the_caller_does_not_come_along(tmp_path: Path) -> None:
    """2024-21626: one that is open without close-on-exec, on a directory of the host."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    os.set_inheritable(fd, True)
    try:
        with living() as c:
            assert said(c, "ls /proc/self/fd").split() == ["0", "1", "2", "3"]
            for at in (fd, 3, 4, 5, 6, 7, 8, 9, 10):
                for path in (f"/proc/self/fd/{at}", f"/proc/self/fd/{at}/../.."):
                    with pytest.raises(SetupFailed, match="working directory"):
                        c.exec(["true"], workdir=path)
    finally:
        os.close(fd)


def test_it_has_a_session_of_its_own_and_the_containers_keyring() -> None:
    with living() as c, executing(c) as e:
        fields = Path(f"/proc/{e.pid}/stat").read_text().rpartition(")")[2].split()
        assert int(fields[3]) == int(status(e.pid)["NSpid"].split()[-1]) or int(fields[3]) == e.pid
        assert int(fields[1]) == os.getpid()


def test_the_oom_score_is_the_containers() -> None:
    with living(oom_score_adj=321) as c, executing(c) as e:
        assert Path(f"/proc/{e.pid}/oom_score_adj").read_text() == "321\n"


# --- who it is --------------------------------------------------------------------------------------------------------


def test_users_are_the_containers_own(busybox_root: str) -> None:
    with living("sleep", "600", image=busybox_root) as c:
        assert said(c, "id").startswith("uid=0(root) gid=0(root)")
        assert (
            said(c, "id; echo $HOME", user="user") == "uid=1000(user) gid=1000(user) groups=2000(extra)\n/home/user\n"
        )
        assert said(c, "id -u; id -g; id -G", user="1234:5").split() == ["1234", "5", "5"]
        with pytest.raises(InvalidArgument, match="unable to find user nosuch"):
            c.exec(["true"], user="nosuch")
        # as they are now, not as they were
        said(c, "echo late:x:77:78::/srv:/bin/sh >> /etc/passwd")
        assert said(c, "id -u; id -g; echo $HOME", user="late").split() == ["77", "78", "/srv"]


def test_another_user_has_no_capabilities_and_root_has_them_back() -> None:
    with living() as c, executing(c, user="nobody") as e:
        own = status(e.pid)
        assert (int(own["CapEff"], 16), int(own["CapPrm"], 16), int(own["CapAmb"], 16)) == (0, 0, 0)
        assert own["CapBnd"] == status(c.pid)["CapBnd"]
    with living(user="nobody") as c, executing(c, user="root") as e:
        assert status(e.pid)["CapEff"] == status(c.pid)["CapBnd"]


def test_groups_that_were_added_stay() -> None:
    with living(group_add=["4242"]) as c:
        assert "4242" in said(c, "id -G", user="nobody").split()


def test_privileged() -> None:
    with living(no_new_privileges=True) as c, executing(c, privileged=True) as e:
        own = status(e.pid)
        assert int(own["CapEff"], 16) == int(status("self")["CapEff"], 16)
        assert (own["Seccomp"], own["NoNewPrivs"]) == ("0", "1")
        assert namespace(e.pid, "mnt") == namespace(c.pid, "mnt")


def test_environment_and_directory() -> None:
    with living(env={"A": "image", "B": "b"}, workdir="/usr") as c:
        out = said(c, "pwd; env", env={"A": "exec", "C": "c"}).split("\n")
        assert out[0] == "/usr"
        assert {"A=exec", "B=b", "C=c", f"HOSTNAME={c.id[:12]}", "HOME=/root"} <= set(out)
        assert not [line for line in out if line.startswith("TERM=")]
        assert said(c, "pwd", workdir="/tmp") == "/tmp\n"
        # the caller's HOME stays, whoever it is
        with living(env={"HOME": "/given"}) as other:
            assert said(other, "echo $HOME", user="nobody") == "/given\n"


def test_files_of_users_that_are_none(busybox_root: str, tmp_path: Path) -> None:
    """A pipe, a link to the host's: neither waited for nor followed."""
    (tmp_path / "passwd").write_text("hosts:x:5:5::/:/bin/sh\n")
    with living("sleep", "600", image=busybox_root) as c:
        for link in (f"{tmp_path}/passwd", f"../../../../../..{tmp_path}/passwd"):
            said(c, f"rm /etc/passwd; ln -s {link} /etc/passwd")
            assert said(c, "id -u", user="7") == "7\n"
            with pytest.raises(InvalidArgument, match="unable to find user"):
                c.exec(["true"], user="hosts")
        said(c, "rm /etc/passwd; mkfifo /etc/passwd")
        with pytest.raises(InvalidArgument, match="not a regular file"):
            c.exec(["true"], user="nobody")
        said(c, "rm /etc/passwd; ln -s /proc/1/environ /etc/passwd")
        with pytest.raises(InvalidArgument):
            c.exec(["true"], user="nobody")


# --- streams, ends ----------------------------------------------------------------------------------------------------


def test_streams_and_exit_codes() -> None:
    with living() as c:
        r = c.exec(["sh", "-c", "cat; echo err >&2; exit 3"], input="in", text=True)
        assert (r.stdout, r.stderr, r.exit_code, r.signal, r.id, r.args[0]) == ("in", "err\n", 3, None, c.id, "sh")
        assert set(r.phases) == {"plan", "spawn", "run", "reap"}
        assert r.usage.wall_s > 0 and r.usage.memory_peak_bytes is None
        r = c.exec(["sh", "-c", "kill -TERM $$"])
        assert (r.exit_code, r.signal) == (143, signal.SIGTERM)
        data = b"x" * 3_000_000
        assert c.exec(["cat"], input=data).stdout == data
        with pytest.raises(ContainerExited):
            c.exec(["false"], check=True)
        with pytest.raises(ProgramNotFound, match="executable file not found"):
            c.exec(["no-such"])
        with pytest.raises(NotExecutable, match="cannot execute"):
            c.exec(["/etc/passwd"])
        assert c.exec(["true"]).exit_code == 0


def test_a_timeout_kills_it_and_not_the_container() -> None:
    with living() as c:
        r = c.exec(["sh", "-c", "echo partial; exec sleep 600"], timeout=0.3, text=True)
        assert (r.timed_out, r.exit_code, r.stdout) == (True, 137, "partial\n")
        with pytest.raises(TimeoutExpired):
            c.exec(["sleep", "600"], timeout=0.1, check=True)
        assert c.poll() is None


def test_a_terminal() -> None:
    with living() as c:
        r = c.exec(
            ["sh", "-c", "tty; test -t 2 && echo $TERM; read line; echo got $line"],
            input="typed\n",
            text=True,
            tty=True,
        )
        assert "/dev/pts/0" in str(r.stdout)
        assert "xterm" in str(r.stdout) and "got typed" in str(r.stdout)
        assert c.exec(["cat"], input="to the end\n", tty=True, timeout=DEADLINE_S).exit_code == 0
        with executing(c, terminal=True, console_size=(33, 44), user="nobody") as e:
            assert os.get_terminal_size(e.tty_fd) == os.terminal_size((44, 33))
            assert os.stat(f"/proc/{e.pid}/fd/0").st_uid == 65534
        with pytest.raises(InvalidArgument, match="with tty"):
            c.exec(["true"], tty=True, stdout=None)


def test_a_terminal_that_the_container_has_replaced() -> None:
    with living(privileged=True) as c:
        said(c, "umount /dev/pts; : > /dev/pts/ptmx 2>/dev/null || { mount -t tmpfs x /dev/pts; : > /dev/pts/ptmx; }")
        with pytest.raises(SetupFailed, match="tty"):
            c.exec(["true"], tty=True)


def test_a_terminal_in_a_user_namespace_and_beside_a_tracer() -> None:
    for options in ({"userns": "auto"}, {"cap_add": ["SYS_PTRACE"]}):
        with living(**options) as c:
            assert c.exec(["tty"], tty=True, text=True).stdout == "/dev/pts/0\r\n"
            assert c.exec(["stat", "-c", "%u", "/dev/pts/0"], tty=True, text=True, user="nobody").stdout == "65534\r\n"


def test_asyncio() -> None:
    async def main() -> None:
        async with aio.AsyncContainer("host", ["sleep", "600"], init=True) as c:
            r = await c.exec(["sh", "-c", "cat; exit 4"], input="in", text=True)
            assert (r.stdout, r.exit_code) == ("in", 4)
            many = await asyncio.gather(*(c.exec(["sh", "-c", f"echo {i}"], text=True) for i in range(20)))
            assert [r.stdout for r in many] == [f"{i}\n" for i in range(20)]
            r = await c.exec(["sleep", "600"], timeout=0.2)
            assert (r.timed_out, r.exit_code) == (True, 137)
            task = asyncio.create_task(c.exec(["sleep", "600"]))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(ProgramNotFound):
                await c.exec(["no-such"])

    asyncio.run(asyncio.wait_for(main(), 60))


def test_from_many_threads() -> None:
    wrong: list[object] = []

    def loop(c: pycontain.Container) -> None:
        for _ in range(10):
            r = c.exec(["sh", "-c", "echo $$"], text=True)
            if r.exit_code != 0:
                wrong.append(r)

    with living() as c:
        threads = [threading.Thread(target=loop, args=(c,)) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert not wrong


# --- the container meanwhile ------------------------------------------------------------------------------------------


def test_one_that_has_ended() -> None:
    with living("sleep", "600") as c:
        assert c.exec(["true"]).exit_code == 0
        os.kill(c.pid, signal.SIGKILL)
        with pytest.raises(Conflict, match=f"container {c.name} has ended"):
            for _ in range(1000):  # until the kernel has ended it, whichever step that meets
                c.exec(["true"])
        c.wait()
        with pytest.raises(Conflict, match=f"container {c.name} has ended"):
            c.exec(["true"])


def test_one_that_ends_at_any_moment() -> None:
    """Conflict, or the program's end by SIGKILL: nothing else, and the container's own end is not held up."""
    for delay in (0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005):
        with living("sleep", "600") as c:
            killer = threading.Timer(delay, os.kill, (c.pid, signal.SIGKILL))
            killer.start()
            try:
                while True:
                    r = c.exec(["true"])
                    assert r.exit_code in (0, 137), r
            except Conflict as e:
                assert str(e) == f"container {c.name} has ended"
            killer.join()
            assert c.wait(DEADLINE_S) == 137


def test_the_end_of_the_container_ends_it() -> None:
    with living("sleep", "600") as c, executing(c) as e:
        os.kill(c.pid, signal.SIGKILL)
        outcome = e.wait(DEADLINE_S)
        assert outcome is not None and outcome.signal == signal.SIGKILL
        assert c.wait(DEADLINE_S) == 137


def test_one_that_is_paused() -> None:
    with living() as c:
        c.pause()
        with pytest.raises(Conflict, match=f"Container {c.name} is paused, unpause the container before exec"):
            c.exec(["true"])
        c.unpause()
        with executing(c) as e:  # the pause has moved it into one cgroup more
            assert cgroup_dirs(e.pid) == cgroup_dirs(c.pid)
            c.pause()
            before = status(e.pid)["State"]
            c.unpause()
            assert before


def test_limits_hold_for_it_as_well() -> None:
    with living(pids=10) as c:
        bomb = "i=0; while [ $i -lt 50 ]; do sleep 600 & i=$((i + 1)); done; echo none refused"
        r = c.exec(["sh", "-c", bomb], text=True, timeout=DEADLINE_S)
        assert "none refused" not in str(r.stdout)
        assert c.events().pids_max > 0
        with pytest.raises(SetupFailed, match="no more processes may be made"):
            for _ in range(12):  # what the bomb has left is in there still
                c.exec(["sh", "-c", "sleep 600 & sleep 600 & sleep 600 &"])


def test_nothing_more_is_opened_by_many() -> None:
    with living() as c:
        c.exec(["true"])
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            c.exec(["true"])
            with contextlib.suppress(ProgramNotFound):
                c.exec(["no-such"])
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_bundle(busybox_root: str) -> None:
    with (
        bundle(busybox_root, "exec sleep 600") as image,
        pycontain.Container(image, stop_timeout=0) as c,
        executing(c, "sleep", "600") as e,
    ):
        assert [namespace(e.pid, kind) for kind in KINDS] == [namespace(c.pid, kind) for kind in KINDS]
        assert cgroup_dirs(e.pid) == cgroup_dirs(c.pid)


# --- failures ---------------------------------------------------------------------------------------------------------

FAULTY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "user": ({"userns": "auto", "oom_score_adj": 5}, {"user": "nobody", "terminal": True}),
    "traced": ({"cap_add": ["SYS_PTRACE"], "no_new_privileges": True, "ulimits": {"nofile": (77, 88)}}, {"workdir": "/tmp"}),
}  # fmt: skip


def left(c: pycontain.Container) -> list[str]:
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    pids = sorted(p.name for d in set(cgroup_dirs(c.pid).values()) if c.id in str(d) for p in [d])
    inside = {
        line for d in cgroup_dirs(c.pid).values() if c.id in str(d) for line in (d / "cgroup.procs").read_text().split()
    }
    return [
        *pids,
        *sorted(inside),
        children.read_text() if children.exists() else "",
        *sorted(os.listdir("/proc/self/fd")),
    ]


@pytest.mark.parametrize("case", FAULTY)
def test_a_failure_at_any_op_is_reported_and_leaves_nothing(case: str) -> None:
    options, wish = FAULTY[case]
    with living("sleep", "600", **options) as c:
        with executing(c, **wish) as e:
            ops = decode(e.plan.data).child
        before = until(lambda: left(c))
        for op in ops:
            with (
                pytest.raises(SetupFailed) as failed,
                executing(c, fault=_native.Fault(kind=1, section=1, op=op.index, errno=errno.EIO), **wish),
            ):
                pass
            assert (failed.value.errno, failed.value.arg) == (errno.EIO, op.index), op
            assert "\n" not in str(failed.value)
            with (
                pytest.raises(SetupFailed, match="killed before"),
                executing(c, fault=_native.Fault(kind=2, section=1, op=op.index), **wish),
            ):
                pass
            assert left(c) == before, op
        assert c.exec(["true"]).exit_code == 0


def test_an_interrupt_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with living() as c:
        main = threading.get_native_id()
        timer = threading.Timer(0.3, lambda: signal.pthread_kill(threading.main_thread().ident or main, signal.SIGINT))
        timer.start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            c.exec(["sleep", "600"])
        assert time.monotonic() - begun < DEADLINE_S
        timer.join()
        assert c.poll() is None


def test_the_callers_death_ends_it(roots: Roots) -> None:
    """By kill -9: the guardian ends the container, and the kernel this one."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            c = pycontain.Container("host", ["sleep", "600"])
            with executing(c, "sleep", "602") as e:
                os.write(writer, f"{e.pid}\n".encode())
                time.sleep(600)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as f:
        pid = int(f.readline())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    until(lambda: not runs(pid))
    until(lambda: not left_by(roots.data_root, roots.run_root))


SHAPES: list[tuple[str, Callable[[pycontain.Container], object]]] = [
    ("args", lambda c: c.exec("true")),
    ("no command", lambda c: c.exec([])),
    ("absolute path", lambda c: c.exec(["true"], workdir="x")),
    ("user", lambda c: c.exec(["true"], user="a:b:c")),
    ("env", lambda c: c.exec(["true"], env={"A=B": "c"})),
    ("NUL", lambda c: c.exec(["true", "a\0b"])),
    ("stdin and input", lambda c: c.exec(["true"], input=b"x", stdin=pycontain.DEVNULL)),
]


def test_what_makes_no_sense_is_one_line() -> None:
    with living() as c:
        for phrase, call in SHAPES:
            with pytest.raises(InvalidArgument, match=phrase):
                call(c)
        assert c.exec(["true"]).exit_code == 0
