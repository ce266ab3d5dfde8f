"""A layer's stream from compressed bytes to files, as an ordinary user: every size of piece, and where errors come from."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, PycontainError, SetupFailed
from pycontain.image.layers import HashingReader, unpack_stream
from pycontain.image.unpack import LayerLimits, LayerStats, LayerWriter

IDS = {"uid": os.getuid(), "gid": os.getgid()}


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in {**IDS, **fields}.items():
        setattr(info, key, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], fmt: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=fmt) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def scratch() -> Iterator[str]:
    """In memory where that is possible: a disk that has just lost many files is slow."""
    made = tempfile.mkdtemp(prefix="pct-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield made
    shutil.rmtree(made)


def everything(fmt: int) -> bytes:
    long = "/".join(["n" * 60] * 4)
    random_bytes = random.Random(1).randbytes
    return tar(
        member("./", type=tarfile.DIRTYPE, mode=0o755, mtime=5),
        member("d/", type=tarfile.DIRTYPE, mode=0o750, mtime=7),
        member("d/empty", mtime=1),
        *(member(f"d/{n}", random_bytes(n), mode=0o600 + n % 64) for n in (1, 511, 512, 513, 5000)),
        member(long, random_bytes(700)),
        member("s", type=tarfile.SYMTYPE, linkname=long),
        member("h", type=tarfile.LNKTYPE, linkname="d/513"),
        member("fifo", type=tarfile.FIFOTYPE, mode=0o640),
        fmt=fmt,
    )


SPARSE = (
    b"GNU.sparse.major=1\n", b"GNU.sparse.minor=0\n", b"GNU.sparse.name=sparse\n", b"GNU.sparse.realsize=9000\n"
)  # fmt: skip


def record(text: bytes) -> bytes:
    size = len(text) + 3
    return b"%d %s" % (size, text)


def sparse() -> bytes:
    """A map of 150 runs of ten bytes, in more than one block."""
    text = b"150\n" + b"".join(b"%d\n10\n" % (60 * n) for n in range(150))
    body = text + bytes(-len(text) % 512) + random.Random(2).randbytes(1500)
    records = b"".join(map(record, SPARSE))
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(records)
    return (
        header.tobuf(tarfile.USTAR_FORMAT)
        + records
        + bytes(-len(records) % 512)
        + tar(member("GNUSparseFile.0/x", body))
    )


ARCHIVES = {
    "pax": everything(tarfile.PAX_FORMAT),
    "gnu": everything(tarfile.GNU_FORMAT),
    "sparse": sparse(),
    "truncated": everything(tarfile.GNU_FORMAT)[:3000],
    "garbage": everything(tarfile.PAX_FORMAT) + b"!" * 600,
    "empty": b"",
}


def tree(root: str) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for base, dirs, files in os.walk(root):
        for name in [*dirs, *files]:
            path = os.path.join(base, name)
            info = os.lstat(path)
            content = Path(path).read_bytes() if os.path.isfile(path) and not os.path.islink(path) else None
            found[os.path.relpath(path, root)] = (info.st_mode, info.st_nlink, info.st_size, content)
    return found


def push(data: bytes, sizes: list[int], into: str) -> tuple[LayerStats | str, dict[str, tuple[object, ...]]]:
    """What came of it, statistics or error, and the tree."""
    root = tempfile.mkdtemp(dir=into)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with LayerWriter(fd) as writer:
            at = 0
            for size in [*sizes, len(data)]:
                writer.feed(memoryview(data)[at : at + size])
                at += size
            return writer.finish(), tree(root)
    except PycontainError as error:
        return str(error), tree(root)
    finally:
        os.close(fd)
        shutil.rmtree(root)


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513])
@pytest.mark.parametrize("name", ARCHIVES)
def test_pieces_of_one_size(name: str, size: int, scratch: str) -> None:
    data = ARCHIVES[name]
    assert push(data, [size] * (len(data) // size), scratch) == push(data, [], scratch)


@pytest.mark.parametrize("name", ARCHIVES)
def test_pieces_of_any_size(name: str, scratch: str) -> None:
    data = ARCHIVES[name]
    whole = push(data, [], scratch)

    @settings(max_examples=40, deadline=None, database=None)
    @given(st.lists(st.integers(0, 2000), max_size=60))
    def check(sizes: list[int]) -> None:
        assert push(data, sizes, scratch) == whole

    check()


def test_the_archives_are_what_they_say(scratch: str) -> None:
    made = {name: push(data, [], scratch) for name, data in ARCHIVES.items()}
    assert made["pax"] == (LayerStats(entries=12, bytes_read=len(ARCHIVES["pax"]), file_bytes=7237), made["gnu"][1])
    assert cast(LayerStats, made["sparse"][0]).file_bytes == 1500 and made["sparse"][1]["sparse"][2] == 9000
    assert "data follows the end" in str(made["garbage"][0]) and "truncated" in str(made["truncated"][0])
    assert made["empty"] == (LayerStats(), {})


def test_closed_and_without_a_descriptor(scratch: str) -> None:
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    writer = LayerWriter(fd)
    os.close(fd)  # it has its own
    writer.feed(ARCHIVES["pax"])
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.feed(b"")
    with pytest.raises(SetupFailed, match=r"cannot unpack the layer: Bad file descriptor \(EBADF\)"):
        LayerWriter(fd)


def test_bytes_of_every_type_are_taken(scratch: str) -> None:
    data = ARCHIVES["pax"]
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with LayerWriter(fd) as writer:
            part = bytearray(data[:1000])
            writer.feed(part)
            part.clear()  # not held on to
            writer.feed(memoryview(data)[1000:2000])
            writer.feed(data[2000:])
            assert writer.finish().entries == 12
    finally:
        os.close(fd)


# The stream


def unpack(stream: BinaryIO, scratch: str, *, copy_to: int = -1, limits: LayerLimits | None = None) -> tuple[str, int]:
    fd = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    try:
        digest, stats = unpack_stream(HashingReader(stream, "sha256", copy_to=copy_to), fd, "sha256", limits=limits)
        return str(digest), stats.entries
    finally:
        os.close(fd)


class ByteByByte(io.RawIOBase):
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._data.read(1)


def test_a_pipe_that_gives_a_byte_at_a_time(scratch: str) -> None:
    data = ARCHIVES["pax"]
    found = unpack(cast(BinaryIO, ByteByByte(gzip.compress(data))), scratch)
    assert found == (f"sha256:{hashlib.sha256(data).hexdigest()}", 12)


def test_truncated_gzip_is_told_and_not_the_tar_in_it(scratch: str) -> None:
    with pytest.raises(InvalidArgument, match="the gzip stream: it ends before"):
        unpack(io.BytesIO(gzip.compress(ARCHIVES["pax"])[:-10]), scratch)


@pytest.mark.parametrize("more", [0, 40 << 20])
def test_an_error_of_the_tar_comes_out_wherever_it_is(more: int, scratch: str) -> None:
    data = tar(member("../x")) + bytes(more)
    with pytest.raises(InvalidArgument, match=r"entry '\.\./x': the path '\.\./x' leaves the layer's root"):
        unpack(io.BytesIO(gzip.compress(data, 1)), scratch)


def test_a_gzip_bomb_ends_at_the_limit(scratch: str) -> None:
    data = tar(member("zeros", bytes(1000)))[:1024] + bytes(100 << 20)
    with pytest.raises(InvalidArgument, match="more than 1048576 bytes"):
        unpack(io.BytesIO(gzip.compress(data, 1)), scratch, limits=LayerLimits(max_bytes=1 << 20))


def test_a_full_disk_is_the_hosts_fault(scratch: str) -> None:
    """The copy of the compressed bytes is written while they are read."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(SetupFailed, match=r"reading it: No space left on device \(ENOSPC\): free space") as caught:
            unpack(io.BytesIO(gzip.compress(ARCHIVES["pax"])), scratch, copy_to=full)
    finally:
        os.close(full)
    assert (caught.value.step, caught.value.errno) == ("unpack", 28)


def test_no_descriptor_and_no_thread_is_left(scratch: str) -> None:
    fds = os.listdir("/proc/self/fd")
    for name in ("pax", "truncated", "garbage"):
        os.mkdir(f"{scratch}/{name}")
        try:
            unpack(io.BytesIO(ARCHIVES[name]), f"{scratch}/{name}")
        except InvalidArgument:
            pass
    assert os.listdir("/proc/self/fd") == fds
    assert not [thread for thread in threading.enumerate() if thread.name == "pycontain-behind"]
