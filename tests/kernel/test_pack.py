"""Trees into tars and back: nothing is lost, nothing is added, and the same tree is the same bytes."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packing import differences, layer_bytes, merged_bytes, opened, shm, tree_of, unpacked

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.image.pack import pack_layer, source_date_epoch

pytestmark = pytest.mark.kernel

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, number)
    for tag, perm, number in (
        (1, 6, 2**32 - 1),
        (2, 4, 1234),
        (4, 4, 2**32 - 1),
        (16, 4, 2**32 - 1),
        (32, 4, 2**32 - 1),
    )
)


@pytest.fixture
def place() -> Iterator[Path]:
    with shm() as made:
        yield made


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (tests/peers/install.sh)")
    return found


def set_mtimes(root: Path) -> None:
    """Times of every kind, directories last."""
    times = (
        0,
        1,
        10**9,
        1700000000 * 10**9,
        1700000000123456789,
        -1,
        -(5 * 10**9) // 2,
        2**33 * 10**9,
        1600000000500000000,
    )
    paths = sorted(root.rglob("*"), key=lambda p: -len(p.parts))
    for i, path in enumerate([*paths, root]):
        ns = times[i % len(times)]
        os.utime(path, ns=(ns, ns), follow_symlinks=False)


@pytest.fixture
def tree(place: Path) -> Path:
    """Everything that a tar can hold."""
    root = place / "tree"
    for name in ("etc/empty", "a/b/c", "usr/bin", "d" * 255, "long/" + "/".join(["n" * 100] * 6), "ünï/日本"):
        (root / name).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/zero").write_bytes(b"")
    (root / "etc/block").write_bytes(os.urandom(512))
    (root / "etc/sparse").write_bytes(b"head")
    os.truncate(root / "etc/sparse", 3 << 20)
    (root / "big").write_bytes(os.urandom((3 << 20) + 77))
    (root / "n" / "x").parent.mkdir()
    (root / "n" / ("x" * 255)).write_text("255")
    os.close(os.open(bytes(root / "n") + b"/\xff\xfe not utf-8 \n", os.O_CREAT | os.O_WRONLY, 0o644))
    (root / "usr/bin/su").write_text("su")
    os.chmod(root / "usr/bin/su", 0o6755)
    os.chmod(root / "etc/empty", 0o3777)
    os.link(root / "etc/passwd", root / "a/passwd")
    os.link(root / "etc/passwd", root / "zz")
    os.symlink("../etc/passwd", root / "a/link")
    os.symlink("t" * 100, root / "a/link100")
    os.symlink("t" * 101, root / "a/link101")
    os.symlink("/" + "日本/" * 300, root / "a/link-long")
    os.mkfifo(root / "a/fifo", 0o620)
    os.mknod(root / "a/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "a/loop", stat.S_IFBLK | 0o660, os.makedev(259, 1048575))
    for name, uid, gid in (("big", 1000, 1000), ("a/link", 7, 8), ("etc", 2**21 - 1, 2**21), ("zz", 2**32 - 2, 5)):
        os.chown(root / name, uid, gid, follow_symlinks=False)
    os.setxattr(root / "usr/bin/su", "security.capability", CAPABILITY)
    os.setxattr(root / "big", "user.b", b"\0binary\n=\xff")
    os.setxattr(root / "big", "user.a", b"")
    os.setxattr(root / "etc", "user.dir", b"x" * 3000)
    os.setxattr(root / "etc/zero", "system.posix_acl_access", ACL)
    os.setxattr(root / "a/b", "system.posix_acl_default", ACL)
    set_mtimes(root)
    return root


# The way back


def without_acls(tree: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    def kept(value: object) -> object:
        if isinstance(value, dict):
            return {k: v for k, v in value.items() if not k.startswith("system.posix_acl")}
        return value

    return {path: tuple(kept(each) for each in facts) for path, facts in tree.items()}


def test_unpacked_tree_is_the_tree(tree: Path, place: Path) -> None:
    stats = unpacked(layer_bytes(tree), place / "copy")
    # our unpacker may leave ACLs out, and says so
    left_out = set(stats.skipped_xattrs)
    assert left_out <= {"system.posix_acl_access", "system.posix_acl_default"}
    found, expected = tree_of(place / "copy"), tree_of(tree)
    assert differences(*(map(without_acls, (found, expected)) if left_out else (found, expected))) == []


def test_packing_again_gives_the_same_bytes(tree: Path, place: Path) -> None:
    data = layer_bytes(tree)
    assert layer_bytes(tree) == data
    stats = unpacked(data, place / "copy")
    if stats.skipped_xattrs:  # our unpacker may leave ACLs out, and says so
        os.removexattr(tree / "etc/zero", "system.posix_acl_access")
        os.removexattr(tree / "a/b", "system.posix_acl_default")
        data = layer_bytes(tree)
    assert layer_bytes(place / "copy") == data


def entries(data: bytes) -> list[tuple[object, ...]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(m.name, m.type, m.mode, m.uid, m.gid, m.mtime, m.size, m.linkname) for m in archive]


def test_order_on_the_disk_does_not_matter(place: Path) -> None:
    names = [f"{i:03}{'x' * (i % 7)}" for i in range(300)]
    made = []
    for seed in (1, 2):
        root = place / str(seed)
        root.mkdir()
        random.Random(seed).shuffle(names)
        for name in names:
            (root / name).write_text(name)
            os.utime(root / name, ns=(0, 10**18 + 5))
        os.utime(root, ns=(0, 0))
        made.append((os.listdir(root), layer_bytes(root)))
    assert made[0][0] != made[1][0]
    assert made[0][1] == made[1][1]


def test_no_access_time_is_changed(place: Path) -> None:
    (place / "t").mkdir()
    (place / "t/f").write_text("x")
    os.utime(place / "t/f", ns=(5, 10**18))  # relatime would update it
    layer_bytes(place / "t")
    assert os.stat(place / "t/f").st_atime_ns == 5


# Other readers


def test_python_lists_what_there_is(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer_bytes(tree))) as archive:
        members = archive.getmembers()
    names = [os.fsencode(m.name) for m in members]
    on_disk = {os.fsencode(os.path.relpath(p, tree)) for p in tree.rglob("*")} | {b"."}
    assert set(names) == on_disk and len(names) == len(on_disk)
    assert all(m.uname == m.gname == "" for m in members)
    assert names[0] == b"." and names[1].startswith(b"a") and names[-1] == "ünï/日本".encode()


def listed(command: list[str], data: bytes) -> bytes:
    return subprocess.run(command, input=data, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout


def extracted(command: list[str], tree: Path, place: Path) -> list[str]:
    """What another tar makes of ours that is different. ACLs not counted: each tar has records of its own for them."""
    out = place / "out"
    out.mkdir()
    extract = [tool(command[0]), "-x", "-p", "--numeric-owner", "--xattrs", *command[1:], "-C", str(out), "-f", "-"]
    done = subprocess.run(extract, input=layer_bytes(tree), capture_output=True, env={"LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    return differences(without_acls(tree_of(out)), without_acls(tree_of(tree)))


def test_gnu_tar_extracts_the_tree(tree: Path, place: Path) -> None:
    assert extracted(["tar", "--xattrs-include=*"], tree, place) == []


def test_libarchive_extracts_the_tree(tree: Path, place: Path) -> None:
    for path in tree.rglob("*"):  # it reads a fraction before 1970 upwards, also from GNU tar
        if os.lstat(path).st_mtime_ns < 0:
            os.utime(path, ns=(0, -(10**9)), follow_symlinks=False)
    found = extracted(["bsdtar"], tree, place)
    assert [each for each in found if not each.startswith(".:")] == []  # and leaves the time of "." as it is


def test_gnu_tar_finds_no_difference(tree: Path) -> None:
    done = subprocess.run(["tar", "-d", "-C", str(tree), "-f", "-"], input=layer_bytes(tree), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_listing_is_that_of_gnu_tars_own(tree: Path) -> None:
    names = ["tar", "-C", str(tree), "--sort=name", "--numeric-owner", "-cf", "-", "."]
    theirs = subprocess.run(names, capture_output=True, check=True).stdout
    quoted = ["tar", "-t", "--quoting-style=escape", "-f", "-"]
    ours = [b"./" + line if line != b"./" else line for line in listed(quoted, layer_bytes(tree)).split(b"\n") if line]
    assert sorted(ours) == sorted(line for line in listed(quoted, theirs).split(b"\n") if line)


# Options


def test_source_date_epoch_clamps_what_is_newer(tree: Path) -> None:
    data = layer_bytes(tree, mtime_max=1650000000)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        times = {m.mtime for m in archive}
    assert max(times) == 1650000000 and 1600000000.5 in times and min(times) == -2.5


def test_source_date_epoch_of_the_environment() -> None:
    assert source_date_epoch({"SOURCE_DATE_EPOCH": "1650000000"}) == 1650000000
    assert source_date_epoch({"SOURCE_DATE_EPOCH": ""}) is source_date_epoch({}) is None
    for bad in ("yesterday", "-1", "1.5", "٣", "9" * 30):
        with pytest.raises(InvalidArgument, match="seconds since 1970"):
            source_date_epoch({"SOURCE_DATE_EPOCH": bad})


def test_no_entry_for_the_root(tree: Path) -> None:
    assert entries(layer_bytes(tree, root_entry=False)) == entries(layer_bytes(tree))[1:]


def test_excluded_paths_are_left_out_with_what_is_below(tree: Path) -> None:
    every = {name for name, *_ in entries(layer_bytes(tree))}
    left = {name for name, *_ in entries(layer_bytes(tree, exclude=("a/b", "etc/zero", b"zz", "no/such")))}
    assert every - left == {"a/b", "a/b/c", "etc/zero", "zz"}
    for bad in ("/etc", "etc/", "a//b", "../x", ".", "", "a\0b"):
        with pytest.raises(InvalidArgument, match="relative to the root"), opened(tree) as (fd,):
            pack_layer(fd, exclude=(bad,))


def test_owners_are_translated_back(place: Path) -> None:
    root = place / "t"
    root.mkdir()
    for name, uid, gid in (("root", 100000, 100000), ("user", 101000, 100100), ("nobody", 165534, 165534)):
        (root / name).write_text("")
        os.chown(root / name, uid, gid)
    os.chown(root, 100000, 100000)
    os.setxattr(root / "root", "security.capability", struct.pack("<IIIIII", 0x03000001, 1024, 0, 0, 0, 100000))
    os.setxattr(
        root / "user", "system.posix_acl_access", ACL.replace(struct.pack("<I", 1234), struct.pack("<I", 100007))
    )
    idmap = ((0, 100000, 65536),)
    with tarfile.open(fileobj=io.BytesIO(layer_bytes(root, uid_map=idmap, gid_map=idmap))) as archive:
        members = {m.name: m for m in archive}
    assert [(m.uid, m.gid) for m in members.values()] == [(0, 0), (65534, 65534), (0, 0), (1000, 100)]
    raw = layer_bytes(root, uid_map=idmap, gid_map=idmap)
    assert b"SCHILY.xattr.security.capability=" + CAPABILITY + b"\n" in raw
    assert ACL.replace(struct.pack("<I", 1234), struct.pack("<I", 7)) in raw
    os.chown(root / "user", 99999, 100000)
    with pytest.raises(InvalidArgument, match=r"cannot pack the layer: '/user': it belongs to an id that"):
        layer_bytes(root, uid_map=idmap, gid_map=idmap)
    with pytest.raises(InvalidArgument, match="a uid map and a gid map"):
        layer_bytes(root, uid_map=idmap)


def test_whose_attributes_are_carried(place: Path) -> None:
    root = place / "t"
    root.mkdir()
    (root / "f").write_text("")
    carried = {"user.a=b%c": b"1", "user.z%": b"2", "user.a": b"3"}
    for name, value in {**carried, "trusted.t": b"no", "user.overlay.x": b"no", "trusted.overlay.y": b"no"}.items():
        os.setxattr(root / "f", name, value)
    with tarfile.open(fileobj=io.BytesIO(layer_bytes(root))) as archive:
        found = {k: v for k, v in archive.getmember("f").pax_headers.items() if k != "mtime"}
    # a key of pax ends at its first "=", so GNU tar encodes one; it does not a name without
    assert found == {
        "SCHILY.xattr.user.a": "3", "SCHILY.xattr.user.a%3Db%25c": "1", "SCHILY.xattr.user.z%": "2",
    }  # fmt: skip


def test_attributes_beyond_what_readers_take(place: Path) -> None:
    (place / "t").mkdir()
    for i in range(20):
        os.setxattr(place / "t", f"user.{i}", bytes(60000))
    with pytest.raises(InvalidArgument, match="more than 1 MiB"):
        layer_bytes(place / "t")


def test_a_name_that_marks_whiteouts_is_refused_in_a_layer(place: Path) -> None:
    (place / "t/d").mkdir(parents=True)
    (place / "t/d/.wh.file").write_text("")
    with pytest.raises(InvalidArgument, match=r"'/d/\.wh\.file': names that begin with \.wh\."):
        layer_bytes(place / "t")
    assert "d/.wh.file" in {name for name, *_ in entries(merged_bytes([place / "t"]))}


@pytest.mark.parametrize("mark", ["redirect", "metacopy"])
def test_what_a_layer_cannot_say_is_refused(mark: str, place: Path) -> None:
    (place / "t").mkdir()
    (place / "t/f").write_text("")
    os.setxattr(place / "t/f", f"trusted.overlay.{mark}", b"x")
    with pytest.raises(Unsupported, match=r"'/f': it was written by an overlay mount with redirect_dir or metacopy"):
        layer_bytes(place / "t")
    layer_bytes(place / "t", userxattr=True)  # then it is only a name


def test_marks_of_the_other_kind_mean_nothing(place: Path) -> None:
    """A container may set user.overlay.* itself, and must not make a layer that removes things so."""
    (place / "t/d").mkdir(parents=True)
    (place / "t/f").write_text("")
    os.setxattr(place / "t/d", "user.overlay.opaque", b"y")
    os.setxattr(place / "t/f", "user.overlay.whiteout", b"")
    assert [name for name, *_ in entries(layer_bytes(place / "t"))] == [".", "d", "f"]
    marked = [name for name, *_ in entries(layer_bytes(place / "t", userxattr=True))]
    assert marked == [".", "d", "d/.wh..wh..opq", ".wh.f"] or marked == [".", ".wh.f", "d", "d/.wh..wh..opq"]


def test_sockets_are_left_out_and_counted(place: Path) -> None:
    import socket

    (place / "t").mkdir()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(place / "t/s"))
        with opened(place / "t") as (fd,), pack_layer(fd) as reader:
            data = reader.readall()
            counts = reader.counts()
    assert [name for name, *_ in entries(data)] == ["."]
    assert (counts.sockets, counts.entries) == (1, 1)
