"""The image store against forks, damage, races and numbers: what none of them may do to it."""

from __future__ import annotations

import errno
import gzip
import io
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from image_cases import LayoutWriter, member, tar
from test_store_removal import ONE, TWO, busybox, check_whole, put

import pycontain
from pycontain.engine import images
from pycontain.errors import InvalidArgument
from pycontain.image.blobs import blob_path
from pycontain.image.digest import parse_digest
from pycontain.image.documents import OCI_LAYER, Descriptor
from pycontain.image.fetch import fetch_layers
from pycontain.image.layers import layer_path
from pycontain.image.progress import Report
from pycontain.image.records import ImageRecord, list_records, read_record
from pycontain.image.registry.manifests import digest_of
from pycontain.image.unpack import LayerLimits
from pycontain.image.workspace import locked, try_lock
from pycontain.runtime import look as look_module

pytestmark = pytest.mark.kernel


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


@contextmanager
def forked() -> Iterator[None]:
    """A child of a fork without exec, as multiprocessing makes them, that lives as long as the block."""
    pid = os.fork()
    if pid == 0:
        while True:
            os.read(_never, 1)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


_never, _kept_open = os.pipe()


def test_a_lock_ends_with_its_block_whoever_was_forked_in_it(data: str) -> None:
    block = locked(data, "index")
    block.__enter__()
    with forked():
        block.__exit__(None, None, None)
        with try_lock(data, "index") as held:
            assert held


def test_a_container_that_has_ended_holds_no_image_whoever_was_forked_meanwhile(tmp_path: Path, data: str) -> None:
    put(data, "app", busybox())
    with pycontain.Container(
        "app", ["/bin/busybox", "cat"], stdin=pycontain.PIPE, data_root=data, run_root=str(tmp_path / "run")
    ) as c:
        child = forked()
        child.__enter__()
    try:
        assert c.poll() is not None
        assert images.remove_image(data, "app")
    finally:
        child.__exit__(None, None, None)
    check_whole(data, nothing_else=True)


