"""Escapes by joined namespaces: a hostile container whose namespaces are joined by their paths, and who waits for it; hooks and
seccomp agents that are hostile."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from attacks import PRELUDE, decoys, evil_image, hold, host_unchanged
from bundles import bundle, holder, ran, refused_bundle
from probes import living, until
from test_escapes_exec import children, had

import pycontain
from pycontain.disassemble import decode
from pycontain.errors import PycontainError, SetupFailed
from pycontain.runtime import running
from pycontain.runtime.bundle import open_bundle, request_of_bundle
from pycontain.runtime.roots import Roots, default_roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


# For each line "PID ...", or "all" but its own: what can be had of that process.
SPY = """
def spy(pid):
    p = f'/proc/{pid}/'
    got = {n: attempt(os.readlink, p + n) for n in ('exe', 'cwd', 'root', 'fd/0', 'fd/1', 'ns/mnt')}
    got['mem'] = attempt(lambda: os.close(os.open(p + 'mem', os.O_RDWR)))
    for n in ('maps', 'environ', 'auxv', 'io', 'stack'):
        got[n] = attempt(lambda: os.read(os.open(p + n, os.O_RDONLY), 1))
    pidfd = os.pidfd_open(int(pid))
    got['getfd'] = sys_(438, pidfd, 3, 0)
    got['seize'] = sys_(101, 0x4206, int(pid), 0, 0)
    if got['seize'] == 'ok':  # a stop, for only a stopped process can be let go again
        sys_(101, 0x4207, int(pid), 0, 0)
        os.waitpid(int(pid), 0x40000000)
        sys_(101, 17, int(pid), 0, 0)
    os.close(pidfd)
    return got
say('ready')
for line in sys.stdin:
    pids = line.split()
    if pids == ['all']: pids = [p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]
    answer = {}
    for pid in pids:
        try: answer[pid] = spy(pid)
        except OSError as e: answer[pid] = why(e.errno)
    say(answer)
"""


@contextmanager
def spy(**options: Any) -> Iterator[tuple[int, Callable[[str], Any]]]:
    """A hostile container: its pid, and what it answers."""
    args = ("python3", "-I", "-S", "-c", PRELUDE + SPY)
    with living(*args, stdin=pycontain.PIPE, stdout=pycontain.PIPE, text=True, **options) as c:
        assert c.stdin is not None and c.stdout is not None
        assert c.stdout.readline() == '"ready"\n'

        def ask(line: str) -> Any:
            assert c.stdin is not None and c.stdout is not None
            c.stdin.write(line + "\n")
            return json.loads(c.stdout.readline())

        yield c.pid, ask


def sleeps(pid: int) -> bool:
    """Whether the process is in nanosleep, where a fault holds it."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("35", "230")
    return False


