"""Trees that mean harm, or are only very big: a canary outside never gets into a tar, and nothing is opened that acts."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import select
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import attacker
from packing import drained, layer_bytes, merged_bytes, opened, shm, tree_of, unpacked

from pycontain import _native
from pycontain.errors import Conflict, InvalidArgument, SetupFailed
from pycontain.image.diff import changes
from pycontain.image.pack import pack_layer
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

_libc = ctypes.CDLL(None, use_errno=True)
_RENAME_EXCHANGE, _IN_OPEN, _IN_NONBLOCK = 2, 0x20, os.O_NONBLOCK
CANARY = b"the canary's own words"


@pytest.fixture
def place() -> Iterator[Path]:
    with shm() as made:
        yield made


@pytest.fixture
def canary(place: Path) -> Path:
    (place / "outside").mkdir()
    (place / "outside/file").write_bytes(CANARY * 100)
    return place / "outside"


# Names that change hands


class Swapper(threading.Thread):
    """Exchanges two names of a directory until it is told to stop."""

    def __init__(self, directory: Path, a: str, b: str) -> None:
        super().__init__()
        self.paths = [os.fsencode(directory / name) for name in (a, b)]
        self.swaps = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            self.swaps += _libc.renameat2(-100, self.paths[0], -100, self.paths[1], _RENAME_EXCHANGE) == 0


@contextlib.contextmanager
def swapping(directory: Path, a: str, b: str) -> Iterator[Swapper]:
    thread = Swapper(directory, a, b)
    thread.start()
    try:
        yield thread
    finally:
        thread.done.set()
        thread.join()


def pack_while(thread: Swapper, root: Path, lower: Path | None = None) -> list[bytes]:
    """Packs until both have run often: 200 tars at least."""
    seen: list[bytes] = []
    while len(seen) < 200 or (thread.swaps < 1000 and len(seen) < 20000):
        data = layer_bytes(root) if lower is None else merged_bytes([root, lower])
        assert CANARY not in data
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:  # sound, whatever happened
            assert archive.getmembers()
        seen.append(data)
    assert thread.swaps >= 1000
    return seen


@pytest.mark.race
@pytest.mark.parametrize("target", ["file", "directory"])
def test_links_out_of_the_tree_are_not_followed(target: str, place: Path, canary: Path) -> None:
    root = place / "t"
    (root / "d").mkdir(parents=True)
    (root / "d/file").write_text("inside")
    (root / "f").write_text("inside")
    os.symlink(canary if target == "directory" else canary / "file", root / "evil")
    with swapping(root, "d" if target == "directory" else "f", "evil") as thread:
        pack_while(thread, root)


@pytest.mark.race
def test_directories_of_two_roots_are_not_mixed(place: Path, canary: Path) -> None:
    upper, lower = place / "u", place / "l"
    (upper / "d/deep").mkdir(parents=True)
    (lower / "d/deep").mkdir(parents=True)
    (lower / "d/deep/file").write_text("below")
    os.symlink(canary, lower / "d/evil")
    with swapping(lower / "d", "deep", "evil") as thread:
        pack_while(thread, upper, lower)


@contextlib.contextmanager
def opens_of(*paths: Path) -> Iterator[list[int]]:
    """How often each of these was opened, other than by O_PATH: the last value of a list."""
    fd = _libc.inotify_init1(_IN_NONBLOCK)
    assert fd >= 0
    count = [0]
    try:
        for path in paths:
            assert _libc.inotify_add_watch(fd, os.fsencode(path), _IN_OPEN) >= 0
        yield count
        while select.select([fd], [], [], 0)[0]:
            count[0] += len(os.read(fd, 1 << 16)) // 16
    finally:
        os.close(fd)


@pytest.mark.race
def test_fifos_and_devices_are_never_opened(place: Path) -> None:
    root = place / "t"
    root.mkdir()
    (root / "f").write_text("inside")
    os.mkfifo(root / "fifo")
    os.mknod(root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    with opens_of(root / "fifo", root / "zero") as control:
        os.close(os.open(root / "fifo", os.O_RDONLY | os.O_NONBLOCK))
        os.close(os.open(root / "zero", os.O_RDONLY))
    assert control == [2]
    with opens_of(root / "fifo", root / "zero") as count:
        for other in ("fifo", "zero"):
            with swapping(root, "f", other) as thread:
                pack_while(thread, root)
    assert count == [0]


_ATTACK = """
import random, threading
os.makedirs('/tmp/x/d/e'); os.chdir('/tmp/x')
open('d/e/file', 'w').write('inside'); open('f', 'w').write('inside')
os.symlink(sys.argv[1], 'l'); os.symlink(sys.argv[1] + '/file', 'm'); os.mkfifo('p'); os.mkdir('g')
count = 0
def attack():
    global count
    while True:
        a, b = random.sample(['d', 'd/e', 'f', 'l', 'm', 'p', 'g'], 2)
        ok = libc.syscall(316, -100, a.encode(), -100, b.encode(), 2) == 0
        count += ok
        if count % 64 == 0:
            attempt(os.truncate, 'f', random.randrange(3000))
