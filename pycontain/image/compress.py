"""Compress a layer on several cores, and know both of its digests when it is done.

    compress(stream, compression, level=None, threads=None) -> reader of the compressed bytes
    write_layer(source, out_fd, compression, level=None, threads=None) -> WrittenLayer(diff_id, digest, size, plain_size)

``compression`` is "gzip", "zstd" or "" (as it is). ``level`` means what it means to gzip (1 to 9) and to zstd (1 to 22).

gzip: blocks of 1 MiB are deflated on their own, each with the 32 KiB before it as its dictionary, and joined into one
ordinary gzip member. The bytes do not depend on the number of threads. Levels 1 and 2 are ISA-L's 2 and 3 where that is
installed: smaller and four times quicker than zlib's 1 and 2, and the default, since a layer is written far more often than
it is stored for good. ISA-L may choose other matches on another processor; from level 3 on it is zlib, and the bytes are
the same wherever the zlib is. zstd: by zstd's own threads, which give the same bytes for any number of them; its 3 is the
default. The digest of what was compressed, the diff_id, depends on none of this.

One thread reads, another hashes what was read, others deflate: each may be some blocks ahead of the next, never more.
"""

from __future__ import annotations

import io
import os
import zlib
from collections import deque
from typing import NamedTuple

from ..errors import InvalidArgument, Unsupported
from .digest import Digest, new_hasher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from typing import Any, Protocol

    from typing_extensions import Buffer

    class Source(Protocol):
        """What is read: a binary file, a PackReader. Fewer bytes than asked for are no end; 0 or None is."""

        def readinto(self, buffer: Buffer, /) -> int | None: ...


__all__ = ["CompressedReader", "WrittenLayer", "compress", "write_layer"]

_BLOCK = 1 << 20
_WINDOW = 1 << 15
# deflate, no name, no time, an unknown system: nothing of when and where it was made
_GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_GZIP_END = b"\x03\0"  # an empty last block
_GZIP_LEVELS, _GZIP_DEFAULT = range(1, 10), 1
_ZSTD_LEVELS, _ZSTD_DEFAULT = range(1, 23), 3
_ISAL_LEVELS = {1: 2, 2: 3}
_ZSTD_BIG_WINDOW = 20  # from this level on, a thread takes hundreds of MiB: one
_MAX_THREADS = 64


class WrittenLayer(NamedTuple):
    """``diff_id`` and ``plain_size`` are of the tar, ``digest`` and ``size`` of the blob."""

    diff_id: Digest
    digest: Digest
    size: int
    plain_size: int


def write_layer(
    source: Source, out_fd: int, compression: str = "gzip", level: int | None = None, threads: int | None = None
) -> WrittenLayer:
    """Read ``source`` to its end, write it compressed to ``out_fd`` (borrowed, not synced), hash both. One pass.

    Raises: InvalidArgument: the compression or level; Unsupported: no zstd library; OSError: ``out_fd`` cannot be written;
    what ``source`` raises. What was written until then is a part, for the caller to throw away.
    """
    plain = _HashingSource(source)
    hasher, size = new_hasher("sha256"), 0
    try:
        blocks = _compressor(compression, level)(plain, _threads(threads))
        try:
            for block in blocks:
                hasher.update(block)
                size += len(block)
                _write_all(out_fd, block)
        finally:
            blocks.close()
        diff_id = plain.digest()
    finally:
        plain.close()
    return WrittenLayer(diff_id, Digest("sha256", hasher.hexdigest()), size, plain.size)


def compress(
    stream: Source, compression: str, level: int | None = None, threads: int | None = None
) -> CompressedReader:
    """The compressed bytes of ``stream`` as a stream; closing it ends the threads and leaves ``stream`` open.

    ``threads``: None is one for each processor that this process may use. Raises: as :func:`write_layer`, some by read.
    """
    return CompressedReader(_compressor(compression, level)(stream, _threads(threads)))


