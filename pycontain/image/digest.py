"""Digests: ``sha256:<hex>`` and ``sha512:<hex>``. Spec: image-spec descriptor.md, "Digests"."""

from __future__ import annotations

from ..errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["ALGORITHMS", "Digest", "new_hasher", "parse_digest"]

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
ALGORITHMS = tuple(_HEX_LENGTH)
_HEX = frozenset("0123456789abcdef")


class Digest:
    """``encoded`` is lower-case hexadecimal of exactly the algorithm's length, so it is safe as a file name."""

    __slots__ = ("algorithm", "encoded")

    def __init__(self, algorithm: str, encoded: str) -> None:
        self.algorithm = algorithm
        self.encoded = encoded

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.algorithm, self.encoded) == (other.algorithm, other.encoded)

    def __hash__(self) -> int:
        return hash(self.encoded)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"

    def __repr__(self) -> str:
        return f"Digest({str(self)!r})"


def parse_digest(text: str) -> Digest:
    """Raises: InvalidArgument: malformed; Unsupported: another algorithm."""
    algorithm, colon, encoded = text.partition(":")
    length = _HEX_LENGTH.get(algorithm)
    if not colon or not encoded:
        raise InvalidArgument(f"cannot read {text[:160]!r} as a digest: the form is sha256:<64 hexadecimal digits>")
    if length is None:
        raise Unsupported(f"cannot verify {text[:160]!r}: the algorithms known are {', '.join(_HEX_LENGTH)}")
    if len(encoded) != length or not _HEX.issuperset(encoded):
        raise InvalidArgument(f"cannot read {text[:160]!r} as a digest: {length} lower-case hexadecimal digits needed")
    return Digest(algorithm, encoded)


def new_hasher(algorithm: str) -> _Hash:
    """A hashlib object for an algorithm of :func:`parse_digest`."""
    import hashlib

    return hashlib.new(algorithm)
