"""Owners, modes, ACLs and capabilities of unpacked files: as the layer says, whatever umask, parent and id map would make."""

from __future__ import annotations

import os
import stat
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_cases import member, tar

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.image.unpack import LayerStats, LayerWriter

pytestmark = pytest.mark.kernel

DIR, SYM, LNK, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
ACCESS, DEFAULT, CAPABILITY = "system.posix_acl_access", "system.posix_acl_default", "security.capability"
IDS = (0, 100000, 65536)


def unpack(root: Path, data: bytes, *maps: tuple[tuple[int, int, int], ...]) -> LayerStats:
    uid_map, gid_map = maps or ((), ())
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with LayerWriter(fd, uid_map=uid_map, gid_map=gid_map) as writer:
            writer.feed(data)
            return writer.finish()
    finally:
        os.close(fd)


def with_xattrs(info: tarfile.TarInfo, xattrs: dict[str, bytes]) -> tarfile.TarInfo:
    """Python writes the records as text: bytes that are no UTF-8 go through as surrogates."""
    info.pax_headers = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in xattrs.items()
    }
    return info


def acl(user: int, group: int) -> bytes:
    """u::rw, u:USER:r, g::r, g:GROUP:r, mask::r, o::-"""
    none = 2**32 - 1
    rows = ((1, 6, none), (2, 4, user), (4, 4, none), (8, 4, group), (16, 4, none), (32, 0, none))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)


def owner(path: Path) -> tuple[int, int, int]:
    info = path.lstat()
    return stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_modes_do_not_depend_on_the_umask(umask: int, tmp_path: Path) -> None:
    modes = (0o000, 0o400, 0o644, 0o666, 0o777, 0o4755, 0o2755, 0o1777, 0o7777)
    files = [member(f"f{mode:o}", data=b"x", mode=mode) for mode in modes]
    kinds = [member(f"d{mode:o}/", DIR, mode=mode) for mode in modes] + [
        member(f"p{mode:o}", FIFO, mode=mode) for mode in modes
    ]
    old = os.umask(umask)
    try:
        unpack(tmp_path, tar(*files, *kinds))
    finally:
        os.umask(old)
    for mode in modes:
        assert [owner(tmp_path / f"{kind}{mode:o}")[0] for kind in "fdp"] == [mode] * 3


def test_set_group_id_of_a_directory_is_not_handed_down(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        tar(
            member("d/", DIR, mode=0o2775, gid=50),
            member("d/f"),
            member("d/e/", DIR),
            member("d/s", SYM, linkname="x"),
            member("d/p", FIFO),
        ),
    )
    assert owner(tmp_path / "d") == (0o2775, 0, 50)
    assert owner(tmp_path / "d/f") == (0o644, 0, 0) and owner(tmp_path / "d/e") == (0o755, 0, 0)
    assert [(tmp_path / "d" / name).lstat().st_gid for name in "sp"] == [0, 0]


def test_acls_are_set(tmp_path: Path) -> None:
    directory, file = member("d/", DIR), member("f", data=b"x", mode=0o640)
    with_xattrs(directory[0], {ACCESS: acl(7, 8), DEFAULT: acl(9, 10)})
    with_xattrs(file[0], {ACCESS: acl(7, 8), DEFAULT: acl(9, 10)})
    stats = unpack(tmp_path, tar(directory, file))
    assert os.getxattr(tmp_path / "d", ACCESS) == os.getxattr(tmp_path / "f", ACCESS) == acl(7, 8)
    assert os.getxattr(tmp_path / "d", DEFAULT) == acl(9, 10)
    assert stats.skipped_xattrs == (DEFAULT,)  # a file has none


@pytest.mark.parametrize("where", ["layer", "destination"])
def test_default_acls_are_not_handed_down(where: str, tmp_path: Path) -> None:
    directory = member("d/", DIR)
    if where == "layer":
        with_xattrs(directory[0], {DEFAULT: acl(9, 10)})
    else:
        os.setxattr(tmp_path, DEFAULT, acl(9, 10))
    unpack(
        tmp_path,
        tar(
            directory,
            member("d/f", mode=0o666),
            member("d/e/", DIR, mode=0o777),
            member("d/implied/x", mode=0o600),
            member("d/p", FIFO, mode=0o666),
        ),
    )
    for name, mode in (("f", 0o666), ("e", 0o777), ("implied", 0o755), ("implied/x", 0o600), ("p", 0o666)):
        path = tmp_path / "d" / name
        assert not os.listxattr(path) and owner(path)[0] == mode, name
    assert (os.listxattr(tmp_path / "d") == [DEFAULT]) == (where == "layer")


