"""A whole container of an ordinary user: what the kernel says of it, what it may not do to the host, what is left."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from census import left_by, poll_until
from image_cases import LayoutWriter, member, tar
from ordinary_user import CLI, PYTHON, RANGE, OrdinaryUser
from probes import mounts, status

pytestmark = pytest.mark.kernel

_DOCKER_DEFAULT = 0xA80425FB


@pytest.fixture(autouse=True)
def nothing_of_the_user_left(user: OrdinaryUser) -> Iterator[None]:
    yield
    left: list[str] = []

    def clean() -> bool:
        left[:] = [*user.processes(), *left_by(str(user.data_root), str(user.run_root))]
        left[:] = [each for each in left if not each.endswith("/userns")]  # the directory of reservations, empty
        left.extend(str(p) for p in (user.run_root / "userns").glob("*"))
        return not left

    assert poll_until(clean), left


def sh(user: OrdinaryUser, script: str, *options: str, image: str = "host") -> str:
    done = user.pycontain("run", *options, image, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, ""), (done.stdout, done.stderr)
    return done.stdout


def one_line(done: subprocess.CompletedProcess[str], code: int = 125) -> str:
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr.startswith("pycontain: ") and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@contextlib.contextmanager
def living(user: OrdinaryUser, *options: str, image: str = "host") -> Iterator[int]:
    """A container that waits: the pid of its first process, as this host counts. Ends when the block does."""
    argv = user.cli("run", "-i", *options, image, "sh", "-c", "echo ready; cat")
    with user.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield inner(process.pid)
        finally:
            process.stdin.close()
            process.wait(20)


def inner(engine: int) -> int:
    """The container's first process below the engine."""
    for task in os.listdir(f"/proc/{engine}/task"):
        for pid in Path(f"/proc/{engine}/task/{task}/children").read_text().split():
            if len(status(pid)["NSpid"].split()) > 1:
                return int(pid)
    raise AssertionError("no container below the engine")


# --- who it is -------------------------------------------------------------------------------------------------------


