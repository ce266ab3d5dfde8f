"""Compression on several cores: one sound stream, the same bytes for any number of threads, both digests right."""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import os
import random
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.image import compress as module
from pycontain.image.compress import compress, write_layer
from pycontain.image.compression import decompressed

KINDS = ("", "gzip", "zstd")


@functools.cache
def sample(size: int) -> bytes:
    """Bytes that compress about as a layer does."""
    r = random.Random(1)
    words = [r.randbytes(r.randrange(2, 40)) for _ in range(200)]
    return b"".join(r.choices(words, k=size // 10 + 10))[:size]


def plain_of(data: bytes, kind: str) -> bytes:
    return decompressed(io.BytesIO(data), kind).read()


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("size", [0, 1, 32767, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (5 << 20) + 12345])
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_out_is_what_went_in(kind: str, size: int) -> None:
    data = sample(size)
    packed = compress(io.BytesIO(data), kind).read()
    assert plain_of(packed, kind) == data
    if kind == "gzip":
        assert gzip.decompress(packed) == data
        assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == data


def test_gzip_is_one_member_of_no_time_or_name() -> None:
    packed = compress(io.BytesIO(sample(3 << 20)), "gzip").read()
    assert packed[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    d = zlib.decompressobj(31)
    d.decompress(packed)
    assert d.eof and d.unused_data == b""


@pytest.mark.parametrize(("kind", "level"), [("gzip", 1), ("gzip", 2), ("gzip", 6), ("zstd", 3), ("zstd", 7)])
def test_bytes_do_not_depend_on_threads(kind: str, level: int) -> None:
    data = sample(4 << 20)
    first, *others = [compress(io.BytesIO(data), kind, level, threads=n).read() for n in (1, 2, 5)]
    assert others == [first, first]


class Dribble(io.RawIOBase):
    """Gives as little as it likes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._random = random.Random(7)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        return self._data.readinto(view[: self._random.choice((1, 100, 70000, 1 << 20))])


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bytes_do_not_depend_on_how_they_arrive(kind: str) -> None:
    data = sample(4 << 20)
    assert compress(Dribble(data), kind).read() == compress(io.BytesIO(data), kind).read()


def test_levels_mean_what_they_mean_to_gzip() -> None:
    data = sample(2 << 20)
    sizes = [len(compress(io.BytesIO(data), "gzip", level).read()) for level in (1, 4, 9)]
    assert sizes[0] > sizes[1] >= sizes[2]
    theirs = len(zlib.compress(data, 9))
    assert sizes[2] < theirs * 1.01  # what the blocks cost


def test_levels_of_zstd() -> None:
    data = sample(1 << 20)
    sizes = [len(compress(io.BytesIO(data), "zstd", level).read()) for level in (1, 5, 12)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("kind", KINDS)
def test_both_digests_in_one_pass(kind: str, tmp_path: Any) -> None:
    data = sample(5 << 20)
    out = os.open(tmp_path / "blob", os.O_WRONLY | os.O_CREAT)
    try:
        diff_id, digest, size, plain_size = write_layer(Dribble(data), out, kind)
    finally:
        os.close(out)
    blob = (tmp_path / "blob").read_bytes()
    assert (size, plain_size) == (len(blob), len(data))
    assert str(digest) == "sha256:" + hashlib.sha256(blob).hexdigest()
    assert str(diff_id) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (digest == diff_id) is (kind == "")


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=5000), block=st.integers(1, 700), threads=st.integers(1, 4))
def test_any_bytes_in_any_blocks(data: bytes, block: int, threads: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        for level in (1, 2, 3):
            assert gzip.decompress(compress(io.BytesIO(data), "gzip", level, threads).read()) == data


def test_without_isal_it_is_zlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    data = sample(2 << 20)
    assert gzip.decompress(compress(io.BytesIO(data), "gzip").read()) == data


class Failing(io.RawIOBase):
    """Fails after some MiB."""

    def __init__(self, after: int) -> None:
        self._left = after

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._left == 0:
            raise InvalidArgument("the source has failed")
        self._left -= 1
        return len(memoryview(buffer))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 1, 10])
def test_failure_of_the_source_is_passed_on(kind: str, after: int) -> None:
    with pytest.raises(InvalidArgument, match="the source has failed"):
        compress(Failing(after), kind).read()
    with pytest.raises(InvalidArgument, match="the source has failed"), open(os.devnull, "wb") as out:
        write_layer(Failing(after), out.fileno(), kind)


def test_full_disk_is_the_kernels_own_error() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            write_layer(io.BytesIO(sample(8 << 20)), fd, "gzip")
    finally:
        os.close(fd)


def test_closing_early_ends_the_threads_and_leaves_the_source() -> None:
    source = io.BytesIO(sample(20 << 20))
    reader = compress(source, "gzip")
    assert reader.read(10)
    reader.close()
    assert not source.closed and source.tell() < 20 << 20


class Counting(io.RawIOBase):
    """Zeros without an end, and how many were taken."""

    taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = len(memoryview(buffer))
        self.taken += n
        return n


def test_no_more_is_read_than_fits_in_the_queue() -> None:
    source = Counting()
    reader = compress(source, "gzip", threads=3)
    try:
        reader.read(20)  # the header, then some of the first block
        assert source.taken <= (3 + 3) << 20
    finally:
        reader.close()


@pytest.mark.parametrize(
    ("kind", "level", "phrase"),
    [
        ("gzip", 0, "gzip has the levels 1 to 9"),
        ("gzip", 10, "gzip has the levels 1 to 9"),
        ("zstd", 23, "zstd has the levels 1 to 22"),
        ("xz", None, "the choices are gzip, zstd and ''"),
        ("", 3, "without a compression there is no level"),
    ],
)
def test_what_cannot_be_meant(kind: str, level: int | None, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase):
        compress(io.BytesIO(), kind, level)


def test_threads_that_cannot_be_meant() -> None:
    for bad in (0, -1, 65):
        with pytest.raises(InvalidArgument, match="from 1 to 64"):
            compress(io.BytesIO(), "gzip", threads=bad)


def test_without_a_zstd_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compression", "compression.zstd", "backports", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unsupported, match=r"pip install backports\.zstd"):
        compress(io.BytesIO(), "zstd")
