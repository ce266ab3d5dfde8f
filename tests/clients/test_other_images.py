"""Images that other people's tools made, run by the installed command as a user types it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PYCONTAIN = str(Path(sys.executable).parent / "pycontain")


def sh(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, timeout=100)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (tests/peers/install.sh)")
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture
def busybox(place: Path) -> Path:
    """A root file system of static busybox, with a user."""
    root = place / "root"
    for name in ("bin", "etc", "tmp", "home/app"):
        (root / name).mkdir(parents=True)
    shutil.copy2(tool("busybox"), root / "bin/busybox")
    for applet in ("sh", "cat", "id", "ls", "pwd", "env", "echo", "stat"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    return root


@pytest.fixture
def umoci_layout(place: Path, busybox: Path) -> str:
    """Two layers: the root, and one that changes it; made and configured by umoci."""
    umoci = tool("umoci")
    layout = str(place / "layout")
    sh(umoci, "init", "--layout", layout)
    sh(umoci, "new", "--image", f"{layout}:v1")
    sh(umoci, "unpack", "--image", f"{layout}:v1", str(place / "bundle"))
    shutil.copytree(busybox, place / "bundle/rootfs", symlinks=True, dirs_exist_ok=True)
    (place / "bundle/rootfs/old").write_text("old\n")
    sh(umoci, "repack", "--image", f"{layout}:v1", str(place / "bundle"))
    (place / "bundle/rootfs/old").unlink()
    (place / "bundle/rootfs/new").write_text("new\n")
    sh(umoci, "repack", "--refresh-bundle", "--image", f"{layout}:v1", str(place / "bundle"))
    sh(
        umoci, "config", "--image", f"{layout}:v1", "--config.entrypoint", "/bin/sh", "--config.cmd", "-c", "--config.cmd",
        "id -u; id -G; pwd; echo $GREETING; cat /new; ls /old", "--config.user", "app", "--config.workingdir", "/home/app",
        "--config.env", "GREETING=hello",
    )  # fmt: skip
    return f"oci:{layout}:v1"


def test_umoci_image_with_its_own_configuration(umoci_layout: str) -> None:
    done = subprocess.run([PYCONTAIN, "run", "--rm", umoci_layout], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["1000", "1000 2000", "/home/app", "hello", "new"]
    assert "/old" in done.stderr and done.returncode == 1  # the second layer removed it


def test_command_line_overrides_the_image(umoci_layout: str) -> None:
    out = sh(
        PYCONTAIN,
        "run",
        "--rm",
        "-u",
        "0",
        "-w",
        "/tmp",
        "-e",
        "GREETING=bye",
        umoci_layout,
        "-c",
        "id -u; pwd; echo $GREETING",
    )
    assert out.splitlines() == ["0", "/tmp", "bye"]


def test_skopeo_copy_is_the_same_image(umoci_layout: str, place: Path) -> None:
    copy = f"oci:{place / 'copy'}:other"
    sh(tool("skopeo"), "copy", "--insecure-policy", "--dest-compress-format", "zstd", umoci_layout, copy)
    assert sh(PYCONTAIN, "run", "--rm", copy, "-c", "cat /new") == "new\n"


def test_buildah_image_of_a_dockerfile(busybox: Path, place: Path) -> None:
    (place / "Dockerfile").write_text(
        'FROM scratch\nCOPY root /\nRUN ["/bin/sh", "-c", "echo built > /built"]\nCMD ["/bin/cat", "/built"]\n'
    )
    buildah, layout = tool("buildah"), f"oci:{place / 'built'}:v1"
    storage = ["--root", str(place / "storage"), "--runroot", str(place / "storage-run"), "--storage-driver", "vfs"]
    try:
        sh(
            buildah,
            *storage,
            "bud",
            "--isolation",
            "chroot",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1000:1000",
            "-t",
            "built",
            str(place),
        )
        sh(buildah, *storage, "push", "built", layout)
        assert sh(PYCONTAIN, "run", "--rm", layout) == "built\n"
    finally:
        subprocess.run([buildah, *storage, "rmi", "--all", "--force"], capture_output=True, timeout=60)


def test_tar_of_gnu_tar_becomes_an_image(busybox: Path, place: Path) -> None:
    sh("tar", "-C", str(busybox), "--numeric-owner", "-czf", str(place / "root.tar.gz"), ".")
    image_id = sh(
        PYCONTAIN,
        "import",
        "--change",
        'CMD ["/bin/id", "-un"]',
        "--change",
        "USER app",
        str(place / "root.tar.gz"),
        "small:v1",
    ).strip()
    assert image_id.startswith("sha256:")
    assert sh(PYCONTAIN, "run", "--rm", "small:v1") == "app\n"
    assert sh(PYCONTAIN, "run", "--rm", "-u", "root", "small:v1", "/bin/id", "-u") == "0\n"


def test_unknown_image_names_the_near_one(busybox: Path, place: Path) -> None:
    sh("tar", "-C", str(busybox), "-cf", str(place / "root.tar"), ".")
    sh(PYCONTAIN, "import", str(place / "root.tar"), "small")
    done = subprocess.run([PYCONTAIN, "run", "smal"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 125 and "small" in done.stderr and done.stderr.count("\n") == 1