def test_root_inside_is_the_user_outside(user: OrdinaryUser) -> None:
    with living(user) as pid:
        lines = [tuple(map(int, line.split())) for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines()]
        assert lines == [(0, user.uid, 1), (1, user.first, RANGE)]
        assert Path(f"/proc/{pid}/gid_map").read_text().split()[1] == str(user.uid)
        assert status(pid)["Uid"].split() == [str(user.uid)] * 4
        assert status(pid)["Groups"] == ""
        assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_what_the_process_has(user: OrdinaryUser) -> None:
    with living(user) as pid:
        found = status(pid)
        assert [int(found[f"Cap{kind}"], 16) for kind in ("Inh", "Amb")] == [0, 0]
        assert {int(found[f"Cap{kind}"], 16) for kind in ("Bnd", "Eff", "Prm")} == {_DOCKER_DEFAULT}
        assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")
        for kind in ("pid", "mnt", "net", "ipc", "uts", "cgroup"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def test_no_new_privileges(user: OrdinaryUser) -> None:
    with living(user, "--security-opt", "no-new-privileges") as pid:
        assert status(pid)["NoNewPrivs"] == "1"


def test_user_1000_is_a_subordinate_id(user: OrdinaryUser) -> None:
    with living(user, "--user", "1000:2000") as pid:
        assert status(pid)["Uid"].split()[0] == str(user.first + 999)
        assert status(pid)["Gid"].split()[0] == str(user.first + 1999)
        assert int(status(pid)["CapEff"], 16) == 0


def test_keep_id_gives_the_user_his_own_number(user: OrdinaryUser, tmp_path: Path) -> None:
    volume = volume_of(user, "keep")
    script = "id -u; touch /v/made; stat -c %u /v /v/made"
    out = sh(user, script, "--userns", "keep-id", "--user", f"{user.uid}:{user.uid}", "-v", f"{volume}:/v")
    assert out.split() == [str(user.uid)] * 3
    assert (volume / "made").stat().st_uid == user.uid


def test_auto_has_nobody_of_the_user_inside(user: OrdinaryUser) -> None:
    with living(user, "--userns", "auto:size=1000") as pid:
        inside, outside, size = map(int, Path(f"/proc/{pid}/uid_map").read_text().split())
        assert (inside, size) == (0, 1000) and user.first <= outside <= user.first + RANGE - 1000
        assert status(pid)["Uid"].split()[0] == str(outside)


def test_two_automatic_ranges_do_not_meet(user: OrdinaryUser) -> None:
    with living(user, "--userns", "auto:size=1000") as one, living(user, "--userns", "auto:size=1000") as two:
        starts = sorted(int(Path(f"/proc/{pid}/uid_map").read_text().split()[1]) for pid in (one, two))
        assert starts[1] - starts[0] >= 1000


# --- files -----------------------------------------------------------------------------------------------------------


def volume_of(user: OrdinaryUser, name: str) -> Path:
    made = user.home / name
    made.mkdir()
    os.chown(made, user.uid, user.uid)
    return made


def test_files_on_a_volume_have_the_users_id(user: OrdinaryUser) -> None:
    volume = volume_of(user, "volume")
    sh(user, "touch /v/root; touch /v/other; chown 33:34 /v/other", "-v", f"{volume}:/v")
    assert (volume / "root").stat().st_uid == user.uid
    assert ((volume / "other").stat().st_uid, (volume / "other").stat().st_gid) == (user.first + 32, user.first + 33)


def test_a_missing_source_is_made_for_the_user(user: OrdinaryUser) -> None:
    sh(user, "touch /v/x", "-v", f"{user.home}/new/deep:/v")
    assert (user.home / "new/deep/x").stat().st_uid == user.uid


def test_a_read_only_volume(user: OrdinaryUser) -> None:
    volume = volume_of(user, "ro")
    script = "touch /v/x; mount -o remount,rw,bind /v; touch /v/x"
    done = user.pycontain("run", "-v", f"{volume}:/v:ro", "host", "sh", "-c", script)
    assert done.returncode == 1 and done.stderr.count("Read-only") == 2
    assert list(volume.iterdir()) == []


def test_nothing_of_this_machine_can_be_written(user: OrdinaryUser) -> None:
    for path in ("/etc", "/usr", "/usr/bin", "/opt"):
        done = user.pycontain("run", "host", "touch", f"{path}/canary-{user.uid}")
        assert done.returncode == 1 and "Read-only" in done.stderr
        assert not os.path.exists(f"{path}/canary-{user.uid}")


def test_read_only_root(user: OrdinaryUser) -> None:
    out = sh(user, "touch /x /tmp/x 2>&1; touch /dev/shm/x && echo shm", "--read-only")
    assert out.count("Read-only file system") == 2 and out.endswith("shm\n")


def test_a_directory_as_image(user: OrdinaryUser, busybox_root: str) -> None:
    image = user.home / "image"
    shutil.copytree(busybox_root, image, symlinks=True)
    subprocess.run(["chown", "-Rh", f"{user.uid}:{user.uid}", str(image)], check=True)
    out = sh(user, "rm -r /etc; ls /; echo x > /bin/new; stat -c %u /bin/new /bin/busybox", image=str(image))
    assert "etc" not in out.split() and "dev" in out.split() and out.split()[-2:] == ["0", "0"]
    assert (image / "etc/passwd").exists() and not (image / "bin/new").exists()


def layout(user: OrdinaryUser, *layers: bytes) -> str:
    """An OCI layout that the user may read."""
    made = user.home / f"layout-{len(list(user.home.iterdir()))}"
    made.mkdir()
    writer = LayoutWriter(made)
    path = writer.finish(writer.manifest(*layers))
    subprocess.run(["chown", "-R", f"{user.uid}:{user.uid}", path], check=True)
    return f"oci:{path}"


def directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE)


@pytest.fixture(scope="module")
def base_layer(busybox_root: str) -> bytes:
    box = Path(busybox_root, "bin/busybox").read_bytes()
    links = [member(f"bin/{n}", tarfile.SYMTYPE, linkname="busybox") for n in ("sh", "ls", "stat", "cat")]
    old = [directory("old"), member("old/hidden"), directory("gone"), member("gone/file"), member("removed")]
    node = member("dev/disk", tarfile.BLKTYPE, devmajor=254, devminor=0)
    owned = member("owned", data=b"x", uid=33, gid=34)
    return tar(
        directory("bin"), member("bin/busybox", data=box, mode=0o755), *links, *old, directory("dev"), node, owned
    )


