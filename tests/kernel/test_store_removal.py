"""Names, removal and garbage: what goes, what stays, and what a crash or a full disk leaves."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from image_cases import member, tar

import pycontain
from pycontain.engine import images
from pycontain.errors import Conflict, ImageNotFound, InvalidArgument, PycontainError
from pycontain.image.importer import import_tar
from pycontain.image.records import list_records
from pycontain.image.resolve import resolve

pytestmark = pytest.mark.kernel

ONE = tar(member("a", data=b"1"))
TWO = tar(member("b", data=b"2"))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def put(data: str, name: str, layer: bytes = ONE, *changes: str) -> str:
    return import_tar(io.BytesIO(layer), name, data_root=data, changes=changes)


def files(data: str) -> dict[str, set[str]]:
    kinds = ("blobs/sha256", "layers", "images", "names", "sizes")
    return {each: {path.name for path in Path(data, each).glob("*")} for each in kinds}


def check_whole(data: str, *, nothing_else: bool) -> None:
    """Every image has all that it consists of, each blob is what its name says, and index.json agrees."""
    blobs: set[str] = set()
    layers: set[str] = set()
    for each in list_records(data):
        blobs |= {blob.digest.encoded for blob in each.blobs}
        layers |= {layer.diff_id.encoded for layer in each.layers}
    found = files(data)
    assert blobs <= found["blobs/sha256"] and layers <= found["layers"]
    for blob in blobs:
        assert hashlib.sha256(Path(data, "blobs/sha256", blob).read_bytes()).hexdigest() == blob
    for name in found["names"]:
        assert name.startswith(".") or os.path.exists(f"{data}/names/{name}"), f"{name} leads nowhere"
    if nothing_else:
        assert found["blobs/sha256"] == blobs and found["layers"] == layers == found["sizes"]
        assert not os.listdir(f"{data}/tmp")


def named_in_index(data: str) -> list[str]:
    manifests = json.loads(Path(data, "index.json").read_text())["manifests"]
    return sorted(each.get("annotations", {}).get("org.opencontainers.image.ref.name", "") for each in manifests)


def actions(removed: list[images.Removed]) -> list[str]:
    return [f"{each.action}: {each.what}" for each in removed]


def test_remove_by_name_takes_all_that_only_it_had(data: str) -> None:
    image_id = put(data, "app:1")
    layer = list_records(data)[0].layers[0].diff_id
    assert actions(images.remove_image(data, "app:1")) == [
        "Untagged: app:1",
        f"Deleted: {image_id}",
        f"Deleted: {layer}",
    ]
    assert files(data) == {each: set() for each in files(data)} and named_in_index(data) == []
    with pytest.raises(ImageNotFound, match="no such image: app:1"):
        images.remove_image(data, "app:1")


def test_a_shared_layer_stays_until_its_last_image(data: str) -> None:
    first, second = put(data, "one"), put(data, "two", ONE, "ENV A=b")
    assert first != second and len(files(data)["layers"]) == 1
    assert actions(images.remove_image(data, "one")) == ["Untagged: one:latest", f"Deleted: {first}"]
    assert resolve("two", data_root=data).lower and len(files(data)["layers"]) == 1
    images.remove_image(data, second[7:19])
    check_whole(data, nothing_else=True)
    assert not files(data)["layers"]


def test_several_names(data: str) -> None:
    image_id = put(data, "app:1")
    images.tag_image(data, "app:1", "localhost:5000/x/app:2")
    images.tag_image(data, image_id, "app:3")
    with pytest.raises(Conflict, match="must be forced"):
        images.remove_image(data, image_id)
    assert actions(images.remove_image(data, "app:1")) == ["Untagged: app:1"]
    assert images.find_image(data, "app:3").names == ("app:3", "localhost:5000/x/app:2")
    assert named_in_index(data) == ["app:3", "localhost:5000/x/app:2"]
    assert len(actions(images.remove_image(data, image_id, force=True))) == 4
    assert images.list_images(data) == []


def test_a_name_that_moves_leaves_an_image_without_one(data: str) -> None:
    first = put(data, "app")
    put(data, "app", TWO)
    assert sorted(each.names for each in images.list_images(data)) == [(), ("app:latest",)]
    assert named_in_index(data) == ["", "app:latest"]
    removed, freed = images.prune_images(data)
    assert f"Deleted: {first}" in actions(removed) and freed > 0
    assert [each.names for each in images.list_images(data)] == [("app:latest",)]
    check_whole(data, nothing_else=True)


def test_an_image_that_runs_cannot_be_removed(tmp_path: Path, data: str) -> None:
    image_id = put(data, "app", busybox())
    put(data, "other", busybox(), "ENV A=b")
    images.tag_image(data, "app", "again")
    run_root = str(tmp_path / "run")
    with pycontain.Container(
        "app", ["/bin/busybox", "cat"], stdin=pycontain.PIPE, data_root=data, run_root=run_root
    ) as c:
        images.remove_image(data, "again")
        with pytest.raises(Conflict, match="using its referenced image"):
            images.remove_image(data, "app")
        with pytest.raises(Conflict, match="cannot be forced"):
            images.remove_image(data, image_id, force=True)
        assert images.prune_images(data, all=True)[0]  # only the other one
        assert images.find_image(data, "app").id == image_id
        assert actions(images.remove_image(data, "app", force=True)) == ["Untagged: app:latest"]
        assert c.poll() is None and os.path.exists(resolve(image_id, data_root=data).lower[0])
    images.remove_image(data, image_id)
    check_whole(data, nothing_else=True)


def test_a_layout_elsewhere_that_runs_keeps_its_layers(tmp_path: Path, data: str) -> None:
    from image_cases import LayoutWriter

    layout = LayoutWriter(tmp_path / "oci")
    image = f"oci:{layout.finish(layout.manifest(busybox()))}"
    options = {"data_root": data, "run_root": str(tmp_path / "run")}
    with pycontain.Container(image, ["/bin/busybox", "cat"], stdin=pycontain.PIPE, **options):  # type: ignore[arg-type]
        images.prune_images(data, all=True)
        assert len(files(data)["layers"]) == 1
    images.prune_images(data, all=True)
    check_whole(data, nothing_else=True)


def busybox() -> bytes:
    return tar(member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755))


def test_ids_and_their_beginnings(data: str) -> None:
    ids = [put(data, "", ONE, f"ENV A={n}") for n in range(17)]
    shared = next(x[7] for x in ids if sum(y[7] == x[7] for y in ids) > 1)
    with pytest.raises(Conflict, match="beginning of"):
        images.find_image(data, shared)
    assert images.find_image(data, ids[3]).id == images.find_image(data, ids[3][7:]).id == ids[3]
    assert images.find_image(data, ids[3][7:27]).id == ids[3] == resolve(ids[3][7:27], data_root=data).image_id
    put(data, "abc", TWO)
    assert images.find_image(data, "abc").names == ("abc:latest",)  # a name before an id
    with pytest.raises(ImageNotFound):
        images.find_image(data, "sha256:" + "0" * 64)
    with pytest.raises(InvalidArgument):
        images.find_image(data, "UPPER")


def test_a_damaged_record_is_named_and_nothing_is_removed(data: str) -> None:
    image_id = put(data, "app")
    put(data, "other", TWO)
    Path(data, "images", image_id[7:]).write_bytes(b"{")
    before = files(data)
    assert len(images.list_images(data)) == 2  # the index still knows it
    for attempt in (
        lambda: images.find_image(data, "app"),
        lambda: images.remove_image(data, "other"),
        lambda: images.prune_images(data),
    ):
        with pytest.raises(InvalidArgument, match=f"images/{image_id[7:]}: it is damaged"):
            attempt()
    assert files(data) == before


def test_names_by_digest_go_with_the_last_tag(data: str) -> None:
    from pycontain.image.names import parse_reference
    from pycontain.image.records import set_names

    image_id = put(data, "debian:12")
    set_names(
        data, [parse_reference("debian@sha256:" + "1" * 64), parse_reference("q.io/d@sha256:" + "1" * 64)], image_id
    )
    assert images.find_image(data, "debian:12").digests == ("debian@sha256:" + "1" * 64, "q.io/d@sha256:" + "1" * 64)
    assert actions(images.remove_image(data, "debian:12")) == [
        "Untagged: debian:12",
        "Untagged: debian@sha256:" + "1" * 64,
    ]
    assert images.find_image(data, "q.io/d@sha256:" + "1" * 64).id == image_id
    assert len(images.remove_image(data, image_id)) == 3


WORKER = """
import io, os, random, sys
sys.path[:0] = {path!r}
from image_cases import member, tar
from pycontain.engine import images
from pycontain.errors import Conflict, ImageNotFound
from pycontain.image.importer import import_tar
shared = tar(member("shared", data=b"s" * 100_000))
rng = random.Random({seed})
n = 0
while n < {rounds}:
    n += 1
    name = f"app:{{rng.randrange(4)}}"
    try:
        if rng.random() < 0.5:
            layer = shared if rng.random() < 0.7 else tar(member("own", data=os.urandom(50_000)))
            import_tar(io.BytesIO(layer), name, data_root={data!r}, changes=(f"ENV N={{rng.randrange(6)}}",))
        elif rng.random() < 0.8:
            images.remove_image({data!r}, name, force=True)
        else:
            images.prune_images({data!r})
    except (Conflict, ImageNotFound):
        pass
