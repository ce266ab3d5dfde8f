"""Unpacking onto file systems that are full, read-only, or without attributes: the host's fault, in a sentence."""

from __future__ import annotations

import errno
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from image_cases import member, tar

from pycontain import _native
from pycontain.errors import SetupFailed
from pycontain.image.unpack import LayerStats, LayerWriter

pytestmark = pytest.mark.kernel

MOUNT_ATTR_RDONLY = 1


@contextmanager
def tmpfs(options: str, attributes: int = 0) -> Iterator[int]:
    """A file system of the test's own, mounted nowhere."""
    fd = _native.mount_detached("tmpfs", options, attributes)
    root = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    try:
        yield root
    finally:
        os.close(root)
        os.close(fd)


def unpack(root: int, data: bytes) -> LayerStats:
    with LayerWriter(root) as writer:
        for at in range(0, len(data), 10000):
            writer.feed(data[at : at + 10000])
        return writer.finish()


@pytest.mark.parametrize(
    ("options", "entry"),
    [
        ("size=256k", member("big", data=bytes(1 << 19))),
        ("nr_inodes=20", member("s", tarfile.SYMTYPE, linkname="x")),
        ("nr_inodes=20", member("d/", tarfile.DIRTYPE)),
    ],
    ids=["bytes", "links", "directories"],
)
def test_a_full_disk(options: str, entry: tuple[tarfile.TarInfo, bytes]) -> None:
    info, data = entry
    several = [member(f"{n}{info.name}", info.type, data, linkname=info.linkname) for n in range(30)]
    with tmpfs(options) as root, pytest.raises(SetupFailed) as caught:
        unpack(root, tar(*several))
    message = str(caught.value)
    assert re.match(
        rf"cannot unpack the layer: \w+ '\d+{info.name}': No space left on device \(ENOSPC\): free space on", message
    )
    assert (caught.value.step, caught.value.errno) == ("unpack", errno.ENOSPC)


def test_a_read_only_disk() -> None:
    with tmpfs("", MOUNT_ATTR_RDONLY) as root:
        for entry in (
            member("d/", tarfile.DIRTYPE),
            member("f", data=b"x"),
            member(".wh.x"),
            member("s", tarfile.SYMTYPE, linkname="x"),
        ):
            with pytest.raises(SetupFailed, match=r"Read-only file system \(EROFS\)") as caught:
                unpack(root, tar(entry))
            assert repr(entry[0].name.rstrip("/"))[1:-1] in str(caught.value)


def test_a_hole_of_a_terabyte_needs_no_disk() -> None:
    block = bytearray(tarfile.TarInfo("holes").tobuf(tarfile.GNU_FORMAT))
    block[156:157], block[483:495] = b"S", b"\x80" + (1 << 40).to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with tmpfs("size=256k") as root:
        assert unpack(root, bytes(block) + bytes(1024)).file_bytes == 0
        assert os.stat("holes", dir_fd=root).st_size == 1 << 40
