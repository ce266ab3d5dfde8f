"""Directories as images that try to be somewhere else: links at /proc, /dev, /etc and below mount targets.

Around each, a host directory whose listing and contents must not change, and whose secret must never be read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from probes import DEADLINE_S, SECRET, canary, listing, living, mounts, refused

import pycontain
from pycontain.errors import SetupFailed

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Path]:
    """The host directory to be kept."""
    with canary(tmp_path / "canary") as directory:
        yield directory


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    """A root file system of the test's own."""
    root = tmp_path / "image"
    shutil.copytree(busybox_root, root, symlinks=True)
    return root


def link(root: Path, at: str, target: str) -> None:
    """Replaces ``at`` in the image by a symbolic link."""
    path = root / at.lstrip("/")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def ends(image: Path, script: str, **options: Any) -> str:
    """Output of a run that may be refused by SetupFailed or end as it likes, but never shows the secret."""
    try:
        r = pycontain.run(str(image), ["sh", "-c", script], timeout=DEADLINE_S, text=True, **options)
    except SetupFailed as e:
        assert "(E" in str(e) and "\n" not in str(e)
        return f"refused: {e}"
    said = f"{r.exit_code} {r.stdout!s}{r.stderr!s}"
    assert SECRET not in said
    return said


def far(kept: Path) -> list[str]:
    """The canary as a link's target: absolute, and by more ``..`` than there are directories."""
    return [str(kept), "../" * 40 + str(kept).lstrip("/")]


LOOK = "find / -xdev -name secret; cat /*/secret /secret; ls -la / /proc/self /dev /sys/fs /etc; echo x >/etc/x; touch /dev/x; id"


@pytest.mark.parametrize("at", ["/proc", "/sys", "/dev", "/etc", "/sbin", "/tmp"])
def test_a_link_in_place_of_a_directory_leads_nowhere(at: str, image: Path, kept: Path) -> None:
    for target in far(kept):
        link(image, at, target)
        before = listing(image)
        ends(image, LOOK, hostname="web", add_host={"db": "10.0.0.2"}, init=True)
        ends(image, LOOK, read_only=True)
        assert listing(image) == before


@pytest.mark.parametrize("at", ["/proc", "/sys", "/dev"])
def test_the_kernels_file_systems_cover_a_link_of_the_image(at: str, image: Path, kept: Path) -> None:
    link(image, at, str(kept))
    with living("sleep", "600", image=str(image)) as c:
        table = mounts(c.pid)
        assert table["/proc"][:2] == ("/", "proc") and table["/sys"][:2] == ("/", "sysfs")
        assert table["/dev/pts"][1] == "devpts"
        assert not os.path.lexists(f"/proc/{c.pid}/root{at}/secret")


@pytest.mark.parametrize("read_only", [False, True])
def test_dev_null_of_the_image_is_not_used(read_only: bool, image: Path, kept: Path) -> None:
    """2025-31133."""
    path = image / "dev/null"
    for target in (kept / "secret", None):
        path.unlink(missing_ok=True)
        path.write_text("not a device") if target is None else path.symlink_to(target)
        out = ends(image, "stat -c '%F %t:%T' /dev/null; cat /proc/keys; echo x >/dev/null", read_only=read_only)
        assert out == "0 character special file 1:3\n"


