"""The words of a mount's ``options`` and what the kernel calls them. Pure.

Spec: opencontainers/runtime-spec config.md, "Linux mount options"; mount(2), mount_setattr(2).
"""

from __future__ import annotations

from .errors import InvalidArgument
from .record import record

__all__ = ["ATTRIBUTE_WORDS", "MOUNT_WORDS", "PROPAGATION", "MountOptions", "parse_options"]

_RELATIME, _STRICTATIME = 1 << 21, 1 << 24
# mount(2) flags: (set, clear). Of the kinds of access time the last one named counts, as mount_setattr has it: the kernel
# would let the strict one win.
_MS = {
    "ro": (1, 0), "rw": (0, 1), "nosuid": (2, 0), "suid": (0, 2), "nodev": (4, 0), "dev": (0, 4), "noexec": (8, 0),
    "exec": (0, 8), "sync": (16, 0), "async": (0, 16), "mand": (64, 0), "nomand": (0, 64), "dirsync": (128, 0),
    "nosymfollow": (256, 0), "symfollow": (0, 256), "noatime": (1024, _RELATIME | _STRICTATIME), "atime": (0, 1024),
    "nodiratime": (2048, 0),
    "diratime": (0, 2048), "silent": (1 << 15, 0), "loud": (0, 1 << 15), "relatime": (_RELATIME, 1024 | _STRICTATIME),
    "norelatime": (0, 1 << 21), "iversion": (1 << 23, 0), "noiversion": (0, 1 << 23), "strictatime": (_STRICTATIME, 1024 | _RELATIME),
    "nostrictatime": (0, 1 << 24), "lazytime": (1 << 25, 0), "nolazytime": (0, 1 << 25), "defaults": (0, 0),
    "remount": (0, 0),
}  # fmt: skip

# mount_setattr(2) attributes: (set, clear). The kind of access time is one field of several bits.
_ATIME = 0x70
_ATTR = {
    "ro": (0x1, 0), "rw": (0, 0x1), "nosuid": (0x2, 0), "suid": (0, 0x2), "nodev": (0x4, 0), "dev": (0, 0x4),
    "noexec": (0x8, 0), "exec": (0, 0x8), "noatime": (0x10, _ATIME), "atime": (0, _ATIME), "relatime": (0, _ATIME),
    "norelatime": (0x20, _ATIME), "strictatime": (0x20, _ATIME), "nostrictatime": (0, _ATIME),
    "nodiratime": (0x80, 0), "diratime": (0, 0x80), "nosymfollow": (0x200000, 0), "symfollow": (0, 0x200000),
}  # fmt: skip

_MS_REC = 1 << 14
_KINDS = {"unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20}
# word -> (propagation type of mount(2), recursive)
PROPAGATION = {
    **{word: (kind, False) for word, kind in _KINDS.items()},
    **{f"r{word}": (kind, True) for word, kind in _KINDS.items()},
}

MOUNT_WORDS = frozenset(_MS)
ATTRIBUTE_WORDS = frozenset(w for w, (bits, _) in _ATTR.items() if bits and w != "norelatime")
# words of a bind mount that say nothing about its attributes
_BIND_WORDS = frozenset(("bind", "rbind", "remount", "z", "Z", "U", "defaults", "noidmap"))


@record
class MountOptions:
    """``flags`` and ``data`` are mount(2)'s; ``set``/``clear`` mount_setattr's for this mount, ``tree_set``/``tree_clear`` for
    it and all below; ``propagation``: (type, recursive) each, in order; ``idmap``: "", "idmap" or "ridmap"."""

    flags: int = 0
    data: str = ""
    set: int = 0
    clear: int = 0
    tree_set: int = 0
    tree_clear: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()
    recursive: bool = False
    copy_up: bool = False
    idmap: str = ""


def _merge(bits: tuple[int, int], change: tuple[int, int]) -> tuple[int, int]:
    """(set, clear) after one more word: the later word counts."""
    on, off = change
    return (bits[0] & ~off) | on, (bits[1] & ~on) | off


def parse_options(options: tuple[str, ...], *, bind: bool) -> MountOptions:
    """A mount's options. Words that the kernel's mount flags do not know are the file system's own (``data``).

    Raises: InvalidArgument: a bind mount has no file system that could know an unknown word.
    """
    flags, data, own, tree = 0, [], (0, 0), (0, 0)
    propagation: list[tuple[int, bool]] = []
    recursive, copy_up, idmap = bind, False, ""
    for word in options:
        if word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word[:1] == "r" and word[1:] in _ATTR and word not in _ATTR:
            tree = _merge(tree, _ATTR[word[1:]])
        elif word == "bind":
            recursive = False
        elif word == "rbind":
            recursive = True
        elif word in ("idmap", "ridmap"):
            idmap = word
        elif word == "tmpcopyup" and not bind:
            copy_up = True
        elif word in _MS:
            flags = (flags | _MS[word][0]) & ~_MS[word][1]
            own = _merge(own, _ATTR.get(word, (0, 0)))
        elif not bind:
            data.append(word)
        elif word not in _BIND_WORDS:
            known = ", ".join(sorted(ATTRIBUTE_WORDS))
            raise InvalidArgument(
                f"unknown option {word!r} of a bind mount: known are {known}, rw, bind, rbind, rslave, rprivate"
            )
    return MountOptions(
        flags=flags, data=",".join(data), set=own[0], clear=own[1], tree_set=tree[0], tree_clear=tree[1],
        propagation=tuple(propagation), recursive=recursive, copy_up=copy_up, idmap=idmap,
    )  # fmt: skip
