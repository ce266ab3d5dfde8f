"""What a program finds around it: names, environment, user, signals, limits, settings, files of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from probes import fails, limits, living, py, refused, sh, status, until

import pycontain
from pycontain.errors import Conflict, InvalidArgument, ProgramNotFound, SetupFailed, Unsupported
from pycontain.host import probe
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# --- names ------------------------------------------------------------------------------------------------------------


def test_the_host_name_is_the_short_id() -> None:
    r = pycontain.run("host", ["hostname"], text=True)
    assert r.stdout == r.id[:12] + "\n"


def test_the_host_name_asked_for_is_everywhere() -> None:
    out = sh("hostname; cat /etc/hostname; echo $HOSTNAME; grep web /etc/hosts", hostname="web.example")
    assert out == "web.example\nweb.example\nweb.example\n127.0.1.1\tweb.example\n"
    assert os.uname().nodename != "web.example"


def test_hosts_names_localhost_and_what_was_added() -> None:
    out = sh("cat /etc/hosts; stat -c %a:%u:%g /etc/hosts", add_host={"db": "10.0.0.2", "six": "2001:db8::2"})
    assert out.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost")
    assert out.endswith("10.0.0.2\tdb\n2001:db8::2\tsix\n644:0:0\n")


def test_with_the_hosts_network_its_hosts_file_is_copied(busybox_root: str) -> None:
    own = Path("/etc/hosts").read_text()
    out = sh("cat /etc/hosts; echo x >/etc/hosts", image=busybox_root, network="host", add_host={"db": "10.0.0.2"})
    assert out == own + "10.0.0.2\tdb\n"
    assert Path("/etc/hosts").read_text() == own


def test_a_name_is_free_again_after_the_end_and_after_a_failed_start() -> None:
    for _ in range(2):
        with living(name="worker") as c:
            assert c.name == "worker"
            message = refused(Conflict, name="worker")
            assert message.startswith(f"the name 'worker' is already in use by container {c.id[:12]}")
        with pytest.raises(ProgramNotFound, match=r"^cannot start worker: "):
            pycontain.run("host", ["no-such-program"], name="worker")


def test_a_name_conflicts_across_processes(roots: Roots) -> None:
    import subprocess
    import sys

    source = "import pycontain; pycontain.run('host', ['true'], name='worker')"
    with living(name="worker"):
        r = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=20)
    assert r.returncode == 1
    assert "Conflict: the name 'worker' is already in use by container" in r.stderr


# --- environment ------------------------------------------------------------------------------------------------------


def environ(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
    return dict(e.split("=", 1) for e in entries)


def test_the_environment_is_exactly_what_docker_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAIN_LEAK", "1")
    with living() as c:
        assert environ(c.pid) == {"PATH": PATH, "HOSTNAME": c.id[:12], "HOME": "/root"}


def test_variables_are_added_and_replaced() -> None:
    with living(env={"A": "1", "PATH": "/usr/bin:/bin", "HOME": "/x", "E": ""}, hostname="web", user="1000") as c:
        assert environ(c.pid) == {"PATH": "/usr/bin:/bin", "HOSTNAME": "web", "HOME": "/x", "A": "1", "E": ""}


def test_variables_as_name_value_text_and_any_bytes() -> None:
    with living(env=["A=b=c", "U=\u00fc \n\udcff"]) as c:
        raw = Path(f"/proc/{c.pid}/environ").read_bytes().split(b"\0")
    assert b"A=b=c" in raw and b"U=\xc3\xbc \n\xff" in raw


def test_home_is_the_users(busybox_root: str) -> None:
    for user, home in (("user", "/home/user"), ("1000", "/home/user"), ("nobody", "/"), ("4242", "/"), ("0", "/root")):
        assert sh("echo $HOME", image=busybox_root, user=user) == home + "\n"


# --- user -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "options", "ids", "groups"),
    [
        ("1000", {}, "1000 1000", {2000}),
        ("user", {}, "1000 1000", {2000}),
        ("user:extra", {}, "1000 2000", None),
        ("1000:2000", {}, "1000 2000", None),
        ("user:77", {}, "1000 77", None),
        ("4242", {}, "4242 0", None),
        ("4242:4243", {"group_add": ["extra", 55]}, "4242 4243", {2000, 55}),
        ("0", {"group_add": ["tty"]}, "0 0", {5}),
        ("user", {"group_add": ["tty"]}, "1000 1000", {5, 2000}),
    ],
)
def test_users_and_groups(
    user: str, options: dict[str, Any], ids: str, groups: set[int] | None, busybox_root: str
) -> None:
    with living("sleep", "600", image=busybox_root, user=user, **options) as c:
        found = status(c.pid)
    uid, gid = ids.split()
    assert (found["Uid"].split(), found["Gid"].split()) == ([uid] * 4, [gid] * 4)
    if groups is not None:
        assert {int(g) for g in found["Groups"].split()} - {int(gid)} == groups


@pytest.mark.parametrize("user", ["nosuchuser", "user:nosuchgroup"])
def test_an_unknown_user_is_named(user: str, busybox_root: str) -> None:
    assert user.split(":")[-1] in refused(InvalidArgument, image=busybox_root, user=user)


# --- process ----------------------------------------------------------------------------------------------------------


def test_the_working_directory_is_made_when_missing() -> None:
    assert sh("pwd; stat -c %a .", workdir="/made/for/you") == "/made/for/you\n755\n"
    with living(workdir="/usr/bin") as c:
        assert os.readlink(f"/proc/{c.pid}/cwd") == "/usr/bin"


def test_a_file_as_working_directory_is_refused() -> None:
    message = refused(SetupFailed, workdir="/etc/passwd")
    assert "working directory" in message or "make dir /etc/passwd" in message
    assert "(ENOTDIR)" in message


def test_signals_are_as_after_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGINT})
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with living() as c:
            found = status(c.pid)
    finally:
        signal.signal(signal.SIGUSR2, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert {found[k] for k in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")} == {"0" * 16}


def test_umask_session_and_parent() -> None:
    with living() as c:
        found = status(c.pid)
    assert found["Umask"] == "0022"
    assert found["NSpid"].split()[-1] == found["NSsid"].split()[-1] == found["NSpgid"].split()[-1] == "1"


def test_oom_score_adj() -> None:
    with living(oom_score_adj=500) as c:
        assert Path(f"/proc/{c.pid}/oom_score_adj").read_text() == "500\n"


def test_ulimits() -> None:
    asked = {"nofile": (100, 200), "core": 0, "nproc": 50, "fsize": 1 << 20, "cpu": 30, "stack": (1 << 20, 2 << 20)}
    with living(ulimits=asked) as c:
        found = limits(c.pid)
    assert found["Max open files"] == ("100", "200")
    assert found["Max core file size"] == ("0", "0")
    assert found["Max processes"] == ("50", "50")
    assert found["Max file size"] == (str(1 << 20),) * 2
    assert found["Max cpu time"] == ("30", "30")
    assert found["Max stack size"] == (str(1 << 20), str(2 << 20))


def test_a_ulimit_above_our_own_is_refused_when_it_cannot_be_raised() -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if int(status("self")["CapEff"], 16) >> 24 & 1:
        pytest.skip("this process has CAP_SYS_RESOURCE: it may raise every limit")
    with pytest.raises(SetupFailed, match=r"the hard limit is above this process's own.*EPERM") as e:
        pycontain.run("host", ["true"], ulimits={"nofile": hard + 1})
    assert (e.value.errno, e.value.step) == (1, "op")


def test_sysctls_are_the_containers_alone() -> None:
    asked = {
        "net.ipv4.ip_forward": "1",
        "net.core.somaxconn": "77",
        "kernel.msgmax": "9000",
        "net.ipv4.ping_group_range": "0 5",
    }
    paths = {name: Path("/proc/sys/" + name.replace(".", "/")) for name in asked}
    before = {name: path.read_text() for name, path in paths.items()}
    out = sh("cat " + " ".join(map(str, paths.values())), sysctls=asked)
    assert out.replace("\t", " ").split("\n")[:-1] == list(asked.values())
    assert {name: path.read_text() for name, path in paths.items()} == before


def test_a_sysctl_that_does_not_exist_is_named() -> None:
    with pytest.raises(SetupFailed, match=r"net/nothing/here: No such file or directory \(ENOENT\)") as e:
        pycontain.run("host", ["true"], sysctls={"net.nothing.here": "1"})
    assert e.value.errno == 2


# --- devices ----------------------------------------------------------------------------------------------------------


def device() -> str:
    found = next((d for d in ("/dev/fuse", "/dev/loop-control", "/dev/kmsg") if os.path.exists(d)), None)
    if found is None:
        pytest.skip("this host has no /dev/fuse, /dev/loop-control or /dev/kmsg")
    return found


def opened(path: str, mode: str, **options: Any) -> str:
    source = f"import os\ntry: os.open({path!r}, os.{mode}); print('ok')\nexcept OSError as e: print(e.errno)"
    return py(source, **options).strip()


def test_a_device_given_can_be_opened_and_others_not() -> None:
    path, number = device(), os.stat(device()).st_rdev
    assert not os.path.exists(path) or sh(f"test -e {path} || echo absent") == "absent\n"
    assert opened(path, "O_RDWR", devices=[path]) == "ok"
    assert opened("/dev/inside", "O_RDWR", devices=[f"{path}:/dev/inside"]) == "ok"
    said = fails(f"mknod /tmp/d c {os.major(number)} {os.minor(number)} && cat /tmp/d")
    assert "Operation not permitted" in said


def test_the_access_of_a_device_is_what_was_given() -> None:
    path = device()
    assert opened(path, "O_RDONLY", devices=[f"{path}:{path}:r"]) == "ok"
    assert opened(path, "O_WRONLY", devices=[f"{path}:{path}:r"]) == "1"
    assert opened(path, "O_RDWR", devices=[f"{path}:{path}:r"]) == "1"


def test_a_device_node_has_the_hosts_number_mode_and_owner() -> None:
    path = device()
    info = os.stat(path)
    expected = (
        f"{info.st_mode & 0o7777:o} {info.st_uid}:{info.st_gid} {os.major(info.st_rdev):x}:{os.minor(info.st_rdev):x}\n"
    )
    for read_only in (False, True):
        assert sh(f"stat -c '%a %u:%g %t:%T' {path}", devices=[path], read_only=read_only) == expected


def test_privileged_has_the_hosts_devices() -> None:
    disk = next((p for p in Path("/dev").iterdir() if p.is_block_device()), None)
    if disk is None:
        pytest.skip("this host has no block device")
    assert sh(f"stat -c %F {disk}", privileged=True) == "block special file\n"


def test_what_is_no_device_is_refused() -> None:
    assert "not a device node" in refused(InvalidArgument, devices=["/etc/passwd"])
    assert "--device /dev/nothing-here: No such file or directory (ENOENT)" in refused(
        InvalidArgument, devices=["/dev/nothing-here"]
    )


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_is_the_first_process() -> None:
    assert sh("cat /proc/1/comm; tr '\\0' ' ' </proc/1/cmdline; echo $PPID", init=True).splitlines() == [
        "docker-init",
        "/sbin/docker-init -- sh -c cat /proc/1/comm; tr '\\0' ' ' </proc/1/cmdline; echo $PPID 1",
    ]


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_init_passes_the_end_on(script: str, code: int) -> None:
    assert pycontain.run("host", ["sh", "-c", script], init=True).exit_code == code


ORPHANS = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        if os.fork() == 0: time.sleep(0.01)
        os._exit(0)
    os.wait()
end = time.monotonic() + 10
def others(): return [p for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]
while others() and time.monotonic() < end: time.sleep(0.01)
print(others())
"""


