"""Hostile layers by their names, links and kinds: all that would lead out of the root."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from hostile_layer import BLK, CHR, CONTRADICTS, DIR, FIFO, LEAVES, LNK, SYM, HostileLayer, bad, harmless, pax_path
from image_cases import END, member, raw_header, tar


def names(canary: str) -> Iterator[HostileLayer]:
    for number, name in enumerate(
        (
            "..",
            "../canary/secret",
            "/../canary/secret",
            "a/../../canary/secret",
            "./.././canary",
            "a/b/" + "../" * 30 + "etc/passwd",
        )
    ):
        yield bad(f"dotdot-{number}", tar(member("a/b/", DIR), member(name, data=b"evil")), LEAVES, name)
    dotdot_dir = tar(member("../canary/", DIR, mode=0o777))
    yield bad("dotdot-directory", dotdot_dir, LEAVES, "../canary/")
    yield bad("dotdot-in-a-pax-path", pax_path(b"a/../../canary/secret", data=b"evil"), LEAVES, "a/../../canary/secret")
    yield bad(
        "dotdot-in-a-long-name",
        tar(member("x/" * 60 + "../" * 61 + "canary", data=b"evil"), fmt=tarfile.GNU_FORMAT),
        LEAVES,
        "x/x/",
    )
    yield harmless("absolute", tar(member(f"{canary}/secret", data=b"evil"), member("//etc//passwd", data=b"evil")))
    yield harmless("dotdot-inside", tar(member("a/b/../../c", data=b"1"), member("./a/.//b/./d", data=b"2")))
    yield harmless(
        "duplicates",
        tar(*(member("same", data=b"%d" % n, mode=0o600 + n) for n in range(9)), member("same/", DIR), member("same")),
    )
    yield harmless(
        "case-twins", tar(member("File", data=b"1"), member("file", data=b"2"), member("FILE/", DIR), member("FILE/x"))
    )
    yield harmless(
        "strange-bytes",
        tar(member("a\nb\x1b[2J\\", data=b"1"), member("\udcff\udc80", data=b"2"), member(" ", data=b"3")),
    )


def links(canary: str) -> Iterator[HostileLayer]:
    targets = {
        "absolute": canary,
        "relative": "../canary",
        "far": "../" * 40 + canary.lstrip("/"),
        "proc-root": f"/proc/self/root{canary}",
        "proc-cwd": "/proc/self/cwd",
        "twice": "m",
    }
    for name, target in targets.items():
        link = (member("m", SYM, linkname=canary), member("l", SYM, linkname=target))
        yield bad(f"parent-{name}-file", tar(*link, member("l/secret", data=b"evil")), CONTRADICTS, "l/secret")
        yield bad(f"parent-{name}-directory", tar(*link, member("l/sub/", DIR, mode=0o777)), CONTRADICTS, "l/sub/")
        yield bad(f"parent-{name}-link", tar(*link, member("l/new", SYM, linkname="x")), CONTRADICTS, "l/new")
        yield bad(f"parent-{name}-implied", tar(*link, member("l/a/b/c", data=b"evil")), CONTRADICTS, "l/a/b/c")
        yield bad(f"parent-{name}-whiteout", tar(*link, member("l/.wh.secret")), CONTRADICTS, "l/.wh.secret")
        yield bad(
            f"parent-{name}-hard-link", tar(*link, member("f"), member("l/h", LNK, linkname="f")), CONTRADICTS, "l/h"
        )
    secret = f"{canary}/secret"
    yield harmless(
        "link-then-write-through", tar(member("f", SYM, linkname=secret), member("f", data=b"evil", mode=0o7777, uid=7))
    )
    yield harmless(
        "link-then-directory",
        tar(member("d", SYM, linkname=canary), member("d/", DIR, mode=0o777, uid=7), member("d/secret", data=b"evil")),
    )
    yield harmless("link-then-node", tar(member("f", SYM, linkname=secret), member("f", FIFO, mode=0o7777, uid=7)))
    yield harmless(
        "link-with-mode-and-owner", tar(member("f", SYM, linkname=secret, mode=0o7777, uid=7, gid=7, mtime=1))
    )
    yield harmless(
        "tree-of-links-removed",
        tar(member("d/a", SYM, linkname=canary), member("d/b", SYM, linkname=secret), member("d", data=b"gone")),
    )
    yield bad(
        "parent-is-a-file", tar(member("f", data=b"1"), member("f/x", data=b"2")), r"ENOTDIR\): " + CONTRADICTS, "f/x"
    )
    yield bad("loop-of-one", tar(member("l", SYM, linkname="l"), member("l/x")), r"ELOOP\): " + CONTRADICTS, "l/x")
    loop = [member(f"l{n}", SYM, linkname=f"l{(n + 1) % 100}") for n in range(100)]
    yield bad("loop-of-a-hundred", tar(*loop, member("l0/x")), r"ELOOP\): " + CONTRADICTS, "l0/x")
    chain = [member("end/", DIR), *(member(f"l{n}", SYM, linkname=f"l{n + 1}" if n < 60 else "end") for n in range(61))]
    yield bad("chain-of-sixty", tar(*chain, member("l0/x")), r"ELOOP\): " + CONTRADICTS, "l0/x")
    yield bad("link-to-nothing-said", raw_header(b"l", flag=b"2") + END, "a symbolic link without a target", "l")
    yield bad("link-of-5000-bytes", tar(member("l", SYM, linkname="t" * 5000)), "ENAMETOOLONG", "l")


def hard_links(canary: str) -> Iterator[HostileLayer]:
    secret, link = f"{canary}/secret", member("l", SYM, linkname=canary)
    yield bad("hard-link-out", tar(member("h", LNK, linkname="../canary/secret")), LEAVES, "h")
    yield bad("hard-link-out-inside-then-out", tar(member("h", LNK, linkname="a/../../canary/secret")), LEAVES, "h")
    yield bad("hard-link-absolute", tar(member("h", LNK, linkname=secret)), "which the layer does not have", "h")
    yield bad(
        "hard-link-through-a-link",
        tar(link, member("h", LNK, linkname="l/secret")),
        "which the layer does not have",
        "h",
    )
    yield bad(
        "hard-link-to-nothing",
        tar(member("h", LNK, linkname="later"), member("later")),
        "which the layer does not have",
        "h",
    )
    yield bad(
        "hard-link-to-a-directory", tar(member("d/", DIR), member("h", LNK, linkname="d")), "which is no file", "h"
    )
    yield bad("hard-link-to-the-root", tar(member("h", LNK, linkname="/")), "which is no file", "h")
    yield bad("hard-link-to-a-whiteout", tar(member(".wh.x"), member("h", LNK, linkname="x")), "which is no file", "h")
    yield bad(
        "hard-link-to-a-whiteouts-name",
        tar(member(".wh.x"), member("h", LNK, linkname=".wh.x")),
        "which is no file",
        "h",
    )
    yield bad("hard-link-without-a-target", raw_header(b"h", flag=b"1") + END, "an empty name", "h")
    yield bad(
        "hard-link-below-a-file",
        tar(member("f"), member("h", LNK, linkname="f/x")),
        "which the layer does not have",
        "h",
    )
    inner = tar(member("h/f", data=b"1"), member("h", LNK, linkname="h/f"))
    yield bad("hard-link-that-removes-its-target", inner, r"ENOENT\): " + CONTRADICTS, "h")
    through = [member("s", SYM, linkname=secret), member("h", LNK, linkname="s")]
    yield harmless("hard-link-to-a-link-then-write", tar(*through, member("h", data=b"evil", mode=0o7777)))
    yield harmless(
        "hard-link-to-a-link-with-a-mode", tar(through[0], member("h", LNK, linkname="s", mode=0o7777, uid=7))
    )
    yield harmless(
        "hard-link-to-itself",
        tar(member("f", data=b"1"), member("f", LNK, linkname="./f"), member("f", LNK, linkname="/f")),
    )


def whiteouts(canary: str) -> Iterator[HostileLayer]:
    impossible = {
        "nothing": ".wh.", "dot": ".wh..", "dotdot": ".wh...", "nothing-in-a-directory": "d/.wh.", "dotdot-in-a-directory": "d/.wh...",
        "a-whiteout": ".wh..wh.", "aufs-directory": ".wh..wh.plnk",
    }  # fmt: skip
    for name, path in impossible.items():
        yield bad(f"whiteout-of-{name}", tar(member("d/", DIR), member(path)), "a whiteout of no possible name", path)
    for name, path in {"dotdot-path": ".wh.../canary/secret", "root-path": ".wh./etc", "a-parent": "d/.wh.x/y"}.items():
        yield bad(f"whiteout-of-a-{name}", tar(member(path)), r"may not start with \.wh\.", path)
    yield bad("whiteout-outside", tar(member("../.wh.canary")), LEAVES, "../.wh.canary")
    for kind, text in ((DIR, "dir"), (SYM, "symlink"), (CHR, "char"), (FIFO, "fifo")):
        yield bad(
            f"whiteout-that-is-a-{text}",
            tar(member(".wh.x", kind, linkname=canary)),
            f"a whiteout that is a {text}",
            ".wh.x",
        )
    link = member("l", SYM, linkname=canary)
    yield bad("opaque-through-a-link", tar(link, member("l/.wh..wh..opq")), CONTRADICTS, "l/.wh..wh..opq")
    yield harmless("whiteout-of-a-link", tar(link, member(".wh.l")))


def root(canary: str) -> Iterator[HostileLayer]:
    for name in (".", "/", "./", "a/..", "//./"):
        for flag, kind in ((b"2", "symlink"), (b"1", "hardlink"), (b"6", "fifo"), (b"3", "char"), (b"0", "file")):
            data = raw_header(name.encode(), flag=flag, link=(157, canary.encode()[:99])) + END
            phrase = f"names the root of the layer and is a {kind}"
            yield bad(f"root-{name.replace('/', '-')}-{kind}", data, phrase, name)
    yield bad("no-name", raw_header(b"") + END, "an empty name", "''")
    yield bad("no-long-name", raw_header(b"n", flag=b"L") + raw_header(b"f") + END, "an empty name", "''")


def nodes(canary: str) -> Iterator[HostileLayer]:
    yield harmless(
        "devices",
        tar(
            member("disk", BLK, devmajor=8, devminor=0, mode=0o666),
            member("mem", CHR, devmajor=1, devminor=1, mode=0o666),
        ),
    )
    yield harmless(
        "device-over-a-link",
        tar(member("n", SYM, linkname=f"{canary}/secret"), member("n", CHR, devmajor=1, devminor=3)),
    )
    base256 = bytes((0x80,)) + (2**50).to_bytes(7, "big")
    for field_name, offset in (("major", 329), ("minor", 337)):
        data = raw_header(b"c", flag=b"3", at=(offset, base256)) + END
        yield bad(f"device-{field_name}-overflow", data, "a device number .* beyond 12 and 20 bits", "c")


def depth(canary: str) -> Iterator[HostileLayer]:
    deep = "/".join(["d"] * 100_000)
    yield bad("depth-100000", tar(member(deep)), "a path of 199999 bytes, the limit is 4095", "d/d/d/")
    yield bad(
        "depth-100000-gnu",
        tar(member(deep), fmt=tarfile.GNU_FORMAT),
        "a path of 199999 bytes, the limit is 4095",
        "d/d/d/",
    )
    yield bad(
        "depth-100000-link", tar(member("h", LNK, linkname=deep)), "a path of 199999 bytes, the limit is 4095", "'h'"
    )
    yield bad("depth-257", tar(member("d/" * 257, DIR)), "257 directories deep, the limit is 256", "d/d/d/")
    yield bad("name-of-256-bytes", tar(member("n" * 256)), "ENAMETOOLONG", "nnn")
    yield harmless("depth-256", tar(member("d/" * 255 + "f", data=b"1")))
    steps = [member("l0", SYM, linkname=".")]
    for n in range(1, 12):  # each link leads 200 directories further down: deeper than any path can say
        steps += [member(f"l{n - 1}/" + "d/" * 200, DIR), member(f"l{n}", SYM, linkname=f"l{n - 1}/" + "d/" * 200)]
    yield harmless("depth-by-links-then-removed", tar(*steps, member("d", data=b"gone")))
