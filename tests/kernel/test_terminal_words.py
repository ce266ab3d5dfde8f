"""What an image says of itself does not steer the terminal of who looks at it, or at an error."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from image_cases import LayoutWriter, member, tar

from pycontain.engine import images

pytestmark = pytest.mark.kernel

STEERING = "\x1b]0;title\x07\x1b[2J\u202e\x9b31m\r"


@pytest.fixture
def image(tmp_path: Path) -> str:
    layer = tar(member(f"f{STEERING}", data=b"x"))
    texts = dict.fromkeys(("created", "created_by", "comment", "author"), STEERING)
    configuration = {
        "architecture": f"amd64{STEERING}", "os": "linux", "created": STEERING, "author": STEERING,
        "config": {"Labels": {STEERING: STEERING}, "Cmd": [STEERING], "User": STEERING, "Env": [f"A={STEERING}"]},
        "history": [texts], "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    writer = LayoutWriter(tmp_path / "oci")
    manifest = {
        "schemaVersion": 2,
        "config": writer.json(configuration, "application/vnd.oci.image.config.v1+json"),
        "layers": [writer.blob(layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    path = writer.finish(writer.json(manifest, "application/vnd.oci.image.manifest.v1+json"))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as out:
        out.add(path, ".")
    (loaded,) = images.load(str(tmp_path / "data"), io.BytesIO(archive.getvalue()))
    return loaded.id


def test_no_command_and_no_error_steers(tmp_path: Path, image: str) -> None:
    base = [str(Path(sys.executable).parent / "pycontain"), "--data-root", str(tmp_path / "data")]
    for words in (
        ["images"], ["images", "--no-trunc", "--digests"], ["images", "--format", "{{json .}}"], ["history", image],
        ["history", "--no-trunc", image], ["image", "inspect", image], ["image", "tree", image], ["run", image],
        ["commit", STEERING], ["rmi", STEERING], ["rmi", image[:9] + STEERING], ["load", "-i", STEERING], ["pull", STEERING],
    ):  # fmt: skip
        done = subprocess.run([*base, "--run-root", str(tmp_path / "run"), *words], capture_output=True, timeout=60)
        said = (done.stdout + done.stderr).decode()
        # JSON is for programs, and as Go writes it: ASCII's control characters are escaped, others are not
        steering = "\x1b\x07\r" if "inspect" in words or "{{json .}}" in words else "\x1b\x07\r\x9b\u202e"
        assert said and not set(steering) & set(said), words
        assert "Traceback" not in said
