"""Every hostile layer of the corpus, compressed, through the whole way: nothing beside the root changes, and the error is a
sentence that names layer and entry."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_layers import HostileLayer, hostile_layers
from image_cases import member, tar

from pycontain.errors import InvalidArgument, PycontainError
from pycontain.image.layers import HashingReader, unpack_stream
from pycontain.image.remove_tree import remove_entry
from pycontain.image.unpack import LayerLimits, LayerStats

pytestmark = pytest.mark.kernel

LAYER = "the layer sha256:5ee6"
NAMES = [layer.name for layer in hostile_layers("/")]


def everything(root: Path) -> dict[str, tuple[object, ...]]:
    """Names, contents, modes, owners, links, times: the change time, which nobody can set, stands for what is forgotten."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (root, *sorted(root.rglob("*"))):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        times = (info.st_mtime_ns, info.st_ctime_ns)
        found[str(path)] = (info.st_mode, info.st_uid, info.st_gid, info.st_nlink, info.st_size, times, content)
    return found


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory in memory with a canary; the layer is unpacked beside it."""
    base = Path(tempfile.mkdtemp(prefix="pct-hostile-", dir="/dev/shm"))
    canary = base / "canary"
    (canary / "sub").mkdir(parents=True)
    (canary / "secret").write_text("untouched")
    (canary / "secret").chmod(0o640)
    (canary / "link").symlink_to("secret")
    os.link(canary / "secret", canary / "sub/hard")
    os.mkfifo(canary / "fifo")
    os.chown(canary / "sub", 1000, 1000)
    os.utime(canary / "secret", ns=(1, 2))
    yield base
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def corpus(place: Path) -> dict[str, HostileLayer]:
    return {layer.name: layer for layer in hostile_layers(str(place / "canary"))}


@pytest.fixture
def host(place: Path) -> Iterator[Path]:
    """The place, whose canary must be as it was."""
    canary = place / "canary"
    before = everything(canary)
    yield place
    after = everything(canary), sorted(os.listdir(place))
    remove_entry_at(place / "work")
    assert after == (before, ["canary", "work"])


def remove_entry_at(path: Path) -> None:
    """Deeper than any path can say."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        remove_entry(fd, path.name)
    finally:
        os.close(fd)


def listing(root: Path) -> list[str]:
    return sorted(stat.filemode(path.lstat().st_mode)[0] + path.name for path in root.iterdir())


def unpack(layer: HostileLayer, host: Path) -> LayerStats:
    work = host / "work"
    work.mkdir()
    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        raw = HashingReader(io.BytesIO(gzip.compress(layer.data, 1)), "sha256")
        return unpack_stream(raw, fd, "sha256", limits=LayerLimits(**layer.limits), layer=LAYER)[1]
    finally:
        os.close(fd)


@pytest.mark.parametrize("name", NAMES)
def test_hostile_layer(name: str, host: Path, corpus: dict[str, HostileLayer]) -> None:
    layer = corpus[name]
    if layer.phrase is None:
        unpack(layer, host)
        assert listing(host / "work/layer") == sorted(layer.holds)
        return
    with pytest.raises(PycontainError, match=layer.phrase) as caught:
        unpack(layer, host)
    message = str(caught.value)
    assert type(caught.value) is InvalidArgument
    assert message.startswith(f"cannot unpack {LAYER}: ") and "\n" not in message and len(message) < 500
    assert layer.entry is None or re.search(re.escape(layer.entry), message), message


def test_no_two_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES) > 200


# Bombs of bytes: in a process of its own, whose memory is bounded whatever comes

CHILD = """
import io, os, resource, sys, zlib
sys.path[:0] = {path!r}
from pycontain.errors import PycontainError
from pycontain.image.layers import HashingReader, unpack_stream
from pycontain.image.remove_tree import remove_entry
from pycontain.image.unpack import LayerLimits

class Bomb(io.RawIOBase):
    '''A gzip stream: the first bytes, then zeros, made as they are read.'''
    def __init__(self, first, size):
        self.left, self.first, self.packer = size, first, zlib.compressobj(9, zlib.DEFLATED, 31)
    def read(self, size=-1):
        if self.first:
            data, self.first = self.packer.compress(self.first) + self.packer.flush(zlib.Z_SYNC_FLUSH), b""
            return data
        data = b""
        while not data and self.left > 0:
            self.left -= 1 << 20
            data = self.packer.compress(bytes(1 << 20))
        return data or self.packer.flush()

fd = os.open({work!r}, os.O_RDONLY)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(unpack_stream(HashingReader(Bomb({first!r}, {size}), "sha256"), fd, "sha256", limits=LayerLimits(max_bytes={size} // 2)))
except PycontainError as error:
    print(type(error).__name__, error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def header(name: str, size: int = 0) -> bytes:
    info, _ = member(name)
    info.size = size
    return info.tobuf()


@pytest.mark.parametrize(
    ("first", "entry"),
    [(header("f", 1 << 40), "(entry 'f')"), (tar(member("f")), "(after entry 'f')"), (header(".wh.x", 1 << 40), "(entry '.wh.x')")],
    ids=["file", "trailer", "whiteout"],
)  # fmt: skip
def test_a_gzip_bomb_fills_neither_memory_nor_disk(first: bytes, entry: str, host: Path) -> None:
    (host / "work").mkdir()
    code = CHILD.format(path=sys.path, work=str(host / "work"), first=first, size=512 << 20)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    message, more_kib = done.stdout.splitlines()
    assert message == f"InvalidArgument cannot unpack the layer: it has more than {256 << 20} bytes unpacked {entry}"
    assert int(more_kib) < 32 << 10
