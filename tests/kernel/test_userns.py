"""User namespaces: whose ids, over which files, with which power; the kernel is asked from outside and from inside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forks
import pytest
from probes import fails, living, mounts, namespace, py, refused, runs, sh, status

import pycontain
from pycontain.errors import InvalidArgument, SetupFailed, Unsupported
from pycontain.host import probe
from pycontain.runtime import session, userns
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

AUTO: dict[str, Any] = {"userns": "auto"}
MAP: dict[str, Any] = {"userns": "0:300000:65536"}
PRIVILEGES: list[dict[str, Any]] = [{}, {"privileged": True}]
ROOTS: list[dict[str, Any]] = [{}, {"read_only": True}]


def ids(pid: int) -> list[list[int]]:
    """The lines of uid_map, as this process sees them."""
    return [[int(n) for n in line.split()] for line in Path(f"/proc/{pid}/uid_map").read_text().splitlines()]


# --- maps -----------------------------------------------------------------------------------------------------------


def test_the_map_is_the_one_that_was_asked_for() -> None:
    with living(userns="0:300000:1000,1000:400000:10") as c:
        for name in ("uid_map", "gid_map"):
            lines = Path(f"/proc/{c.pid}/{name}").read_text().split()
            assert lines == ["0", "300000", "1000", "1000", "400000", "10"]
        assert Path(f"/proc/{c.pid}/setgroups").read_text() == "allow\n"
        assert status(c.pid)["Uid"].split() == ["300000"] * 4
        assert status(c.pid)["Gid"].split() == ["300000"] * 4
        assert namespace(c.pid, "user") != namespace("self", "user")


def test_users_and_groups_may_have_maps_of_their_own() -> None:
    words = [
        "--uidmap",
        "0:300000:65536",
        "--gidmap",
        "0:400000:1000",
        "--gidmap",
        "1000:500000:10",
        "-u",
        "7:1005",
        "--group-add",
        "27",
    ]
    script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; id -G"
    r = subprocess.run(
        [sys.executable, "-m", "pycontain", "run", *words, "host", "sh", "-c", script], capture_output=True, text=True, timeout=30
    )  # fmt: skip
    assert r.stdout.split() == [
        "0",
        "300000",
        "65536",
        "0",
        "400000",
        "1000",
        "1000",
        "500000",
        "10",
        "7",
        "1005",
        "1005",
        "27",
    ], r.stderr


def test_no_group_from_outside_comes_along() -> None:
    before = os.getgroups()
    os.setgroups([4242])
    try:
        assert status("self")["Groups"] == "4242"
        with living(**MAP) as c:
            assert status(c.pid)["Groups"] == ""
    finally:
        os.setgroups(before)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("0:0:0", "range of ids"), ("0:4294967295:1", "range of ids"), ("0:1", "not three numbers"),
        ("0:1:2:3", "not three numbers"), ("0:-1:5", "not three numbers"), ("a:b:c", "not three numbers"),
        ("0:100000:10,5:200000:10", "overlap inside"), ("0:100000:10,20:100005:10", "overlap outside"),
        ("1:100000:10", "id 0"), (",".join(f"{i}:{100000 + 2 * i}:1" for i in range(341)), "341 ranges"),
        ("auto:size=0", "size=NUMBER"), ("auto:size=" + "9" * 5000, "size=NUMBER"), ("auto:size=²", "size=NUMBER"),
        ("auto:", "size=NUMBER"), ("outo", "did you mean"), ("keep-id", "ordinary user"),
    ],
)  # fmt: skip
def test_a_bad_map_is_refused(given: str, words: str) -> None:
    assert words in refused(InvalidArgument, userns=given)


@pytest.mark.parametrize("more", [{"pid": "host"}, {"ipc": "host"}])
def test_a_user_namespace_contradicts(more: dict[str, Any]) -> None:
    assert "contradict" in refused(InvalidArgument, **AUTO, **more)


@pytest.mark.parametrize(
    ("more", "words"), [({"user": "1000"}, "user 1000"), ({"user": "5:1000"}, "group 1000"), ({"group_add": ["99"]}, "group 99")]
)  # fmt: skip
def test_a_user_outside_the_map_is_refused(more: dict[str, Any], words: str) -> None:
    assert words in refused(InvalidArgument, userns="0:300000:10", **more)


# --- ranges ---------------------------------------------------------------------------------------------------------


def test_containers_at_once_have_different_ids_and_later_ones_take_them_again() -> None:
    with living(**AUTO) as a, living(**AUTO) as b:
        (first,), (second,) = ids(a.pid), ids(b.pid)
    assert first[0] == second[0] == 0
    assert first[2] == second[2] == 65536
    assert first[1] + first[2] <= second[1] or second[1] + second[2] <= first[1]
    with living(**AUTO) as c:
        assert ids(c.pid)[0] in (first, second)


def test_a_start_that_fails_gives_its_ids_back() -> None:
    with living(**AUTO) as c:
        used = ids(c.pid)
    for _ in range(3):
        refused(pycontain.errors.ProgramNotFound, "/no/such/program", **AUTO)
        refused(InvalidArgument, user="70000", **AUTO)
    with living(**AUTO) as c:
        assert ids(c.pid) == used


def _range_of_another(roots: Roots, say: Any) -> None:
    c = pycontain.Container("host", ["sleep", "600"], data_root=roots.data_root, run_root=roots.run_root, **AUTO)
    say(ids(c.pid)[0][1])
    signal.pause()


def test_another_owners_ids_are_respected_and_after_its_death_taken(roots: Roots) -> None:
    def scenario() -> tuple[int, int, int]:
        owner = forks.Owner(lambda say: _range_of_another(roots, say))
        theirs = int(owner.hears())
        with living(**AUTO) as c:
            ours = ids(c.pid)[0][1]
        owner.end()
        session.close_all()
        assert forks.orphans_left() == []
        with living(**AUTO) as c:
            later = ids(c.pid)[0][1]
        session.close_all()
        return theirs, ours, later

    theirs, ours, later = forks.in_helper(scenario)
    assert abs(theirs - ours) >= 65536
    assert later == min(theirs, ours)  # the dead owner's, swept by the new session


@pytest.fixture
def sub_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/etc/subuid and /etc/subgid of the test's own, both in one directory."""
    real = userns._read_sub
    monkeypatch.setattr(userns, "_read_sub", lambda path: real(str(tmp_path / os.path.basename(path))))
    return tmp_path