def test_a_layer_that_a_removal_takes_between_look_up_and_hold_is_unpacked_again(
    tmp_path: Path,
    data: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """oci:DIR has no record: a removal of another image with its layer did not see it before it held its configuration."""
    layout = LayoutWriter(tmp_path / "oci")
    image = f"oci:{layout.finish(layout.manifest(busybox()))}"
    put(data, "other", busybox())
    look = look_module.look
    removed: list[object] = []

    def removed_after_the_look(*given: Any, **named: Any) -> Any:
        found = look(*given, **named)
        if not removed:
            removed.extend(images.remove_image(data, "other"))
        return found

    monkeypatch.setattr("pycontain.runtime.running.look", removed_after_the_look)
    ran = pycontain.run(image, ["/bin/busybox", "echo", "x"], data_root=data, run_root=str(tmp_path / "run"))
    assert len(removed) == 3 and ran.stdout == b"x\n"


def test_a_prune_of_many_reads_the_records_once(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        put(data, "", ONE if number % 2 else TWO, f"ENV N={number}")
    kept = put(data, "kept")
    calls: list[str] = []

    def counted(root: str) -> list[ImageRecord]:
        calls.append(root)
        return list_records(root)

    monkeypatch.setattr("pycontain.image.collect.list_records", counted)
    removed, _ = images.prune_images(data)
    assert sum(each.action == "Deleted" and each.what.startswith("sha256:") for each in removed) >= 30
    assert len(calls) == 2  # for the images, and for what nothing refers to
    assert [each.id for each in images.list_images(data)] == [kept]
    check_whole(data, nothing_else=True)


def test_what_is_named_by_sha512_is_swept_too(data: str) -> None:
    put(data, "kept")
    for directory in ("blobs/sha512", "layers", "sizes"):
        os.makedirs(f"{data}/{directory}", exist_ok=True)
        Path(data, directory, "1" * 128).write_bytes(b"")
    images.prune_images(data)
    check_whole(data, nothing_else=True)
    assert os.listdir(f"{data}/blobs/sha512") == []


def test_a_list_after_a_kill_shows_what_is_there_whatever_the_clock_says(data: str) -> None:
    """index.json with the time of the change that did not come to it, or a later one: a tick's length, a clock set back."""
    from pycontain.image import records

    put(data, "app:1")
    records.drop_name(data, "app:1")  # and killed
    os.utime(f"{data}/index.json", (2**33, 2**33))
    assert [each.names for each in images.list_images(data)] == [()]
    images.prune_images(data)
    assert images.list_images(data) == [] and not records.is_changing(data)


def flip(path: str) -> None:
    """One bit rots; the size stays."""
    with open(path, "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes((first[0] ^ 1,)))


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_a_damaged_blob_is_mended_by_bringing_the_image_again(data: str, what: str) -> None:
    """It was taken for there, by its size, for ever: the error said to fetch it again, and that did nothing."""
    image_id = put(data, "app", busybox())
    archive = io.BytesIO()
    images.save(data, ["app"], archive)
    image = read_record(data, image_id)
    flip(
        blob_path(
            data, {"manifest": image.manifest, "config": image.config, "layer": image.layers[0].descriptor}[what].digest
        )
    )
    shutil.rmtree(layer_path(data, image.layers[0].diff_id))
    images.load(data, io.BytesIO(archive.getvalue()))
    check_whole(data, nothing_else=False)
    images.remove_image(data, "app")
    images.prune_images(data)
    check_whole(data, nothing_else=True)


def test_indexes_that_list_each_other_ten_thousand_times_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pycontain.errors import ImageNotFound
    from pycontain.image.layout import Layout

    writer = LayoutWriter(tmp_path / "oci")
    inner = writer.index(writer.manifest())
    for _ in range(3):
        inner = writer.index(*[inner] * 3000)
    path = writer.finish(*[inner] * 3000)
    read: list[object] = []
    original = Layout.read

    def counted(layout: Layout, each: Descriptor) -> bytes:
        read.append(each)
        return original(layout, each)

    monkeypatch.setattr(Layout, "read", counted)
    with Layout(path) as layout, pytest.raises(ImageNotFound):
        layout.find("@sha256:" + "1" * 64)
    assert len(read) == 4


def test_a_push_meets_the_removal_of_another_image(data: str) -> None:
    from pycontain.image.names import parse_reference
    from pycontain.image.push import _origins
    from pycontain.image.records import set_names

    image_id = put(data, "q.io/app")
    set_names(data, [parse_reference("q.io/gone@sha256:" + "1" * 64)], "sha256:" + "2" * 64)
    assert _origins(data, parse_reference("q.io/app"), read_record(data, image_id)) == {}


def test_a_registry_lists_tags_that_are_none(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pycontain.image.registry.client import Registry

    for tag in ("../../../etc", "..", "x/y", "a@b", "-x", "x" * 129, "", "%2F"):
        monkeypatch.setattr(Registry, "tags", lambda self, tag=tag: iter(("ok", tag)))
        with pytest.raises(InvalidArgument, match="invalid reference format"):
            images.pull(data, "127.0.0.1:1/app", all_tags=True)
    assert not os.path.exists(f"{data}/names")


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_disk_is_freed_by_removing_images(tmp_path: Path, kind: str) -> None:
    """With not a block left: no room for a directory, nor for index.json."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if kind == "ext4":
        subprocess.run(["truncate", "-s", "8M", f"{tmp_path}/image"], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-m0", f"{tmp_path}/image"], check=True)
        subprocess.run(["mount", "-o", "loop", f"{tmp_path}/image", str(disk)], check=True)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=True)
    try:
        root = str(disk / "data")
        for number in range(4):
            put(root, f"app:{number}" if number else "", tar(member("f", data=os.urandom(100_000 + number))))
        fill(disk / "fill")
        assert images.remove_image(root, "app:1")[0].what == "app:1"
        assert [each.names for each in images.list_images(root)] == [("app:3",), ("app:2",), ()]
        fill(disk / "fill")
        removed, freed = images.prune_images(root)
        assert len(removed) == 2 and freed >= 200_000
        assert os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize >= 200_000
        put(root, "again", ONE)
        check_whole(root, nothing_else=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    with open(path, "ab", buffering=0) as file:
        for size in (1 << 16, 64):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC


class OneBlob:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def open_blob(self, descriptor: Descriptor) -> io.BytesIO:
        return io.BytesIO(self._data)


def test_a_layer_of_half_the_address_space_is_not_begun(data: str) -> None:
    layer = Descriptor(media_type=OCI_LAYER, digest=parse_digest("sha256:" + "1" * 64), size=2**62)
    with pytest.raises(InvalidArgument, match="4611686018427387904 bytes, the limit is"):
        fetch_layers(data, [(layer, layer.digest)], OneBlob(b""), Report(None))


def test_a_bomb_that_says_it_is_a_layer_that_is_here(data: str) -> None:
    """Only its blob is new, so nothing was written, and it was inflated without an end."""
    here = read_record(data, put(data, "app")).layers[0].diff_id
    bomb = gzip.compress(bytes(64 << 20), 9)
    layer = Descriptor(media_type=f"{OCI_LAYER}+gzip", digest=digest_of(bomb, "sha256"), size=len(bomb))
    limits = LayerLimits(max_bytes=1 << 20)
    with pytest.raises(InvalidArgument, match="more than 1048576 bytes unpacked"):
        fetch_layers(data, [(layer, here)], OneBlob(bomb), Report(None), limits=limits)
    check_whole(data, nothing_else=True)


def test_nothing_is_inherited_from_the_directory_of_the_data_root(tmp_path: Path) -> None:
    """A default ACL and a group on /srv went on into every layer's and every container's root."""
    root = tmp_path / "data"
    root.mkdir()
    os.chown(root, 0, 1234)
    root.chmod(0o2755)
    entries = ((1, 7, 2**32 - 1), (2, 7, 1000), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1))
    os.setxattr(
        root, "system.posix_acl_default", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *x) for x in entries)
    )
    image = read_record(str(root), put(str(root), "app", busybox()))
    script = "/bin/busybox touch /new; /bin/busybox stat -c '%a %u %g' / /new; exec /bin/busybox cat"
    with pycontain.Container(
        "app", ["/bin/busybox", "sh", "-c", script], stdin=pycontain.PIPE, stdout=pycontain.PIPE, data_root=str(root),
        run_root=str(tmp_path / "run"),
    ) as c:  # fmt: skip
        assert c.stdout is not None and [c.stdout.readline() for _ in range(2)] == [b"755 0 0\n", b"644 0 0\n"]
        for path in (layer_path(str(root), image.layers[0].diff_id), f"{c._running.directory}/upper/new"):
            assert not [name for name in os.listxattr(path) if "acl" in name] and os.stat(path).st_gid == 0
