"""Which zstd streams may want more memory than several at once should have."""

from __future__ import annotations

import os

import pytest

from pycontain.image.compression import PREFIX_BYTES, has_big_window
from pycontain.image.documents import descriptor_of

zstandard = pytest.importorskip("backports.zstd", reason="the zstd library of the standard library's own API")


@pytest.mark.parametrize(("window", "big"), [(20, False), (23, False), (24, True), (27, True)])
def test_window(window: int, big: bool) -> None:
    options = {zstandard.CompressionParameter.window_log: window, zstandard.CompressionParameter.compression_level: 1}
    compressor = zstandard.ZstdCompressor(options=options)
    data = compressor.compress(os.urandom(1 << 16)) + compressor.flush()
    assert has_big_window(data[:PREFIX_BYTES]) is big


def test_one_that_does_not_say_and_others() -> None:
    assert has_big_window(zstandard.compress(b"x" * 1000)[:PREFIX_BYTES])  # a single segment: as big as its contents
    for other in (b"", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\0\0\0", b"etc/pa"):
        assert not has_big_window(other)


def test_where_a_foreign_layer_is() -> None:
    digest = "sha256:" + "1" * 64
    value = {"mediaType": "x", "digest": digest, "size": 1, "urls": ["https://example.com/layer"]}
    assert descriptor_of(value, "x").urls == ("https://example.com/layer",)
    assert descriptor_of({**value, "urls": None}, "x").urls == ()
