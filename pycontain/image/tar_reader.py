"""A strict tar parser over a byte stream, with bounded memory: ustar, pax, GNU long names and sparse files.

CPython's ``tarfile`` reads a header of any declared size into memory and takes a damaged header in mid-archive for the
end; a layer comes from a stranger, so neither will do. What is not understood is an error, never a guess: two readers
that see different files in one layer are how scanners are fooled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from ..errors import InvalidArgument

__all__ = ["BLOCK", "TarEntry", "TarReader"]

BLOCK = 512
_MAX_META_BYTES = (
    1 << 20
)  # pax records, long names and sparse maps of one entry together; Go's archive/tar has the same
_MAX_META_HEADERS = 32
_MAX_ID = 2**32 - 2  # -1 is "leave unchanged" to chown(2)
_HEADER_ONLY = frozenset(b"123456")
_META = frozenset(b"xXgLK")
_KNOWN = frozenset(b"01234567S")
_PAX_NUMBERS = ("size", "uid", "gid")


@dataclass(kw_only=True, slots=True)
class TarEntry:
    """One entry. ``size`` is the file's length in bytes, ``stored_bytes`` what the archive holds of it."""

    name: bytes
    kind: str  # "file", "dir", "symlink", "hardlink", "char", "block", "fifo"
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    stored_bytes: int = 0
    linkname: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)
    segments: tuple[tuple[int, int], ...] | None = None  # sparse: (offset, length) of each stored run


_KINDS = {0x30: "file", 0x37: "file", 0x53: "file", 0x31: "hardlink", 0x32: "symlink", 0x33: "char", 0x34: "block",
          0x35: "dir", 0x36: "fifo"}  # fmt: skip


