"""Every word of a mount's options as mountinfo shows it, id maps, propagation both ways, tmpcopyup, other file systems."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bundles import BASE, SAFE, bundle, ran, refused_bundle, user_namespace
from probes import mounts

import pycontain
from pycontain.host import probe
from pycontain.mount_options import MOUNT_WORDS

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

N = len(BASE["mounts"])  # the index of one more


def mount(kind: str, source: str, *options: str, at: str = "/v", index: int = N, **more: Any) -> dict[str, Any]:
    return {f"mounts[{index}]": {"destination": at, "type": kind, "source": source, "options": list(options), **more}}


@contextmanager
def shown(root: str, changes: dict[str, Any]) -> Iterator[dict[str, tuple[str, str, set[str]]]]:
    """The mounts of a container that runs while the block does."""
    with (
        bundle(root, "sleep 600", {"root.readonly": False, **changes}) as image,
        pycontain.Container(image, stop_timeout=0.0) as c,
    ):
        yield mounts(c.pid)


# --- words ----------------------------------------------------------------------------------------------------------

# word: what mountinfo shows, and what it does not
WORDS: dict[str, tuple[str, str]] = {
    "ro": ("ro", "rw"), "rw": ("rw", "ro"), "nosuid": ("nosuid", ""), "suid": ("", "nosuid"), "nodev": ("nodev", ""),
    "dev": ("", "nodev"), "noexec": ("noexec", ""), "exec": ("", "noexec"), "noatime": ("noatime", "relatime"),
    "atime": ("relatime", "noatime"), "relatime": ("relatime", "noatime"), "norelatime": ("", ""), "nodiratime": ("nodiratime", ""),
    "diratime": ("", "nodiratime"), "strictatime": ("", "relatime"), "nostrictatime": ("relatime", ""),
    "nosymfollow": ("nosymfollow", ""), "symfollow": ("", "nosymfollow"), "defaults": ("rw", ""), "remount": ("rw", ""),
    "sync": ("rw", ""), "async": ("rw", ""), "dirsync": ("rw", ""), "mand": ("rw", ""), "nomand": ("rw", ""),
    "silent": ("rw", ""), "loud": ("rw", ""), "iversion": ("rw", ""), "noiversion": ("rw", ""), "lazytime": ("rw", ""),
    "nolazytime": ("rw", ""),
}  # fmt: skip


def test_no_word_is_left_out() -> None:
    assert set(WORDS) == MOUNT_WORDS


def agrees(options: set[str], word: str) -> bool:
    has, lacks = WORDS[word]
    return (not has or has in options) and (not lacks or lacks not in options)


def test_every_word_of_a_tmpfs(busybox_root: str) -> None:
    changes: dict[str, Any] = {}
    for i, word in enumerate(sorted(WORDS)):
        changes |= mount("tmpfs", "tmpfs", word, at=f"/tmp/{word}", index=N + i)
    with shown(busybox_root, changes) as found:
        wrong = {w: found[f"/tmp/{w}"][2] for w in WORDS if not agrees(found[f"/tmp/{w}"][2], w)}
    assert wrong == {}


ATTRIBUTES = sorted(
    w for w, (has, lacks) in WORDS.items() if (has + lacks) and w not in ("defaults", "remount") and has + lacks != "rw"
)


def test_every_word_of_a_bind_mount_and_of_a_tree(tmp_path: Path, busybox_root: str) -> None:
    changes: dict[str, Any] = {}
    for i, word in enumerate(ATTRIBUTES):
        changes |= mount("bind", str(tmp_path), "bind", word, at=f"/tmp/{word}", index=N + 2 * i)
        changes |= mount("bind", str(tmp_path), "rbind", f"r{word}", at=f"/tmp/r{word}", index=N + 2 * i + 1)
    with shown(busybox_root, changes) as found:
        wrong = [p + w for w in ATTRIBUTES for p in ("", "r") if not agrees(found[f"/tmp/{p}{w}"][2], w)]
    assert wrong == []


PAIRS = [("noatime", "strictatime"), ("strictatime", "noatime"), ("ro", "rw"), ("nosuid", "suid"),
    ("noatime", "relatime"), ("nosymfollow", "symfollow")]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_the_later_word_counts(pair: tuple[str, str], tmp_path: Path, busybox_root: str) -> None:
    changes = mount("bind", str(tmp_path), "bind", *pair) | mount("tmpfs", "tmpfs", *pair, at="/t", index=N + 1)
    with shown(busybox_root, changes) as found:
        assert agrees(found["/v"][2], pair[1]), found["/v"]
        assert agrees(found["/t"][2], pair[1]), found["/t"]


def test_options_of_the_file_system_itself(busybox_root: str) -> None:
    script = "stat -c %a:%u:%g /v; df -k /v | tail -1; grep ' /v ' /proc/mounts"
    found = ran(
        busybox_root,
        script,
        {"root.readonly": False, **mount("tmpfs", "name", "size=64k", "mode=0710", "uid=5", "gid=6")},
    )
    assert found.startswith("710:5:6\n")
    assert " 64 " in found
    assert found.splitlines()[2].startswith("name /v tmpfs ")


def test_unknown_words_are_refused(tmp_path: Path, busybox_root: str) -> None:
    changes = {"root.readonly": False}
    assert "sideways" in refused_bundle(busybox_root, changes | mount("bind", str(tmp_path), "bind", "sideways"))
    assert "mount tmpfs on /v" in refused_bundle(busybox_root, changes | mount("tmpfs", "tmpfs", "sideways"))


def test_no_symlink_is_followed(busybox_root: str) -> None:
    script = "echo x >/v/file; ln -s file /v/link; cat /v/link"
    with bundle(busybox_root, script, {"root.readonly": False, **mount("tmpfs", "tmpfs", "nosymfollow")}) as image:
        r = pycontain.run(image, text=True)
    assert "oo many" in str(r.stderr)


# --- id maps --------------------------------------------------------------------------------------------------------

translated = pytest.mark.skipif(not probe().mount_setattr, reason="id-mapped mounts came with Linux 5.12")

SHIFT = [{"containerID": 0, "hostID": 1000, "size": 10}]


@translated
@pytest.mark.parametrize("word", ["idmap", "ridmap"])
def test_explicit_mappings_translate_owners(word: str, tmp_path: Path, busybox_root: str) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 3, 4)
    changes = {
        "root.readonly": False,
        **mount("bind", str(tmp_path), "rbind", word, uidMappings=SHIFT, gidMappings=SHIFT),
    }
    assert ran(busybox_root, "stat -c %u:%g /v/file", changes) == "1003:1004\n"


@translated
def test_the_containers_own_mappings(tmp_path: Path, busybox_root: str) -> None:
    tmp_path.chmod(0o755)
    changes = {"root.readonly": False, **user_namespace(), **mount("bind", str(tmp_path), "bind", "idmap")}
    os.chown(busybox_root, 300000, 300000)  # whose directory the mount point is made in
    try:
        assert ran(busybox_root, "stat -c %u:%g /v", changes) == "0:0\n"
        assert ran(busybox_root, "stat -c %u:%g /v", changes | mount("bind", str(tmp_path), "bind")) == "65534:65534\n"
    finally:
        os.chown(busybox_root, 0, 0)


@pytest.mark.parametrize("more", [{"uidMappings": SHIFT}, {}])
def test_an_id_map_that_is_half_or_none(more: dict[str, Any], tmp_path: Path, busybox_root: str) -> None:
    assert f"mounts[{N}]" in refused_bundle(busybox_root, mount("bind", str(tmp_path), "bind", "idmap", **more))


# --- tmpcopyup ------------------------------------------------------------------------------------------------------


def test_a_tmpfs_begins_as_a_copy(busybox_root: str) -> None:
    script = "stat -c '%a %u %n' /home/user; cat /etc/passwd | head -1; echo x >/etc/new; rm /etc/group; ls /etc"
    changes = mount("tmpfs", "tmpfs", "tmpcopyup", "mode=755", at="/etc") | mount(
        "tmpfs", "tmpfs", "tmpcopyup", "nosuid", at="/home", index=N + 1
    )
    before = sorted(os.listdir(f"{busybox_root}/etc"))
    for more in ({}, user_namespace()):
        found = ran(busybox_root, script, changes | more).split("\n")
        owner = 65534 if more else 1000  # of the host's own directory, without a translation
        assert found[0] == f"755 {owner} /home/user" or more
        assert found[1].startswith("root:x:0")
        assert found[2:-1] == sorted({*before, "new"} - {"group"})
        assert sorted(os.listdir(f"{busybox_root}/etc")) == before


def test_what_does_not_fit_is_said(tmp_path: Path, busybox_root: str) -> None:
    (tmp_path / "big").write_bytes(b"x" * (1 << 20))
    changes = {
        "root.readonly": False,
        **mount("bind", str(tmp_path), "bind"),
        **mount("tmpfs", "tmpfs", "tmpcopyup", "size=64k", index=N + 1),
    }
    message = refused_bundle(busybox_root, changes)
    assert "/v" in message
    assert "ENOSPC" in message


# --- propagation ----------------------------------------------------------------------------------------------------

# In a mount namespace of its own: nothing here reaches the machine.
PROPAGATION = """
import ctypes, os, sys
sys.path[:0] = [sys.argv[3]]
import pycontain
from bundles import bundle
libc = ctypes.CDLL(None, use_errno=True)
def mount(target, kind, flags):
    assert libc.mount(b"none", target.encode(), kind, flags, None) == 0, (target, ctypes.get_errno())