print("done")
"""


def worker(data: str, seed: int, rounds: int) -> subprocess.Popen[str]:
    code = WORKER.format(path=sys.path, data=data, seed=seed, rounds=rounds)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_many_processes_store_and_remove_at_once(data: str) -> None:
    workers = [worker(data, seed, 40) for seed in range(4)]
    assert [each.communicate(timeout=90)[0] for each in workers] == ["done\n"] * 4
    check_whole(data, nothing_else=False)
    images.prune_images(data)
    check_whole(data, nothing_else=True)


def test_kill_at_any_moment_loses_nothing_and_prune_leaves_nothing(data: str) -> None:
    put(data, "kept", TWO, "ENV KEPT=1")
    kept = images.find_image(data, "kept")
    rng = random.Random(7)
    for seed in range(25):
        process = worker(data, seed, 1_000_000)
        deadline = time.monotonic() + 30
        while not os.listdir(f"{data}/tmp") and time.monotonic() < deadline:
            pass  # it has begun to store or to remove
        time.sleep(rng.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        check_whole(data, nothing_else=False)
        assert images.find_image(data, "kept") == kept
    images.prune_images(data)
    check_whole(data, nothing_else=True)
    assert "kept:latest" in named_in_index(data)


@pytest.mark.parametrize("room_kib", [64, 200, 330, 1000])
def test_a_full_disk(tmp_path: Path, room_kib: int) -> None:
    """An image that does not fit is one error, leaves what was there, and gives its room back."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room_kib + 100}k", "none", str(disk)], check=True)
    try:
        data = str(disk / "data")
        put(data, "small", ONE)
        big = tar(*(member(f"f{n}", data=os.urandom(10_000)) for n in range(60)))
        free = os.statvfs(disk).f_bavail
        with pytest.raises(PycontainError, match=r"ENOSPC|No space"):
            put(data, "big", big)
        assert os.statvfs(disk).f_bavail >= free - 2
        assert [each.names for each in images.list_images(data)] == [("small:latest",)]
        assert resolve("small", data_root=data).lower
        images.remove_image(data, "small")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_list_is_the_same_from_the_index_and_from_the_records(data: str) -> None:
    from pycontain.image import records
    from pycontain.image.names import parse_reference

    put(data, "app:1", ONE, "LABEL a=b")
    second = put(data, "app:2", TWO)
    images.tag_image(data, "app:2", "other/name:x")
    put(data, "", TWO, "ENV A=1")
    written_ns = os.stat(f"{data}/index.json").st_mtime_ns - 10**9  # not in the same tick of the kernel's clock
    os.utime(f"{data}/index.json", ns=(written_ns, written_ns))
    records.set_names(data, [parse_reference("app@sha256:" + "1" * 64)], second)
    assert records._from_index(data) is None  # a change was killed before it came to the index
    listed = images.list_images(data)
    records.write_index(data)
    quick = records._from_index(data)
    assert quick is not None and sorted(quick, key=lambda x: x.id) == sorted(listed, key=lambda x: x.id)
    assert images.list_images(data) == listed and len(listed) == 3
    Path(data, "index.json").write_text('{"schemaVersion": 2, "manifests": [{}]}')  # another tool's
    assert images.list_images(data) == listed
