"""The layers of an image from somewhere else into the store: several at once, each a stream from the wire to the disk.

Of each layer one thread downloads, hashes and writes the blob, while another one inflates, hashes and unpacks what the first
hands over through a short queue: so the memory used does not depend on the size of a layer, and nothing is read twice. A layer gets
its names when both digests were right. Two that want the same layer at once, be they processes, wait at the blob's lock: the
second one finds it done.
"""

from __future__ import annotations

import io
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, BinaryIO, Protocol

from ..errors import InvalidArgument, PycontainError
from .blobs import has_blob, is_damaged, make_layout, open_blob, publish_blob
from .compression import compression_of, decompressed
from .digest import Digest, new_hasher
from .documents import Descriptor
from .layers import HashingReader, about, ensure_layer, layer_path, publish_layer, unpack_stream
from .progress import Report
from .workspace import locked, locked_unless, workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .unpack import LayerLimits

__all__ = ["Source", "Stop", "Stopped", "fetch_layers", "first_failures"]

_AT_ONCE = 3  # Docker's max-concurrent-downloads
_CHUNK = 1 << 18
_QUEUED = 32  # chunks between the two threads of a layer: 8 MiB
_SEND_EVERY = 1 << 22
_REPORT_EVERY = 1 << 20
_LOOK_EVERY_S = 0.2


class Source(Protocol):
    """Where blobs come from: a registry, an archive."""

    def open_blob(self, descriptor: Descriptor) -> BinaryIO | io.RawIOBase:
        """A stream to be read to its end and closed. Who reads it checks the digest.

        A source may also have ``abandon()``, which makes reads that wait for the other side end with an error.
        """


class Stopped(PycontainError):
    """Another layer of the same image has failed, or the user has interrupted: never what is shown."""


def fetch_layers(
    data_root: str,
    layers: Sequence[tuple[Descriptor, Digest]],
    source: Source,
    report: Report,
    *,
    limits: LayerLimits | None = None,
) -> None:
    """Have each layer's blob in the store and the layer unpacked. The caller holds the lock ``storing``, shared.

    Raises: what the source raises; InvalidArgument: a wrong size or digest, or no acceptable tar, naming the layer; the first
    error ends the other layers' work.
    """
    make_layout(data_root)
    work = _Work(data_root, source, report, limits)
    wanted = list(dict.fromkeys(layers))
    most = _most_bytes(limits)
    for descriptor, _ in wanted:
        if descriptor.size > most:
            raise InvalidArgument(f"cannot use layer {descriptor.digest}: {descriptor.size} bytes, the limit is {most}")
    for position, (descriptor, _) in enumerate(wanted):
        report.layer(descriptor.digest.encoded, "Pulling fs layer")
        if position >= _AT_ONCE:
            report.layer(descriptor.digest.encoded, "Waiting")
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="layer") as pool:
        running = [pool.submit(work.ensure, descriptor, diff_id) for descriptor, diff_id in wanted]
        failed: list[BaseException] = []
        try:
            failed = first_failures(running, work.stop)
        finally:  # an interrupt, too, ends the other layers' work: at a download that stalls, by the source
            if not all(each.done() for each in running):
                work.stop.set()
                abandon = getattr(source, "abandon", None)
                if abandon is not None:
                    abandon()
                pool.shutdown(wait=True, cancel_futures=True)
        if failed:
            raise min(failed, key=lambda error: isinstance(error, Stopped))


def _most_bytes(limits: LayerLimits | None) -> int:
    from .unpack import LayerLimits

    return (limits or LayerLimits()).max_bytes


def first_failures(running: list[Future[None]], stop: Stop) -> list[BaseException]:
    """Waits for all, or the first errors, or that nobody wants them any more."""
    while True:
        done, left = wait(running, timeout=_LOOK_EVERY_S, return_when=FIRST_EXCEPTION)
        failed = [error for each in done if (error := each.exception()) is not None]
        if failed or not left:
            return failed
        if stop.is_set():
            return [Stopped("stopped: it was asked to")]


class Stop:
    """Set by a failure of ours, or by who no longer wants the image."""

    def __init__(self, theirs: threading.Event | None) -> None:
        self._ours = threading.Event()
        self._theirs = theirs

    def set(self) -> None:
        self._ours.set()

    def is_set(self) -> bool:
        return self._ours.is_set() or (self._theirs is not None and self._theirs.is_set())


