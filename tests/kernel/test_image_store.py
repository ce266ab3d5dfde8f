"""OCI layouts, imports and names, down to directories an overlay can be mounted from."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from image_cases import LayoutWriter, is_whiteout, member, tar, use_native

from pycontain.errors import ImageNotFound, InvalidArgument, PycontainError, Unsupported
from pycontain.image.importer import import_tar
from pycontain.image.resolve import resolve
from pycontain.image.rootfs import RootFS

pytestmark = pytest.mark.kernel

ONE = tar(member("etc/passwd", data=b"root"), member("old", data=b"1"))
TWO = tar(member("new", data=b"2"), member(".wh.old"))


@pytest.fixture(autouse=True)
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    use_native(monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "oci")


def fails(kind: type[PycontainError], phrase: str, image: str, data: str) -> None:
    with pytest.raises(kind, match=phrase) as caught:
        resolve(image, data_root=data)
    assert "\n" not in str(caught.value)
    layers = Path(data, "layers")
    assert not layers.exists() or not list(layers.iterdir())
    assert not Path(data, "tmp").exists() or not os.listdir(f"{data}/tmp")


def wraps() -> dict[str, Any]:
    found = {"plain": ("", lambda x: x), "gzip": ("+gzip", lambda x: gzip.compress(x[:700]) + gzip.compress(x[700:]))}
    try:
        import zstandard

        found["zstd"] = ("+zstd", lambda x: zstandard.ZstdCompressor().compress(x))
    except ImportError:
        pass
    return found


@pytest.mark.parametrize("wrap", wraps())
def test_two_layers(layout: LayoutWriter, data: str, wrap: str) -> None:
    config = {"Entrypoint": ["/e"], "Env": ["A=b"], "Labels": {"k": "v"}, "Volumes": {"/v": {}}, "User": "web"}
    path = layout.finish(layout.manifest(ONE, TWO, config=config, wrap=wraps()[wrap]))
    root = resolve(f"oci:{path}", data_root=data)
    top, low = root.lower
    assert is_whiteout(f"{top}/old") and Path(low, "old").read_bytes() == b"1"
    assert (root.config.entrypoint, root.config.env, root.config.user) == (("/e",), ("A=b",), "web")
    assert (root.config.labels, root.config.volumes) == ((("k", "v"),), ("/v",))
    assert resolve(f"oci:{path}", data_root=data) == root
    assert not os.listdir(f"{data}/tmp") and os.stat(f"{data}/layers").st_mode & 0o77 == 0


def test_same_layer_twice_is_stacked_once(layout: LayoutWriter, data: str) -> None:
    path = layout.finish(layout.manifest(ONE, TWO, ONE))
    assert len(resolve(f"oci:{path}", data_root=data).lower) == 2


def test_opaque_root_cuts_the_stack(layout: LayoutWriter, data: str) -> None:
    path = layout.finish(layout.manifest(ONE, tar(member(".wh..wh..opq"), member("only"))))
    assert len(resolve(f"oci:{path}", data_root=data).lower) == 1


def test_references(layout: LayoutWriter, data: str) -> None:
    first, second = layout.manifest(ONE), layout.manifest(TWO)
    path = layout.finish(first, second, refs=("stable", "testing"))
    assert resolve(f"oci:{path}:testing", data_root=data) == RootFS(
        image=f"oci:{path}:testing",
        lower=resolve(f"oci:{path}@{second['digest']}", data_root=data).lower,
        image_id=resolve(f"oci:{path}:testing", data_root=data).image_id,
        platform="linux/amd64",
    )
    with pytest.raises(InvalidArgument, match="one of: stable, testing"):
        resolve(f"oci:{path}", data_root=data)
    with pytest.raises(ImageNotFound, match='Did you mean "stable"'):
        resolve(f"oci:{path}:stabel", data_root=data)
    with pytest.raises(ImageNotFound, match="no manifest of its index"):
        resolve(f"oci:{path}@sha256:{'0' * 64}", data_root=data)


def test_platform_of_a_nested_index(layout: LayoutWriter, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {**layout.manifest(TWO), "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}}
    amd = {**layout.manifest(ONE), "platform": {"architecture": "amd64", "os": "linux"}}
    noise = {**layout.manifest(), "platform": {"architecture": "unknown", "os": "unknown"}}
    path = layout.finish(layout.index(noise, arms, amd))
    uname = os.uname()
    for machine, file in (("x86_64", "etc/passwd"), ("aarch64", "new")):
        monkeypatch.setattr(os, "uname", lambda m=machine: os.uname_result((*uname[:4], m)))
        assert Path(resolve(f"oci:{path}", data_root=data).lower[0], file).exists()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*uname[:4], "riscv64")))
    with pytest.raises(Unsupported, match="no image for linux/riscv64; it has linux/amd64, linux/arm64"):
        resolve(f"oci:{path}", data_root=data)


@pytest.mark.parametrize(
    ("extra", "phrase"),
    [
        ({"manifests": []}, "ambiguous"),
        ({"mediaType": "application/vnd.oci.image.index.v1+json"}, "it says it is"),
        ({"schemaVersion": 1}, "schemaVersion"),
        ({"layers": {}}, "not a list"),
    ],
)
def test_ambiguous_documents(layout: LayoutWriter, data: str, extra: dict[str, Any], phrase: str) -> None:
    """CVE-2021-41190."""
    path = layout.finish(layout.manifest(ONE, **extra))
    fails(InvalidArgument, phrase, f"oci:{path}", data)


def test_damaged_blobs(layout: LayoutWriter, data: str) -> None:
    manifest = layout.manifest(ONE)
    path = layout.finish(manifest)
    blobs = layout.path / "blobs/sha256"
    for blob in list(blobs.iterdir()):
        good = blob.read_bytes()
        for bad, phrase in ((good + b"\0", "descriptor says"), (good.replace(b"root", b"r00t"), "damaged|digest")):
            if bad != good:
                blob.write_bytes(bad)
                fails(InvalidArgument, phrase, f"oci:{path}", data)
        blob.unlink()
        fails(InvalidArgument, "ENOENT", f"oci:{path}", data)
        blob.symlink_to("/etc/passwd")
        fails(InvalidArgument, "symbolic link is not followed", f"oci:{path}", data)
        blob.unlink()
        os.mkfifo(blob)
        fails(InvalidArgument, "not a regular file", f"oci:{path}", data)
        blob.unlink()
        blob.write_bytes(good)
    assert resolve(f"oci:{path}", data_root=data)


def test_wrong_diff_id(layout: LayoutWriter, data: str) -> None:
    path = layout.finish(layout.manifest(ONE, wrap=("", lambda _: TWO)))
    fails(InvalidArgument, "the configuration says", f"oci:{path}", data)


def test_truncated_gzip(layout: LayoutWriter, data: str) -> None:
    path = layout.finish(layout.manifest(ONE, wrap=("+gzip", lambda x: gzip.compress(x)[:-20])))
    fails(InvalidArgument, "cannot unpack the layer", f"oci:{path}", data)


def test_overlay_of_the_layers_shows_the_image(layout: LayoutWriter, data: str, tmp_path: Path) -> None:
    low = tar(member("d/a", data=b"1"), member("e/a", data=b"1"), member("f/a", data=b"1"), member("gone", data=b"1"))
    top = tar(
        member("d/.wh..wh..opq"),
        member("d/b"),
        member(".wh.e"),
        member("e/", tarfile.DIRTYPE),
        member("f/b"),
        member(".wh.gone"),
    )
    root = resolve(f"oci:{layout.finish(layout.manifest(low, top))}", data_root=data)
    (tmp_path / "view").mkdir()
    # In a mount namespace of its own, which ends with the command.
    script = 'mount -t overlay none -o "lowerdir=$1" "$2" && cd "$2" && find . | sort'
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh", ":".join(root.lower)]
    shown = subprocess.run([*command, str(tmp_path / "view")], check=True, capture_output=True, text=True).stdout
    assert shown.split() == [".", "./d", "./d/b", "./e", "./f", "./f/a", "./f/b"]


# Import


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_import_and_resolve(data: str, tmp_path: Path, pack: Any) -> None:
    (tmp_path / "x.tar").write_bytes(pack(ONE))
    changes = ['CMD ["/bin/app", "x"]', "ENV A=1 B='two words'", "WORKDIR /srv", "EXPOSE 80 53/udp"]
    changes += ["LABEL a=b", "USER web:7"]
    image_id = import_tar(str(tmp_path / "x.tar"), "me/app:1", data_root=data, changes=changes)
    root = resolve("me/app:1", data_root=data)
    assert Path(root.lower[0], "etc/passwd").read_bytes() == b"root"
    assert root.image_id == image_id and resolve(image_id, data_root=data).lower == root.lower
    config = root.config
    assert (config.cmd, config.env, config.working_dir) == (("/bin/app", "x"), ("A=1", "B=two words"), "/srv")
    assert (config.exposed_ports, config.labels, config.user) == (("80/tcp", "53/udp"), (("a", "b"),), "web:7")
    via_layout = resolve(f"oci:{data}:me/app:1", data_root=data)  # the data root is a layout
    assert via_layout.lower == root.lower and via_layout.image_id == image_id


def test_reimport_replaces_the_name(data: str) -> None:
    import_tar(io.BytesIO(ONE), "app", data_root=data)
    import_tar(io.BytesIO(TWO), "app", data_root=data)
    assert Path(resolve("app", data_root=data).lower[0], "new").exists()
    manifests = json.loads(Path(data, "index.json").read_text())["manifests"]
    named = ["org.opencontainers.image.ref.name" in each["annotations"] for each in manifests]
    assert named.count(True) == 1 and len(manifests) == 2
    assert not os.listdir(f"{data}/tmp")


@pytest.mark.parametrize(
    ("name", "changes", "phrase"),
    [
        ("host", (), "meaning of its own"),
        ("App", (), "lowercase"),
        ("app", ("RUN x",), "the instructions are CMD"),
        ("app", ("EXPOSE 99999999999",), "is not PORT"),
        ("app", ("STOPSIGNAL NOPE",), "no signal"),
        ("app", ("ONBUILD FROM x",), "FROM cannot be a trigger"),
        ("app", ("ENV A='x",), "without its end"),
        ("app", ("CMD",), "needs a value"),
    ],
)
def test_import_refused_before_anything_is_written(data: str, name: str, changes: tuple[str, ...], phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase):
        import_tar(io.BytesIO(ONE), name, data_root=data, changes=changes)
    assert not os.path.exists(data)


@pytest.mark.parametrize("content", [b"", b"not a tar" * 100, tar(member("../x"))])
def test_failed_import_leaves_no_name(data: str, content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        import_tar(io.BytesIO(content), "app", data_root=data)
    assert not os.listdir(f"{data}/images") and not os.listdir(f"{data}/tmp")
    assert not os.listdir(f"{data}/blobs/sha256")


# Many processes, and death

CHILD = """
import sys
sys.path[:0] = {path!r}
from image_cases import use_native
use_native()
from pycontain.image.resolve import resolve
print(resolve({image!r}, data_root={data!r}).lower[0])
"""


def child(image: str, data: str) -> subprocess.Popen[str]:
    code = CHILD.format(path=sys.path, image=image, data=data)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_processes_at_once_unpack_once(layout: LayoutWriter, data: str) -> None:
    path = layout.finish(layout.manifest(tar(*(member(f"f{n}", data=b"x" * 99) for n in range(3000)))))
    running = [child(f"oci:{path}", data) for _ in range(3)]
    answers = {process.communicate(timeout=60)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(answers) == 1 and len(os.listdir(answers.pop().strip())) == 3000
    assert not os.listdir(f"{data}/tmp") and len(os.listdir(f"{data}/layers")) == 1


def test_kill_leaves_only_a_workspace_that_the_next_one_removes(
    tmp_path: Path, layout: LayoutWriter, data: str
) -> None:
    use = CHILD.split("print")[0] + "from pycontain.image.importer import import_tar\n"
    use += "import_tar('-', 'app', data_root={data!r})"
    code = use.format(path=sys.path, data=data)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(tar(member("first", data=bytes(1 << 20)))[:-4096])
    process.stdin.flush()
    process.stdin.write(b"")
    while not list(Path(data).glob("tmp/*/layer/first")):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert len(os.listdir(f"{data}/tmp")) == 1 and not os.listdir(f"{data}/images")
    resolve(f"oci:{layout.finish(layout.manifest(ONE))}", data_root=data)
    assert not os.listdir(f"{data}/tmp")


# Other tools


def test_image_made_by_umoci(tmp_path: Path, data: str) -> None:
    if not shutil.which("umoci"):
        pytest.skip("umoci is not installed")
    image, bundle = tmp_path / "img", tmp_path / "bundle"

    def umoci(*args: str) -> None:
        subprocess.run(["umoci", *args], check=True, capture_output=True, cwd=tmp_path)

    umoci("init", "--layout", str(image))
    umoci("new", "--image", f"{image}:one")
    umoci("unpack", "--image", f"{image}:one", str(bundle))
    (bundle / "rootfs/etc").mkdir()
    (bundle / "rootfs/etc/passwd").write_text("root")
    (bundle / "rootfs/old").mkdir()
    (bundle / "rootfs/old/file").write_text("1")
    umoci("repack", "--refresh-bundle", "--image", f"{image}:one", str(bundle))
    shutil.rmtree(bundle / "rootfs/old")
    os.mkfifo(bundle / "rootfs/fifo")
    umoci("repack", "--image", f"{image}:two", str(bundle))
    umoci("config", "--image", f"{image}:two", "--config.cmd", "/bin/x")
    root = resolve(f"oci:{image}:two", data_root=data)
    assert len(root.lower) == 2 and is_whiteout(f"{root.lower[0]}/old")
    assert os.path.exists(f"{root.lower[1]}/old/file") and root.config.cmd == ("/bin/x",)


def test_data_root_is_read_by_skopeo(tmp_path: Path, data: str) -> None:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    image_id = import_tar(io.BytesIO(ONE), "app", data_root=data)
    copy = tmp_path / "copy"
    command = ["skopeo", "--insecure-policy", "copy", f"oci:{data}:app:latest", f"oci:{copy}:x"]
    subprocess.run(command, check=True, capture_output=True)
    assert resolve(f"oci:{copy}:x", data_root=str(tmp_path / "other")).image_id.startswith("sha256:")
    assert image_id.startswith("sha256:")