def candidates(directory: Path, uids: str, gids: str, size: int) -> list[int]:
    (directory / "subuid").write_text(uids)
    (directory / "subgid").write_text(gids)
    made = userns.IdRanges(str(directory), "nobody", probe())
    return [start for (start, _), _ in zip(made._candidates(size), range(3), strict=False)]


@pytest.mark.parametrize(
    ("uids", "gids", "size", "found"),
    [
        ("containers:1048576:1000000\n", "containers:1048576:1000000\n", 65536, [1048576, 1114112, 1179648]),
        ("other:1048576:1000000\n", "other:1048576:1000000\n", 65536, [524288, 589824, 655360]),  # nobody's
        ("containers:100000:65536\n", "containers:100000:65536\n", 65536, [100000]),
        ("containers:100000:65535\n", "containers:100000:65536\n", 65536, []),
        ("containers:100000:65536\n", "containers:200000:65536\n", 65536, [524288, 589824, 655360]),  # nothing in both
        ("# x\nnonsense\ncontainers:x:y\ncontainers:²:5\ncontainers:131072:131072\n", "containers:0:1000000\n", 65536, [131072, 196608]),
    ],
)  # fmt: skip
def test_subordinate_ids_of_containers_are_where_ranges_come_from(
    sub_files: Path, uids: str, gids: str, size: int, found: list[int]
) -> None:
    assert candidates(sub_files, uids, gids, size) == found


def test_when_no_range_is_left_it_is_said(sub_files: Path) -> None:
    for name in ("subuid", "subgid"):
        (sub_files / name).write_text("containers:1048576:65536\n")
    with living(**AUTO) as c:
        assert ids(c.pid) == [[0, 1048576, 65536]]
        assert "no unused range" in refused(Unsupported, **AUTO)
    assert sh("cat /proc/self/uid_map", **AUTO).split() == ["0", "1048576", "65536"]


def test_ids_kept_for_another_size_are_given_up_before_a_start_is_refused(sub_files: Path) -> None:
    for name in ("subuid", "subgid"):
        (sub_files / name).write_text("containers:1048576:65536\n")
    for size in (65536, 1024, 65536):
        assert sh("cat /proc/self/uid_map", userns=f"auto:size={size}").split() == ["0", "1048576", str(size)]


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_of_the_root_are_roots_inside_and_the_ranges_on_disk(busybox_root: str, roots: Roots) -> None:
    script = "stat -c %u:%g /bin/busybox /home/user; touch /new; chown 7:8 /new; chmod 600 /bin/busybox; echo ready; sleep 600"
    with living("sh", "-c", script, image=busybox_root, stdout=pycontain.PIPE, **MAP) as c:
        assert c.stdout is not None
        lines = [c.stdout.readline() for _ in range(3)]
        assert lines == [b"0:0\n", b"1000:1000\n", b"ready\n"]
        upper = Path(session.session_for(roots, probe()).directory, c.id, "upper")
        owners = {p.name: (p.stat().st_uid, p.stat().st_gid) for p in (upper / "new", upper / "bin/busybox", upper)}
    assert owners == {"new": (300007, 300008), "busybox": (300000, 300000), "upper": (300000, 300000)}
    assert Path(busybox_root, "bin/busybox").stat().st_mode & 0o777 == 0o755


