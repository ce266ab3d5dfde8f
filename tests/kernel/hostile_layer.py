"""What a hostile layer of the corpus is, and pieces of archives that no tool would write."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field

from image_cases import END, raw_header

DIR, SYM, LNK, CHR, BLK, FIFO = (
    tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
)  # fmt: skip


CONTRADICTS = "the layer contradicts itself"
LEAVES = "leaves the layer's root"


@dataclass(frozen=True, kw_only=True, slots=True)
class HostileLayer:
    """``phrase`` (a pattern) and ``entry`` are in the error. Without a phrase it unpacks, and the root lists ``holds`` then: a
    letter as of ``ls -l``, and the name."""

    name: str
    data: bytes
    phrase: str | None = None
    entry: str | None = None
    holds: tuple[str, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)


def bad(name: str, data: bytes, phrase: str, entry: str | None, **limits: int) -> HostileLayer:
    return HostileLayer(name=name, data=data, phrase=phrase, entry=entry, limits=limits)


def harmless(name: str, data: bytes) -> HostileLayer:
    return HostileLayer(name=name, data=data, holds=_HARMLESS[name])


_HARMLESS = {
    "absolute": ("ddev", "detc"),  # the canary lies in /dev/shm
    "dotdot-inside": ("da", "-c"),
    "duplicates": ("-same",),
    "case-twins": ("dFILE", "-File", "-file"),
    "strange-bytes": ("- ", "-a\nb\x1b[2J\\", "-\udcff\udc80"),
    "link-then-write-through": ("-f",),
    "link-then-directory": ("dd",),
    "link-then-node": ("pf",),
    "link-with-mode-and-owner": ("lf",),
    "tree-of-links-removed": ("-d",),
    "hard-link-to-a-link-then-write": ("-h", "ls"),
    "hard-link-to-a-link-with-a-mode": ("lh", "ls"),
    "hard-link-to-itself": ("-f",),
    "whiteout-of-a-link": ("ll",),
    "devices": ("bdisk", "cmem"),
    "device-over-a-link": ("cn",),
    "mtime-far-away": ("-early", "-f0", "-f1", "-f2", "-late"),
    "xattrs-that-steer-the-host": ("dd", "-f"),
    "depth-256": ("dd",),
    "depth-by-links-then-removed": ("-d", *(f"ll{n}" for n in range(12))),
    "sparse-of-a-terabyte": ("-s",),
}


def pax_path(path: bytes, *, data: bytes = b"", kind: bytes = b"0") -> bytes:
    body = record(b"path", path)
    return header_of(b"x", body) + raw_header(b"short", flag=kind, size=b"%011o\0" % len(data)) + padded(data) + END


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    while len(b"%d" % size) + len(key) + len(value) + 3 != size:
        size = len(b"%d" % size) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (size, key, value)


def header_of(kind: bytes, body: bytes) -> bytes:
    return raw_header(b"pax", flag=kind, size=b"%011o\0" % len(body)) + padded(body)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)
