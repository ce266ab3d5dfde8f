"""Layers that we pack, through other people's tools: umoci and skopeo take them, and unpack what we packed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from image_cases import LayoutWriter
from packing import Tree, differences, layer_bytes, opened, overlay, shm, tree_of

from pycontain.image.compress import WrittenLayer, write_layer
from pycontain.image.layers import HashingReader, unpack_stream
from pycontain.image.pack import pack_layer
from tests.debian import debian_image

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(600),  # the first time, a Debian is downloaded
]


def sh(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (tests/peers/install.sh)")
    return found


@pytest.fixture(scope="module")
def debian() -> Iterator[Path]:
    """A Debian tree with what packages do not have: capabilities, links, devices, nanoseconds."""
    with shm() as place:
        root = place / "debian"
        root.mkdir()
        sh(
            "tar",
            "-xf",
            str(debian_image() / "layer1.tar"),
            "-C",
            str(root),
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
        )
        sh("setcap", "cap_net_raw+ep", str(root / "usr/bin/perl"))
        (root / "etc/new").write_text("new")
        os.link(root / "etc/new", root / "etc/new-too")
        yield root


@pytest.fixture(scope="module")
def changed(debian: Path) -> Iterator[tuple[Path, Tree]]:
    """An upper directory that changes it, and the tree that both together are."""
    place = debian.parent
    upper = place / "upper"
    upper.mkdir()
    with overlay(place, [debian], upper) as root:
        os.unlink(f"{root}/etc/shadow")
        shutil.rmtree(f"{root}/usr/share/doc")
        shutil.rmtree(f"{root}/etc/apt")
        os.mkdir(f"{root}/etc/apt")
        Path(f"{root}/etc/apt/sources.list").write_text("deb-src none\n")
        Path(f"{root}/etc/motd").write_text("hello\n")
        os.chmod(f"{root}/root", 0o711)
        yield upper, tree_of(root)


def written(tree: Path, out: Path, compression: str = "gzip") -> WrittenLayer:
    fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with opened(tree) as (top,), pack_layer(top) as reader:
            return write_layer(reader, fd, compression)
    finally:
        os.close(fd)


def layout(place: Path, trees: list[Path], compression: str) -> str:
    """An image of layers that we packed; the ids are those that write_layer said."""
    writer = LayoutWriter(place)
    suffix = f"+{compression}" if compression else ""
    layers: list[dict[str, Any]] = []
    diff_ids = []
    for tree in trees:
        made = written(tree, place / "blob", compression)
        (place / "blob").rename(place / "blobs/sha256" / made.digest.encoded)
        media_type = f"application/vnd.oci.image.layer.v1.tar{suffix}"
        layers.append({"mediaType": media_type, "digest": str(made.digest), "size": made.size})
        diff_ids.append(str(made.diff_id))
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": writer.json(config, "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    return writer.finish(writer.json(manifest, "application/vnd.oci.image.manifest.v1+json"), refs=("v1",))


def comparable(tree: Tree) -> Tree:
    """Without what the other tool does not keep: the time of the root."""
    return {path: facts for path, facts in tree.items() if path != "."}


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_debian_through_our_own_layer(compression: str, debian: Path) -> None:
    with shm() as place:
        made = written(debian, place / "blob", compression)
        with opened(place) as (fd,), open(place / "blob", "rb") as blob:
            found, stats = unpack_stream(HashingReader(blob, "sha256"), fd, "sha256")
        assert (found, stats.skipped_xattrs) == (made.diff_id, ())
        assert stats.bytes_read <= made.plain_size
        assert differences(tree_of(place / "layer"), tree_of(debian)) == []
        assert written(place / "layer", place / "again", compression) == made


def test_gnu_tar_finds_no_difference_in_debian(debian: Path) -> None:
    done = subprocess.run(["tar", "-d", "-C", str(debian), "-f", "-"], input=layer_bytes(debian), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_umoci_unpacks_the_two_layers(debian: Path, changed: tuple[Path, Tree]) -> None:
    upper, expected = changed
    with shm() as place:
        image = layout(place / "image", [debian, upper], "gzip")
        sh(tool("umoci"), "unpack", "--image", f"{image}:v1", str(place / "bundle"))
        found = tree_of(place / "bundle/rootfs")
        assert differences(comparable(found), comparable(expected)) == []


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_skopeo_decompresses_the_image(compression: str, debian: Path, changed: tuple[Path, Tree]) -> None:
    skopeo = tool("skopeo")
    with shm() as place:
        image, out = layout(place / "image", [debian, changed[0]], compression), place / "out"
        sh(skopeo, "copy", "--insecure-policy", "--dest-decompress", f"oci:{image}:v1", f"dir:{out}")
        layers = [each["digest"] for each in json.loads((out / "manifest.json").read_text())["layers"]]
        config = json.loads(sh(skopeo, "inspect", "--config", f"oci:{image}:v1"))
    assert layers == config["rootfs"]["diff_ids"]  # that of the tar, as they find it


def test_skopeo_makes_a_docker_archive(debian: Path, changed: tuple[Path, Tree]) -> None:
    skopeo = tool("skopeo")
    with shm() as place:
        image, archive = (
            layout(place / "image", [debian, changed[0]], "gzip"),
            f"docker-archive:{place / 'archive.tar'}",
        )
        sh(skopeo, "copy", "--insecure-policy", f"oci:{image}:v1", f"{archive}:test:v1")
        inspected = json.loads(sh(skopeo, "inspect", archive))
        config = json.loads(sh(skopeo, "inspect", "--config", f"oci:{image}:v1"))
    assert inspected["Layers"] == config["rootfs"]["diff_ids"]
