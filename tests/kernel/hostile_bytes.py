"""Hostile layers by their bytes: sizes, numbers, extended headers and maps that lie, and ends that come too early."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from hostile_layer import DIR, LEAVES, HostileLayer, bad, harmless, header_of, padded, record
from image_cases import END, member, raw_header, tar


def sizes() -> Iterator[HostileLayer]:
    first = tar(member("first", data=b"1"))[:1024]
    too_small = first + raw_header(b"f", size=b"%011o\0" % 3) + padded(b"x" * 600) + END
    yield bad("size-too-small", too_small, "a header's checksum|checksum that is no", "after entry 'f'")
    too_big = first + raw_header(b"f", size=b"%011o\0" % 9000) + padded(b"x" * 600)
    yield bad("size-too-big", too_big, "ends 7976 bytes before the end of a file's data", "entry 'f'")
    swallows = first + raw_header(b"f", size=b"77777777777\0") + tar(member("hidden", data=b"1"))
    yield bad("size-that-swallows-the-rest", swallows, "before the end of a file's data", "entry 'f'")
    for flag in (b"1", b"2", b"5"):
        name = {b"1": b"first", b"2": b"l", b"5": b"d"}[flag]
        data = first + raw_header(name, flag=flag, size=b"%011o\0" % 512, link=(157, b"first")) + padded(b"evil") + END
        yield bad(f"data-of-a-type-{flag.decode()}", data, "checksum", f"after entry '{name.decode()}'")
    whole = first + tar(member("d/", DIR), member("d/f", data=b"x" * 600), fmt=tarfile.GNU_FORMAT)[:2560]
    for size in range(1, len(whole)):
        if size % 512 in (0, 1, 511) and size not in (1024, 1536, 3072):  # between two entries
            yield bad(f"truncated-at-{size}", whole[:size], "the archive (is truncated|ends)", None)
    yield bad("garbage-at-the-end", first + END + b"evil", "data follows the end of the archive", "after entry 'first'")
    yield bad(
        "second-archive-at-the-end",
        first + END + first + END,
        "data follows the end of the archive",
        "after entry 'first'",
    )
    yield bad("not-a-tar", b"#!/bin/sh\n" * 200, "checksum", None)
    flipped = bytearray(first + raw_header(b"f") + END)
    flipped[1024 + 100] ^= 1
    yield bad("flipped-bit", bytes(flipped), "a header's checksum is wrong", "after entry 'first'")
    yield bad("unknown-type", raw_header(b"volume", flag=b"V") + END, "an entry of unknown type 'V'", "entry 'volume'")
    yield bad(
        "too-many-bytes",
        tar(member("f", data=bytes(5000))),
        "more than 4096 bytes unpacked",
        "entry 'f'",
        max_bytes=4096,
    )
    yield bad(
        "too-many-entries",
        tar(*(member(f"f{n}") for n in range(11))),
        "more than 10 entries",
        "entry 'f10'",
        max_entries=10,
    )


def numbers() -> Iterator[HostileLayer]:
    fields = {"mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12)}
    for name, (offset, width) in fields.items():
        for kind, text in (("word", b"zz"), ("minus", b"-1"), ("nine", b"0009"), ("hex", b"0x1"), ("gap", b"1 1")):
            data = raw_header(b"f", at=(offset, text.ljust(width, b"\0"))) + END
            yield bad(f"{name}-{kind}", data, f"(a|an) {name} that is no octal number", "entry 'f'")
        if name != "mtime":  # before 1970 is a time
            data = raw_header(b"f", at=(offset, b"\xff" * width)) + END
            yield bad(f"{name}-negative", data, f"a negative {name}", "entry 'f'")
    for name in ("uid", "gid"):
        offset, _ = fields[name]
        for value in (2**32 - 1, 2**32, 2**33, 2**55):
            data = raw_header(b"f", at=(offset, bytes((0x80,)) + value.to_bytes(7, "big"))) + END
            yield bad(f"{name}-{value}", data, f"{name} {value} is above 4294967294", "entry 'f'")
            data = header_of(b"x", record(name.encode(), b"%d" % value)) + raw_header(b"f") + END
            yield bad(f"{name}-{value}-pax", data, f"{name} {value} is above 4294967294", "entry 'f'")
        for text in (b"-1", b"99999999999999999999", b"1e3", b"0x7", b" 1", b"9223372036854775808"):
            data = header_of(b"x", record(name.encode(), text)) + raw_header(b"f") + END
            yield bad(f"{name}-{text.decode()}-pax", data, f"a {name} that is no number", "entry 'f'")
    yield bad(
        "size-2^95", raw_header(b"f", size=b"\x80" + b"\xff" * 11) + END, r"a size that is above 2\^63-1", "entry 'f'"
    )
    yield bad(
        "size-2^62",
        raw_header(b"f", size=b"\x80" + (2**62).to_bytes(11, "big")) + END,
        "bytes before the end of a file's data",
        "entry 'f'",
    )
    for text in (b"1e9", b"nan", b"-", b".5", b"1.5x", b"9" * 19):
        data = header_of(b"x", record(b"mtime", text)) + raw_header(b"f") + END
        yield bad(f"mtime-{text.decode()[:4]}-pax", data, "an mtime that is no number", "entry 'f'")
    times = [
        header_of(b"x", record(b"mtime", text)) + raw_header(b"f%d" % n)
        for n, text in enumerate((b"-1.5", b"9" * 18, b"-" + b"9" * 18))
    ]
    yield harmless(
        "mtime-far-away",
        b"".join(times)
        + raw_header(b"early", at=(136, b"\xff" * 12))
        + raw_header(b"late", at=(136, b"\x80" + b"\xff" * 11))
        + END,
    )


def pax() -> Iterator[HostileLayer]:
    f = raw_header(b"f") + END
    yield bad("pax-huge", raw_header(b"p", flag=b"x", size=b"77777777777\0") + f, "over 1048576 bytes", None)
    yield bad(
        "long-name-huge", raw_header(b"p", flag=b"L", size=b"\x80" + b"\x7f" * 11) + f, "over 1048576 bytes", None
    )
    half = header_of(b"x", record(b"comment", b"c" * 600_000))
    yield bad("pax-huge-in-two", half + half + f, "over 1048576 bytes", None)
    yield bad("pax-of-40-headers", header_of(b"x", b"") * 40 + f, "more than 32 extended headers", None)
    grows = [header_of(b"g", record(b"SCHILY.xattr.user.%d" % n, b"v")) + raw_header(b"f%d" % n) for n in range(300)]
    yield bad(
        "pax-global-grows", b"".join(grows) + f, "global extended headers that set more than", "after entry 'f255'"
    )
    wrong = {
        "length-past-the-end": (b"99 path=a\n", "cut short"),
        "length-too-short": (b"5 path=a\n", "cut short"),
        "length-zero": (b"0 path=a\n", "cut short"),
        "length-negative": (b"-9 path=a\n", "without a length"),
        "length-huge": (b"99999999999999999999 path=a\n", "without a length"),
        "without-a-length": (b"path=a\n", "without a length"),
        "without-a-key": (b"6 =ab\n", "cut short"),
        "without-equals": (b"9 pathab\n", "cut short"),
        "without-a-newline": (b"9 path=ab", "cut short"),
        "NUL-in-the-key": (b"11 pa\0th=a\n", "cut short"),
        "NUL-in-the-path": (b"12 path=a\0b\n", "a NUL in the pax record b'path'"),
        "NUL-in-the-target": (b"16 linkpath=a\0b\n", "a NUL in the pax record b'linkpath'"),
    }
    for name, (body, phrase) in wrong.items():
        yield bad(f"pax-{name}", header_of(b"x", body) + f, phrase, None)
    yield bad("pax-and-nothing", header_of(b"x", record(b"path", b"a")), "ends after an extended header", None)
    yield bad(
        "pax-size-that-lies",
        header_of(b"x", record(b"size", b"5000")) + raw_header(b"f") + END,
        "before the end of a file's data",
        "entry 'f'",
    )
    steering = (
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "security.selinux",
        "security.ima",
        "",
    )
    xattrs = b"".join(record(b"SCHILY.xattr." + name.encode(), b"y") for name in steering)
    yield harmless(
        "xattrs-that-steer-the-host",
        header_of(b"x", xattrs) + raw_header(b"d", flag=b"5") + header_of(b"x", xattrs) + f,
    )
    yield bad(
        "xattr-with-a-long-name", header_of(b"x", record(b"SCHILY.xattr.user." + b"n" * 300, b"y")) + f, "ERANGE", "'f'"
    )


def sparse() -> Iterator[HostileLayer]:
    def old(runs: list[tuple[int, int]], real: bytes, stored: int = 0, more: bytes = b"\0") -> bytes:
        text = b"".join(b"%011o\0%011o\0" % run for run in runs)
        return raw_header(
            b"s", flag=b"S", size=b"%011o\0" % stored, runs=(386, text), more=(482, more), real=(483, real)
        ) + padded(b"x" * stored)

    yield bad("sparse-overlapping", old([(0, 5), (3, 5)], b"%011o\0" % 100, 10) + END, "overlaps", "entry 's'")
    yield bad("sparse-out-of-order", old([(50, 5), (0, 5)], b"%011o\0" % 100, 10) + END, "overlaps", "entry 's'")
    yield bad(
        "sparse-past-the-end", old([(98, 5)], b"%011o\0" % 100, 5) + END, "passes the end of the file", "entry 's'"
    )
    yield bad(
        "sparse-more-than-stored",
        old([(0, 50)], b"%011o\0" % 100, 5) + END,
        "a sparse map of 50 bytes for 5 bytes",
        "entry 's'",
    )
    yield bad("sparse-2^95", old([], b"\x80" + b"\xff" * 11) + END, r"a real size that is above 2\^63-1", "entry 's'")
    yield bad("sparse-negative", old([], b"\xff" * 12) + END, "a negative real size", "entry 's'")
    blocks = (b"\0" * 504 + b"\1" + bytes(7)) * 2100
    yield bad(
        "sparse-map-without-an-end",
        old([], b"%011o\0" % 1, more=b"\1") + blocks,
        "a sparse map over 1048576 bytes",
        "entry 's'",
    )
    yield harmless("sparse-of-a-terabyte", old([(0, 1)], b"\x80" + (2**40).to_bytes(11, "big"), 1) + END)

    def pax(*pairs: tuple[bytes, bytes], body: bytes = b"") -> bytes:
        records = b"".join(record(b"GNU.sparse." + key, value) for key, value in pairs)
        return header_of(b"x", records) + raw_header(b"s", size=b"%011o\0" % len(body)) + padded(body) + END

    yield bad(
        "sparse-0.1-odd", pax((b"size", b"9"), (b"map", b"0,1,2"), body=b"x"), "an odd number of fields", "entry 's'"
    )
    yield bad(
        "sparse-0.1-huge",
        pax((b"size", b"9"), (b"map", b"0,9223372036854775808")),
        "a sparse map that is no number",
        "entry 's'",
    )
    yield bad(
        "sparse-0.0-no-size",
        pax((b"offset", b"0"), (b"numbytes", b"1"), body=b"x"),
        "a GNU.sparse.size that is no number",
        "entry 's'",
    )
    one = ((b"major", b"1"), (b"minor", b"0"), (b"realsize", b"9"))
    yield bad("sparse-2.0", pax((b"major", b"2"), (b"minor", b"0"), body=b"x"), "an unknown version", "entry 's'")
    yield bad("sparse-1.0-without-a-map", pax(*one, body=b"1\n0\n1\n"), "a sparse map without an end", "entry 's'")
    yield bad(
        "sparse-1.0-huge-count",
        pax(*one, body=padded(b"9223372036854775807\n")),
        "a sparse map without an end",
        "entry 's'",
    )
    yield bad(
        "sparse-1.0-name-outside",
        pax(*one, (b"name", b"../canary/secret"), body=padded(b"1\n0\n1\n") + b"x"),
        LEAVES,
        "../canary/secret",
    )
