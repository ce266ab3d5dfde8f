"""Unpacking layers: what must work, and the known escapes, each with a host canary compared before and after."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_cases import (
    CAP_MKNOD,
    END,
    is_whiteout,
    member,
    raw_header,
    snapshot,
    tar,
    use_native,
    without_capability,
)

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.image.unpack import LayerLimits, LayerStats, unpack_layer

pytestmark = pytest.mark.kernel

DIR, SYM, LNK, CHR, BLK, FIFO = (
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)


class Bench:
    def __init__(self, base: Path) -> None:
        self.root = base / "root"
        self.canary = base / "canary"
        self.root.mkdir()
        (self.canary / "dir").mkdir(parents=True)
        (self.canary / "secret").write_text("untouched")

    def unpack(self, data: bytes, **limits: int) -> LayerStats:
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return unpack_layer(io.BytesIO(data), fd, limits=LayerLimits(**limits))
        finally:
            os.close(fd)

    def names(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    use_native(monkeypatch)
    made = Bench(tmp_path)
    before, fds = snapshot(made.canary), len(os.listdir("/proc/self/fd"))
    yield made
    assert snapshot(made.canary) == before
    assert len(os.listdir("/proc/self/fd")) == fds


def refused(bench: Bench, phrase: str, data: bytes, **limits: int) -> None:
    with pytest.raises(InvalidArgument, match=phrase) as caught:
        bench.unpack(data, **limits)
    assert "\n" not in str(caught.value)


# What must work


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_dirs_links_and_metadata(bench: Bench, fmt: int) -> None:
    bench.unpack(
        tar(
            member("./", DIR, mode=0o751, mtime=7),
            member("d/", DIR, mode=0o3775, uid=5, gid=6, mtime=1000),
            member("d/f", data=b"x" * 700, mode=0o4711, uid=1, gid=2, mtime=1234),
            member("d/hard", LNK, linkname="d/f"),
            member("d/sym", SYM, linkname="/../../etc/passwd", uid=9),
            fmt=fmt,
        )
    )
    info = os.lstat(bench.root / "d/f")
    assert (info.st_mode, info.st_uid, info.st_gid, info.st_mtime, info.st_nlink) == (0o104711, 1, 2, 1234, 2)
    info = os.lstat(bench.root / "d")
    assert (info.st_mode, info.st_uid, info.st_mtime) == (0o43775, 5, 1000)
    assert os.readlink(bench.root / "d/sym") == "/../../etc/passwd"
    assert os.lstat(bench.root / "d/sym").st_uid == 9
    assert os.lstat(bench.root).st_mode == 0o40751


@pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links(bench: Bench, fmt: int) -> None:
    name = "/".join(["n" * 90] * 5)
    bench.unpack(
        tar(member(name, data=b"1"), member("l", SYM, linkname=name), member("h", LNK, linkname=name), fmt=fmt)
    )
    assert (bench.root / "l").read_bytes() == (bench.root / "h").read_bytes() == b"1"


def test_nanosecond_mtime_and_large_owner(bench: Bench) -> None:
    info, data = member("f", data=b"", uid=2**32 - 2)
    info.pax_headers = {"mtime": "1700000000.123456789"}
    bench.unpack(tar((info, data)))
    found = os.lstat(bench.root / "f")
    assert (found.st_mtime_ns, found.st_uid) == (1700000000123456789, 2**32 - 2)


def test_devices_and_fifo(bench: Bench) -> None:
    bench.unpack(
        tar(
            member("null", CHR, devmajor=1, devminor=3, mode=0o666),
            member("loop", BLK, devmajor=7, devminor=300, mode=0o660, gid=6),
            member("fifo", FIFO, mode=0o622),
        )
    )
    null, loop = os.lstat(bench.root / "null"), os.lstat(bench.root / "loop")
    assert (null.st_mode, null.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (loop.st_mode, loop.st_rdev, loop.st_gid) == (stat.S_IFBLK | 0o660, os.makedev(7, 300), 6)
    assert stat.S_ISFIFO(os.lstat(bench.root / "fifo").st_mode)


def test_device_without_permission_says_so(bench: Bench) -> None:
    data = tar(member("null", CHR, devmajor=1, devminor=3))
    with pytest.raises(Unsupported, match=r"char 'null': Operation not permitted \(EPERM\).*run as root"):
        without_capability(CAP_MKNOD, lambda: bench.unpack(data))


def test_xattrs_kept_and_skipped(bench: Bench) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    data = raw_header(b"x", flag=b"x") + b""
    records = b""
    for key, value in (
        (b"security.capability", capability),
        (b"trusted.overlay.redirect", b"/etc"),
        (b"user.overlay.opaque", b"y"),
        (b"security.selinux", b"l"),
    ):
        body = b" SCHILY.xattr." + key + b"=" + value + b"\n"
        size = len(body) + 2
        records += b"%d" % size + body if len(b"%d" % size) == 2 else b"%d" % (size + 1) + body
    data = raw_header(b"x", flag=b"x", size=b"%011o\0" % len(records)) + records + bytes(-len(records) % 512)
    stats = bench.unpack(data + raw_header(b"ping", mode=(100, b"0004755\0")) + END)
    assert os.getxattr(bench.root / "ping", "security.capability") == capability
    assert os.listxattr(bench.root / "ping") == ["security.capability"]
    assert os.lstat(bench.root / "ping").st_mode & 0o7777 == 0o4755
    assert stats.skipped_xattrs == ("security.selinux", "trusted.overlay.redirect", "user.overlay.opaque")


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files(bench: Bench, tmp_path: Path, version: str) -> None:
    with open(tmp_path / "holes", "wb") as file:
        for offset in range(0, 40 << 20, 1 << 20):
            file.seek(offset)
            file.write(b"%08d" % offset)
        file.truncate(50 << 20)
    form = ["--format=gnu"] if version == "gnu" else ["--format=posix", f"--sparse-version={version}"]
    command = ["tar", "-C", str(tmp_path), *form, "--hole-detection=seek", "-Scf", "-", "holes"]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert len(data) < 1 << 20
    bench.unpack(data)
    assert (bench.root / "holes").read_bytes() == (tmp_path / "holes").read_bytes()
    assert os.stat(bench.root / "holes").st_blocks * 512 < 1 << 20


def test_kinds_replace_each_other(bench: Bench) -> None:
    bench.unpack(
        tar(
            member("link", SYM, linkname=str(bench.canary / "secret")),
            member("link", data=b"file"),  # a symlink leaf replaced by a file must work
            member("d/", DIR),
            member("d/in", data=b"1"),
            member("d", data=b"now a file"),
            member("f", data=b"1"),
            member("f/", DIR),
            member("f/in", data=b"2"),
            member("m/", DIR, mode=0o700),
            member("m/kept", data=b"3"),
            member("m/", DIR, mode=0o711),
            member("l", SYM, linkname=str(bench.canary / "dir")),
            member("l/", DIR),
            member("l/in", data=b"4"),
        )
    )
    assert (bench.root / "link").read_bytes() == b"file"
    assert (bench.root / "d").read_bytes() == b"now a file"
    assert (bench.root / "f/in").read_bytes() == b"2"
    assert (bench.root / "m/kept").exists() and os.lstat(bench.root / "m").st_mode == 0o40711
    assert not (bench.root / "l").is_symlink() and (bench.root / "l/in").exists()


def test_replaced_directory_is_not_written_through_a_remembered_fd(bench: Bench) -> None:
    bench.unpack(
        tar(
            member("a/b/one", data=b"1"),
            member("a", SYM, linkname="c"),
            member("c/b/", DIR),
            member("a/b/two", data=b"2"),
        )
    )
    assert (bench.root / "c/b/two").exists() and not (bench.root / "c/b/one").exists()


def test_hardlink_to_a_symlink_links_the_link(bench: Bench) -> None:
    target = str(bench.canary / "secret")
    bench.unpack(
        tar(member("s", SYM, linkname=target), member("h", LNK, linkname="s"), member("h2", LNK, linkname="/h"))
    )
    assert os.readlink(bench.root / "h2") == target
    assert os.lstat(bench.root / "s").st_nlink == 3


def test_hardlink_to_itself_keeps_the_file(bench: Bench) -> None:
    bench.unpack(tar(member("f", data=b"1"), member("f", LNK, linkname="./f")))
    assert (bench.root / "f").read_bytes() == b"1"


def test_missing_parents_are_made_as_root_0755(bench: Bench) -> None:
    old = os.umask(0o077)
    try:
        bench.unpack(tar(member("a/b/c", data=b"1")))
    finally:
        os.umask(old)
    assert os.lstat(bench.root / "a/b").st_mode == 0o40755


# Whiteouts


def test_whiteouts(bench: Bench) -> None:
    stats = bench.unpack(
        tar(
            member("d/.wh.gone"),
            member("d/.wh..wh..opq"),
            member(".wh.etc"),
            member("kept/in", data=b"1"),
            member(".wh.kept"),  # after the directory: only the layers below are meant
            member(".wh.anew"),
            member("anew/", DIR),
            member(".wh.file"),
            member("file", data=b"2"),
        )
    )
    assert is_whiteout(str(bench.root / "d/gone")) and is_whiteout(str(bench.root / "etc"))
    for name in ("d", "kept", "anew"):
        assert os.getxattr(bench.root / name, "trusted.overlay.opaque") == b"y"
    assert (bench.root / "kept/in").exists() and (bench.root / "file").read_bytes() == b"2"
    assert stats.whiteouts == 4 and stats.opaque_dirs == 3


@pytest.mark.parametrize(
    "name", [".wh.", "d/.wh.", ".wh..", ".wh...", ".wh.../x", ".wh.x/y", ".wh..wh.", ".wh..wh.plnk", ".wh..wh.foo/x"]
)
def test_whiteout_of_no_possible_name(bench: Bench, name: str) -> None:
    refused(bench, "whiteout", tar(member("d/", DIR), member(name)))
    assert bench.names() <= {"d"}


@pytest.mark.parametrize("kind", [DIR, SYM, CHR])
def test_whiteout_must_be_a_file(bench: Bench, kind: bytes) -> None:
    refused(bench, "a whiteout that is a", tar(member(".wh.x", kind, linkname="y")))


def test_whiteout_through_a_link_stays_inside(bench: Bench) -> None:
    bench.unpack(tar(member("dir/", DIR), member("l", SYM, linkname="/dir"), member("l/.wh.secret")))
    assert is_whiteout(str(bench.root / "dir/secret"))
    refused(bench, "contradicts", tar(member("o", SYM, linkname=str(bench.canary)), member("o/.wh.secret")))


# Escapes


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/../x", "a/b/../../../canary/secret"])
def test_dotdot(bench: Bench, name: str) -> None:
    refused(bench, "leaves the layer's root", tar(member(name, data=b"evil")))


def test_dotdot_inside_is_text(bench: Bench) -> None:
    bench.unpack(tar(member("a/../b", data=b"1"), member("./c/./d", data=b"2")))
    assert bench.names() == {"b", "c", "c/d"}


def test_absolute_is_relative(bench: Bench) -> None:
    bench.unpack(tar(member(f"{bench.canary}/secret", data=b"evil")))
    assert (Path(f"{bench.root}{bench.canary}") / "secret").read_bytes() == b"evil"


@pytest.mark.parametrize("name", [".", "/", "./", "a/.."])
@pytest.mark.parametrize("kind", [SYM, FIFO, LNK])
def test_root_replaced_by_a_link(bench: Bench, name: str, kind: bytes) -> None:
    """CVE-2021-29136."""
    info = raw_header(name.encode(), flag=kind, link=(157, str(bench.canary).encode()[:99]))
    refused(bench, "names the root of the layer", info + END)


@pytest.mark.parametrize("target", ["{canary}", "../canary", "/proc/self/root{canary}", "../../../../../../{canary}"])
def test_symlinked_parent(bench: Bench, target: str) -> None:
    """CVE-2026-17106 and kin: followed inside the root, where it leads nowhere; never out of it."""
    link = target.format(canary=bench.canary)
    refused(bench, "contradicts", tar(member("l", SYM, linkname=link), member("l/secret", data=b"evil")))
    refused(bench, "contradicts", tar(member("l", SYM, linkname=link), member("l/dir/new/", DIR)))


def test_symlinked_parent_inside(bench: Bench) -> None:
    bench.unpack(tar(member("usr/bin/", DIR), member("bin", SYM, linkname="/usr/bin"), member("bin/sh", data=b"1")))
    assert (bench.root / "usr/bin/sh").exists()


def test_symlink_loop(bench: Bench) -> None:
    refused(bench, "ELOOP", tar(member("a", SYM, linkname="b"), member("b", SYM, linkname="a"), member("a/x")))


def test_magic_link_is_not_followed(bench: Bench) -> None:
    (bench.root / "fd").symlink_to("/proc/self/fd/0")
    refused(bench, "contradicts", tar(member("fd/x", data=b"1")))


@pytest.mark.parametrize("target", ["../canary/secret", "{canary}/secret", "l/secret", "d", "/", "nothing", ""])
def test_hardlink_to_outside(bench: Bench, target: str) -> None:
    link = target.format(canary=bench.canary)
    out = member("l", SYM, linkname=str(bench.canary))
    refused(bench, "entry 'h'", tar(member("d/", DIR), out, member("h", LNK, linkname=link)))
    assert not os.path.lexists(bench.root / "h")


def test_hardlink_to_a_whiteout(bench: Bench) -> None:
    refused(bench, "is no file", tar(member(".wh.x"), member("h", LNK, linkname="x")))


def test_mode_and_owner_do_not_reach_through_a_link(bench: Bench) -> None:
    """CVE-2021-32760."""
    link = str(bench.canary / "secret")
    bench.unpack(tar(member("s", SYM, linkname=link, mode=0o7777, uid=7), member("s2", LNK, linkname="s", mode=0o7777)))
    bench.unpack(tar(member("f", SYM, linkname=link), member("f", FIFO, mode=0o7777, uid=7)))


def test_device_over_a_link(bench: Bench) -> None:
    bench.unpack(tar(member("n", SYM, linkname=str(bench.canary / "secret")), member("n", CHR, devmajor=1, devminor=3)))
    assert os.lstat(bench.root / "n").st_rdev == os.makedev(1, 3)


@pytest.mark.parametrize("value", [2**32 - 1, 2**32, 2**40, 2**64])
@pytest.mark.parametrize("field", ["uid", "gid"])
def test_owner_overflow(bench: Bench, value: int, field: str) -> None:
    """CVE-2024-40635: truncated to 32 bits, 2^32 is root."""
    record = b" %s=%d\n" % (field.encode(), value)
    record = b"%d" % (len(record) + 2) + record
    pax = raw_header(b"p", flag=b"x", size=b"%011o\0" % len(record)) + record + bytes(-len(record) % 512)
    refused(bench, "above 4294967294|no number", pax + raw_header(b"f") + END)
    offset = 108 if field == "uid" else 116
    base256 = bytes((0x80,)) + (value % 2**56).to_bytes(7, "big")
    if value < 2**56:
        refused(bench, "above 4294967294", raw_header(b"f", id=(offset, base256)) + END)
    refused(bench, "negative", raw_header(b"f", id=(offset, b"\xff" * 8)) + END)


# Malformed and oversized


@pytest.mark.parametrize(
    ("phrase", "data"),
    [
        ("negative size", raw_header(b"f", size=b"\xff" * 12) + END),
        ("no octal number", raw_header(b"f", size=b"-0000000001\0") + END),
        ("checksum", raw_header(b"f")[:-1] + b"x" + END),
        ("checksum", raw_header(b"a") + raw_header(b"f")[:-1] + b"x" + END),
        ("truncated", raw_header(b"f")[:300]),
        ("before the end of a file's data", raw_header(b"f", size=b"00000001000\0") + b"abc"),
        ("data follows the end", END + raw_header(b"f") + END),
        ("unknown type 'M'", raw_header(b"f", flag=b"M") + END),
        ("an empty name", raw_header(b"") + END),
        ("extended header", raw_header(b"x", flag=b"x") + END),
        ("over 1048576 bytes", raw_header(b"x", flag=b"L", size=b"77777777777\0") + END),
        ("over 1048576 bytes", raw_header(b"x", flag=b"x", size=b"\x80" + b"\x7f" * 11) + END),
        ("more than 32 extended", raw_header(b"x", flag=b"L") * 40 + END),
        ("pax record", raw_header(b"x", flag=b"x", size=b"%011o\0" % 6) + b"99 a=b".ljust(512, b"\0") + END),
        ("pax record", raw_header(b"x", flag=b"x", size=b"%011o\0" % 6) + b"-6 a=b".ljust(512, b"\0") + END),
        (
            "NUL in the pax",
            raw_header(b"x", flag=b"x", size=b"%011o\0" % 11) + b"11 path=a\0\n".ljust(512, b"\0") + END,
        ),
        (
            "sparse map",
            raw_header(b"f", flag=b"S", a=(386, b"%011o\0%011o\0" % (5, 9)), r=(483, b"00000000001\0")) + END,
        ),
    ],
)
def test_malformed(bench: Bench, phrase: str, data: bytes) -> None:
    refused(bench, phrase, data)
    assert bench.names() <= {"a", "f"}


def test_entry_limit(bench: Bench) -> None:
    refused(bench, "more than 10 entries", tar(*(member(f"f{n}") for n in range(11))), max_entries=10)


def test_byte_limit_counts_skipped_data_and_trailer(bench: Bench) -> None:
    refused(bench, "more than 4096 bytes", tar(member("f", data=bytes(5000))), max_bytes=4096)
    refused(bench, "more than 4096 bytes", tar(member(".wh.f", data=bytes(5000))), max_bytes=4096)
    refused(bench, "more than 4096 bytes", tar() + bytes(5000), max_bytes=4096)


def test_huge_sparse_file_is_no_bomb_or_an_error(bench: Bench) -> None:
    header = raw_header(b"f", flag=b"S", r=(483, b"\x80" + (2**62).to_bytes(11, "big")))
    refused(bench, "EFBIG|EINVAL", header + END)


def test_depth_and_path_limits(bench: Bench) -> None:
    refused(bench, "300 directories deep, the limit is 256", tar(member("/".join(["d"] * 300))))
    refused(bench, "a path of 199999 bytes", tar(member("/".join(["d"] * 100_000))))
    refused(bench, "ENAMETOOLONG", tar(member("n" * 256)))


def test_tree_deeper_than_any_path_is_removable(bench: Bench) -> None:
    """Links can make a tree deeper than any name in the layer: replaced by a file, it goes with few descriptors."""
    levels = [member("top/l0", SYM, linkname=".")]
    deep = "/".join(["d"] * 200)
    for step in range(1, 8):
        levels.append(member(f"top/{deep}/" if step == 1 else f"l{step - 1}/{deep}/", DIR))
        levels.append(member(f"l{step}", SYM, linkname=f"top/{deep}" if step == 1 else f"l{step - 1}/{deep}"))
    bench.unpack(tar(*levels, member("top", data=b"gone")))
    assert (bench.root / "top").read_bytes() == b"gone"
    assert bench.names() == {"top", *(f"l{step}" for step in range(1, 8))}