class CompressedReader(io.RawIOBase):
    """A raw binary stream over blocks."""

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        n = min(len(view), len(self._rest))
        view[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        return n

    def close(self) -> None:
        self._blocks.close()
        super().close()


if TYPE_CHECKING:
    from collections.abc import Generator

    _Blocks = Generator[bytes, None, None]


def _compressor(compression: str, level: int | None) -> Callable[[Source, int], _Blocks]:
    if compression == "gzip":
        chosen = _checked(level, _GZIP_LEVELS, _GZIP_DEFAULT, compression)
        return lambda source, threads: _gzip(source, chosen, threads)
    if compression == "zstd":
        chosen = _checked(level, _ZSTD_LEVELS, _ZSTD_DEFAULT, compression)
        library = _zstd_library()
        return lambda source, threads: _zstd(library, source, chosen, threads)
    if compression:
        raise InvalidArgument(f"cannot compress by {compression[:40]!r}: the choices are gzip, zstd and '' (none)")
    if level is not None:
        raise InvalidArgument(f"cannot compress at level {level}: without a compression there is no level")
    return lambda source, threads: _plain(source)


def _checked(level: int | None, levels: range, default: int, compression: str) -> int:
    if level is None:
        return default
    if level not in levels:
        raise InvalidArgument(
            f"cannot compress at level {level}: {compression} has the levels {levels[0]} to {levels[-1]}"
        )
    return level


def _threads(threads: int | None) -> int:
    if threads is None:
        return min(len(os.sched_getaffinity(0)), _MAX_THREADS)
    if not 1 <= threads <= _MAX_THREADS:
        raise InvalidArgument(f"cannot compress with {threads} threads: from 1 to {_MAX_THREADS}")
    return threads


def _read_blocks(source: Source) -> Iterator[memoryview]:
    """Blocks that are full, but for the last: what is compressed does not depend on how it arrives."""
    have = _BLOCK
    while have == _BLOCK:
        block, have = memoryview(bytearray(_BLOCK)), 0
        while have < _BLOCK and (got := source.readinto(block[have:])):
            have += got
        if have:
            yield block[:have]


def _plain(source: Source) -> _Blocks:
    for block in _read_blocks(source):
        yield bytes(block)


# gzip


def _gzip(source: Source, level: int, threads: int) -> _Blocks:
    from concurrent.futures import ThreadPoolExecutor

    deflate, crc32 = _deflater(level)
    crc = size = 0
    dictionary = b""
    pending: deque[Future[bytes]] = deque()
    pool = ThreadPoolExecutor(threads, "pycontain-deflate")
    try:
        yield _GZIP_HEADER
        for block in _read_blocks(source):
            pending.append(pool.submit(deflate, block, dictionary))
            dictionary = bytes(block[-_WINDOW:])
            crc = crc32(block, crc)
            size += len(block)
            if len(pending) > threads + 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        yield _GZIP_END + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _deflater(level: int) -> tuple[Callable[[memoryview, bytes], bytes], Callable[[Buffer, int], int]]:
    """One block as raw deflate that ends on a byte, and the quickest crc32."""
    library: Any = zlib
    try:
        from isal import isal_zlib
    except ImportError:  # not on every architecture
        crc32: Any = zlib.crc32
    else:
        crc32 = isal_zlib.crc32
        if level in _ISAL_LEVELS:
            library, level = isal_zlib, _ISAL_LEVELS[level]

    def deflate(block: memoryview, dictionary: bytes) -> bytes:
        options = {"zdict": dictionary} if dictionary else {}
        c = library.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, **options)
        head: bytes = c.compress(block)
        return head + bytes(c.flush(zlib.Z_SYNC_FLUSH))

    return deflate, crc32


# zstd


def _zstd_library() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ImportError:
            raise Unsupported(
                "cannot compress by zstd: no zstd library: pip install backports.zstd (part of Python since 3.14)"
            ) from None
    return zstd


def _zstd(library: Any, source: Source, level: int, threads: int) -> _Blocks:
    parameter = library.CompressionParameter
    options = {parameter.compression_level: level, parameter.checksum_flag: 1}
    most = parameter.nb_workers.bounds()[1]
    if most > 0:  # never 0 where there can be one: without workers the bytes are others
        options[parameter.nb_workers] = 1 if level >= _ZSTD_BIG_WINDOW else min(threads, most)
    c = library.ZstdCompressor(options=options)
    for block in _read_blocks(source):
        if out := c.compress(block):
            yield out
    yield c.flush()


# hashing


class _HashingSource:
    """Hashes what is read in a thread of its own, which may be a few blocks behind."""

    _BEHIND = 4

    def __init__(self, source: Source) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._source = source
        self._hasher = new_hasher("sha256")
        self._pool = ThreadPoolExecutor(1, "pycontain-hash")
        self._pending: deque[Future[None]] = deque()
        self.size = 0

    def readinto(self, buffer: Buffer) -> int:
        got = self._source.readinto(buffer) or 0
        if got:
            self.size += got
            # the block stays as it is: its reader fills another one next
            self._pending.append(self._pool.submit(self._hasher.update, memoryview(buffer)[:got]))
            if len(self._pending) > self._BEHIND:
                self._pending.popleft().result()
        return got

    def digest(self) -> Digest:
        while self._pending:
            self._pending.popleft().result()
        return Digest("sha256", self._hasher.hexdigest())

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
