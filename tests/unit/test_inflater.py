"""Decompression by pushing: every size of piece gives the same, damage is told, a bomb comes out in bounded pieces."""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, Unsupported
from pycontain.image.compression import compression_of, decompressed, inflater

PLAIN = bytes(range(256)) * 40 + b"end"
MEGABYTE = 1 << 20


def zstd_compress(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return bytes(zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}))


PACKS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstd_compress,
    "xz": lzma.compress,
}
each = pytest.mark.parametrize("name", PACKS)


@pytest.fixture(params=["isal", "zlib"])
def gzip_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "zlib":  # a machine for which there is no isal
        monkeypatch.setitem(sys.modules, "isal", None)
    return request.param


def inflate(name: str, data: bytes, sizes: list[int]) -> bytes:
    made, found, at = inflater(name), b"", 0
    for size in [*sizes, len(data)]:
        for piece in made.feed(data[at : at + size]):
            assert 0 < len(piece) <= MEGABYTE
            found += piece
        at += size
    made.finish()
    return found


@each
@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 300), max_size=300),
    members=st.lists(st.binary(max_size=5000), min_size=1, max_size=4),
)
def test_pieces_of_any_size_and_many_members(name: str, sizes: list[int], members: list[bytes]) -> None:
    data = b"".join(PACKS[name](each) for each in members)
    assert inflate(name, data, sizes) == b"".join(members)


def test_byte_by_byte(gzip_library: str) -> None:
    data = gzip.compress(PLAIN) + gzip.compress(b"") + gzip.compress(PLAIN)
    assert inflate("gzip", data, [1] * len(data)) == PLAIN * 2


def test_header_with_a_name_and_padding_between_members(gzip_library: str) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile("a name", "wb", fileobj=buffer) as file:
        file.write(PLAIN)
    data = buffer.getvalue() + bytes(1000) + gzip.compress(b"more") + bytes(513)
    assert inflate("gzip", data, [700, 3]) == PLAIN + b"more"


@each
@pytest.mark.parametrize("end", [1, 5, 12, -1, -5])
def test_truncated(name: str, end: int) -> None:
    with pytest.raises(InvalidArgument, match=f"the {name} stream: .*end-of-stream marker"):
        inflate(name, PACKS[name](PLAIN)[:end], [3])


@each
def test_garbage_after_the_end(name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"cannot unpack the layer: the {name} stream: "):
        inflate(name, PACKS[name](PLAIN) + b"this is no member of anything at all", [])


@each
def test_damaged_in_the_middle(name: str) -> None:
    data = bytearray(PACKS[name](bytes(range(256)) * 4000))
    data[len(data) // 2] ^= 0x55
    with pytest.raises(InvalidArgument, match=f"the {name} stream: ") as caught:
        inflate(name, bytes(data), [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("at", [-8, -1])
def test_gzips_checksum_and_length_are_verified(at: int, gzip_library: str) -> None:
    data = bytearray(gzip.compress(PLAIN))
    data[at] ^= 1
    with pytest.raises(InvalidArgument, match=r"the gzip stream: .*(checksum|check)"):
        inflate("gzip", bytes(data), [])


def test_a_window_of_128_megabytes_is_the_most() -> None:
    frame = bytes.fromhex("28b52ffd00a0") + b"\x01\x00\x00"  # a window of 2^30, then an empty last block
    with pytest.raises(InvalidArgument, match="the zstd stream: "):
        inflate("zstd", frame, [])


def test_xz_memory_is_bounded() -> None:
    data = bytearray(lzma.compress(b"x"))
    data[16] = 37  # the size of the dictionary, in the header of the block: 3 GiB; then that header's checksum
    data[20:24] = zlib.crc32(bytes(data[12:20])).to_bytes(4, "little")
    with pytest.raises(InvalidArgument, match="the xz stream: Memory usage limit"):
        inflate("xz", bytes(data), [])


@each
def test_a_bomb_comes_out_in_bounded_pieces(name: str) -> None:
    bomb = PACKS[name](bytes(64 * MEGABYTE))
    made, size = inflater(name), 0
    tracemalloc.start()
    for piece in made.feed(bomb):
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 64 * MEGABYTE and peak < 24 * MEGABYTE  # 8 of them xz's dictionary


def test_plain_and_unknown() -> None:
    made = inflater("")
    assert list(made.feed(b"abc")) == [b"abc"] and list(made.feed(b"")) == []
    made.finish()
    with pytest.raises(Unsupported, match="bzip2"):
        inflater("bzip2")


@each
def test_as_a_reader(name: str) -> None:
    data = PACKS[name](PLAIN)
    assert compression_of(data[:6]) == name
    reader = decompressed(io.BytesIO(data), name)
    assert reader.read(5) == PLAIN[:5] and reader.read() == PLAIN[5:] and reader.read() == b""
    with pytest.raises(InvalidArgument, match="end-of-stream"):
        decompressed(io.BytesIO(data[:-1]), name).read()