def test_an_acl_that_is_none_is_the_layers_fault(tmp_path: Path) -> None:
    file = member("f")
    with_xattrs(file[0], {ACCESS: b"\x02\x00\x00\x00\x01"})
    with pytest.raises(InvalidArgument, match=r"file 'f': Invalid argument \(EINVAL\): the layer contradicts itself"):
        unpack(tmp_path, tar(file))


# Shifted owners


def test_every_kind_is_shifted(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        tar(
            member("./", DIR, mode=0o755),
            member("d/", DIR, uid=1, gid=2),
            member("d/f", data=b"x", uid=33, gid=34, mode=0o4755),
            member("implied/x", uid=65535, gid=65535),
            member("s", SYM, linkname="nowhere", uid=5, gid=6),
            member("p", FIFO, uid=7, gid=8),
            member("h", LNK, linkname="d/f", uid=70000),  # of a link nothing but the name counts
            member("d/.wh.gone", uid=70000),
        ),
        (IDS,),
        ((0, 200000, 65536),),
    )
    found = {name: owner(tmp_path / name)[1:] for name in (".", "d", "d/f", "implied", "implied/x", "s", "p")}
    assert found == {
        ".": (100000, 200000), "d": (100001, 200002), "d/f": (100033, 200034), "implied": (100000, 200000),
        "implied/x": (165535, 265535), "s": (100005, 200006), "p": (100007, 200008),
    }  # fmt: skip
    assert owner(tmp_path / "d/f")[0] == 0o4755


def test_maps_of_several_ranges(tmp_path: Path) -> None:
    maps = ((0, 1000, 1), (1, 100000, 999), (2000, 5000, 2))
    unpack(tmp_path, tar(*(member(f"f{n}", uid=n) for n in (0, 1, 999, 2000, 2001))), maps, ((0, 0, 1),))
    assert [owner(tmp_path / f"f{n}")[1] for n in (0, 1, 999, 2000, 2001)] == [1000, 100000, 100998, 5000, 5001]


@pytest.mark.parametrize(("ids", "which"), [({"uid": 70000}, "uid 70000"), ({"gid": 65536}, "gid 65536")])
def test_an_owner_outside_the_map(ids: dict[str, Any], which: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=f"file 'f': {which} is not in the id map"):
        unpack(tmp_path, tar(member("f", **ids)), (IDS,), (IDS,))
    assert not list(tmp_path.iterdir())


def test_ids_in_acls_are_shifted(tmp_path: Path) -> None:
    directory = member("d/", DIR)
    with_xattrs(directory[0], {ACCESS: acl(7, 8), DEFAULT: acl(9, 10)})
    unpack(tmp_path, tar(directory), (IDS,), ((0, 200000, 65536),))
    assert os.getxattr(tmp_path / "d", ACCESS) == acl(100007, 200008)
    assert os.getxattr(tmp_path / "d", DEFAULT) == acl(100009, 200010)


def test_an_id_in_an_acl_outside_the_map(tmp_path: Path) -> None:
    file = member("f")
    with_xattrs(file[0], {ACCESS: acl(70000, 8)})
    with pytest.raises(Unsupported, match="uid 70000 is not in the id map"):
        unpack(tmp_path, tar(file), (IDS,), (IDS,))


@pytest.mark.parametrize("version", [2, 3])
def test_capabilities_belong_to_the_shifted_root(version: int, tmp_path: Path) -> None:
    """A version 2 capability is the first namespace's root's: the container's would not be given it."""
    sets = struct.pack("<IIII", 1 << 13, 0, 0, 0)
    value = struct.pack("<I", version << 24 | 1) + sets + (struct.pack("<I", 4) if version == 3 else b"")
    file = member("ping", data=b"x", mode=0o755)
    with_xattrs(file[0], {CAPABILITY: value})
    unpack(tmp_path, tar(file), (IDS,), (IDS,))
    root = 100000 + (4 if version == 3 else 0)
    assert os.getxattr(tmp_path / "ping", CAPABILITY) == struct.pack("<I", 3 << 24 | 1) + sets + struct.pack("<I", root)


# Hard links


def test_hard_links_before_and_after_what_replaces_their_target(tmp_path: Path) -> None:
    unpack(
        tmp_path,
        tar(
            member("a", data=b"1", uid=1),
            member("b", LNK, linkname="a"),
            member("a", data=b"2", uid=2),  # another file: b keeps the first
            member("c", LNK, linkname="a"),
            member("sub/d", LNK, linkname="./b"),
            member("b", LNK, linkname="c"),
        ),
    )
    assert [(tmp_path / n).read_bytes() for n in ("a", "b", "c", "sub/d")] == [b"2", b"2", b"2", b"1"]
    assert [(tmp_path / n).lstat().st_nlink for n in ("a", "sub/d")] == [3, 1]
    assert [(tmp_path / n).lstat().st_uid for n in ("a", "sub/d")] == [2, 1]