def test_layers_with_whiteouts_owners_and_device_nodes(user: OrdinaryUser, base_layer: bytes) -> None:
    upper = tar(
        directory("old"), member("old/.wh..wh..opq"), member("old/new"), member(".wh.removed"), member(".wh.gone")
    )
    script = "ls / /old; stat -c %u:%g /owned; ls /dev/disk"
    done = user.pycontain("run", layout(user, base_layer, upper), "sh", "-c", script)
    said = done.stdout.split()
    assert {"new", "33:34"} <= set(said) and not {"hidden", "gone", "removed"} & set(said)
    assert done.returncode == 1 and "/dev/disk: No such file" in done.stderr  # no node can be made, nor opened, there
    (layer,) = (user.data_root / "layers").glob("*/owned")
    assert (layer.stat().st_uid, layer.stat().st_gid) == (user.first + 32, user.first + 33)


def test_an_owner_that_the_user_has_not(user: OrdinaryUser, base_layer: bytes) -> None:
    far = tar(member("far", data=b"x", uid=70000))
    line = one_line(user.pycontain("run", layout(user, base_layer, far), "true"))
    assert "it belongs to the user 70000" in line and "/etc/subuid" in line


def test_an_imported_image(user: OrdinaryUser, base_layer: bytes) -> None:
    file = user.home / "base.tar"
    file.write_bytes(base_layer)
    file.chmod(0o644)
    assert user.pycontain("import", str(file), "base").returncode == 0
    assert sh(user, "stat -c %u /owned /bin/busybox", image="base").split() == ["33", "0"]


def test_roots_own_image_directory_can_be_run_but_not_changed(user: OrdinaryUser, busybox_root: str) -> None:
    done = user.pycontain("run", busybox_root, "sh", "-c", "stat -c %u /bin; echo x > /tmp/new; echo x > /bin/new")
    assert done.stdout == "65534\n" and "can't create /bin/new: Permission denied" in done.stderr


def test_device_nodes_are_the_few(user: OrdinaryUser) -> None:
    out = sh(
        user,
        "cd /dev; for f in $(find . ! -type l); do [ -b $f -o -c $f ] && stat -c '%n %t:%T' $f; done; echo x > null",
    )
    assert sorted(out.splitlines()) == [
        "./full 1:7", "./null 1:3", "./pts/ptmx 5:2", "./random 1:8", "./tty 5:0", "./urandom 1:9", "./zero 1:5",
    ]  # fmt: skip


# --- what it may not do to the host ----------------------------------------------------------------------------------

_ATTACKS = {
    "make a device": "mknod /tmp/disk b 254 0",
    "read shadow": "cat /etc/shadow",
    "write a host setting": "echo 1 > /proc/sys/kernel/panic",
    "trigger sysrq": "echo h > /proc/sysrq-trigger",
    "mount the disk": "mkdir /tmp/m && mount -t ext4 /dev/vda /tmp/m",
    "set the time": "date -s 2001-01-01",
    "load a module": "modprobe dummy",
    "the host's mounts": "nsenter -t 1 -m true",
}


@pytest.mark.parametrize("privileged", [False, True], ids=["plain", "privileged"])
@pytest.mark.parametrize("attack", _ATTACKS.values(), ids=_ATTACKS)
def test_the_host_is_out_of_reach(user: OrdinaryUser, attack: str, privileged: bool) -> None:
    before = Path("/proc/sys/kernel/panic").read_text()
    image = ("--privileged", "--pid", "host", "host") if privileged else ("host",)
    done = user.pycontain("run", *image, "sh", "-c", attack)
    assert done.returncode not in (0, 125), (done.stdout, done.stderr)
    assert Path("/proc/sys/kernel/panic").read_text() == before


def test_a_process_of_root_cannot_be_killed(user: OrdinaryUser) -> None:
    with subprocess.Popen(["sleep", "600"]) as victim:
        try:
            done = user.pycontain("run", "--privileged", "--pid", "host", "host", "kill", "-9", str(victim.pid))
            assert done.returncode == 1 and "not permitted" in done.stderr.lower()
            assert victim.poll() is None
        finally:
            victim.kill()