@contextmanager
def held(roots: Roots, image: str, at: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The pid of a starting process that is held before its first op ``at``, or, "after NAME", before the one that follows."""
    request = request_of_bundle(image)
    made = open_bundle(request, roots, "0" * 64, (0, 0))
    ops = decode(made.plan.data).child
    made.release()
    index = next(op.index for op in ops if op.name == at.removeprefix("after ")) + at.startswith("after ")
    monkeypatch.setattr(running, "_START_DEADLINE_NS", 900_000_000)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    errors: list[BaseException] = []

    def start() -> None:
        try:
            running.start(request, roots=roots, stdin=null, stdout=null, stderr=null, fault=hold(index))
        except SetupFailed as e:
            errors.append(e)

    before = set(children())
    thread = threading.Thread(target=start)
    thread.start()
    try:
        (victim,) = until(lambda: [pid for pid in set(children()) - before if sleeps(pid)], f"a child held at {at}")
        yield victim
    finally:
        thread.join()
        os.close(null)
    assert len(errors) == 1


def join(pid: int, *kinds: str) -> dict[str, Any]:
    names = {"mount": ("mnt", 0), "pid": ("pid", 1), "ipc": ("ipc", 2), "network": ("net", 4), "user": ("user", 5)}
    return {f"linux.namespaces[{names[k][1]}]": {"type": k, "path": f"/proc/{pid}/ns/{names[k][0]}"} for k in kinds} | {
        "hostname": "",
        "root.readonly": False,
    }


HELD = ["SETNS", "after SETNS", "FORK", "after FORK", "ROOT_ATTACH", "ROOT_PIVOT", "CAP_BOUND", "CHDIR"]


@pytest.mark.parametrize("at", HELD)
def test_cve_2016_9962_a_joiner_is_closed_to_who_waits_inside(
    at: str, busybox_root: str, roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root of the joined user namespace, with all its capabilities: the joiner still is the engine, its memory and files."""
    with (
        spy(userns="0:300000:65536", privileged=True) as (pid, ask),
        spy(pid="host") as (_, outside),
        bundle(busybox_root, "true", join(pid, "user", "pid", "mount")) as image,
        held(roots, image, at, monkeypatch) as victim,
    ):
        seen, (got,) = ask("all"), outside(str(victim)).values()
        assert os.readlink(f"/proc/{victim}/exe") == os.path.realpath(sys.executable)  # what is behind the door
    assert had(got) == {}, got
    assert all(had(g) == {} for g in seen.values()), seen
    if at in ("ROOT_ATTACH", "ROOT_PIVOT", "CAP_BOUND", "CHDIR"):
        assert seen, "the joiner was not in sight"


@pytest.mark.parametrize("at", ["PDEATHSIG", "CHDIR"])
def test_cve_2016_9962_a_joiner_with_no_more_powers_than_who_waits(
    at: str, busybox_root: str, roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the pid namespace alone, with an equal uid and fewer capabilities: it is the engine's copy until it executes."""
    with (
        spy() as (pid, ask),
        bundle(busybox_root, "true", join(pid, "pid")) as image,
        held(roots, image, at, monkeypatch),
    ):
        ((_, got),) = ask("all").items()
    assert had(got) == {}, got


def test_cve_2016_9962_once_it_runs_it_is_an_equal(busybox_root: str) -> None:
    """The attack works on what has been executed: the test above can fail."""
    with (
        spy(userns="0:300000:65536", privileged=True) as (pid, ask),
        bundle(busybox_root, "exec sleep 600", join(pid, "user", "pid")) as image,
        pycontain.Container(image, stop_timeout=0.0),
    ):
        ((_, got),) = ask("all").items()
    assert got["mem"] == got["maps"] == got["seize"] == "ok", got


CATCH = """
say('ready')
caught, seen = [], 0
while True:
    for p in os.listdir('/proc'):
        if not p.isdigit() or int(p) == os.getpid(): continue
        try: pidfd = os.pidfd_open(int(p))
        except OSError: continue
        seen += 1
        if libc.syscall(438, pidfd, 3, 0) >= 0: caught.append(p)
        try:
            with open(f'/proc/{p}/environ') as f: caught += [w for w in f.read().split(chr(0)) if 'PYCONTAIN_DATA' in w]
        except OSError: pass
        os.close(pidfd)
    if os.path.exists('/v/enough'): break
say([seen, caught])
"""


@pytest.mark.race
def test_cve_2016_9962_who_chases_every_joiner_gets_none_of_the_engine(busybox_root: str, tmp_path: Path) -> None:
    args = ("python3", "-I", "-S", "-c", PRELUDE + CATCH)
    options: dict[str, Any] = {"userns": "0:300000:65536", "privileged": True, "mounts": [f"{tmp_path}:/v"]}
    with living(*args, stdout=pycontain.PIPE, text=True, **options) as c:
        assert c.stdout is not None and c.stdout.readline() == '"ready"\n'
        with bundle(busybox_root, "true", join(c.pid, "user", "pid")) as image:
            for _ in range(100):
                assert pycontain.run(image, timeout=20).exit_code == 0  # nor does it hold up a start
        (tmp_path / "enough").touch()
        seen, caught = json.loads(c.stdout.readline())
    assert seen and caught == [], (seen, caught)


# --- what the path is --------------------------------------------------------------------------------------------------

OWN = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
from bundles import refused_bundle
said = [refused_bundle(sys.argv[2], {"linux.namespaces[0]": {"type": "mount", "path": p}}) for p in sys.argv[3:]]
from pycontain.runtime import session
session.close_all()
print(json.dumps([said, os.path.exists('/proc/self/mountinfo'), os.stat('/').st_ino]))
"""


def test_the_hosts_own_mount_namespace_is_not_joined(busybox_root: str, tmp_path: Path) -> None:
    """Its root would become the container's, for every process of the host; by a link too. In a namespace that may be lost."""
    (tmp_path / "link").symlink_to("/proc/self/ns/mnt")
    paths = ["/proc/self/ns/mnt", "/proc/thread-self/ns/mnt", str(tmp_path / "link"), "/proc/self/task/../ns/mnt"]
    argv = [sys.executable, "-c", OWN, json.dumps([p for p in sys.path if p]), busybox_root, *paths]
    r = subprocess.run(["unshare", "-m", *argv], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr[-500:]
    said, there, inode = json.loads(r.stdout)
    assert all("host's own mount namespace" in line and "(EBUSY)" in line for line in said), said
    assert there and inode == os.stat("/").st_ino


@pytest.mark.parametrize("kind", ["mount", "pid", "user", "network"])
@pytest.mark.parametrize("what", ["fifo", "file", "directory", "socket", "loop", "wrong", "exe"])
def test_a_path_that_is_no_such_namespace(kind: str, what: str, busybox_root: str, tmp_path: Path) -> None:
    path = tmp_path / "ns"
    with socket.socket(socket.AF_UNIX) as s:
        if what == "fifo":
            os.mkfifo(path)
        elif what == "file":
            path.touch()
        elif what == "directory":
            path.mkdir()
        elif what == "socket":
            s.bind(str(path))
        else:
            path.symlink_to({"loop": str(path), "wrong": "/proc/self/ns/uts", "exe": "/proc/self/exe"}[what])
        with host_unchanged():
            assert str(path) in refused_bundle(busybox_root, join(os.getpid(), kind) | {
                key: {"type": kind, "path": str(path)} for key in join(0, kind) if key.startswith("linux")
            })  # fmt: skip


@pytest.mark.race
def test_a_path_swapped_between_look_and_use(busybox_root: str, tmp_path: Path) -> None:
    """Once a namespace of another process, once the host's own: never is the host's joined with a setting of it changed."""
    path, stop = tmp_path / "net", threading.Event()
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    with holder("--net") as pid:

        def swap() -> None:
            while not stop.is_set():
                for to in (f"/proc/{pid}/ns/net", "/proc/self/ns/uts", "/dev/null"):
                    (tmp_path / "new").symlink_to(to)
                    os.rename(tmp_path / "new", path)

        path.symlink_to("/dev/null")
        thread = threading.Thread(target=swap)
        thread.start()
        ends = set()
        try:
            with bundle(
                busybox_root,
                "readlink /proc/self/ns/net",
                {"linux.namespaces[4]": {"type": "network", "path": str(path)}},
            ) as i:
                for _ in range(100):
                    try:
                        ends.add(str(pycontain.run(i, text=True, timeout=20).stdout).strip())
                    except PycontainError as e:
                        assert "\n" not in str(e)
                        ends.add("refused")
        finally:
            stop.set()
            thread.join()
        assert ends == {os.readlink(f"/proc/{pid}/ns/net"), "refused"}, ends
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before


def test_cve_2025_52881_the_proc_of_a_joined_mount_namespace_is_not_written_to(
    busybox_root: str, tmp_path: Path
) -> None:
    with decoys(tmp_path / "decoy") as kept:
        setup = (
            "mount -t tmpfs x /proc && mkdir -p /proc/self/attr /proc/sys/kernel /proc/sys/net/ipv4 && "
            + " && ".join(
                f"ln -s {kept}/secret /proc/{n}"
                for n in ("self/oom_score_adj", "sys/net/ipv4/ip_forward", "sys/kernel/msgmax")
            )
        )
        with holder("--mount", "--propagation", "private", setup=setup) as pid:
            changes = join(pid, "mount") | {
                "linux.sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}, "process.oomScoreAdj": 500,
            }  # fmt: skip
            script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/self/oom_score_adj"
            assert ran(busybox_root, script, changes).split() == ["1", "4242", "500"]


def test_cve_2025_52881_the_proc_of_the_root_is_not_written_to(busybox_root: str, tmp_path: Path) -> None:
    """No procfs is mounted in it: what it has at /proc is the attacker's."""
    root = evil_image(tmp_path / "rootfs", busybox_root)
    names = ("sys/net/ipv4/ip_forward", "self/oom_score_adj")
    for name in names:
        (root / "proc" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "proc" / name).write_text("decoy\n")
    changes = {
        "mounts": [],
        "linux.sysctl": {"net.ipv4.ip_forward": "1"},
        "process.oomScoreAdj": 500,
        "root.readonly": False,
    }
    assert ran(str(root), "cat " + " ".join(f"/proc/{n}" for n in names), changes) == "decoy\n" * 2


# --- hooks and agents --------------------------------------------------------------------------------------------------

NOTIFY = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_NOTIFY"}]}


@pytest.mark.parametrize("how", ["closes", "floods", "sends descriptors", "never accepts", "resets"])
def test_a_hostile_agent_neither_holds_up_nor_gives_anything_to_the_engine(
    how: str, busybox_root: str, tmp_path: Path
) -> None:
    path = tmp_path / "agent"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(8)
        thread = threading.Thread(target=serve, args=(server, how))
        thread.start()
        begun = time.monotonic()
        try:
            with bundle(busybox_root, "echo ran", {"linux.seccomp": NOTIFY | {"listenerPath": str(path)}}) as image:
                try:
                    text = str(pycontain.run(image, text=True, timeout=20).stdout)
                except PycontainError as e:
                    text = str(e)
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert text == "ran\n" or ("listenerPath" in text and "\n" not in text), text
    assert begun


def serve(server: socket.socket, how: str) -> None:
    if how == "never accepts":
        return
    with suppress(OSError):
        client, _ = server.accept()
        with client, open("/dev/null", "rb") as null:
            client.settimeout(5)
            if how == "floods":
                client.setblocking(False)
                while True:
                    client.send(b"x" * 65536)
            elif how == "sends descriptors":
                socket.send_fds(client, [b"{}"], [null.fileno()] * 100)
            elif how == "resets":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how != "closes":
                client.recv(1)


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
@pytest.mark.parametrize(
    "script",
    ["exec sleep 600", "kill -9 $PPID_NONE $$", "yes | head -c 5000000; exit 3", "sleep 600 & exit 4", "kill -STOP $$"],
)
def test_a_hook_that_does_not_behave_ends_the_start(kind: str, script: str, tmp_path: Path, busybox_root: str) -> None:
    """In time, in one line, and nothing of the container is left (the census)."""
    pids = tmp_path / "pids"
    text = f"echo $$ >>{pids}; {script.replace('sleep 600 &', 'sleep 600 & echo $! >>' + str(pids) + ';')}"
    hook = [{"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/bin:/usr/bin"], "timeout": 1}]
    try:
        message = refused_bundle(evil(busybox_root, tmp_path), {f"hooks.{kind}": hook})
        assert f"hooks.{kind}[0]" in message
    finally:
        for pid in pids.read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), 9)


def evil(busybox_root: str, tmp_path: Path) -> str:
    return str(evil_image(tmp_path / "rootfs", busybox_root))


def test_a_hook_cannot_be_reached_from_the_container_that_waits(busybox_root: str, tmp_path: Path) -> None:
    """It runs as the host's own, with the state alone on its input and no descriptor of the engine's."""
    out = tmp_path / "out"
    text = f"cat >/dev/null; ls -l /proc/self/fd >{out}; readlink /proc/self/ns/mnt >>{out}"
    hook = [{"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/bin:/usr/bin"], "timeout": 5}]
    with bundle(busybox_root, "true", {"hooks.createRuntime": hook}) as image:
        assert pycontain.run(image, data_root=default_roots().data_root).exit_code == 0
    listed = out.read_text()
    assert os.readlink("/proc/self/ns/mnt") in listed
    assert "memfd" not in listed and "socket" not in listed, listed
