"""Mounts as asked: binds, tmpfs, the read-only root, /dev/shm; what is mounted inside never reaches the host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from probes import SECRET, canary, fails, listing, living, mounts, py, refused, sh

import pycontain
from pycontain.errors import InvalidArgument, SetupFailed

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


def own_mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


# --- binds ------------------------------------------------------------------------------------------------------------


def test_a_bound_directory_is_the_hosts(tmp_path: Path) -> None:
    with canary(tmp_path / "kept") as kept:
        assert sh("cat /b/secret", mounts=[pycontain.bind(str(kept), "/b", read_only=True)]) == SECRET
    sh("echo new >/b/new", mounts=[f"{tmp_path}:/b"])
    assert (tmp_path / "new").read_text() == "new\n"


def test_a_bound_file_is_the_hosts(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    sh("cat /deep/er/file; echo new >/deep/er/file", mounts=[pycontain.bind(str(file), "/deep/er/file")])
    assert file.read_text() == "new\n"
    assert sh("cat /etc/passwd", mounts=[pycontain.bind(str(file), "/etc/passwd")]) == "new\n"


def test_a_bound_socket_or_device_counts_as_a_file(tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "s"))
        assert sh("stat -c %F /run/s", mounts=[pycontain.bind(str(tmp_path / "s"), "/run/s")]) == "socket\n"


@pytest.mark.parametrize("how", ["keyword", "volume"])
def test_a_read_only_bind_cannot_be_written(how: str, tmp_path: Path) -> None:
    mount: Any = pycontain.bind(str(tmp_path), "/b", read_only=True) if how == "keyword" else f"{tmp_path}:/b:ro"
    assert "Read-only file system" in fails("touch /b/x", mounts=[mount])
    with living(mounts=[mount]) as c:
        assert "ro" in mounts(c.pid)["/b"][2]
    source = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.mount(None, b'/b', None, 32, None), ctypes.get_errno())"
    assert py(source, mounts=[mount]) == "-1 1\n"
    assert not (tmp_path / "x").exists()


# In a mount namespace of its own: a tmpfs below the source, which no other process of this machine sees.
SUBMOUNT = """
import ctypes, os, sys
import pycontain
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0 and libc.mount(b'none', b'/', None, 1 << 18 | 1 << 14, None) == 0
source = sys.argv[1]
os.mkdir(source + '/sub')
assert libc.mount(b'none', (source + '/sub').encode(), b'tmpfs', 0, None) == 0
open(source + '/sub/file', 'w').close()
m = pycontain.bind(source, '/b', read_only=sys.argv[2] == 'ro', recursive=sys.argv[3] == 'rbind')
r = pycontain.run('host', ['sh', '-c', 'ls /b/sub; touch /b/sub/x && echo written; cat /proc/mounts'], mounts=[m], text=True)
print(r.stdout, r.stderr)
"""


@pytest.mark.parametrize(
    ("mode", "depth", "seen", "written"),
    [
        ("rw", "rbind", True, True),
        ("ro", "rbind", True, False),
        ("rw", "bind", False, True),
        ("ro", "bind", False, False),
    ],
)
def test_a_mount_below_the_source(mode: str, depth: str, seen: bool, written: bool, tmp_path: Path) -> None:
    """Read-only means all of it, not the topmost mount alone."""
    argv = [sys.executable, "-c", SUBMOUNT, str(tmp_path), mode, depth]
    r = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stderr
    assert (r.stdout.startswith("file\n"), "\nwritten\n" in "\n" + r.stdout) == (seen, written), r.stdout + r.stderr
    assert ("/b/sub tmpfs" in r.stdout) == seen
    assert (tmp_path / "sub" / "x").exists() == (not seen and written)


def test_a_mount_made_inside_is_not_outside(tmp_path: Path) -> None:
    before = own_mounts()
    (tmp_path / "sub").mkdir()
    script = "mount -t tmpfs none /b/sub && touch /b/sub/x && echo done; sleep 600"
    with living("sh", "-c", script, privileged=True, mounts=[f"{tmp_path}:/b"], stdout=pycontain.PIPE, text=True) as c:
        assert c.stdout is not None and c.stdout.readline() == "done\n"
        assert own_mounts() == before
        assert list((tmp_path / "sub").iterdir()) == []


def test_options_of_a_bind_reach_the_kernel(tmp_path: Path) -> None:
    with living(mounts=[f"{tmp_path}:/b:nosuid,nodev,noexec"]) as c:
        assert {"rw", "nosuid", "nodev", "noexec"} <= mounts(c.pid)["/b"][2]
    (tmp_path / "p").write_text("#!/bin/sh\n")
    (tmp_path / "p").chmod(0o755)
    assert "Permission denied" in fails("/b/p", mounts=[f"{tmp_path}:/b:noexec"])


def test_mounts_inside_mounts_whatever_their_order(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("f")
    inner = pycontain.bind(str(tmp_path / "file"), "/t/a/b/file")
    out = sh("cat /t/a/b/file; grep -c ' /t' /proc/mounts", mounts=[inner], tmpfs=["/t/a", "/t"])
    assert out == "f3\n"


def test_a_missing_source_is_made_for_a_volume_alone(tmp_path: Path) -> None:
    message = refused(InvalidArgument, mounts=[pycontain.bind(str(tmp_path / "missing"), "/b")])
    assert message.startswith(f"bind {tmp_path}/missing on /b: no such file or directory on this host (ENOENT)")
    sh("touch /b/x", mounts=[f"{tmp_path}/made:/b"])
    assert (tmp_path / "made" / "x").exists()


def test_a_file_on_a_directory_and_the_reverse_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for source, target in ((tmp_path / "file", "/usr"), (tmp_path, "/etc/passwd")):
        with pytest.raises(SetupFailed, match="a file and a directory cannot be mounted on each other") as e:
            pycontain.run("host", ["true"], mounts=[pycontain.bind(str(source), target)])
        assert (e.value.errno, f"bind on {target}: " in str(e.value)) == (22, True)


def test_the_source_keeps_its_contents_whatever_happens_inside(tmp_path: Path) -> None:
    with canary(tmp_path / "kept") as kept:
        before = listing(kept)
        refused(SetupFailed, workdir="/etc/passwd", mounts=[pycontain.bind(str(kept), "/b")])
        assert listing(kept) == before


# --- tmpfs ------------------------------------------------------------------------------------------------------------


def test_a_tmpfs_has_dockers_defaults() -> None:
    with living(tmpfs=["/t"]) as c:
        _, kind, options = mounts(c.pid)["/t"]
    assert kind == "tmpfs" and {"rw", "nosuid", "nodev", "noexec"} <= options
    assert sh("stat -c %a:%u:%g /t", tmpfs=["/t"]) == "1777:0:0\n"


def test_a_tmpfs_is_as_asked() -> None:
    out = sh(
        "stat -c %a:%u:%g /t; df -k /t | tail -n 1; ls -A /tmp",
        tmpfs={"/t": "size=2m,mode=750,uid=5,gid=6,exec", "/tmp": ""},
    )
    assert out.startswith("750:5:6\n") and out.split()[2] == "2048"
    with living(tmpfs=["/t:ro,exec,suid"]) as c:
        options = mounts(c.pid)["/t"][2]
    assert "noexec" not in options and "nosuid" not in options and "nodev" in options


def test_a_tmpfs_is_full_at_its_size() -> None:
    said = fails("head -c 2000000 /dev/zero >/t/x", tmpfs=[pycontain.tmpfs("/t", size="1m", mode=0o700)])
    assert "No space left on device" in said


def test_a_tmpfs_hides_what_the_image_has() -> None:
    assert sh("ls -A /usr/share", tmpfs=["/usr/share"]) == ""


def test_the_size_of_shm() -> None:
    assert sh("df -k /dev/shm | tail -n 1").split()[1] == "65536"
    assert sh("df -k /dev/shm | tail -n 1", shm_size="1m").split()[1] == "1024"
    assert "No space left" in fails("head -c 2000000 /dev/zero >/dev/shm/x", shm_size="1m")
    assert sh("stat -c %a /dev/shm; touch /dev/shm/x", user="1000") == "1777\n"


def test_shm_is_the_hosts_with_its_ipc_namespace() -> None:
    name = f"pycontain-test-{os.getpid()}"
    sh(f"echo x >/dev/shm/{name}", ipc="host")
    path = Path("/dev/shm") / name
    try:
        assert path.read_text() == "x\n"
    finally:
        path.unlink()
    with living(ipc="none") as c:
        assert "/dev/shm" not in mounts(c.pid)


# --- the root ---------------------------------------------------------------------------------------------------------


def test_a_read_only_root() -> None:
    for path in ("/x", "/etc/x", "/usr/bin/x", "/tmp/x", "/made/x"):
        assert "Read-only file system" in fails(f"touch {path}", read_only=True, workdir="/made"), path
    out = sh("touch /dev/x /dev/shm/x /t/x && echo fine >/dev/null; echo $?", read_only=True, tmpfs=["/t"])
    assert out == "0\n"
    with living(read_only=True) as c:
        assert "ro" in mounts(c.pid)["/"][2]


def test_a_read_only_root_cannot_be_made_writable() -> None:
    source = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.mount(None, b'/', None, 32, None), ctypes.get_errno())"
    assert py(source, read_only=True) == "-1 1\n"


def test_a_bind_in_a_read_only_root_is_writable(tmp_path: Path) -> None:
    sh("touch /new/place/x", read_only=True, mounts=[f"{tmp_path}:/new/place"])
    assert (tmp_path / "x").exists()


def test_the_same_nodes_in_either_kind_of_dev() -> None:
    # without core: a link to /proc/kcore, which is masked
    script = "cd /dev; for f in [!c]*; do stat -c '%n %F %a %t:%T %N' $f; done"
    assert sorted(sh(script).splitlines()) == sorted(sh(script, read_only=True).splitlines())