def test_masks_and_read_only_paths_hold(user: OrdinaryUser) -> None:
    with living(user) as pid:
        found = mounts(pid)
    hidden = [p for p in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts") if os.path.exists(p)]
    assert all(found[path][1] in ("devtmpfs", "tmpfs") for path in hidden)
    assert all("ro" in found[path][2] for path in ("/proc/sys", "/proc/bus", "/proc/irq", "/sys", "/etc", "/usr"))
    script = "wc -c < /proc/keys; ls /sys/firmware | wc -l; umount /proc/keys; umount /proc/sys; echo $?"
    out = user.pycontain("run", "host", "sh", "-c", script).stdout
    assert out.split()[:2] == ["0", "0"] and out.split()[-1] != "0"


def test_hosts_mounts_are_out_of_sight(user: OrdinaryUser) -> None:
    with living(user) as pid:
        points = set(mounts(pid))
    own = ("/", "/etc", "/usr", "/opt", "/dev", "/proc", "/sys")
    assert all(p in own or p.startswith(("/dev/", "/proc/", "/sys/", "/etc/", "/usr/", "/opt/")) for p in points)


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "phrase"),
    [
        (("host", "sh", "-c", "exit 7"), 7, ""),
        (("host", "no-such-program"), 127, "executable file not found"),
        (("host", "/etc/passwd"), 126, "cannot execute"),
        (("--timeout", "0.2", "host", "sleep", "20"), 124, "ran longer than 0.2 s and was killed"),
        (("--workdir", "x", "host", "true"), 125, "not an absolute path"),
        (
            ("--memory", "64m", "host", "true"),
            125,
            "Begin in a cgroup of your own (systemd-run --user --scope -p Delegate=yes",
        ),
        (("--hostname", "web", "host", "true"), 125, "Leave out --hostname"),
        (("--user", "70000", "host", "true"), 125, "user 70000 is outside the ordinary user's user namespace"),
        (("-v", "/root/x:/x", "host", "true"), 125, "bind /root/x on /x: Permission denied (EACCES)"),
        (("--device", "/dev/vda", "host", "head", "-c1", "/dev/vda"), 1, ""),
        (("nothing-here", "true"), 125, "no such image"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_exit_codes_and_messages(user: OrdinaryUser, words: tuple[str, ...], code: int, phrase: str) -> None:
    done = user.pycontain("run", *words)
    if phrase:
        assert phrase in one_line(done, code)
    assert done.returncode == code


def test_stdin_and_init(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "-i", "host", "cat", stdin="hello").stdout == "hello"
    assert user.pycontain("run", "host", "cat", stdin="hello").stdout == ""
    assert sh(user, "echo $$; tr '\\0' ' ' < /proc/1/cmdline | cut -c1-16", "--init").split() == [
        "2",
        "/run/docker-init",
    ]


def test_options_of_the_program_are_not_ours(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "host", "df", "-h", "/").stdout.startswith("Filesystem")


def test_network_of_the_host(user: OrdinaryUser) -> None:
    assert sh(user, "readlink /proc/self/ns/net", "--network", "host").strip() == os.readlink("/proc/self/ns/net")
    assert sh(user, "ls /sys/class/net").split() == ["lo"]


def test_a_terminal(user: OrdinaryUser) -> None:
    ours, theirs = pty.openpty()
    argv = user.cli("run", "-t", "-i", "host", "sh", "-c", "tty; stty size; exit 3")
    with user.start(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while chunk := os.read(ours, 1000):
                said += chunk
        assert process.wait(20) == 3
    os.close(ours)
    assert said.splitlines()[0] in (b"/dev/pts/0", b"/dev/console"), said


def test_explained_as_the_user_runs_it(user: OrdinaryUser) -> None:
    done = user.pycontain("run", "--explain", "--format", "json", "host", "true")
    ops = json.loads(done.stdout)["prepare"]
    assert any("USERXATTR" in op.get("flags", ()) for op in ops), done.stdout[:2000]


# --- from Python -----------------------------------------------------------------------------------------------------

_PROGRAM = """
import asyncio, os, pycontain
assert os.geteuid() == 0
r = pycontain.run("host", ["id", "-u"], text=True)
print(r.exit_code, r.stdout.strip())
with pycontain.Container("host", ["sleep", "600"], stop_timeout=0) as c:
    print(open(f"/proc/{c.pid}/status").read().partition("NSpid:")[2].split()[1])
async def both():
    return await asyncio.gather(*(pycontain.aio.run("host", ["sh", "-c", f"exit {n}"]) for n in (3, 4)))
import pycontain.aio
print(*(r.exit_code for r in asyncio.run(both())))
"""


def test_every_python_face_works_under_unshare(user: OrdinaryUser) -> None:
    done = user.python(_PROGRAM)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["0 0", "1", "3 4"]


def test_without_unshare_python_is_told_of_it(user: OrdinaryUser) -> None:
    done = user.run(user.argv([PYTHON, "-c", "import pycontain; pycontain.run('host', ['true'])"]))
    assert done.returncode == 1 and "start it by `pycontain unshare PROGRAM`" in done.stderr.splitlines()[-1]


def test_unshare_is_refused_to_root_and_for_what_is_no_program(user: OrdinaryUser) -> None:
    assert "no such program" in one_line(user.pycontain("unshare", "no-such-program"), 127)
    done = subprocess.run(
        [sys.executable, "-c", "from pycontain.cli.entry import console; console()", "unshare", "true"],
        capture_output=True, text=True, check=False, timeout=20,
        env={**os.environ, "_PYCONTAIN_ROOTLESS": "1000:1000"},
    )  # fmt: skip
    assert "root needs no user namespace" in one_line(done)


# --- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--userns", "auto:size=1000")], ids=["own", "auto"])
def test_kill_9_of_the_command_leaves_nothing(user: OrdinaryUser, options: tuple[str, ...]) -> None:
    script = "mkdir /tmp/d; chmod 0 /tmp/d; chown 33 /tmp/d; sleep 500 & setsid sleep 501 & echo ready; sleep 502"
    argv = user.cli("run", *options, "host", "sh", "-c", script)
    with user.start(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        pid = inner(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    assert poll_until(lambda: not os.path.exists(f"/proc/{pid}"))
    assert poll_until(lambda: not left_by(str(user.data_root), str(user.run_root / "nothing")))
    sh(user, "true", *options)  # reservations of ids are links that name a dead owner: the next start takes them away


def test_a_signal_ends_it_in_good_order(user: OrdinaryUser) -> None:
    argv = user.cli("run", "host", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done")
    with user.start(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 9


def test_the_next_run_sweeps_when_the_guardian_was_killed_too(user: OrdinaryUser) -> None:
    argv = user.cli("run", "host", "sh", "-c", "chown 33 /tmp; echo ready; sleep 500")
    with user.start(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for line in user.processes():
            if "pycontain-guardian" in line:
                os.kill(int(line.split()[1]), signal.SIGKILL)
        process.kill()
        process.wait(20)
    assert poll_until(lambda: not user.processes())
    assert left_by(str(user.data_root), str(user.run_root))
    assert sh(user, "echo fine") == "fine\n"


# --- what is missing -------------------------------------------------------------------------------------------------

_NO_SUBIDS = "mount --bind /dev/null /etc/subuid"
_NO_HELPER = "mount --bind /dev/null /usr/bin/newuidmap"


def test_no_subordinate_ids(user: OrdinaryUser) -> None:
    line = one_line(user.pycontain("run", "host", "true", before=_NO_SUBIDS))
    assert "/etc/subuid gives it no subordinate ids" in line and "usermod --add-subuids" in line


def test_newuidmap_is_missing(user: OrdinaryUser) -> None:
    assert "newuidmap is not installed. Install uidmap" in one_line(
        user.pycontain("run", "host", "true", before=_NO_HELPER)
    )


def test_newuidmap_without_its_powers_is_quoted(user: OrdinaryUser) -> None:
    plain = user.directory / "newuidmap"
    plain.write_bytes(Path("/usr/bin/newuidmap").read_bytes())
    plain.chmod(0o755)
    line = one_line(user.pycontain("run", "host", "true", before=f"mount --bind {plain} /usr/bin/newuidmap"))
    assert "write to uid_map failed: Operation not permitted" in line and "setuid root" in line


def test_explain_and_help_need_no_subordinate_ids(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "--help", before=_NO_SUBIDS).returncode == 0
    assert "clone3" in user.pycontain("run", "--explain", "host", "true", before=_NO_SUBIDS).stdout


def test_user_namespaces_are_forbidden(user: OrdinaryUser) -> None:
    """In the user's own namespace, whose limit he may set, as an ordinary user of it with subordinate ids."""
    table = user.directory / "nested"
    table.write_text(f"{(user.directory / 'subuid').read_text()}1:100:50\n")
    before = f"mount --bind {table} /etc/subuid; mount --bind {table} /etc/subgid"
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --reuid 1 --regid 1 --clear-groups "$@"'
    argv = user.cli("unshare", "sh", "-c", script, "sh", PYTHON, "-c", CLI, "run", "host", "true", before=before)
    assert "(ENOSPC): user.max_user_namespaces is 0. Raise it" in one_line(user.run(argv))


@pytest.mark.parametrize(
    ("runtime", "phrase"),
    [("/root", "belongs to another user"), ("/run/user/none", "No such file or directory (ENOENT)")],
)
def test_another_users_runtime_directory(user: OrdinaryUser, runtime: str, phrase: str) -> None:
    line = one_line(user.pycontain("run", "host", "true", env={"XDG_RUNTIME_DIR": runtime}))
    assert f"$XDG_RUNTIME_DIR, {runtime}" in line and phrase in line


@contextlib.contextmanager
def squatted(user: OrdinaryUser, how: str) -> Iterator[Path]:
    path = Path(f"/tmp/pycontain-run-{user.uid}")
    trap = user.directory / "trap"
    trap.mkdir(exist_ok=True)
    os.chown(trap, user.uid, user.uid)  # a link to what is the victim's own
    if how == "link":
        path.symlink_to(trap)
    elif how == "file":
        path.write_text("")
    else:
        path.mkdir()
        path.chmod(0o777)
        if how == "open":
            os.chown(path, user.uid, user.uid)
    try:
        yield trap
    finally:
        path.unlink() if how in ("link", "file") else path.rmdir()


@pytest.mark.parametrize("how", ["link", "file", "another's", "open"])
def test_a_squatted_run_root_is_not_used(user: OrdinaryUser, how: str) -> None:
    with squatted(user, how) as trap:
        done = user.pycontain("run", "--name", "web", "host", "true", env={"XDG_RUNTIME_DIR": None})
        assert f"/tmp/pycontain-run-{user.uid} is not a directory of this user's own" in one_line(done)
        assert list(trap.iterdir()) == []


def test_without_a_runtime_directory_tmp_is_used(user: OrdinaryUser) -> None:
    path = Path(f"/tmp/pycontain-run-{user.uid}")
    try:
        done = user.pycontain("run", "--name", "web", "host", "true", env={"XDG_RUNTIME_DIR": None})
        assert (done.returncode, done.stderr) == (0, "")
        assert path.stat().st_mode & 0o777 == 0o700 and path.stat().st_uid == user.uid
    finally:
        subprocess.run(["rm", "-r", str(path)], check=True)


@pytest.mark.parametrize("home", ["/proc", "/root/x", "/nonexistent"])
def test_a_home_that_cannot_be_written(user: OrdinaryUser, home: str) -> None:
    line = one_line(user.pycontain("run", "host", "true", env={"HOME": home}))
    assert f"cannot use the data root {home}/.local/share/pycontain" in line and "--data-root" in line


def test_a_run_root_that_cannot_be_written(user: OrdinaryUser) -> None:
    line = one_line(user.pycontain("--run-root", "/proc/x", "run", "--name", "web", "host", "true"))
    assert "run root" in line


def test_home_is_asked_of_passwd_without_the_variable(user: OrdinaryUser) -> None:
    assert user.pycontain("run", "host", "true", env={"HOME": None}).returncode == 0
    assert (user.data_root / "ephemeral").is_dir()