def test_init_reaps_the_orphans() -> None:
    assert py(ORPHANS, init=True) == "[]\n"


def test_init_forwards_signals() -> None:
    script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
    with pycontain.Container("host", ["sh", "-c", script], stdout=pycontain.PIPE, init=True, text=True) as c:
        assert c.stdout is not None and c.stdout.readline() == "ready\n"
        c.terminate()
        assert c.communicate(timeout=10)[0] == "caught\n"
        assert c.exit_code == 3


def test_without_a_handler_init_makes_sigterm_work() -> None:
    with living(init=True) as c:
        until(Path(f"/proc/{c.pid}/task/{c.pid}/children").read_text, "init has started its program")
        c.terminate()
        assert c.wait(10) == 143


def test_a_program_that_init_does_not_find() -> None:
    r = pycontain.run("host", ["no-such-program"], init=True, text=True)
    assert r.exit_code == 127
    assert "no-such-program" in str(r.stderr)


def test_labels_that_this_kernel_cannot_give_are_errors() -> None:
    labels: dict[str, dict[str, Any]] = {"apparmor": {"apparmor": "mine"}, "selinux": {"selinux_label": "u:r:t:s0"}}
    for lsm, options in labels.items():
        if lsm in probe().lsms:
            pytest.skip(f"this kernel runs with {lsm}: the label would have to exist")
        assert f"this kernel runs without {lsm}" in refused(Unsupported, **options)
    assert sh("cat /proc/sys/kernel/domainname", apparmor="unconfined", domainname="x.org") == "x.org\n"