class _Work:
    def __init__(self, data_root: str, source: Source, report: Report, limits: LayerLimits | None) -> None:
        self._data_root = data_root
        self._source = source
        self._report = report
        self._limits = limits
        self.stop = Stop(report.stop)

    def ensure(self, descriptor: Descriptor, diff_id: Digest) -> None:
        digits = descriptor.digest.encoded
        with locked_unless(self._data_root, f"blob-{digits}", self.stop.is_set) as held:
            if not held:
                raise Stopped("stopped")
            unpacked = os.path.isdir(layer_path(self._data_root, diff_id))
            if has_blob(self._data_root, descriptor):
                if unpacked:
                    self._report.layer(digits, "Already exists")
                    return
                if not self._extract(descriptor, diff_id):
                    self._download(descriptor, diff_id, unpacked, damaged=True)
            else:
                self._download(descriptor, diff_id, unpacked)
        self._report.layer(digits, "Pull complete")

    def _extract(self, descriptor: Descriptor, diff_id: Digest) -> bool:
        """Unpacks the stored blob; False: it is damaged."""
        self._report.layer(descriptor.digest.encoded, "Extracting", 0, descriptor.size)
        try:
            ensure_layer(self._data_root, diff_id, descriptor, self._stored, limits=self._limits)
        except InvalidArgument:
            if not is_damaged(self._data_root, descriptor):
                raise
            return False
        return True

    def _stored(self, descriptor: Descriptor) -> BinaryIO:
        return open_blob(self._data_root, descriptor)

    def _download(self, descriptor: Descriptor, diff_id: Digest, unpacked: bool, *, damaged: bool = False) -> None:
        with workspace(self._data_root) as (work, work_fd):
            download = _Download(self._source, descriptor, work_fd, self._report, self.stop)
            try:
                found, size = self._consume(download, work_fd, diff_id, unpacked)
                download.finish()
            except BaseException:
                download.abandon()
                # why the download ended is the cause of whatever its reader then saw
                if download.error is not None and not isinstance(download.error, Stopped):
                    raise download.error from None
                raise
            if found != diff_id:
                raise InvalidArgument(
                    f"cannot use layer {descriptor.digest}: unpacked it is {found}, the configuration says {diff_id}"
                )
            publish_blob(self._data_root, f"{work}/blob", descriptor.digest, replace=damaged)
            if not unpacked:
                with locked(self._data_root, f"layer-{diff_id.encoded}"):
                    if not os.path.isdir(layer_path(self._data_root, diff_id)):
                        publish_layer(self._data_root, f"{work}/layer", diff_id, size)

    def _consume(self, download: _Download, work_fd: int, diff_id: Digest, unpacked: bool) -> tuple[Digest, int]:
        """The diff_id that was found, and the bytes of the layer's files."""
        stream: Any = download
        if not unpacked:
            try:
                found, stats = unpack_stream(stream, work_fd, diff_id.algorithm, limits=self._limits)
            except PycontainError as error:
                raise about(error, f"layer {download.descriptor.digest}") from error
            return found, stats.file_bytes
        # Another image has the same layer, compressed otherwise: only the blob is new.
        compression = compression_of(download.peek())
        plain = HashingReader(decompressed(stream, compression), diff_id.algorithm)
        most = _most_bytes(self._limits)
        while plain.read(_CHUNK):
            if plain.size > most:
                raise InvalidArgument(
                    f"cannot use layer {download.descriptor.digest}: it has more than {most} bytes unpacked"
                )
        download.drain()
        return plain.digest, 0


class _Download(io.RawIOBase):
    """A layer on its way: a reader of its bytes, fed by a thread that has hashed and stored them."""

    def __init__(self, source: Source, descriptor: Descriptor, work_fd: int, report: Report, stop: Stop) -> None:
        self.descriptor = descriptor
        self.error: BaseException | None = None
        self.size = 0
        self._source = source
        self._report = report
        self._stop = stop
        self._abandoned = False
        self._queue: queue.Queue[bytes] = queue.Queue(_QUEUED)
        self._rest = b""
        self._ended = False
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._blob_fd = os.open("blob", flags, 0o600, dir_fd=work_fd)
        self._thread = threading.Thread(target=self._run, name="download", daemon=True)
        self._thread.start()

    # the reader's side

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        if not self._rest and not self._ended:
            self._rest = self._queue.get()
            self._ended = not self._rest
            if self._ended and self.error is not None:
                raise self.error
        if size < 0 or size >= len(self._rest):
            data, self._rest = self._rest, b""
            if size < 0 and data:
                return data + self.read()
            return data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def peek(self) -> bytes:
        """The first bytes; they stay to be read."""
        data = b""
        while len(data) < 6 and (more := self.read(1 << 18)):
            data += more
        self._rest = data + self._rest
        return data

    def drain(self) -> None:
        while self.read(1 << 18):
            pass

    def finish(self) -> None:
        """Raises what was wrong with the download, when all has been read."""
        self.drain()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def abandon(self) -> None:
        self._abandoned = True
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                pass

    # the downloader's side

    def _run(self) -> None:
        try:
            self._receive()
        except BaseException as error:  # told to the reader, whose thread raises it
            self.error = error
        finally:
            os.close(self._blob_fd)
            if not self._abandoned:
                self._queue.put(b"")

    def _receive(self) -> None:
        digest, digits = self.descriptor.digest, self.descriptor.digest.encoded
        hasher = new_hasher(digest.algorithm)
        told = sent = 0
        with self._source.open_blob(self.descriptor) as body:
            while chunk := body.read(_CHUNK) or b"":
                if self._abandoned or self._stop.is_set():
                    raise Stopped("stopped")
                self.size += len(chunk)
                if self.size > self.descriptor.size:
                    raise InvalidArgument(
                        f"cannot use layer {digest}: it goes on after the {self.descriptor.size} bytes that its manifest says"
                    )
                hasher.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._blob_fd, view) :]
                self._queue.put(chunk)
                if (
                    self.size - sent >= _SEND_EVERY
                ):  # to the disk: the fsync has less to wait for, and nobody reads it soon
                    os.posix_fadvise(self._blob_fd, sent, self.size - sent, os.POSIX_FADV_DONTNEED)
                    sent = self.size
                if self.size - told >= _REPORT_EVERY:
                    told = self.size
                    self._report.layer(digits, "Downloading", self.size, self.descriptor.size)
        self._report.layer(digits, "Verifying Checksum")
        if self.size != self.descriptor.size or hasher.hexdigest() != digest.encoded:
            raise InvalidArgument(
                f"cannot use layer {digest}: the {self.size} bytes that came have the digest {digest.algorithm}:"
                f"{hasher.hexdigest()} ({self.descriptor.size} bytes expected): damaged, or not what was asked for"
            )
        os.fsync(self._blob_fd)  # while its last bytes are still being unpacked
        self._report.layer(digits, "Download complete")
