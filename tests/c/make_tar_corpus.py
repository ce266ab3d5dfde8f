"""Writes the seeds of the tar fuzzer, one small archive for each thing that a tar can say, into tests/c/corpus_tar.

usage: python tests/c/make_tar_corpus.py
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any, Literal

DIR, SYM, LNK, CHR, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE
CAPABILITY = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
ACL = bytes.fromhex(
    "02000000 0100 0600 ffffffff 0200 0400 e8030000 0400 0400 ffffffff 1000 0400 ffffffff 2000 0000 ffffffff"
)


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes], fmt: Literal[0, 1, 2] = tarfile.USTAR_FORMAT) -> bytes:
    """Without the padding to twenty blocks: every byte of a seed costs time."""
    parts = []
    for info, data in entries:
        parts += [info.tobuf(fmt), data, bytes(-len(data) % 512)]
    return b"".join(parts) + bytes(512)


def pax(kind: bytes, *records: tuple[bytes, bytes]) -> bytes:
    body = b""
    for key, value in records:
        size = len(key) + len(value) + 3
        while len(b"%d" % size) + len(key) + len(value) + 3 != size:
            size = len(b"%d" % size) + len(key) + len(value) + 3
        body += b"%d %s=%s\n" % (size, key, value)
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(body)
    return info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)


def old_sparse() -> bytes:
    """A file of 200 bytes in five runs, the last of them in a block of its own."""
    block = bytearray(tarfile.TarInfo("sparse").tobuf(tarfile.GNU_FORMAT))
    block[156:157] = b"S"
    block[124:136] = b"%011o\0" % 5
    for run in range(4):
        block[386 + 24 * run : 410 + 24 * run] = b"%011o\0%011o\0" % (20 * run, 1)
    block[482] = 1
    block[483:495] = b"%011o\0" % 200
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + (b"%011o\0%011o\0" % (100, 1)).ljust(512, b"\0") + b"abcde".ljust(512, b"\0")


SEEDS = {
    "empty": b"",
    "kinds": tar(
        entry("d/", DIR, mode=0o755, mtime=1), entry("d/f", data=b"words", mode=0o4755, uid=1), entry("s", SYM, linkname="d/f"),
        entry("h", LNK, linkname="d/f"), entry("c", CHR, devmajor=1, devminor=3), entry("p", FIFO),
    ),
    "gnu": tar(entry("n" * 120, data=b"1"), entry("l", SYM, linkname="t" * 120), entry("big", uid=2**31), fmt=tarfile.GNU_FORMAT),
    "pax": pax(b"x", (b"path", b"a/b"), (b"mtime", b"-1.5"), (b"uid", b"70000"), (b"size", b"3"), (b"comment", b"c"))
    + tar(entry("x", data=b"abc")),
    "global": pax(b"g", (b"gid", b"7"), (b"SCHILY.xattr.user.g", b"1")) + tar(entry("f"), entry("g")),
    "xattrs": pax(
        b"x", (b"SCHILY.xattr.security.capability", CAPABILITY), (b"SCHILY.xattr.user.a", b"\0b"),
        (b"SCHILY.xattr.trusted.overlay.opaque", b"y"), (b"SCHILY.xattr.system.posix_acl_access", ACL),
    ) + tar(entry("f", data=b"1")),
    "default_acl": pax(b"x", (b"SCHILY.xattr.system.posix_acl_default", ACL)) + tar(entry("d/", DIR), entry("d/f"), entry("d/e/", DIR)),
    "sparse_old": old_sparse() + tar(entry("next")),
    "sparse_0_0": pax(b"x", (b"GNU.sparse.size", b"99"), (b"GNU.sparse.offset", b"3"), (b"GNU.sparse.numbytes", b"2"))
    + tar(entry("s", data=b"ab")),
    "sparse_0_1": pax(b"x", (b"GNU.sparse.size", b"99"), (b"GNU.sparse.map", b"0,1,50,1"), (b"GNU.sparse.name", b"sp"))
    + tar(entry("s", data=b"ab")),
    "sparse_1_0": pax(
        b"x", (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"99"), (b"GNU.sparse.name", b"sp"),
    ) + tar(entry("s", data=b"2\n4\n2\n20\n1\n".ljust(512, b"\0") + b"abc")),
    "whiteouts": tar(
        entry("d/a", data=b"1"), entry("d/.wh.b"), entry("d/.wh..wh..opq"), entry(".wh.d"), entry(".wh.e"), entry("e/", DIR),
        entry(".wh.f", LNK, linkname="d/a"),
    ),
    "replaced": tar(
        entry("a/b/c", data=b"1"), entry("a", SYM, linkname="d"), entry("d/b/", DIR), entry("a/b/e", data=b"2"), entry("a/", DIR),
        entry("d", data=b"3"),
    ),
    "links_out": tar(
        entry("l", SYM, linkname="../canary"), entry("l/secret", data=b"evil"), entry("m", SYM, linkname="../canary/secret"),
        entry("h", LNK, linkname="m"), entry("h", data=b"evil"), entry("x", LNK, linkname="../canary/secret"),
    ),
    "up": tar(entry("a/../b", data=b"1"), entry("a/../../canary/secret", data=b"evil")),
    "root": tar(entry("./", DIR, mode=0o700), entry("/", SYM, linkname="../canary")),
    "loop": tar(entry("a", SYM, linkname="b"), entry("b", SYM, linkname="a"), entry("a/x", data=b"1")),
    "deep": tar(entry("d/" * 40, DIR), entry("d/" * 19 + "f", data=b"1")),
    "old_dir": tar(entry("d/", tarfile.AREGTYPE), entry("d/f", tarfile.CONTTYPE, b"1")),
}  # fmt: skip


def main() -> None:
    corpus = Path(__file__).parent / "corpus_tar"
    corpus.mkdir(exist_ok=True)
    for name, data in SEEDS.items():
        (corpus / name).write_bytes(data)


if __name__ == "__main__":
    main()
