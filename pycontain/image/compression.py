"""Decompress a layer's stream by its magic bytes, in-library: never by a program (CVE-2026-41567).

Compressed pieces are pushed into an :class:`Inflater`, plain ones come out, each of a bounded size: a bomb of a thousand to
one fills no memory. The libraries give up the interpreter's lock while they work.
"""

from __future__ import annotations

import io
from typing import BinaryIO, Protocol, cast

from ..errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

__all__ = ["PREFIX_BYTES", "Inflater", "compression_of", "decompressed", "has_big_window", "inflater"]

PREFIX_BYTES = 6
_MAGIC = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2"))
_PIECE = 1 << 20  # the most that one decompression gives
_READ = 1 << 18
_XZ_MEMORY_BYTES = 256 << 20  # what `xz -9` needs is 65 MiB; a header can ask for 4 GiB
_ZSTD_WINDOW_LOG = 27  # 128 MiB: the limit of `zstd -d` without --long


class _Member(Protocol):
    """One gzip member, zstd frame or xz stream: the decompressor objects of bz2, lzma, zstd and isal are all of this form."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def compression_of(prefix: bytes) -> str:
    """``gzip``, ``zstd``, ``xz``, ``bzip2`` or ``""`` (plain), from the first ``PREFIX_BYTES`` of a stream."""
    for magic, name in _MAGIC:
        if prefix.startswith(magic):
            return name
    return ""


class Inflater:
    """A stream of one compression (:func:`compression_of`), of one member or more; made by :func:`inflater`."""

    layer = "the layer"  # what an error calls it

    def __init__(self, name: str, new: Callable[[], _Member], error: type[Exception], *, padded: bool) -> None:
        self._name = name
        self._new = new
        self._error = error
        self._padded = padded  # zeros may follow a member
        self._member: _Member | None = new()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain pieces that ``data``, whole, gives; it is taken in as far as the iterator is followed.

        Raises: InvalidArgument: the stream is damaged, or something else follows it.
        """
        while True:
            if self._member is None:
                data = data.lstrip(b"\0") if self._padded else data
                if not data:
                    return
                self._member = self._new()
            member = self._member
            try:
                plain = member.decompress(data, _PIECE)
            except self._error as error:
                raise self._damaged(str(error)) from None
            data = b""
            if member.eof:
                data = member.unused_data
                self._member = None
            if plain:
                yield plain
            if self._member is not None and member.needs_input:
                return

    def finish(self) -> None:
        """The compressed stream has ended. Raises: InvalidArgument: it is cut short."""
        if self._member is not None:
            raise self._damaged("it ends before its end-of-stream marker")

    def _damaged(self, why: str) -> InvalidArgument:
        return InvalidArgument(f"cannot unpack {self.layer}: the {self._name} stream: {why}")


class _Plain(Inflater):
    def __init__(self) -> None:
        self._member = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        return iter((data,) if data else ())


def has_big_window(prefix: bytes) -> bool:
    """Whether a stream that begins so can take more than 8 MiB of memory to inflate: a zstd frame that says so, or does not say.

    Spec: RFC 8878, 3.1.1.1.2 "Window_Descriptor"; 8 MiB is what it asks every decoder for, and what levels up to 19 use.
    """
    if compression_of(prefix) != "zstd" or len(prefix) < PREFIX_BYTES:
        return False
    single_segment = prefix[4] & 0x20
    return bool(single_segment) or 10 + (prefix[5] >> 3) > 23


def inflater(compression: str, layer: str = "the layer") -> Inflater:
    """What decompresses a stream of ``compression``; ``""`` passes it on as it is. ``layer`` is what an error calls it.

    Raises: Unsupported: bzip2, or zstd without a library.
    """
    if compression == "bzip2":
        raise Unsupported("cannot unpack a bzip2 layer: not supported; recompress it with gzip, xz or zstd")
    made = {"gzip": _gzip, "zstd": _zstd, "xz": _xz, "": _Plain}[compression]()
    made.layer = layer
    return made


def _gzip() -> Inflater:
    try:
        from isal import igzip_lib
    except ImportError:
        import zlib

        return Inflater("gzip", _ZlibMember, zlib.error, padded=True)
    flag = igzip_lib.DECOMP_GZIP  # its checksum and length are verified
    damage: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment,unused-ignore]
    return Inflater("gzip", lambda: igzip_lib.IgzipDecompressor(flag=flag), damage, padded=True)


class _ZlibMember:
    """zlib's own object keeps no input: what it did not take is its caller's to give again."""

    def __init__(self) -> None:
        import zlib

        self._object = zlib.decompressobj(31)  # with a gzip header and trailer
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        plain = self._object.decompress(self._object.unconsumed_tail + data, max_length)
        self.needs_input = len(plain) < max_length and not self._object.unconsumed_tail
        return plain


def _zstd() -> Inflater:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ImportError:
            return _zstandard()
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return Inflater("zstd", lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError, padded=False)


def _zstandard() -> Inflater:
    try:
        import zstandard
    except ImportError:
        raise Unsupported(
            "cannot unpack a zstd layer: no zstd library: pip install backports.zstd (part of Python since 3.14)"
        ) from None
    return Inflater("zstd", _ZstandardMember, zstandard.ZstdError, padded=False)


class _ZstandardMember:
    """The package ``zstandard`` has no bound on what one call gives: it gets little at a time, and four bytes of a frame make
    128 KiB at most."""

    _SLICE = 128

    def __init__(self) -> None:
        import zstandard

        self._object = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG).decompressobj()
        self._waiting = b""
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._object.unused_data) + self._waiting

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        view = memoryview(self._waiting + data)
        plain = []
        size = at = 0
        while at < len(view) and size < max_length and not self.eof:
            plain.append(self._object.decompress(view[at : at + self._SLICE]))
            size += len(plain[-1])
            at += self._SLICE
        self._waiting = bytes(view[at:])
        self.needs_input = not self._waiting
        return b"".join(plain)


def _xz() -> Inflater:
    import lzma

    return Inflater(
        "xz",
        lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES),
        lzma.LZMAError,
        padded=True,
    )


def decompressed(stream: BinaryIO, compression: str) -> BinaryIO:
    """A reader of the plain bytes; closing it leaves ``stream`` open. Raises: as :func:`inflater`, and Inflater's own."""
    if not compression:
        return stream
    return cast(BinaryIO, io.BufferedReader(_Inflated(stream, inflater(compression)), _READ))


class _Inflated(io.RawIOBase):
    def __init__(self, stream: BinaryIO, made: Inflater) -> None:
        self._plain = self._pieces(stream, made)
        self._rest = memoryview(b"")

    @staticmethod
    def _pieces(stream: BinaryIO, made: Inflater) -> Iterator[bytes]:
        while data := stream.read(_READ):
            yield from made.feed(data)
        made.finish()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        if not self._rest:
            self._rest = memoryview(next(self._plain, b""))
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
