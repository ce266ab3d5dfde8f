"""``pycontain.Image`` and its asyncio twins against a real registry."""

from __future__ import annotations

import asyncio
import io
import os
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from tests import registries
from tests.cutting_proxy import CuttingProxy
from tests.registries import DebianRegistry

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with registries.start(tmp_path) as started:
        yield started


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return str(tmp_path / "data")


def made(name: str, size: int = 1000, *changes: str) -> pycontain.Image:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = size
        archive.addfile(info, io.BytesIO(random.Random(size).randbytes(size)))
        archive.add("/bin/busybox", "bin/busybox")
    buffer.seek(0)
    return pycontain.Image.import_tar(buffer, name, changes=changes)


def test_one_image_through_all_of_it(tmp_path: Path, registry: DebianRegistry) -> None:
    name = f"{registry.host}/app:1"
    image = made(name, 1000, "LABEL a=b", 'CMD ["/bin/busybox", "echo", "hello"]')
    states: list[str] = []
    digest = image.push(progress=lambda step: states.append(step.state))
    assert "Pushed" in states and states[-1].startswith(f"1: digest: {digest}")
    assert image.refreshed().digests == (f"{registry.host}/app@{digest}",)
    assert (image.names, image.labels, pycontain.images()) == ((name,), {"a": "b"}, [image])
    assert image.created is not None and image.created.tzinfo is not None and image.size > 1000
    two = image.tag("other:x")
    assert two == image and set(two.names) == {name, "other:x"} and str(two) == image.id
    with pytest.raises(pycontain.InvalidArgument, match="it has 2 names"):
        two.push()
    archive = tmp_path / "a.tar"
    two.save(archive)
    with pytest.raises(pycontain.Conflict, match="must be forced"):
        two.remove()
    assert [each.action for each in two.remove(force=True)][-1] == "Deleted" and pycontain.images() == []
    with pytest.raises(pycontain.ImageNotFound):
        two.refreshed()
    (loaded,) = pycontain.Image.load(archive)
    assert loaded == image and [each.comment for each in loaded.history()] == ["imported by pycontain"]
    loaded.remove(force=True)
    by_digest = pycontain.Image.pull(f"{registry.host}/app@{digest}")
    assert by_digest.id == image.id and by_digest.names == () and len(by_digest.digests) == 1
    by_digest.remove(force=True)
    assert pycontain.run(name, text=True).stdout == "hello\n"  # pulled, since it is missing
    with pytest.raises(pycontain.ImageNotFound, match="manifest unknown"):
        pycontain.run(f"{registry.host}/app:2")
    with pytest.raises(pycontain.ImageNotFound, match="manifest unknown"):
        pycontain.Image.pull(f"{registry.host}/app:2")
    with pytest.raises(pycontain.InvalidArgument, match="cannot open"):
        pycontain.Image.load(tmp_path / "nosuch")


def test_asyncio(tmp_path: Path, registry: DebianRegistry) -> None:
    async def all_of_it() -> None:
        images = [made(f"{registry.host}/app:{n}", 1000 + n) for n in range(3)]
        await asyncio.gather(*(pycontain.aio.push(each) for each in images))
        for each in images:
            each.remove(force=True)
        pulled = await asyncio.gather(*(pycontain.aio.pull(f"{registry.host}/app:{n}") for n in range(3)))
        assert set(await pycontain.aio.images()) == set(pulled) == set(images)
        await pycontain.aio.save(pulled[0], tmp_path / "a.tar")
        pulled[0].remove(force=True)
        assert await pycontain.aio.load(tmp_path / "a.tar") == [pulled[0]]

    asyncio.run(all_of_it())


def test_a_task_that_is_cancelled_in_mid_pull_leaves_nothing(data: str, registry: DebianRegistry) -> None:
    name = f"{registry.host}/big:1"
    made(name, 8 << 20).push()
    pycontain.Image(name).remove(force=True)

    async def cancelled(proxy: CuttingProxy) -> None:
        task = asyncio.create_task(pycontain.aio.pull(name.replace(registry.host, proxy.host)))
        while not proxy.stalled.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)

    with CuttingProxy(registry.host, [1 << 20] * 9, stalls=True) as proxy:
        asyncio.run(cancelled(proxy))
    assert not os.listdir(f"{data}/tmp") and not os.listdir(f"{data}/layers") and pycontain.images() == []


def test_an_event_stops_a_pull(data: str, registry: DebianRegistry) -> None:
    name = f"{registry.host}/big:1"
    made(name, 8 << 20).push()
    pycontain.Image(name).remove(force=True)
    stop = threading.Event()
    with CuttingProxy(registry.host, [1 << 20] * 9, stalls=True) as proxy:

        def stop_then() -> None:
            proxy.stalled.wait(30)
            stop.set()

        threading.Thread(target=stop_then, daemon=True).start()
        with pytest.raises(pycontain.PycontainError, match="stopped"):
            pycontain.Image.pull(name.replace(registry.host, proxy.host), stop=stop)
    assert not os.listdir(f"{data}/tmp") and pycontain.images() == []


SCRIPT = """
from datetime import datetime
import pycontain

def use(name: str) -> str:
    image: pycontain.Image = pycontain.Image.pull(name, progress=print)
    created: datetime | None = image.created
    names: tuple[str, ...] = image.names
    for each in pycontain.images():
        each.tag("x:y").save("/tmp/x.tar", format="oci-archive")
    with pycontain.Container(image.id, ["sh"], pull="never", platform="linux/amd64") as c:
        made: pycontain.Image = c.commit("a:b", changes=["ENV A=b"], compression="zstd", level=3)
        c.export("/tmp/y.tar")
    return f"{created} {names} {made.push()}"

async def later(name: str) -> list[pycontain.Image]:
    image = await pycontain.aio.pull(name)
    await pycontain.aio.push(image)
    return await pycontain.aio.images()
"""


def test_a_program_that_uses_it_is_typed(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--python-version", "3.10", "--cache-dir", str(tmp_path / "cache"), "use.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