threading.Thread(target=attack, daemon=True).start()
for line in sys.stdin: say(count)
"""


@pytest.mark.race
def test_container_that_attacks_its_own_upper_directory(roots: Roots, place: Path, canary: Path) -> None:
    source = _ATTACK.replace("sys.argv[1]", repr(str(canary)))
    with attacker(source) as ask:
        ask("ready")
        (upper,) = Path(roots.data_root).glob("ephemeral/*/*/upper")
        packs = 0
        while packs < 200 or (ask("count") < 1000 and packs < 20000):
            packs += 1
            with contextlib.suppress(Conflict):  # cut short meanwhile: that is said
                assert CANARY not in layer_bytes(upper)
            with opened(upper) as (fd,):
                assert all(path.startswith("/tmp") for _, path in changes(fd, ()))
        assert ask("count") >= 1000


def test_file_that_is_cut_short_is_an_error_at_the_end(place: Path) -> None:
    root = place / "t"
    root.mkdir()
    (root / "a").write_bytes(b"x" * (3 << 20))
    (root / "b").write_text("after it")
    with opened(root) as (fd,), pack_layer(fd, root_entry=False) as reader:
        data = reader.read(4096)
        os.truncate(root / "a", 1 << 20)
        buffer = bytearray(1 << 16)
        with pytest.raises(Conflict, match=r"cannot pack the layer: '/a': the file was cut short while it was read"):
            while got := reader.readinto(buffer):
                data += buffer[:got]
        with pytest.raises(Conflict):
            reader.read(1)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        a, b = archive.getmembers()
        first, last = archive.extractfile(a), archive.extractfile(b)
        assert first is not None and last is not None
        assert first.read() == b"x" * (1 << 20) + bytes(2 << 20)
        assert last.read() == b"after it"


# Depth, length, number, size


def dig(root: Path, levels: int, name: str = "d") -> None:
    """Levels deeper than a path can name, with a file in the last."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


def test_five_thousand_levels(place: Path) -> None:
    (place / "t").mkdir()
    dig(place / "t", 5000)
    try:
        with opened(place / "t") as (fd,), pack_layer(fd, root_entry=False) as reader:
            before = len(os.listdir("/proc/self/fd"))
            drained(reader)
            assert len(os.listdir("/proc/self/fd")) <= before + 130
            assert reader.counts().entries == 5001
        assert len(layer_bytes(place / "t", exclude=["/".join("d" * 2500)])) < 20 << 20
        with opened(place / "t") as (fd,):
            assert len(changes(fd, ())) == 5001
    finally:
        _native.remove_tree(str(place / "t"))


def test_deep_tree_and_long_names_come_back(place: Path) -> None:
    """As deep and as long as our unpacker takes."""
    (place / "t").mkdir()
    dig(place / "t", 250, "levels")
    dig(place / "t", 15, "n" * 255)
    unpacked(layer_bytes(place / "t"), place / "copy")
    assert tree_of(place / "copy") == tree_of(place / "t")


def test_paths_beyond_path_max(place: Path) -> None:
    (place / "t").mkdir()
    dig(place / "t", 100, "n" * 255)
    try:
        with tarfile.open(fileobj=io.BytesIO(layer_bytes(place / "t"))) as archive:
            assert archive.getnames()[-1] == "/".join(["n" * 255] * 100) + "/bottom"
    finally:
        _native.remove_tree(str(place / "t"))