root, word, scratch = sys.argv[1], sys.argv[2], sys.argv[4]
assert libc.unshare(0x20000) == 0
mount("/", None, 1 << 18 | 1 << 14)
mount(scratch, b"tmpfs", 0)
mount(scratch, None, 1 << 20)
for name in ("out", "in"): os.mkdir(f"{scratch}/{name}")
caps = {f"process.capabilities.{k}": ["CAP_SYS_ADMIN"] for k in ("bounding", "effective", "permitted")}
bound = {"destination": "/v", "type": "bind", "source": scratch, "options": ["rbind", word]}
changes = {"root.readonly": False, **caps, "mounts[3]": bound}
script = "mount -t tmpfs inner /v/in && echo ready; read x; grep -c ' /v/out ' /proc/mounts"
with bundle(root, script, changes) as image, pycontain.Container(image, stdin=pycontain.PIPE, stdout=pycontain.PIPE) as c:
    assert c.stdout.readline() == b"ready\\n"
    print("out" if " %s/in " % scratch in open("/proc/self/mountinfo").read() else "-")
    mount(f"{scratch}/out", b"tmpfs", 0)
    c.stdin.write(b"x\\n"); c.stdin.close()
    print("in" if c.stdout.readline() == b"1\\n" else "-")
"""


@pytest.mark.parametrize(
    ("word", "found"), [("rprivate", ["-", "-"]), ("rslave", ["-", "in"]), ("rshared", ["out", "in"])]
)
def test_propagation_both_ways(word: str, found: list[str], tmp_path: Path, busybox_root: str) -> None:
    words = [sys.executable, "-c", PROPAGATION, busybox_root, word, os.path.dirname(__file__), str(tmp_path)]
    r = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert r.stdout.split() == found, r.stderr


TAGS = [("private", None), ("rprivate", None), ("slave", None), ("shared", "shared"), ("unbindable", "unbindable")]


@pytest.mark.parametrize(("word", "tag"), TAGS)
def test_propagation_of_the_root(word: str, tag: str | None, busybox_root: str) -> None:
    with shown(busybox_root, {"linux.rootfsPropagation": word}) as found:
        tags = {o.partition(":")[0] for o in found["/"][2]} & {"shared", "master", "unbindable"}
        assert tags == ({tag} if tag else set()) or (word == "slave" and tags <= {"master"})


# --- other types ----------------------------------------------------------------------------------------------------


def test_an_overlay_as_a_mount(tmp_path: Path, busybox_root: str) -> None:
    for name in ("one", "two", "upper", "work"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/a").write_text("first")
    (tmp_path / "two/b").write_text("second")
    options = [
        f"lowerdir={tmp_path}/one:{tmp_path}/two",
        f"upperdir={tmp_path}/upper",
        f"workdir={tmp_path}/work",
        "nosuid",
    ]
    found = ran(
        busybox_root, "cat /v/a /v/b; echo new >/v/c", {"root.readonly": False, **mount("overlay", "overlay", *options)}
    )
    assert found == "firstsecond"
    assert (tmp_path / "upper/c").read_text() == "new\n"


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    image = tmp_path / "image"
    with open(image, "wb") as f:
        f.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "root_owner=7:8", str(image)], check=True)
    made = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs loop devices: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_a_file_system_on_a_device(loop_device: str, busybox_root: str) -> None:
    changes = {"root.readonly": False, **mount("ext4", loop_device, "noatime", "nodev", "errors=continue")}
    found = ran(busybox_root, "stat -c %u:%g /v; touch /v/x; grep ' /v ' /proc/mounts", changes)
    assert found.startswith("7:8\n")
    assert f"{loop_device} /v ext4 rw,nodev,noatime" in found
    assert "ro" in ran(
        busybox_root, "grep ' /v ' /proc/mounts", {"root.readonly": False, **mount("ext4", loop_device, "ro")}
    ).split()[3].split(",")
    assert "/v" in refused_bundle(busybox_root, {"root.readonly": False, **mount("ext4", loop_device, "sideways")})


@pytest.mark.parametrize("kind", ["ext4", "nosuchfs"])
def test_a_file_system_that_cannot_be_made(kind: str, busybox_root: str) -> None:
    message = refused_bundle(busybox_root, {"root.readonly": False, **mount(kind, "/no/such/device")})
    assert "/v" in message
    assert kind in message


def test_kernel_file_systems(busybox_root: str) -> None:
    changes = mount("mqueue", "mqueue", *SAFE) | mount("sysfs", "sysfs", *SAFE, "ro", at="/sys", index=N + 1)
    changes |= mount("devpts", "devpts", "newinstance", "ptmxmode=0666", at="/dev/pts", index=N + 2)
    with shown(busybox_root, changes) as found:
        assert [found[p][1] for p in ("/v", "/sys", "/dev/pts", "/proc")] == ["mqueue", "sysfs", "devpts", "proc"]
        assert {"ro", *SAFE} <= found["/sys"][2]
