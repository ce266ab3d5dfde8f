"""A blob's way into a registry: one PUT, or chunks; taken up again where a registry says that it has got to.

Spec: distribution-spec, "Pushing blobs": POST for a session, then PUT (monolithic) or PATCH... PUT (chunked); GET on the session
for how far it is. A session that is lost is begun anew; a blob that is there after a lost answer is done.
"""

from __future__ import annotations

from urllib.parse import quote

from ...errors import InvalidArgument, RegistryError, errno_name
from .failures import Failure
from .session import ATTEMPTS, Session
from .transport import Timeouts
from .urls import Url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from ..documents import Descriptor
    from .transport import Answer

__all__ = ["Upload"]

_PIECE_BYTES = 65536  # a socket's time-out is for all that one call sends
_LEAST_CHUNK = 64 << 10
# a registry answers when it has computed the digest of what it got, or moved it within its storage
_PATIENT = Timeouts(read_s=600.0)
_BYTES = {"Content-Type": "application/octet-stream"}


class Upload:
    """Of one blob, by one thread. ``open_stream`` gives it from its beginning, each time that it is called."""

    def __init__(
        self, session: Session, descriptor: Descriptor, open_stream: Callable[[], BinaryIO], *, scopes: tuple[str, ...],
        exists: Callable[[], bool], chunk_bytes: int | None = None, progress: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._session = session
        self._descriptor = descriptor
        self._open_stream = open_stream
        self._scopes = scopes
        self._exists = exists
        self._chunk_bytes = chunk_bytes
        self._progress = progress or (lambda sent: None)
        self._location: Url | None = None
        self._offset = 0  # what the registry has
        self._best = 0

    def run(self) -> None:
        """Raises: Failure; RegistryError or InvalidArgument: of the stream, which is not what the descriptor says."""
        failures = 0
        while True:
            try:
                return self._go_on()
            except Failure as failure:
                lost = failure.status in (404, 416) and self._location is not None
                if self._offset > self._best:  # it got somewhere: only standing still counts
                    self._best, failures = self._offset, 0
                failures += 1
                if failures >= ATTEMPTS or not (lost or self._session.may_repeat(failure)):
                    self._cancel()
                    raise
                self._session.wait(failures, failure)
                if self._look() and self._exists():
                    return None
            except BaseException:
                self._cancel()
                raise

    def _go_on(self) -> None:
        if self._location is None:
            self._begin()
        size = self._descriptor.size
        if self._chunk_bytes is None and self._offset == 0:
            return self._close(0, size)
        while self._offset < size:
            self._send_chunk(min(self._chunk_bytes or size, size - self._offset))
        return self._close(size, 0)

    def _begin(self) -> None:
        path = f"/v2/{self._session.endpoint.repository}/blobs/uploads/"
        algorithm = self._descriptor.digest.algorithm
        if algorithm != "sha256":
            path += f"?digest-algorithm={algorithm}"
        answer = self._session.request(
            "POST", self._session.url(path), scopes=self._scopes, headers={"Content-Length": "0"}, expect=(202,)
        )
        self._offset = 0
        self._take_location(answer)
        least = answer.header("oci-chunk-min-length")
        if self._chunk_bytes is not None and least.isascii() and least.isdigit():
            self._chunk_bytes = max(self._chunk_bytes, min(int(least[:12]), 1 << 30))
        answer.discard()

    def _send_chunk(self, length: int) -> None:
        assert self._location is not None
        first = self._offset
        headers = {**_BYTES, "Content-Length": str(length), "Content-Range": f"{first}-{first + length - 1}"}
        answer = self._session.request(
            "PATCH", self._location, scopes=self._scopes, headers=headers, body=lambda: self._pieces(first, length),
            expect=(202, 201, 204), attempts=1, timeouts=_PATIENT,
        )  # fmt: skip
        self._take_location(answer)
        answer.discard()
        # one byte from the beginning is 0-0 as well
        self._offset = 1 if first + length == 1 else min(_range_end(answer, first + length), first + length)
        if self._offset <= first:
            raise Failure(f"it has {self._offset} bytes after a chunk of {first} to {first + length - 1}", status=416)

    def _close(self, first: int, length: int) -> None:
        assert self._location is not None
        url = self._location.with_query(f"digest={quote(str(self._descriptor.digest), safe='')}")
        headers = {**_BYTES, "Content-Length": str(length)}
        answer = self._session.request(
            "PUT", url, scopes=self._scopes, headers=headers,
            body=(lambda: self._pieces(first, length)) if length else None,
            expect=(201, 200, 204), attempts=1, timeouts=_PATIENT,
        )  # fmt: skip
        stored = answer.header("docker-content-digest")
        answer.discard()
        if stored.startswith(f"{self._descriptor.digest.algorithm}:") and stored != str(self._descriptor.digest):
            raise Failure(f"it has stored {stored[:140]} instead")
        self._progress(self._descriptor.size)

    def _look(self) -> bool:
        """How far the registry has got; a session that it does not know any more is dropped. Whether the blob may be there
        already, because the session is gone."""
        if self._location is None:
            return False
        try:
            answer = self._session.request(
                "GET", self._location, scopes=self._scopes, expect=(204, 202, 200), attempts=1
            )
        except Failure:
            self._location, self._offset = None, 0
            return True
        offset = _range_end(answer, 0)
        if answer.header("location"):
            try:
                self._take_location(answer)
            except Failure:
                self._location, offset = None, 0
        answer.discard()
        self._offset = min(offset, self._descriptor.size)
        return False

    def _cancel(self) -> None:
        """As the specification asks of those who give up; a registry that does not hear it forgets the session by itself."""
        if self._location is not None:
            try:
                self._session.request(
                    "DELETE", self._location, scopes=self._scopes, headers={"Content-Length": "0"}, expect=(204, 202, 200, 404),
                    attempts=1, timeouts=Timeouts(connect_s=3.0, read_s=3.0),
                ).discard()  # fmt: skip
            except Failure:
                pass

    def _take_location(self, answer: Answer) -> None:
        try:
            self._location = self._session.located(answer)
        except Failure:
            answer.close()
            raise

    def _pieces(self, first: int, length: int) -> Iterator[bytes]:
        """``length`` bytes from ``first`` on. Raises: RegistryError, InvalidArgument."""
        what = f"cannot upload blob {self._descriptor.digest}"
        size = self._descriptor.size
        try:
            with self._open_stream() as stream:
                _seek(stream, first)
                sent = 0
                while sent < length:
                    piece = stream.read(min(_PIECE_BYTES, length - sent))
                    if not piece:
                        raise RegistryError(f"{what}: it ends after {first + sent} bytes, {size} are needed")
                    sent += len(piece)
                    if first + sent == size and stream.read(1):
                        raise RegistryError(f"{what}: it has more than {size} bytes")
                    yield piece
                    self._progress(first + sent)
        except OSError as error:
            raise InvalidArgument(f"{what}: reading it: {error.strerror} ({errno_name(error.errno or 0)})") from None


def _seek(stream: BinaryIO, offset: int) -> None:
    if offset and stream.seekable():
        stream.seek(offset)
        return
    while offset:
        part = stream.read(min(offset, _PIECE_BYTES))
        if not part:
            return
        offset -= len(part)


def _range_end(answer: Answer, otherwise: int) -> int:
    """The number of bytes that a registry has: ``Range: 0-N`` is N + 1 of them; 0-0 is none, or one, which cannot be told."""
    text = answer.header("range").strip().removeprefix("bytes=")
    first, dash, last = text.partition("-")
    if not dash or first != "0" or not (last.isascii() and last.isdigit()):
        return otherwise
    return int(last[:18]) + 1 if int(last[:18]) else 0
