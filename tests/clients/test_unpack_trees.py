"""What we unpack is what GNU tar and umoci unpack: a whole Debian, and a tree with one of everything."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.image.unpack import LayerStats, unpack_layer
from tests.debian import debian_image

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(600),  # the Debian may have to be made first
]

Entry = dict[str, object]


def sh(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=100)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """In memory where attributes of users may be set there (Linux 6.6): tens of thousands of files come and go."""
    made = Path(tempfile.mkdtemp(prefix="pct-trees-", dir="/dev/shm"))
    try:
        os.setxattr(made, "user.x", b"y")
        os.removexattr(made, "user.x")
        yield made
    except OSError:
        yield tmp_path
    finally:
        shutil.rmtree(made)


def described(root: Path) -> dict[str, Entry]:
    """Everything about every name; of several names of one file the first stands for the file."""
    found: dict[str, Entry] = {}
    names: dict[int, str] = {}
    for path in (root, *sorted(root.rglob("*"))):
        info, name = path.lstat(), str(path.relative_to(root))
        is_dir = stat.S_ISDIR(info.st_mode)
        attributes = {
            each: os.getxattr(path, each, follow_symlinks=False) for each in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = {
            "mode": oct(info.st_mode), "owner": (info.st_uid, info.st_gid), "mtime": info.st_mtime_ns, "xattrs": attributes,
            "size": None if is_dir else info.st_size, "links": None if is_dir else info.st_nlink, "device": info.st_rdev,
            "same as": name if is_dir else names.setdefault(info.st_ino, name),
            "target": os.readlink(path) if path.is_symlink() else None,
            "content": hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(info.st_mode) else None,
        }  # fmt: skip
    return found


def differences(ours: dict[str, Entry], theirs: dict[str, Entry]) -> list[str]:
    return [
        f"{name}: {key} is {ours.get(name, {}).get(key)!r}, theirs {theirs.get(name, {}).get(key)!r}"
        for name in sorted(ours.keys() | theirs.keys())
        for key in sorted(ours.get(name, {}).keys() | theirs.get(name, {}).keys())
        if ours.get(name, {}).get(key) != theirs.get(name, {}).get(key)
    ]


def unpacked(archive: Path, root: Path) -> LayerStats:
    root.mkdir()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with open(archive, "rb", buffering=0) as stream:
            return unpack_layer(stream, fd)
    finally:
        os.close(fd)


def by_gnu_tar(archive: Path, root: Path) -> None:
    root.mkdir()
    sh("tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", str(root), "-xpf", str(archive))


def by_umoci(archive: Path, place: Path) -> Path:
    """The root file system that umoci makes of an image with this one layer."""
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed (tests/peers/install.sh)")
    image = f"{place / 'layout'}:v1"
    sh("umoci", "init", "--layout", str(place / "layout"))
    sh("umoci", "new", "--image", image)
    sh("umoci", "raw", "add-layer", "--image", image, str(archive))
    sh("umoci", "unpack", "--image", image, str(place / "bundle"))
    return place / "bundle/rootfs"


@pytest.mark.parametrize("layer", ["layer1.tar", "layer2.tar"])
def test_a_debian_is_what_gnu_tar_makes_of_it(layer: str, place: Path) -> None:
    archive = debian_image() / layer
    stats = unpacked(archive, place / "ours")
    by_gnu_tar(archive, place / "theirs")
    ours, theirs = described(place / "ours"), described(place / "theirs")
    for name in ours.keys() - entries_of(archive):  # directories that the layer implies have no time of their own
        ours[name]["mtime"] = theirs[name]["mtime"]
    assert differences(ours, theirs) == []
    assert stats.entries > 1000 and not stats.skipped_xattrs


def entries_of(archive: Path) -> set[str]:
    with tarfile.open(archive) as members:
        return {os.path.normpath(info.name) for info in members}


def test_a_debian_is_what_umoci_makes_of_it(place: Path) -> None:
    archive = debian_image() / "layer1.tar"
    unpacked(archive, place / "ours")
    assert differences(described(place / "ours"), described(by_umoci(archive, place))) == []


# One of everything


CAPABILITY = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
# u::rw, u:7:r, g::r, g:8:rwx, mask::rwx, o::r
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *row)
    for row in ((1, 6, 2**32 - 1), (2, 4, 7), (4, 4, 2**32 - 1), (8, 7, 8), (16, 7, 2**32 - 1), (32, 4, 2**32 - 1))
)


def make_everything(root: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    for number, mode in enumerate((0o000, 0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o7777)):
        path = root / f"d/mode-{mode:o}"
        path.write_bytes(b"x" * number * 300)
        os.chown(path, number * 1000, number * 70000)
        path.chmod(mode)
    (root / "d/sticky").mkdir()
    (root / "d/sticky").chmod(0o3777)
    for name in ("a", "d/b", "d/e/c"):
        if name == "a":
            (root / name).write_text("three names")
        else:
            os.link(root / "a", root / name)
    (root / "link").symlink_to("d/e")
    (root / "dangling").symlink_to("../../nowhere/" + "x" * 200)
    os.lchown(root / "link", 5, 6)
    os.link(root / "link", root / "link-again", follow_symlinks=False)
    os.mknod(root / "null", 0o20666, os.makedev(1, 3))
    os.mknod(root / "disk", 0o60640, os.makedev(259, 70000))
    os.mkfifo(root / "fifo", 0o600)
    (root / ("n" * 255)).write_text("long")
    deep = root / "/".join(["p" * 90] * 5)
    deep.mkdir(parents=True)
    (deep / "ü\n\x1b \\ \udcff").write_text("strange")
    with open(root / "holes", "wb") as file:
        for at in range(0, 8 << 20, 1 << 20):
            file.seek(at)
            file.write(b"%08d" % at)
        file.truncate(10 << 20)
    (root / "ping").write_text("x")
    os.setxattr(root / "ping", "security.capability", CAPABILITY)
    os.setxattr(root / "ping", "user.note", bytes(range(256)))
    os.setxattr(root / "d", "user.empty", b"")
    os.setxattr(root / "d/mode-644", "system.posix_acl_access", ACL)
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        when = 1_000_000_000_123_456_789 + number * 1_000_000_001
        os.utime(path, ns=(when, when if number % 5 else -when), follow_symlinks=False)


@pytest.mark.parametrize(
    "how", ["--format=posix", "--format=posix -S", "--format=posix -S --sparse-version=0.1", "--format=gnu -S"]
)
def test_one_of_everything_is_what_gnu_tar_makes_of_it(how: str, place: Path) -> None:
    (place / "source").mkdir()
    make_everything(place / "source")
    archive = place / "everything.tar"
    attributes = ["--xattrs", "--xattrs-include=*"] if "posix" in how else []
    sh(
        "tar",
        *how.split(),
        *attributes,
        "--hole-detection=seek",
        "--numeric-owner",
        "-C",
        str(place / "source"),
        "-cf",
        str(archive),
        ".",
    )
    stats = unpacked(archive, place / "ours")
    by_gnu_tar(archive, place / "theirs")
    ours, theirs = described(place / "ours"), described(place / "theirs")
    assert differences(ours, theirs) == []
    if "posix" in how:
        assert differences(ours, described(place / "source")) == [] and not stats.skipped_xattrs
    if "-S" in how:
        assert (place / "ours/holes").stat().st_blocks * 512 < 1 << 20
