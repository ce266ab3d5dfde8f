"""Decompress a layer's stream by its magic bytes, in-library: never by a program (CVE-2026-41567)."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

from ..errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lzma import LZMADecompressor

    from typing_extensions import Buffer

__all__ = ["PREFIX_BYTES", "compression_of", "decompressed"]

PREFIX_BYTES = 6
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))
_XZ_MEMORY_BYTES = 256 << 20  # what `xz -9` needs is 65 MiB; a header can ask for 4 GiB
_ZSTD_WINDOW_LOG = 27  # 128 MiB: the limit of `zstd -d` without --long


def compression_of(prefix: bytes) -> str:
    """``gzip``, ``zstd``, ``xz``, ``bzip2`` or ``""`` (plain), from the first ``PREFIX_BYTES`` of a stream."""
    for magic, name in _MAGIC:
        if prefix.startswith(magic):
            return name
    return ""


def decompressed(stream: BinaryIO, compression: str) -> BinaryIO:
    """A reader of the plain bytes; closing it leaves ``stream`` open.

    Raises: Unsupported: bzip2, or zstd without a library.
    """
    if compression == "gzip":
        return _gzip(stream)
    if compression == "zstd":
        return _zstd(stream)
    if compression == "xz":
        return cast(BinaryIO, io.BufferedReader(_XzReader(stream), 1 << 18))
    if compression == "bzip2":
        raise Unsupported("cannot unpack a bzip2 layer: not supported; recompress it with gzip, xz or zstd")
    return stream


def _gzip(stream: BinaryIO) -> BinaryIO:
    try:
        from isal import igzip

        return cast(BinaryIO, igzip.IGzipFile(fileobj=stream, mode="rb"))  # type: ignore[no-untyped-call,unused-ignore]
    except ImportError:
        import gzip

        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))


def _zstd(stream: BinaryIO) -> BinaryIO:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ImportError:
            return _zstandard(stream)
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return cast(BinaryIO, zstd.ZstdFile(stream, "rb", options=options))


def _zstandard(stream: BinaryIO) -> BinaryIO:
    try:
        import zstandard
    except ImportError:
        raise Unsupported(
            "cannot unpack a zstd layer: no zstd library: pip install backports.zstd (part of Python since 3.14)"
        ) from None
    reader = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG).stream_reader(
        stream, read_across_frames=True, closefd=False
    )
    return cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, reader), 1 << 18))


class _XzReader(io.RawIOBase):
    """One or more xz streams, with a bound on the memory a header may ask for (:mod:`lzma`'s own file has none)."""

    def __init__(self, stream: BinaryIO) -> None:
        import lzma

        self._stream = stream
        self._lzma = lzma
        self._decoder = self._new()

    def _new(self) -> LZMADecompressor:
        return self._lzma.LZMADecompressor(format=self._lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while True:
            data = b""
            if self._decoder.eof:
                data = self._next_stream(self._decoder.unused_data)
                if not data:
                    return 0
            elif self._decoder.needs_input:
                data = self._stream.read(1 << 16)
                if not data:
                    raise InvalidArgument("cannot unpack the layer: the xz stream is truncated")
            try:
                plain = self._decoder.decompress(data, len(view))
            except self._lzma.LZMAError as error:
                raise InvalidArgument(f"cannot unpack the layer: xz: {error}") from None
            if plain:
                view[: len(plain)] = plain
                return len(plain)

    def _next_stream(self, rest: bytes) -> bytes:
        """The first bytes of the stream after this one; padding between streams is zeros."""
        rest = rest.lstrip(b"\0")
        while not rest:
            chunk = self._stream.read(1 << 16)
            if not chunk:
                return b""
            rest = chunk.lstrip(b"\0")
        self._decoder = self._new()
        return rest