def test_a_volume_has_the_owners_inside_that_it_has_outside(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    tmp_path.chmod(0o755)
    os.chown(tmp_path / "theirs", 1000, 1000)
    assert sh("stat -c %u:%g /v /v/theirs; touch /v/new", mounts=[f"{tmp_path}:/v"], **MAP) == "0:0\n1000:1000\n"
    assert (tmp_path / "new").stat().st_uid == 0
    outside = sh("stat -c %u:%g /v /v/theirs", mounts=[f"{tmp_path}:/v:noidmap"], **MAP)
    assert outside == "65534:65534\n65534:65534\n"
    assert "Permission denied" in fails("touch /v/x", mounts=[f"{tmp_path}:/v:noidmap"], **MAP)
    os.chown(tmp_path, 300000, 300000)
    assert sh("stat -c %u:%g /v; touch /v/mapped", mounts=[f"{tmp_path}:/v:noidmap"], **MAP) == "0:0\n"
    assert (tmp_path / "mapped").stat().st_uid == 300000


def test_a_volume_that_cannot_be_translated_is_refused() -> None:
    message = refused(SetupFailed, mounts=["/proc/sys:/v"], **MAP)  # no procfs can
    assert "/v" in message
    assert "noidmap" in message
    assert sh("ls /v", mounts=["/proc/sys:/v:ro,noidmap"], **MAP)


def test_files_that_are_written_for_the_container_are_its_own() -> None:
    script = "stat -c %u:%g /etc/hosts /etc/hostname /dev/shm /work"
    assert set(sh(script, hostname="box", add_host={"db": "10.0.0.1"}, workdir="/work", **MAP).split()) == {"0:0"}


# --- power ----------------------------------------------------------------------------------------------------------


def test_capabilities_are_dockers_inside() -> None:
    with living(**MAP) as c, living() as usual:
        for field in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
            assert status(c.pid)[field] == status(usual.pid)[field]
    with living(privileged=True, **MAP) as c:
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
        assert int(status(c.pid)["CapEff"], 16) == (2 << last) - 1  # all, of which this process may not have some


POWERLESS = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(ok):
    print("done" if ok else "refused", flush=True)
def attempt(f, *a):
    try: f(*a); tried(True)
    except OSError: tried(False)
fd = int(sys.argv[1])
tried(libc.setns(fd, 0) == 0)                                              # join the host's
attempt(lambda: open("/proc/sys/kernel/panic", "w").write("1"))
attempt(lambda: open("/proc/sysrq-trigger", "w").write("x"))
attempt(os.mknod, "/tmp/null", 0o20666, os.makedev(1, 3))
tried(libc.settimeofday(ctypes.create_string_buffer(16), None) == 0)
tried(libc.syscall(175, 0, 0, 0) == 0)                                     # init_module
tried(libc.swapon(b"/dev/null", 0) == 0)
tried(libc.mount(b"/dev/vda", b"/mnt", b"ext4", 0, None) == 0)
"""


def test_all_capabilities_are_none_outside() -> None:
    with open("/proc/self/ns/uts", "rb") as ours:
        r = pycontain.run(
            "host", ["python3", "-I", "-S", "-c", POWERLESS, "0"], stdin=ours, text=True, timeout=20, privileged=True, **MAP
        )  # fmt: skip
    assert str(r.stdout).split() == ["refused"] * 8, (r.stdout, r.stderr)


def test_a_process_of_the_host_cannot_be_killed(roots: Roots) -> None:
    # a signal travels by a pidfd that is handed in: the pid namespace shows none
    with subprocess.Popen(["sleep", "600"]) as p:
        fd = os.pidfd_open(p.pid)
        code = "import signal\ntry: signal.pidfd_send_signal(0, 9)\nexcept OSError: print('refused')"
        try:
            r = pycontain.run("host", ["python3", "-I", "-S", "-c", code], stdin=fd, text=True, privileged=True, **MAP)
            assert r.stdout == "refused\n", r
            assert runs(p.pid)
        finally:
            os.close(fd)
            p.kill()


def test_its_own_names_network_and_mounts_are_its_to_change() -> None:
    script = "hostname new && hostname && mount -t tmpfs none /mnt && grep -c ' /mnt ' /proc/mounts"
    assert sh(script, cap_add=["SYS_ADMIN"], seccomp="unconfined", **MAP).split() == ["new", "1"]
    assert "up" in sh(
        "ip link add d0 type dummy && ip link set d0 up && ip link show d0 || ip link set lo down && echo up",
        cap_add=["NET_ADMIN"],
        image="host",
        **MAP,
    )


def test_the_host_name_of_the_host_stays() -> None:
    before = os.uname().nodename
    assert "root" in fails("hostname new", uts="host", privileged=True, **MAP)
    assert os.uname().nodename == before


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/panic", "/proc/sys/vm/swappiness", "/proc/irq/default_smp_affinity"]
)
def test_settings_of_the_host_are_not_its_to_write(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip(f"this kernel has no {path}")
    for more in PRIVILEGES:
        assert fails(f"cat {path} >/tmp/x; cat /tmp/x >{path}", **MAP, **more)


def test_masks_hold() -> None:
    with living(**MAP) as c, living() as usual:
        of = {p: v for p, v in mounts(usual.pid).items() if p.startswith(("/proc/", "/sys/"))}
        mapped = mounts(c.pid)
    assert of
    for path, (_, _, options) in of.items():
        assert path in mapped, path
        assert ("ro" in options) == ("ro" in mapped[path][2]), path
    assert sh("ls /proc/acpi /sys/firmware 2>/dev/null | grep -v :", **MAP).strip() == ""


def test_network_of_the_host_shows_the_hosts_sysfs_read_only() -> None:
    with living(network="host", **MAP) as c:
        assert mounts(c.pid)["/sys"][1] == "sysfs"
        assert "ro" in mounts(c.pid)["/sys"][2]
        assert namespace(c.pid, "net") == namespace("self", "net")
    assert "ermi" in fails("ip link set lo down", network="host", cap_add=["NET_ADMIN"], **MAP)


@pytest.mark.parametrize(
    "more",
    [{"init": True}, {"read_only": True}, {"no_new_privileges": True}, {"privileged": True}, {"cgroupns": "host"}],
)
def test_other_options_go_with_it(more: dict[str, Any]) -> None:
    assert sh("id -u; cat /proc/self/uid_map; test -c /dev/null; echo x >/dev/null", **MAP, **more).split() == [
        "0",
        "0",
        "300000",
        "65536",
    ]


def test_devices_of_the_container_are_the_hosts_own() -> None:
    script = "for d in null zero full random urandom tty; do stat -c '%t:%T %F' /dev/$d; done"
    for more in ROOTS:
        assert sh(script, **MAP, **more) == sh(script, **more)


def test_the_hosts_procfs_is_out_of_reach() -> None:
    # the spawner's namespace shows one until ROOT_PIVOT: nothing but the container's root may be left
    with living(privileged=True, **MAP) as c:
        lines = Path(f"/proc/{c.pid}/mountinfo").read_text().splitlines()
        roots_of = [line.split() for line in lines if line.split()[4] == "/"]
        assert len(roots_of) == 1
        assert " - overlay " in " ".join(roots_of[0])
        known = {line.split()[0] for line in lines}
        assert [w[1] for w in (line.split() for line in lines) if w[1] not in known] == [roots_of[0][1]]
    source = "import os\nprint([d for d in os.listdir('/proc') if d.isdigit()])"
    assert py(source, privileged=True, **MAP) == "['1']\n"


BREAKOUT = """
import os
os.mkdir("/cell"); os.chroot("/cell")
for _ in range(64): os.chdir("..")
os.chroot(".")
print(sorted(os.listdir("/"))[:3], os.path.exists("/proc/1/root/etc/shadow") and os.listdir("/proc").count("2"))
"""


def test_a_way_out_of_chroot_ends_at_the_containers_root() -> None:
    assert "bin" in py(BREAKOUT, privileged=True, **MAP)
    assert py("import os; print(os.stat('/..').st_ino == os.stat('/').st_ino)", privileged=True, **MAP) == "True\n"


def test_many_threads_start_at_once(roots: Roots) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def one(_: int) -> str:
        return sh("cat /proc/self/uid_map; id -u", **AUTO).split()[-1]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(32))) == ["0"] * 32


def test_the_engine_is_dumpable_afterwards() -> None:
    import ctypes

    sh("true", **MAP)
    assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1  # PR_GET_DUMPABLE