class TarReader:
    """Iterate with :meth:`next_entry`; the data of the entry is read by :meth:`read_data` or skipped.

    ``max_bytes`` bounds everything read from ``stream``, data of skipped entries and padding included.
    """

    def __init__(self, stream: BinaryIO, *, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._data_left = 0
        self._padding = 0
        self._global: dict[bytes, bytes] = {}
        self.bytes_read = 0

    def next_entry(self) -> TarEntry | None:
        """The next entry, or None at the end of the archive (everything after it must be zeros, and is consumed).

        Raises: InvalidArgument: malformed or truncated.
        """
        self._skip_data()
        pax: dict[bytes, bytes] = {}
        sparse_pairs: list[bytes] = []
        long_name = long_link = None
        meta_bytes = 0
        for extended in range(_MAX_META_HEADERS):
            block = self._read_header()
            if block is None:
                if extended:
                    raise _malformed("the archive ends after an extended header")
                return None
            kind = block[156]
            if kind not in _META:
                return self._entry(block, pax, sparse_pairs, long_name, long_link)
            size = _number(block[124:136], "size")
            meta_bytes += size
            if meta_bytes > _MAX_META_BYTES:
                raise _malformed(f"extended headers of one entry are over {_MAX_META_BYTES} bytes")
            data = self._read_exactly(size + -size % BLOCK)[:size]
            if kind == 0x4C:
                long_name = data.split(b"\0", 1)[0]
            elif kind == 0x4B:
                long_link = data.split(b"\0", 1)[0]
            elif kind == 0x67:
                _parse_pax(data, self._global, [])
            else:
                sparse_pairs = []
                _parse_pax(data, pax, sparse_pairs)
        raise _malformed(f"more than {_MAX_META_HEADERS} extended headers for one entry")

    def read_data(self, limit: int) -> bytes:
        """Up to ``limit`` bytes of the current entry's stored data; empty at its end."""
        want = min(limit, self._data_left)
        if want == 0:
            return b""
        chunk = self._read_some(want)
        if not chunk:
            raise _malformed(f"the archive ends {self._data_left} bytes before the end of a file's data")
        self._data_left -= len(chunk)
        return chunk

    def _skip_data(self) -> None:
        while self._data_left:
            self.read_data(1 << 18)
        if self._padding:
            self._read_exactly(self._padding)
            self._padding = 0

    def _read_some(self, want: int) -> bytes:
        chunk = self._stream.read(want)
        self.bytes_read += len(chunk)
        if self.bytes_read > self._max_bytes:
            raise InvalidArgument(f"cannot unpack the layer: it has more than {self._max_bytes} bytes unpacked")
        return chunk

    def _read_exactly(self, want: int) -> bytes:
        data = self._read_some(want)
        while len(data) < want:
            chunk = self._read_some(want - len(data))
            if not chunk:
                raise _malformed(f"the archive is truncated: {want} bytes expected, {len(data)} left")
            data += chunk
        return data

    def _read_header(self) -> bytes | None:
        first = self._read_some(BLOCK)
        if not first:
            return None  # no end marker: as other readers do, an end between two entries is an end
        block = first if len(first) == BLOCK else first + self._read_exactly(BLOCK - len(first))
        if block.count(0) == BLOCK:
            self._read_trailer()
            return None
        stored = _number(block[148:156], "checksum")
        plain = sum(block) - sum(block[148:156]) + 8 * 32
        if stored != plain:  # some old writers summed signed bytes
            signed = plain - 256 * sum(1 for i, byte in enumerate(block) if byte > 127 and not 148 <= i < 156)
            if stored != signed:
                raise _malformed("a header's checksum is wrong")
        return block

    def _read_trailer(self) -> None:
        while chunk := self._read_some(1 << 16):
            if chunk.count(0) != len(chunk):
                raise _malformed("data follows the end of the archive")

    def _entry(
        self,
        block: bytes,
        pax: dict[bytes, bytes],
        pairs: list[bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> TarEntry:
        records = {**self._global, **pax} if self._global else pax
        flag = block[156] or 0x30
        if flag not in _KNOWN:
            raise _malformed(f"an entry of unknown type {chr(flag)!r}")
        numbers = {key: _pax_number(records[key.encode()], key) for key in _PAX_NUMBERS if records.get(key.encode())}
        name = records.get(b"path") or (_header_name(block) if long_name is None else long_name)
        stored = numbers["size"] if "size" in numbers else _number(block[124:136], "size")
        entry = TarEntry(
            name=name,
            kind="dir" if block[156] == 0 and name.endswith(b"/") else _KINDS[flag],
            mode=_number(block[100:108], "mode") & 0o7777,
            uid=_checked_id(numbers["uid"] if "uid" in numbers else _number(block[108:116], "uid"), "uid"),
            gid=_checked_id(numbers["gid"] if "gid" in numbers else _number(block[116:124], "gid"), "gid"),
            mtime_ns=_mtime_ns(block, records.get(b"mtime")),
            linkname=records.get(b"linkpath") or (_text(block[157:257]) if long_link is None else long_link),
        )
        if flag in _HEADER_ONLY or entry.kind == "dir":
            stored = 0  # a size there is a remark, no data follows (as in Go's archive/tar)
        if flag in b"34":
            entry.major, entry.minor = _number(block[329:337], "major"), _number(block[337:345], "minor")
        if records:
            entry.xattrs = _xattrs(records)
        self._data_left = entry.size = entry.stored_bytes = stored
        self._padding = -stored % BLOCK
        self._apply_sparse(entry, block, flag, records, pairs)
        return entry

    def _apply_sparse(
        self, entry: TarEntry, block: bytes, flag: int, records: dict[bytes, bytes], pairs: list[bytes]
    ) -> None:
        numbers: list[int] | None = None
        real: int | None = None
        if flag == 0x53:
            numbers, real = self._old_gnu_map(block)
        elif entry.kind == "file" and records.get(b"GNU.sparse.major"):
            if (records[b"GNU.sparse.major"], records.get(b"GNU.sparse.minor")) != (b"1", b"0"):
                raise _malformed("a sparse file of an unknown version")
            real = _pax_number(records.get(b"GNU.sparse.realsize", b""), "GNU.sparse.realsize")
            numbers = self._pax_1_0_map()
            entry.stored_bytes = self._data_left
        elif entry.kind == "file" and (records.get(b"GNU.sparse.map") or pairs):
            real = _pax_number(records.get(b"GNU.sparse.size", b""), "GNU.sparse.size")
            numbers = [_pax_number(each, "sparse map") for each in pairs or records[b"GNU.sparse.map"].split(b",")]
        if numbers is None or real is None:
            return
        entry.name = records.get(b"GNU.sparse.name") or entry.name
        entry.segments, entry.size = _checked_segments(numbers, real, entry.stored_bytes), real

    def _old_gnu_map(self, block: bytes) -> tuple[list[int], int]:
        real = _number(block[483:495], "real size")
        numbers = _sparse_fields(block[386:482])
        more, total = block[482], 0
        while more:
            total += BLOCK
            if total > _MAX_META_BYTES:
                raise _malformed(f"a sparse map over {_MAX_META_BYTES} bytes")
            extension = self._read_exactly(BLOCK)
            numbers += _sparse_fields(extension[:504])
            more = extension[504]
        return numbers, real

    def _pax_1_0_map(self) -> list[int]:
        """The map at the start of the data: a count, then pairs, one decimal a line, padded to a block."""
        text = b""
        lines: list[bytes] = []
        wanted = 1
        while len(lines) < wanted:
            if self._data_left < BLOCK or len(text) > _MAX_META_BYTES:
                raise _malformed("a sparse map without an end")
            text += self._read_exactly(BLOCK)
            self._data_left -= BLOCK
            if text.count(b"\n") >= wanted:
                lines = text.split(b"\n")[:-1]
                wanted = 1 + 2 * _pax_number(lines[0], "sparse map")
        return [_pax_number(each, "sparse map") for each in lines[1:wanted]]


def _checked_segments(numbers: list[int], real: int, stored: int) -> tuple[tuple[int, int], ...]:
    if len(numbers) % 2:
        raise _malformed("a sparse map with an odd number of fields")
    end = total = 0
    segments = []
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        if offset < end or offset + length > real:
            raise _malformed("a sparse map that overlaps or passes the end of the file")
        end = offset + length
        total += length
        if length:
            segments.append((offset, length))
    if total != stored:
        raise _malformed(f"a sparse map of {total} bytes for {stored} bytes of data")
    return tuple(segments)


def _sparse_fields(area: bytes) -> list[int]:
    numbers: list[int] = []
    for at in range(0, len(area) - 23, 24):
        if not area[at]:
            break
        numbers += (_number(area[at : at + 12], "sparse map"), _number(area[at + 12 : at + 24], "sparse map"))
    return numbers


def _header_name(block: bytes) -> bytes:
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's own format ("ustar  ") keeps other things there
        return _text(block[345:500]) + b"/" + name
    return name


def _text(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def _number(raw: bytes, what: str) -> int:
    """An octal or base-256 field; negative values are refused."""
    if raw[0] & 0x80:
        if raw[0] & 0x40:
            raise _malformed(f"a negative {what}")
        return int.from_bytes(bytes((raw[0] & 0x7F,)) + raw[1:], "big")
    text = raw.strip(b" \0").split(b"\0", 1)[0].rstrip(b" ")
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise _malformed(f"a {what} that is no octal number: {raw[:24]!r}")
    return int(text, 8)


def _pax_number(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 19 or int(text) >= 2**63:
        raise _malformed(f"a {what} that is no number from 0 to 2^63-1: {text[:24]!r}")
    return int(text)


def _checked_id(value: int, what: str) -> int:
    if value > _MAX_ID:  # truncated to 32 bits it could become 0: root (CVE-2024-40635)
        raise InvalidArgument(f"cannot unpack the layer: {what} {value} of an entry is above {_MAX_ID}")
    return value


def _mtime_ns(block: bytes, text: bytes | None) -> int:
    if text:
        whole, _, fraction = text.partition(b".")
        digits = whole.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > 18 or (fraction and not fraction.isdigit()):
            raise _malformed(f"an mtime that is no number: {text[:24]!r}")
        nanos = int(digits) * 10**9 + int(fraction[:9].ljust(9, b"0") or 0)
        nanos = -nanos if whole.startswith(b"-") else nanos
    elif block[136] & 0xC0 == 0xC0:  # before 1970, base-256
        nanos = int.from_bytes(block[136:148], "big", signed=True) * 10**9
    else:
        nanos = _number(block[136:148], "mtime") * 10**9
    # utimensat(2) takes 64-bit seconds and file systems clamp what they cannot hold; Python wants 64-bit arithmetic.
    return max(-(2**62), min(nanos, 2**63 - 1))


def _parse_pax(data: bytes, into: dict[bytes, bytes], sparse_pairs: list[bytes]) -> None:
    """``"%d %s=%s\\n"`` records; an empty value deletes what a global header set (kept as empty)."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        if space < 0 or not data[at:space].isdigit():
            raise _malformed("a pax record without a length")
        end = at + int(data[at:space])
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals or not key or b"\0" in key:
            raise _malformed("a pax record that is cut short")
        at = end
        if b"\0" in value and not key.startswith((b"SCHILY.xattr.", b"LIBARCHIVE.xattr.")):
            raise _malformed(f"a NUL in the pax record {key[:40]!r}")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse_pairs.append(value)  # format 0.0 repeats the two keys, in order
        else:
            into[key] = value


def _xattrs(records: dict[bytes, bytes]) -> dict[str, bytes]:
    prefix = b"SCHILY.xattr."
    found = {}
    for key, value in records.items():
        if key.startswith(prefix):
            found[key[len(prefix) :].decode("utf-8", "surrogateescape")] = value
    return found


def _malformed(why: str) -> InvalidArgument:
    return InvalidArgument(f"cannot unpack the layer: malformed tar: {why}")
