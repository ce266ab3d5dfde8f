"""Zeros of an archive stay holes on the disk: what a bomb of them costs, and that every byte reads as it should."""

from __future__ import annotations

import io
import os
import random
import subprocess
from pathlib import Path

import pytest
from image_cases import member, tar

import pycontain
from pycontain.image.unpack import LayerWriter

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("chunk", [777, 4096, 65536, 1 << 20, 1 << 30])
def test_holes_of_any_length_at_any_place(tmp_path: Path, chunk: int) -> None:
    rng = random.Random(chunk)
    files = {
        "zeros": bytes(300_000),
        "short": bytes(10),
        "empty": b"",
        "end": bytes(200_000) + b"x",
        "begin": b"x" + bytes(200_000),
    }
    for number in range(30):
        parts = (
            bytes(rng.randrange(200_000)) if rng.random() < 0.5 else rng.randbytes(rng.randrange(70_000))
            for _ in range(6)
        )
        files[f"f{number}"] = b"".join(parts)
    archive = tar(*(member(name, data=data, mtime=1_000_000) for name, data in files.items()))
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with LayerWriter(fd) as writer:
        for at in range(0, len(archive), chunk):
            writer.feed(archive[at : at + chunk])
        stats = writer.finish()
    os.close(fd)
    for name, data in files.items():
        assert (tmp_path / name).read_bytes() == data
        assert os.stat(tmp_path / name).st_mtime == 1_000_000
    assert stats.file_bytes == sum(map(len, files.values()))
    assert os.stat(tmp_path / "zeros").st_blocks * 512 <= 1 << 17


def test_a_sparse_file_on_a_volume_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of an image, and each start of a container would have written all of it."""
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", str(tmp_path / "run"))
    (tmp_path / "root/vol").mkdir(parents=True)
    (tmp_path / "root/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tmp_path / "root/busybox").chmod(0o755)
    with open(tmp_path / "root/vol/big", "wb") as file:
        file.truncate(2 << 30)
    archive = subprocess.run(
        ["tar", "-C", str(tmp_path / "root"), "-S", "-c", "."], stdout=subprocess.PIPE, check=True
    ).stdout
    pycontain.Image.import_tar(io.BytesIO(archive), "sparse", changes=["VOLUME /vol"])
    with pycontain.Container("sparse", ["/busybox", "cat"], stdin=pycontain.PIPE) as c:
        found = os.stat(f"{c._running.directory}.volumes/0/_data/big")
        assert found.st_size == 2 << 30 and found.st_blocks * 512 < 1 << 20
        image = c.commit("again")
    assert image.size < 3 << 30
