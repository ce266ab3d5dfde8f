"""A blob as a stream that survives: cut connections are taken up again where they ended, here or at the next place that has it.

What comes out is ``descriptor.size`` bytes or an error; whether they are the right ones says the digest, which who reads them
computes on the way. Spec: distribution-spec, "Pulling blobs"; RFC 9110 section 14 (ranges).
"""

from __future__ import annotations

import io

from ...record import record
from .failures import Failure, failed
from .session import ATTEMPTS, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..documents import Descriptor
    from .transport import Answer
    from .urls import Url

__all__ = ["BlobReader", "Source"]

_SKIP_BYTES = 256 << 10
_PROGRESS_BYTES = 1 << 20  # what a connection must have brought for its end not to count against the attempts
_ALL_BYTES = 256 << 20  # what read() without a count may return: blobs that fit into memory


@record
class Source:
    """One place that may have the blob: ``name`` for messages; ``url()`` can fail as a request can; ``gone`` is told when it
    was given up."""

    name: str
    session: Session
    url: Callable[[], Url]
    scopes: tuple[str, ...] = ()
    gone: Callable[[Failure], None] = lambda failure: None


class BlobReader(io.RawIOBase):
    """Reads one blob from ``offset`` to its end. For one thread. ``position`` is the offset of the next byte.

    ``read`` and ``readinto`` raise RegistryError, ImageNotFound never: a manifest named this blob.
    """

    def __init__(self, descriptor: Descriptor, sources: list[Source], *, offset: int = 0, repository: str = "") -> None:
        super().__init__()
        self.descriptor = descriptor
        self.position = offset
        self._sources = sources
        self._what = f"cannot download blob {descriptor.digest}" + (f" of {repository}" if repository else "")
        self._tried: list[tuple[str, Failure]] = []
        self._failures = 0  # of this source, since it last brought something
        self._brought = 0
        self._answer: Answer | None = None
        self._left: int | None = None  # of the answer, where it says so
        if self.position < descriptor.size:
            self._answer = self._open()

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def read(self, count: int = -1, /) -> bytes:
        """Up to ``count`` bytes, and fewer only at the end; -1: all. b"" at the end. Raises: RegistryError."""
        if count < 0:
            if self.descriptor.size - self.position > _ALL_BYTES:
                raise ValueError(f"read() of a blob of {self.descriptor.size} bytes: give a count")
            count = self.descriptor.size - self.position
        wanted = min(count, self.descriptor.size - self.position)
        parts: list[bytes] = []
        while wanted > 0:
            part = self._some(wanted)
            parts.append(part)
            wanted -= len(part)
        if self.position == self.descriptor.size and self._answer is not None:
            self._finish()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        answer, self._answer = getattr(self, "_answer", None), None
        if answer is not None:
            answer.close()
        super().close()

    def _some(self, count: int) -> bytes:
        """At least one byte."""
        while True:
            if self._answer is None:
                self._answer = self._open()
            try:
                part = self._answer.read(count)
                if not part:
                    raise Failure(f"the body ended after {self.position} of {self.descriptor.size} bytes", again=True)
            except Failure as failure:
                self._answer.close()
                self._answer = None
                self._failed(failure)
                continue
            self.position += len(part)
            self._brought += len(part)
            if self._brought >= _PROGRESS_BYTES:
                self._failures = 0
            return part

    def _finish(self) -> None:
        """The blob is whole; the answer must be, too."""
        answer, self._answer = self._answer, None
        assert answer is not None
        try:
            more = answer.content_length is None and answer.read(1)
        except Failure:
            more = b""  # all of it had come before the connection ended
        answer.discard() if answer.content_length is not None else answer.close()
        if more:
            failure = Failure(f"it sends more than the {self.descriptor.size} bytes that the manifest says")
            raise failed(self._what, [*self._tried, (self._sources[0].name, failure)])

    def _open(self) -> Answer:
        """From the first source that gives it. Raises: RegistryError: none is left."""
        while True:
            source = self._sources[0]
            self._brought = 0
            try:
                return self._open_at(source)
            except Failure as failure:
                self._failed(failure)

    def _failed(self, failure: Failure) -> None:
        """Waits for the next attempt, or goes on to the next source. Raises: RegistryError."""
        source = self._sources[0]
        self._failures += 1
        most = ATTEMPTS if failure.spoke else 3
        if self._failures < most and source.session.may_repeat(failure):
            try:
                return source.session.wait(self._failures, failure)
            except Failure as stopped:
                raise failed(self._what, [(source.name, stopped)]) from None
        self._tried.append((source.name, failure))
        source.gone(failure)
        if len(self._sources) == 1:
            raise failed(self._what, self._tried)
        del self._sources[0]
        self._failures = 0

    def _open_at(self, source: Source) -> Answer:
        headers = {"Range": f"bytes={self.position}-"} if self.position else {}
        expect = (200, 206) if self.position else (200,)
        answer = source.session.request(
            "GET", source.url(), scopes=source.scopes, headers=headers, expect=expect, attempts=1
        )
        try:
            if answer.status == 206:
                self._check_range(answer)
                self._check_length(answer, self.descriptor.size - self.position)
            else:
                self._check_length(answer, self.descriptor.size)
                self._skip(answer)
        except Failure:
            answer.close()
            raise
        return answer

    def _check_range(self, answer: Answer) -> None:
        text = answer.header("content-range")
        unit, _, rest = text.strip().partition(" ")
        span, _, total = rest.partition("/")
        first, _, last = span.partition("-")
        size = self.descriptor.size
        right = unit.lower() == "bytes" and first == str(self.position) and last == str(size - 1)
        if not right or total not in (str(size), "*"):
            raise Failure(f"asked for bytes {self.position} to {size - 1} it sends others")

    def _check_length(self, answer: Answer, expected: int) -> None:
        length = answer.content_length
        if length is not None and length != expected:
            raise Failure(f"it sends {length} bytes instead of the {expected} that the manifest says")

    def _skip(self, answer: Answer) -> None:
        """Over what has been read already: the server knows no ranges."""
        left = self.position
        while left:
            part = answer.read(min(left, _SKIP_BYTES))
            if not part:
                raise Failure(
                    f"the body ended after {self.position - left} of {self.descriptor.size} bytes", again=True
                )
            left -= len(part)