@pytest.mark.parametrize("at", ["/dev/console", "/dev/ptmx", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd"])
def test_links_below_dev_lead_nowhere(at: str, image: Path, kept: Path) -> None:
    """2026-41579."""
    link(image, at, str(kept / "sub"))
    assert ends(image, "echo x >/dev/shm/x; echo $?").startswith("0 0")


@pytest.mark.parametrize("at", ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"])
@pytest.mark.parametrize("network", ["none", "host"])
def test_files_that_we_write_replace_a_link(at: str, network: str, image: Path, kept: Path) -> None:
    for target in (*far(kept / "secret"), str(kept / "new")):
        link(image, at, target)
        options: dict[str, Any] = {"hostname": "web", "add_host": {"db": "10.0.0.2"}, "network": network}
        assert ends(image, "cat /etc/hosts /etc/hostname", **options).startswith("0 ")


@pytest.mark.parametrize("at", ["/etc/passwd", "/etc/group"])
def test_passwd_and_group_are_read_inside(at: str, image: Path, kept: Path) -> None:
    (kept / "secret").write_text(f"user:x:0:0:{SECRET}:/:/bin/sh\n")
    for target in far(kept / "secret"):
        link(image, at, target)
        try:
            r = pycontain.run(str(image), ["id"], user="user", text=True)
        except pycontain.InvalidArgument as e:
            assert "user" in str(e)
        else:
            assert r.exit_code == 0 and "uid=1000" in str(r.stdout)
    (kept / "secret").write_text(SECRET)


@pytest.mark.parametrize("target", ["/hole/new", "/hole", "/hole/../hole/sub", "/a/../hole/x/y"])
@pytest.mark.parametrize("kind", ["bind", "file", "tmpfs"])
def test_mount_targets_through_links_stay_inside(
    kind: str, target: str, image: Path, kept: Path, tmp_path: Path
) -> None:
    """2019-18837, 2021-30465."""
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "file").write_text("file")
    mount = {
        "bind": pycontain.bind(str(source), target),
        "file": pycontain.bind(str(tmp_path / "file"), target),
        "tmpfs": pycontain.tmpfs(target),
    }[kind]
    for to in far(kept):
        link(image, "/hole", to)
        (image / "a").mkdir(exist_ok=True)
        ends(image, f"ls -la {target}; echo x >{target}/x; cat /hole/secret", mounts=[mount])
    assert list(source.iterdir()) in ([], [source / "x"])


@pytest.mark.parametrize("workdir", ["/hole", "/hole/new/deep", "/hole/sub", "/a/../hole"])
def test_a_working_directory_through_a_link_stays_inside(workdir: str, image: Path, kept: Path) -> None:
    """2026-55686."""
    for to in far(kept):
        link(image, "/hole", to)
        out = ends(image, "pwd -P; ls -la; touch x", workdir=workdir)
        assert out.startswith(("0 ", "refused: ")), out


def test_a_link_that_stays_inside_is_followed(image: Path) -> None:
    link(image, "/here", "/var/there")
    (image / "var/there").mkdir()
    out = ends(image, "pwd -P; touch /mnt-here; grep ' /var/there/m ' /proc/mounts", workdir="/here", tmpfs=["/here/m"])
    assert out.startswith("0 /var/there\n") and "tmpfs /var/there/m tmpfs" in out
    assert not (image / "var/there/m").exists()


def test_a_program_through_a_link_is_looked_up_inside(image: Path, kept: Path) -> None:
    shutil.copy(image / "bin/busybox", kept.parent / "busybox")
    link(image, "/bin/evil", str(kept.parent / "busybox"))
    assert "no such file in the image" in refused(pycontain.ProgramNotFound, "/bin/evil", image=str(image))


def test_a_device_node_of_the_image_cannot_be_used(image: Path) -> None:
    disk = next((p for p in Path("/dev").iterdir() if p.is_block_device()), None)
    if disk is None:
        pytest.skip("this host has no block device")
    os.mknod(image / "disk", 0o60666, disk.stat().st_rdev)
    assert ends(image, "head -c 1 /disk").endswith("Operation not permitted\n")


def test_the_image_itself_is_never_changed(image: Path) -> None:
    before = listing(image)
    ends(
        image, "rm -rf /bin /etc; echo x >/new; chmod 777 /root; rm -rf /*", workdir="/made/by/us", tmpfs=["/also/made"]
    )
    assert listing(image) == before


@pytest.mark.parametrize("interpreter", ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe", "/b/link"])
def test_an_interpreter_line_does_not_reach_the_hosts_program(interpreter: str, tmp_path: Path) -> None:
    """2019-5736: who runs as the engine's own program holds a way to write to it once nobody runs it."""
    (tmp_path / "entry").write_text(f"#!{interpreter} -IS\nimport os\nprint(os.readlink('/proc/self/exe'))\n")
    (tmp_path / "entry").chmod(0o755)
    (tmp_path / "link").symlink_to("/proc/self/exe")
    try:
        r = pycontain.run("host", ["/b/entry"], mounts=[pycontain.bind(str(tmp_path), "/b")], text=True)
    except (pycontain.NotExecutable, pycontain.ProgramNotFound):
        return
    assert os.readlink("/proc/self/exe") not in str(r.stdout)
