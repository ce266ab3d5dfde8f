"""Images between us and the others through a real registry, and through archives: pulled, pushed, saved, loaded, run."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from tests import registries
from tests.clients.engines import Docker, Podman
from tests.registries import DebianRegistry

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

COPY = ["skopeo", "--insecure-policy", "copy", "--quiet"]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with registries.start(tmp_path) as started:
        yield started


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.json").write_text("{}")
    return tmp_path / "data"


@pytest.fixture
def podman() -> Iterator[Podman]:
    with Podman() as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("bin", "etc", "tmp", "srv"):
        (root / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", root / "bin/busybox")
    for applet in ("sh", "cat", "id", "ls", "echo", "stat", "rm", "ln"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    (root / "srv/old").write_text("old\n")
    os.chown(root / "srv", 1000, 1000)
    (root / "srv").chmod(0o750)
    return root


def tar_of(tree: Path) -> bytes:
    return subprocess.run(
        ["tar", "-C", str(tree), "--numeric-owner", "-cf", "-", "."], capture_output=True, check=True
    ).stdout


def ours(tree: Path, name: str) -> pycontain.Image:
    changes = ('CMD ["/bin/cat", "/srv/old"]', "USER app", "WORKDIR /srv", "LABEL made=here")
    return pycontain.Image.import_tar(io.BytesIO(tar_of(tree)), name, changes=changes)


def run(image: str) -> str:
    return str(pycontain.run(image, pull="never", text=True, check=True).stdout)


DOCKERFILE = """FROM scratch
ADD root.tar /
RUN ["/bin/sh", "-c", "rm /srv/old; echo new > /srv/new; ln -s /srv/new /link"]
USER app
ENV GREETING=hello
CMD ["/bin/sh", "-c", "id -u; echo $GREETING; cat /srv/new; ls /srv"]
"""


def context(tmp_path: Path, tree: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "root.tar").write_bytes(tar_of(tree))
    (place / "Dockerfile").write_text(DOCKERFILE)
    return place


def test_an_image_built_by_docker(tmp_path: Path, data: Path, tree: Path, registry: DebianRegistry) -> None:
    name = f"{registry.host}/built/by-docker:1"
    with Docker() as docker:
        docker("build", "--network", "none", "-t", name, str(context(tmp_path, tree)))
        docker("push", name)
        archive = subprocess.run(
            ["/usr/bin/docker", "save", name], capture_output=True, check=True, env=docker.environment(), timeout=60
        ).stdout
        pulled = pycontain.Image.pull(name)
        assert run(name) == "1000\nhello\nnew\nnew\n"
        assert pulled.id == docker("image", "inspect", "-f", "{{.Id}}", name).strip()
        assert pulled.digests == (docker("image", "inspect", "-f", "{{index .RepoDigests 0}}", name).strip(),)
        pulled.remove(force=True)
        (loaded,) = pycontain.Image.load(io.BytesIO(archive))
        assert loaded.id == pulled.id and loaded.names == (name,) and run(name) == "1000\nhello\nnew\nnew\n"


def test_an_image_built_by_buildah(tmp_path: Path, data: Path, tree: Path, registry: DebianRegistry) -> None:
    name = f"{registry.host}/built/by-buildah:1"
    storage = ["buildah", "--root", f"{tmp_path}/bs", "--runroot", f"{tmp_path}/br", "--storage-driver", "vfs"]
    ulimits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]
    try:
        for format in ("oci", "docker"):
            subprocess.run(
                [*storage, "bud", "--format", format, "--isolation", "chroot", *ulimits, "-t", name, str(context(tmp_path, tree))],
                check=True, capture_output=True, timeout=100,
            )  # fmt: skip
            subprocess.run([*storage, "push", "--tls-verify=false", name], check=True, capture_output=True, timeout=100)
            pulled = pycontain.Image.pull(name)
            assert run(name) == "1000\nhello\nnew\nnew\n"
            assert ("docker" in pulled.inspect().manifest.media_type) == (format == "docker")
            pulled.remove(force=True)
            shutil.rmtree(tmp_path / "context")
    finally:
        subprocess.run([*storage, "rmi", "--all", "--force"], capture_output=True, timeout=60, check=False)


def test_an_image_made_by_umoci(tmp_path: Path, data: Path, tree: Path, registry: DebianRegistry) -> None:
    layout, bundle = f"{tmp_path}/layout", tmp_path / "bundle"
    for words in (
        ("init", "--layout", layout),
        ("new", "--image", f"{layout}:v1"),
        ("unpack", "--image", f"{layout}:v1", str(bundle)),
    ):
        subprocess.run(["umoci", *words], check=True, capture_output=True)
    shutil.copytree(tree, bundle / "rootfs", symlinks=True, dirs_exist_ok=True)
    subprocess.run(["umoci", "repack", "--image", f"{layout}:v1", str(bundle)], check=True, capture_output=True)
    subprocess.run(
        ["umoci", "config", "--image", f"{layout}:v1", "--config.cmd", "/bin/ls", "--config.cmd", "/srv"], check=True
    )
    name = f"{registry.host}/umoci:zstd"
    squeezed = f"oci:{tmp_path}/zstd:v1"
    subprocess.run([*COPY, "--dest-compress-format", "zstd", f"oci:{layout}:v1", squeezed], check=True)
    subprocess.run([*COPY, "--dest-tls-verify=false", squeezed, f"docker://{name}"], check=True)
    pulled = pycontain.Image.pull(name)
    assert run(name) == "old\n"
    assert pulled.inspect().layers[0].descriptor.media_type.endswith("zstd")


def test_ours_in_docker_podman_and_skopeo(
    tmp_path: Path, data: Path, tree: Path, registry: DebianRegistry, podman: Podman
) -> None:
    name = f"{registry.host}/ours:1"
    image = ours(tree, name)
    digest = image.push()
    podman("pull", "--quiet", "--tls-verify=false", name)
    assert podman("run", "--rm", name) == "old\n"
    assert podman("image", "inspect", "--format", "{{.Id}} {{.Digest}}", name).split() == [
        image.refreshed().id[7:],
        digest,
    ]
    with Docker() as docker:
        docker("pull", "--quiet", name)
        assert docker("run", "--rm", "--network", "none", name) == "old\n"
        assert docker("image", "inspect", "-f", "{{.Id}} {{.Config.User}} {{.Config.Labels.made}}", name) == (
            f"{image.id} app here\n"
        )
    subprocess.run([*COPY, "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:x"], check=True)
    assert run(f"oci:{tmp_path}/copy:x") == "old\n"


@pytest.mark.parametrize("format", ["docker-archive", "oci-archive"])
def test_our_archives_in_docker_podman_and_skopeo(
    tmp_path: Path, data: Path, tree: Path, format: str, podman: Podman
) -> None:
    image = ours(tree, "ours:1")
    archive = tmp_path / "ours.tar"
    image.save(archive, format=format)
    assert "ours:1" in podman("load", "-i", str(archive))
    assert podman("run", "--rm", "ours:1") == "old\n"
    back = tmp_path / "back.tar"
    podman("save", "--format", format, "-o", str(back), "ours:1")
    if format == "docker-archive":
        with Docker() as docker:
            assert docker("load", "-i", str(archive)) == "Loaded image: ours:1\n"
            assert docker("run", "--rm", "--network", "none", "ours:1") == "old\n"
    subprocess.run([*COPY, f"{format}:{archive}", f"oci:{tmp_path}/copy:x"], check=True)
    assert run(f"oci:{tmp_path}/copy:x") == "old\n"
    image.remove()
    (loaded,) = pycontain.Image.load(back)
    assert loaded.id == image.id and run(loaded.id) == "old\n"


def test_umoci_skopeo_and_buildah_read_our_store(tmp_path: Path, data: Path, tree: Path) -> None:
    ours(tree, "ours:1")
    listed = subprocess.run(["umoci", "ls", "--layout", str(data)], capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["ours:1"]
    subprocess.run(["skopeo", "--insecure-policy", "inspect", f"oci:{data}:ours:1"], check=True, capture_output=True)
    storage = ["buildah", "--root", f"{tmp_path}/bs", "--runroot", f"{tmp_path}/br", "--storage-driver", "vfs"]
    try:
        pulled = subprocess.run(
            [*storage, "from", f"oci:{data}:ours:1"], check=True, capture_output=True, text=True, timeout=100
        )
        config = subprocess.run(
            [*storage, "inspect", "--format", "{{.OCIv1.Config.User}}", pulled.stdout.strip()],
            check=True, capture_output=True, text=True, timeout=100,
        ).stdout  # fmt: skip
        assert config.strip() == "app"
    finally:
        subprocess.run([*storage, "rm", "--all"], capture_output=True, timeout=60, check=False)
        subprocess.run([*storage, "rmi", "--all", "--force"], capture_output=True, timeout=60, check=False)
