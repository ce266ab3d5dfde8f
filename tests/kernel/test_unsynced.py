"""Layers that were not on the disk when the machine went down: found by their marks, and unpacked again."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from image_cases import member, tar

import pycontain
from pycontain import _native
from pycontain.image import layers, unsynced
from pycontain.image.digest import Digest
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

RUN = "import pycontain; r = pycontain.run('x:1', ['/bin/busybox', 'cat', '/word'], text=True); print(r.stdout + r.stderr, end='')"


@pytest.fixture
def stored(roots: Roots) -> Path:
    """The data root, with an image of one layer: a program, and a file "word" that says "whole"."""
    program = member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755)
    pycontain.Image.import_tar(io.BytesIO(tar(program, member("word", data=b"whole\n"))), "x:1")
    return Path(roots.data_root)


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def marks(data: Path) -> list[Path]:
    return sorted((data / "unsynced").glob("*/*"))


def crash(data: Path) -> Path:
    """As a power cut may leave it: the layer has its name, and a file has lost its bytes. The layer's directory."""
    (mark,) = marks(data)
    mark.parent.rename(data / "unsynced/4b5c1a52-0000-0000-0000-0e6f0f1a2b3c")
    layer = data / "layers" / mark.name
    (layer / "word").write_bytes(b"")
    layers._looked_at.clear()  # as a process of the next boot begins
    return layer


def ran(*, expect: str) -> None:
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, timeout=60)
    assert expect in done.stdout + done.stderr, done.stdout + done.stderr


def test_a_layer_is_marked_before_it_has_its_name(stored: Path) -> None:
    (mark,) = marks(stored)
    assert mark.parent.name == boot() and (stored / "layers" / mark.name).is_dir()
    ran(expect="whole")
    assert marks(stored) == [mark]  # of this boot: nothing to do, and nothing lost


def test_what_a_power_cut_has_spoiled_is_unpacked_again(stored: Path) -> None:
    layer = crash(stored)
    ran(expect="whole")
    assert (layer / "word").read_bytes() == b"whole\n"
    assert [mark.parent.name for mark in marks(stored)] == [boot()]  # marked anew
    assert os.listdir(stored / "unsynced") == [boot()]


def test_by_many_processes_at_once(stored: Path) -> None:
    crash(stored)
    started = [
        subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(8)
    ]
    assert [each.communicate(timeout=60)[0] for each in started] == ["whole\n"] * 8


def test_only_what_is_marked(stored: Path) -> None:
    (mark,) = marks(stored)
    before = (stored / "layers" / mark.name / "word").stat().st_ino
    mark.unlink()
    mark.parent.rename(stored / "unsynced/other")
    layers._looked_at.clear()
    ran(expect="whole")
    assert (stored / "layers" / mark.name / "word").stat().st_ino == before
    assert os.listdir(stored / "unsynced") == []


def test_a_spoiled_layer_whose_blob_is_gone_too(stored: Path) -> None:
    crash(stored)
    for blob in (stored / "blobs/sha256").iterdir():
        if blob.stat().st_size > 10_000:
            blob.unlink()
    ran(expect="pull, load or import the image again")


def test_of_an_image_that_has_been_removed(stored: Path) -> None:
    crash(stored)
    (image,) = pycontain.images()
    image.remove()
    pycontain.images()
    with pytest.raises(pycontain.ImageNotFound):
        pycontain.run("x:1", ["true"])
    assert not list((stored / "layers").iterdir())


def test_image_tree_shows_the_whole_layer(stored: Path) -> None:
    crash(stored)
    done = subprocess.run(
        [sys.executable, "-m", "pycontain", "image", "tree", "x:1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "word" in done.stdout, done.stdout + done.stderr


def test_marks_go_when_the_kernel_has_had_its_time(stored: Path) -> None:
    (mark,) = marks(stored)
    unsynced.settle(str(stored))
    assert marks(stored) == [mark]
    os.utime(mark, (time.time() - 100, time.time() - 100))
    unsynced.settle(str(stored))
    assert marks(stored) == []


def test_the_next_store_takes_them_away(stored: Path) -> None:
    (mark,) = marks(stored)
    os.utime(mark, (0, 0))
    pycontain.Image.import_tar(io.BytesIO(tar(member("other", data=b"x"))), "y:1")
    (left,) = marks(stored)
    assert left != mark


def test_a_mark_stays_when_the_disk_says_no(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mark,) = marks(stored)
    os.utime(mark, (0, 0))

    def refused(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(_native, "syncfs", refused)
    with pytest.raises(OSError, match="Input/output"):
        unsynced.settle(str(stored))
    assert marks(stored) == [mark]


def test_a_layer_marked_anew_during_the_sync_stays_marked(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mark,) = marks(stored)
    os.utime(mark, (0, 0))
    monkeypatch.setattr(_native, "syncfs", lambda fd: unsynced.mark(str(stored), Digest("sha256", mark.name)))
    unsynced.settle(str(stored))
    assert marks(stored) == [mark]


def test_where_boots_cannot_be_told_apart_the_layer_is_synced_at_once(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(unsynced, "_boot_id", lambda: "")
    monkeypatch.setattr(_native, "syncfs", synced.append)
    layers._looked_at.clear()
    pycontain.Image.import_tar(io.BytesIO(tar(member("other", data=b"x"))), "y:1")
    assert len(synced) == 1 and len(marks(stored)) == 1
