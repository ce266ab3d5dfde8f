"""``save`` and ``load``: OCI and Docker archives, both ways, and archives that a stranger made."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_cases import member, tar
from test_store_removal import check_whole, files, put

from pycontain.engine import images
from pycontain.errors import ImageNotFound, InvalidArgument, PycontainError, Unsupported
from pycontain.image.resolve import resolve

pytestmark = pytest.mark.kernel

ONE = tar(member("a", data=b"1" * 5000), member("d/", tarfile.DIRTYPE))
TWO = tar(member("b", data=b"2"))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


@pytest.fixture
def other(tmp_path: Path) -> str:
    return str(tmp_path / "other")


def saved(data: str, *names: str, format: str = "docker-archive") -> bytes:
    out = io.BytesIO()
    images.save(data, names, out, format=format)
    return out.getvalue()


def load(data: str, archive: bytes, **options: Any) -> list[images.ImageInfo]:
    return images.load(data, io.BytesIO(archive), **options)


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_there_and_back(data: str, other: str, format: str) -> None:
    first = put(data, "app:1", ONE, 'CMD ["x"]')
    images.tag_image(data, "app:1", "localhost:5000/app:2")
    second = put(data, "", gzip.compress(TWO))
    archive = saved(data, "app:1", "localhost:5000/app:2", second, format=format)
    loaded = load(other, gzip.compress(archive))
    assert [(each.id, each.names) for each in loaded] == [(first, ("app:1", "localhost:5000/app:2")), (second, ())]
    assert resolve("app:1", data_root=other).config.cmd == ("x",)
    assert images.find_image(other, "app:1").size == images.find_image(data, "app:1").size == 5000
    check_whole(other, nothing_else=True)
    assert saved(other, "app:1", "localhost:5000/app:2", second, format=format) == archive
    if format == "docker-archive":  # the part that old Docker reads, alone
        old = without(archive, "oci-layout", "index.json")
        third = str(Path(other).parent / "third")
        assert [(each.id, each.names) for each in load(third, old)] == [(x.id, x.names) for x in loaded]
        check_whole(third, nothing_else=True)


def without(archive: bytes, *names: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for info in old:
            if info.name not in names:
                new.addfile(info, old.extractfile(info) if info.isfile() else None)
    return out.getvalue()


def test_a_repository_stands_for_all_its_tags(data: str, other: str) -> None:
    put(data, "app:1", ONE)
    put(data, "app:2", TWO)
    put(data, "application:1", TWO, "ENV A=b")
    assert sorted(x for each in load(other, saved(data, "app")) for x in each.names) == ["app:1", "app:2"]


@pytest.mark.parametrize(
    ("names", "format", "kind", "phrase"),
    [
        ((), "docker-archive", InvalidArgument, "nothing"),
        (("app",), "zip", InvalidArgument, "the formats are docker-archive and oci-archive"),
        (("nosuch",), "docker-archive", ImageNotFound, "no such image: nosuch"),
    ],
)
def test_save_refused(data: str, names: tuple[str, ...], format: str, kind: type[PycontainError], phrase: str) -> None:
    put(data, "app")
    with pytest.raises(kind, match=phrase):
        saved(data, *names, format=format)


def docker_archive(
    *layers: bytes, tags: Any = ("app:1",), changes: dict[str, Any] | None = None, **config: Any
) -> bytes:
    """As `docker save` wrote it before 25: the second copy of a layer is a link to the first."""
    document = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(x).hexdigest()}" for x in layers]},
            **config,
        }
    ).encode()
    name = hashlib.sha256(document).hexdigest() + ".json"
    seen: dict[bytes, str] = {}
    members, paths = [member(name, data=document)], []
    for n, layer in enumerate(layers):
        path = f"{n:064x}/layer.tar"
        if layer in seen:
            members.append(member(path, tarfile.SYMTYPE, linkname=f"../{seen[layer]}"))
        else:
            members.append(member(path, data=layer))
        seen.setdefault(layer, path)
        paths.append(path)
    entry = {"Config": name, "RepoTags": list(tags) if tags else None, "Layers": paths, **(changes or {})}
    return tar(*members, member("manifest.json", data=json.dumps([entry]).encode()))


def test_docker_before_25(data: str) -> None:
    loaded = load(data, docker_archive(ONE, TWO, ONE, tags=("app:1", "b/c:2")))
    assert [each.names for each in loaded] == [("app:1", "b/c:2")]
    assert len(resolve("app:1", data_root=data).lower) == 2
    check_whole(data, nothing_else=True)
    assert load(data, docker_archive(ONE, TWO, ONE, tags=None))[0].id == loaded[0].id
    assert load(data, docker_archive(gzip.compress(ONE)[:0] + ONE))[0].names == ("app:1",)


def test_a_docker_archive_with_compressed_layers(data: str) -> None:
    archive = docker_archive(ONE)
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for info in old:
            content = old.extractfile(info).read()  # type: ignore[union-attr]
            if info.name.endswith("layer.tar"):
                content = gzip.compress(content)
            info.size = len(content)
            new.addfile(info, io.BytesIO(content))
    load(data, out.getvalue())
    assert Path(resolve("app:1", data_root=data).lower[0], "a").read_bytes() == b"1" * 5000


OUTSIDE = "/etc/passwd"


@pytest.mark.parametrize(
    ("archive", "kind", "phrase"),
    [
        (b"", InvalidArgument, "empty"),
        (b"no tar at all" * 100, InvalidArgument, "cannot unpack"),
        (ONE, InvalidArgument, "neither oci-layout nor manifest.json.*pycontain import"),
        (tar(member("manifest.json", data=b"[")), InvalidArgument, "no JSON"),
        (tar(member("manifest.json", data=b"{}")), InvalidArgument, "no list of images"),
        (tar(member("manifest.json", data=b"[" * 100_000)), InvalidArgument, "no JSON"),
        (tar(member("manifest.json", data=b"[7]")), InvalidArgument, "no list of images"),
        (tar(member("manifest.json", tarfile.FIFOTYPE)), InvalidArgument, "not a regular file"),
        (tar(member("manifest.json", tarfile.CHRTYPE, devmajor=1, devminor=5)), InvalidArgument, "not a regular file"),
        (tar(member("manifest.json", tarfile.SYMTYPE, linkname=OUTSIDE)), InvalidArgument, "incomplete"),
        (tar(member("manifest.json", tarfile.DIRTYPE)), InvalidArgument, "not a regular file"),
        (tar(member("../manifest.json", data=b"[]")), InvalidArgument, "leaves the layer"),
        (docker_archive(ONE, changes={"Config": OUTSIDE}), InvalidArgument, "incomplete"),
        (docker_archive(ONE, changes={"Config": "../../../../etc/passwd"}), InvalidArgument, "incomplete"),
        (docker_archive(ONE, changes={"Config": None}), InvalidArgument, "no path"),
        (docker_archive(ONE, changes={"Layers": [OUTSIDE]}), InvalidArgument, "incomplete"),
        (docker_archive(ONE, changes={"Layers": []}), InvalidArgument, "0 layers and 1 diff_ids"),
        (docker_archive(ONE, changes={"Layers": ["a\0b"]}), InvalidArgument, "no path of the archive"),
        (docker_archive(ONE, tags=("Upper:1",)), InvalidArgument, "must be lowercase"),
        (docker_archive(ONE, tags=("host",)), InvalidArgument, "meaning of its own"),
        (docker_archive(ONE, changes={"RepoTags": "app"}), InvalidArgument, "no list of names"),
        (docker_archive(ONE, os="windows"), Unsupported, "linux is needed"),
        (docker_archive(ONE, rootfs={"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}), InvalidArgument, "says"),
        (docker_archive(tar(member("../x"))), InvalidArgument, "leaves the layer"),
        (docker_archive(ONE)[:6000], InvalidArgument, "truncated|ends"),
    ],
)
def test_hostile_archives(data: str, archive: bytes, kind: type[PycontainError], phrase: str) -> None:
    with pytest.raises(kind, match=phrase) as caught:
        load(data, archive)
    assert "\n" not in str(caught.value) and type(caught.value) is kind
    assert images.list_images(data) == [] and not os.listdir(f"{data}/tmp")
    assert not files(data)["names"] and not files(data)["layers"]


def test_a_damaged_blob_in_an_oci_archive(data: str, other: str) -> None:
    put(data, "app", ONE)
    archive = saved(data, "app", format="oci-archive")
    at = archive.index(b"11111111")
    with pytest.raises(InvalidArgument, match="digest"):
        load(other, archive[:at] + b"2" + archive[at + 1 :])
    assert images.list_images(other) == [] and not os.listdir(f"{other}/tmp")


def test_ref_names_that_are_only_tags_name_nothing(data: str, tmp_path: Path) -> None:
    """skopeo and umoci write a bare tag as ref.name when they are told no more."""
    from image_cases import LayoutWriter

    writer = LayoutWriter(tmp_path / "oci")
    writer.finish(writer.manifest(ONE), writer.manifest(TWO), refs=("latest", "me/app:v1"))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(tmp_path / "oci", ".")
    assert [each.names for each in load(data, out.getvalue())] == [(), ("me/app:v1",)]
