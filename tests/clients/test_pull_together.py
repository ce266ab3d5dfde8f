"""Pulls that meet: of other processes, of a kill, of a full disk, and of a registry that fails in the middle."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from tests import registries
from tests.cutting_proxy import CuttingProxy
from tests.registries import DebianRegistry

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PYCONTAIN = str(Path(sys.executable).parent / "pycontain")
sys.path.insert(0, str(Path(__file__).parents[1] / "kernel"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with registries.start(tmp_path) as started:
        yield started


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", str(tmp_path / "run"))
    (tmp_path / "config").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return str(tmp_path / "data")


def pushed(registry: DebianRegistry, tmp_path: Path, layers: int = 4, size: int = 300_000) -> str:
    """The name of an image of some layers, in the registry and nowhere else; layers 1 and 2 are shared by all of them."""
    name = f"{registry.host}/app:{layers}"
    rng = random.Random(1)
    diff_ids, tars = [], []
    import hashlib
    import json

    for n in range(layers):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for k in range(10):
                info = tarfile.TarInfo(f"layer{n}/file{k}")
                info.size = size // 10
                archive.addfile(info, io.BytesIO(rng.randbytes(info.size)))
        tars.append(buffer.getvalue())
        diff_ids.append(f"sha256:{hashlib.sha256(tars[-1]).hexdigest()}")
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    entry = [{"Config": "c.json", "RepoTags": [name], "Layers": [f"{n}.tar" for n in range(layers)]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, content in (
            ("c.json", json.dumps(config).encode()), ("manifest.json", json.dumps(entry).encode()),
            *((f"{n}.tar", content) for n, content in enumerate(tars)),
        ):  # fmt: skip
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (image,) = pycontain.Image.load(io.BytesIO(out.getvalue()), data_root=str(tmp_path / "pusher"))
    image.push()
    return name


def gets(registry: DebianRegistry, image: pycontain.Image) -> list[int]:
    """How often each layer was downloaded."""
    lines = [line for line in registry.log().splitlines() if '"GET ' in line]
    return [sum(str(each.descriptor.digest) in line for line in lines) for each in image.inspect().layers]


def test_six_processes_download_each_layer_once(tmp_path: Path, data: str, registry: DebianRegistry) -> None:
    from test_store_removal import check_whole

    name = pushed(registry, tmp_path)
    pulling = [
        subprocess.Popen([PYCONTAIN, "pull", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(6)
    ]
    for each in pulling:
        out, _ = each.communicate(timeout=60)
        assert each.returncode == 0, out
    image = pycontain.Image(name)
    assert gets(registry, image) == [1, 1, 1, 1]
    check_whole(data, nothing_else=True)


def test_killed_at_any_moment(tmp_path: Path, data: str, registry: DebianRegistry) -> None:
    """After a kill -9 what was there is there, and the next pull succeeds; in the end nothing is left over."""
    from test_store_removal import check_whole

    kept = pushed(registry, tmp_path, 2)
    image = pycontain.Image.pull(kept)
    name = pushed(registry, tmp_path, 6, 2_000_000)
    rng = random.Random(3)
    completed = 0
    for _ in range(15):
        with subprocess.Popen([PYCONTAIN, "pull", name], stdout=subprocess.DEVNULL) as pulling:
            deadline = time.monotonic() + 30
            while not os.listdir(f"{data}/tmp") and pulling.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(rng.random() * 0.15)
            pulling.send_signal(signal.SIGKILL)
        completed += pulling.returncode == 0
        check_whole(data, nothing_else=False)
        assert pycontain.Image(kept) == image
        if completed:
            break
    pulled = pycontain.Image.pull(name)
    assert len(pulled.inspect().layers) == 6
    pulled.remove(force=True)
    from pycontain.engine import images

    images.prune_images(data)
    check_whole(data, nothing_else=True)
    assert [each.names for each in pycontain.images()] == [(kept,)]


@pytest.mark.parametrize("room_mb", [1, 3, 6, 9])
def test_a_full_disk(tmp_path: Path, registry: DebianRegistry, room_mb: int) -> None:
    name = pushed(registry, tmp_path, 5, 2_000_000)
    small = pushed(registry, tmp_path, 1, 100_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room_mb * 1024 + 600}k", "none", str(disk)], check=True)
    try:
        root = str(disk / "data")
        pycontain.Image.pull(small, data_root=root)
        free = os.statvfs(disk).f_bavail
        with pytest.raises(pycontain.PycontainError, match="ENOSPC") as caught:
            pycontain.Image.pull(name, data_root=root)
        assert "\n" not in str(caught.value)
        from pycontain.engine import images

        images.prune_images(root)  # layers that were complete may have stayed, for the next try
        assert os.statvfs(disk).f_bavail >= free - 8
        assert [each.names for each in pycontain.images(data_root=root)] == [(small,)]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_cut_connections_are_gone_on_with(tmp_path: Path, data: str, registry: DebianRegistry) -> None:
    name = pushed(registry, tmp_path, 3, 3_000_000)
    with CuttingProxy(registry.host, [1_000_000, 1_500_000, 700_000, 2_000_000]) as proxy:
        pulled = pycontain.Image.pull(name.replace(registry.host, proxy.host))
        assert proxy.connections > 3
    assert pulled.size == 9_000_000


def test_a_registry_that_dies_in_the_middle(tmp_path: Path, data: str, registry: DebianRegistry) -> None:
    name = pushed(registry, tmp_path, 3, 3_000_000)
    with CuttingProxy(registry.host, [2_000_000] * 100) as proxy:
        registry_of_proxy = name.replace(registry.host, proxy.host)

        def kill_it(progress: object) -> None:
            if getattr(progress, "state", "") == "Downloading":
                registry.stop()

        with pytest.raises(pycontain.PycontainError, match="cannot download blob") as caught:
            pycontain.Image.pull(registry_of_proxy, progress=kill_it)
    assert "\n" not in str(caught.value)
    assert not os.listdir(f"{data}/tmp") and pycontain.images() == []