def test_path_that_nobody_could_unpack(place: Path) -> None:
    (place / "t").mkdir()
    dig(place / "t", 257, "n" * 255)
    try:
        with pytest.raises(InvalidArgument, match=r"a path of more than 64 KiB.*remove it") as caught:
            layer_bytes(place / "t")
        assert len(str(caught.value)) < 400
    finally:
        _native.remove_tree(str(place / "t"))


_PEAK = """
import os, resource, sys
from pycontain import _native
from pycontain.image.pack import pack_layer
fd = os.open(sys.argv[1], os.O_RDONLY)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with pack_layer(fd) as reader:
    buffer = bytearray(1 << 18)
    while reader.readinto(buffer): pass
    print(reader.counts().entries, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def peak_kib(root: Path) -> tuple[int, int]:
    """(entries, how much the process grew)"""
    done = subprocess.run([sys.executable, "-c", _PEAK, str(root)], capture_output=True, text=True, check=True)
    entries, grown = done.stdout.split()
    return int(entries), int(grown)


def test_wide_directory_costs_its_names(place: Path) -> None:
    (place / "t").mkdir()
    fd = os.open(place / "t", os.O_RDONLY | os.O_DIRECTORY)
    for i in range(100_000):
        os.mknod(f"{i:020}", 0o600, dir_fd=fd)
    os.close(fd)
    entries, grown = peak_kib(place / "t")
    assert entries == 100_001
    assert grown < 16 << 10  # 3.7 MiB of names and records, while they grow and are sorted


def test_big_file_costs_nothing(place: Path) -> None:
    (place / "t").mkdir()
    (place / "t/f").write_bytes(os.urandom(64 << 20))
    assert peak_kib(place / "t")[1] < 4 << 10


def test_ten_gigabytes_of_holes(place: Path) -> None:
    (place / "t").mkdir()
    with open(place / "t/f", "wb") as file:
        for at in (0, 5 << 30, (10 << 30) - 4096):
            file.seek(at)
            file.write(b"data")
        file.truncate(10 << 30)
    os.utime(place / "t/f", ns=(0, 0))
    with opened(place / "t") as (fd,), pack_layer(fd, root_entry=False) as reader:
        assert drained(reader) == 3 * 512 + (10 << 30) + 1024  # a size for pax
    assert os.stat(place / "t/f").st_blocks < 100  # reading holes fills none


# What is refused


def test_mount_in_the_tree_is_not_entered(place: Path) -> None:
    (place / "t/m").mkdir(parents=True)
    fd = _native.mount_detached("tmpfs", "mode=755", 0)
    with opened(place / "t") as (root,):
        _native.move_mount(fd, root, "m")
        try:
            with pytest.raises(Conflict, match=r"open '/m': .*\(EXDEV\): something is mounted there"):
                layer_bytes(place / "t")
            # as overlayfs does, a copy of the mount shows what is below
            clone = _native.open_tree(root, "")
            try:
                with pack_layer(clone) as reader:
                    assert drained(reader) == 4 * 512 + 2 * 1024 or reader.counts().entries == 2
            finally:
                os.close(clone)
        finally:
            os.close(fd)
            subprocess.run(["umount", str(place / "t/m")], check=True)


def test_directory_that_is_none(place: Path) -> None:
    (place / "f").write_text("")
    fd = os.open(place / "f", os.O_RDONLY)
    try:
        with pytest.raises(SetupFailed, match=r"cannot pack the layer: open '/': Not a directory \(ENOTDIR\)"):
            pack_layer(fd).readall()
    finally:
        os.close(fd)


def test_closed_reader_says_so(place: Path) -> None:
    (place / "t").mkdir()
    with opened(place / "t") as (fd,):
        reader = pack_layer(fd)
        reader.close()
        reader.close()
        with pytest.raises(ValueError, match="closed"):
            reader.readinto(bytearray(10))


def test_own_descriptors_are_not_needed_any_more(place: Path) -> None:
    (place / "t").mkdir()
    (place / "t/f").write_text("x")
    fd = os.open(place / "t", os.O_PATH | os.O_DIRECTORY)
    with pack_layer(fd) as reader:
        os.close(fd)
        os.rename(place / "t", place / "u")
        assert drained(reader) > 0
        assert reader.counts().entries == 2
