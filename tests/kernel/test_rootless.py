"""A whole container of an ordinary user: what the kernel says of it, what it may not do to the host, what is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from image_cases import LayoutWriter, member, tar
from ordinary_user import RANGE, OrdinaryUser, living, one_line, sh
from probes import mounts, status

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("nothing_of_the_user_left")]

_DOCKER_DEFAULT = 0xA80425FB


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
