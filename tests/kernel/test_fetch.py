"""Storing an image from a source that may lie, stop or fail: nothing half stored, and everything once."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from image_cases import LayoutWriter, member, tar
from test_store_removal import check_whole

from pycontain.engine import images
from pycontain.errors import InvalidArgument, PycontainError, Unsupported
from pycontain.image.documents import Descriptor
from pycontain.image.layout import Layout
from pycontain.image.names import parse_image_name
from pycontain.image.progress import Progress, Report
from pycontain.image.pull import parse_platform, store_image
from pycontain.image.records import ImageRecord

pytestmark = pytest.mark.kernel

Spoil = Callable[[bytes], bytes]


class Faulty:
    """A layout's blobs, counted, with the layers' bytes changed by ``spoil`` and read in small pieces."""

    def __init__(
        self, layout: Layout, spoil: dict[str, Spoil] | None = None, gate: threading.Barrier | None = None
    ) -> None:
        self.layout = layout
        self.spoil = spoil or {}
        self.gate = gate
        self.opened: list[str] = []

    def open_blob(self, descriptor: Descriptor) -> BinaryIO:
        self.opened.append(descriptor.digest.encoded)
        if self.gate is not None and "layer" in descriptor.media_type:
            self.gate.wait(20)
        with self.layout.open_blob(descriptor) as blob:
            data = blob.read()
        spoil = self.spoil.get(descriptor.digest.encoded)
        return io.BytesIO(spoil(data) if spoil else data)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


_opened: list[Layout] = []


@pytest.fixture(autouse=True)
def layouts() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().__exit__()


def opened(path: str) -> Layout:
    _opened.append(Layout(path))
    return _opened[-1]


def made(tmp_path: Path, *layers: bytes, wrap: Any = None, **extra: Any) -> Layout:
    writer = LayoutWriter(tmp_path / f"oci{len(list(tmp_path.iterdir()))}")
    return opened(writer.finish(writer.manifest(*layers, wrap=wrap, **extra)))


def store(data: str, source: Faulty, name: str = "app", **options: Any) -> ImageRecord:
    found = source.layout.find()
    return store_image(
        data, source.layout.read(found.manifest_descriptor), found.manifest_descriptor, source,
        Report(options.pop("progress", None)), names=[parse_image_name(name)], what=name, **options,
    )  # fmt: skip


GZIP: Any = ("+gzip", lambda data: gzip.compress(data, 1))
LAYERS = [tar(*(member(f"{n}/f{i}", data=os.urandom(3000)) for i in range(200))) for n in range(5)]


def test_five_layers_at_once(tmp_path: Path, data: str) -> None:
    told: list[Progress] = []
    source = Faulty(made(tmp_path, *LAYERS, wrap=GZIP))
    found = store(data, source, progress=told.append)
    assert found.size == 5 * 200 * 3000 and len(source.opened) == 6
    check_whole(data, nothing_else=True)
    for layer in found.layers:
        states = [each.state for each in told if each.layer == layer.descriptor.digest.encoded[:12]]
        assert [x for x in states if x not in ("Waiting", "Downloading")] == [
            "Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete",
        ]  # fmt: skip
    told.clear()
    assert store(data, source, "again", progress=told.append).id == found.id and len(source.opened) == 7
    assert {each.state for each in told} == {"Pulling fs layer", "Waiting", "Already exists"}


@pytest.mark.parametrize(
    ("spoil", "phrase"),
    [
        (lambda x: x[:-1], "bytes that came have the digest|truncated|end-of-stream|ended before"),
        (lambda x: x[:50_000], "bytes that came have the digest|truncated|end-of-stream|ended before"),
        (lambda x: b"", "bytes that came"),
        (lambda x: x + b"\0", "goes on after"),
        (lambda x: gzip.compress(tar(member("evil")), 1), "bytes that came have the digest"),
        (lambda x: x[:1000] + bytes([x[1000] ^ 1]) + x[1001:], "digest|stream|layer"),
    ],
)
def test_a_bad_layer_is_one_error_and_nothing_of_it_is_stored(
    tmp_path: Path, data: str, spoil: Spoil, phrase: str
) -> None:
    layout = made(tmp_path, *LAYERS, wrap=GZIP)
    bad = layout.find().manifest.layers[3].digest.encoded
    with pytest.raises(InvalidArgument, match=phrase) as caught:
        store(data, Faulty(layout, {bad: spoil}))
    assert bad in str(caught.value) and "\n" not in str(caught.value)
    assert images.list_images(data) == [] and not os.listdir(f"{data}/tmp")
    assert bad not in os.listdir(f"{data}/blobs/sha256")
    good = Faulty(layout)
    store(data, good)
    assert bad in good.opened and len(good.opened) < 7
    check_whole(data, nothing_else=True)


def test_a_source_that_fails_is_told_as_it_is(tmp_path: Path, data: str) -> None:
    def fail(_: bytes) -> bytes:
        raise Unsupported("the registry has gone")

    layout = made(tmp_path, *LAYERS)
    with pytest.raises(Unsupported, match="the registry has gone"):
        store(data, Faulty(layout, {layout.find().manifest.layers[0].digest.encoded: fail}))
    assert images.list_images(data) == [] and not os.listdir(f"{data}/tmp")


def test_a_layer_that_is_not_what_the_configuration_says(tmp_path: Path, data: str) -> None:
    writer = LayoutWriter(tmp_path / "oci")
    manifest = writer.manifest(LAYERS[0])
    layout = opened(writer.finish(manifest))
    document = layout.find().manifest
    other = writer.blob(LAYERS[1], "application/vnd.oci.image.layer.v1.tar")
    config = {
        "mediaType": document.config.media_type,
        "digest": str(document.config.digest),
        "size": document.config.size,
    }
    lying = writer.json(
        {"schemaVersion": 2, "config": config, "layers": [other]}, "application/vnd.oci.image.manifest.v1+json"
    )
    layout = opened(writer.finish(lying))
    with pytest.raises(InvalidArgument, match=r"unpacked it is sha256:.*, the configuration says"):
        store(data, Faulty(layout))
    assert not os.path.exists(f"{data}/layers") or not os.listdir(f"{data}/layers")


def test_the_same_layer_compressed_otherwise_is_unpacked_once(tmp_path: Path, data: str) -> None:
    first = store(data, Faulty(made(tmp_path, *LAYERS[:2])))
    inodes = {each: os.stat(f"{data}/layers/{each}").st_ino for each in os.listdir(f"{data}/layers")}
    second = store(data, Faulty(made(tmp_path, *LAYERS[:2], wrap=GZIP)), "zipped")
    assert first.id == second.id and first.manifest != second.manifest
    assert inodes == {each: os.stat(f"{data}/layers/{each}").st_ino for each in os.listdir(f"{data}/layers")}
    check_whole(data, nothing_else=False)
    images.prune_images(data)
    check_whole(data, nothing_else=True)


def test_a_damaged_blob_of_the_same_layer_is_found(tmp_path: Path, data: str) -> None:
    """The unpacked layer is there already; the new blob of it is checked all the same."""
    store(data, Faulty(made(tmp_path, LAYERS[0])))
    writer = LayoutWriter(tmp_path / "lying")
    manifest = writer.manifest(LAYERS[0], wrap=("+gzip", lambda _: gzip.compress(LAYERS[1], 1)))
    with pytest.raises(InvalidArgument, match="the configuration says"):
        store(data, Faulty(opened(writer.finish(manifest))), "liar")


def test_two_at_once_download_each_layer_once(tmp_path: Path, data: str) -> None:
    """Both ask for the same layers at the same time, through stores that know nothing of each other."""
    layout = made(tmp_path, *LAYERS[:3], wrap=GZIP)
    sources = [Faulty(layout), Faulty(layout)]
    errors: list[BaseException] = []

    def run(source: Faulty, name: str) -> None:
        try:
            store(data, source, name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each, f"app:{n}")) for n, each in enumerate(sources)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert not errors
    opened = [x for each in sources for x in each.opened]
    assert all(opened.count(layer.digest.encoded) == 1 for layer in layout.find().manifest.layers)
    check_whole(data, nothing_else=True)


def test_an_image_removed_while_its_layers_are_taken_for_there(tmp_path: Path, data: str) -> None:
    """The other image goes between "Already exists" and the end: its layer is fetched again, not forgotten."""
    layout = made(tmp_path, *LAYERS[:2])
    store(data, Faulty(made(tmp_path, LAYERS[0])), "other")
    second = layout.find().manifest.layers[1].digest.encoded

    def remove_other(content: bytes) -> bytes:
        if images.list_images(data):
            images.remove_image(data, "other")
        return content

    source = Faulty(layout, {second: remove_other})
    store(data, source)
    check_whole(data, nothing_else=True)
    assert len(images.list_images(data)) == 1


def test_platforms(tmp_path: Path, data: str) -> None:
    layout = made(tmp_path, LAYERS[0])
    with pytest.raises(Unsupported, match="linux/arm64 was asked for"):
        store(data, Faulty(layout), platform=parse_platform("linux/arm64"))
    assert store(data, Faulty(layout), platform=parse_platform("amd64")).layers


@pytest.mark.parametrize("text", ["", "a/b/c/d", "/", "linux//v8", "linux/"])
def test_no_platform(text: str) -> None:
    with pytest.raises(InvalidArgument, match="os/architecture"):
        parse_platform(text)


def test_memory_does_not_depend_on_the_layer(tmp_path: Path, data: str) -> None:
    """150 MB of one layer, through a source that has it nowhere in memory, in a process that may use 80 MB more."""
    import subprocess
    import sys

    script = f"""
import sys, os, io, resource
sys.path[:0] = {sys.path!r}
from image_cases import LayoutWriter, member
from test_fetch import Faulty
import gzip, tarfile, hashlib, pathlib
from pycontain.image.layout import Layout
from pycontain.image.names import parse_image_name
from pycontain.image.progress import Report
from pycontain.image.pull import store_image
layout = Layout({_big_layout(tmp_path)!r})
found = layout.find()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store_image({data!r}, layout.read(found.manifest_descriptor), found.manifest_descriptor, layout, Report(None),
            names=[parse_image_name("big")], what="big")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80 * 1024


def _big_layout(tmp_path: Path) -> str:
    chunk = os.urandom(1 << 20)
    layer = tar(*(member(f"f{n}", data=chunk) for n in range(150)))
    writer = LayoutWriter(tmp_path / "big")
    return writer.finish(writer.manifest(layer, wrap=GZIP))


def test_errors_are_ours(tmp_path: Path, data: str) -> None:
    layout = made(tmp_path, tar(member("../escape")), wrap=GZIP)
    digest = layout.find().manifest.layers[0].digest
    with pytest.raises(PycontainError, match=f"cannot unpack layer {digest}: entry '../escape'"):
        store(data, Faulty(layout))
