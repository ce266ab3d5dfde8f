"""``commit``, ``export`` and ``diff`` of containers that do not run: stopped, or never started."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from staying import PYCONTAIN, command, run

from pycontain.engine import images
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


@pytest.fixture(autouse=True)
def base_image(roots: Roots, busybox_root: str) -> None:
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "."], capture_output=True, check=True).stdout
    subprocess.run([*PYCONTAIN, "import", "-c", "ENV A=1", "-", "base"], input=tar, check=True, capture_output=True)


def exported(name: str) -> dict[str, tuple[int, int, bytes]]:
    data = subprocess.run([*PYCONTAIN, "export", name], capture_output=True, check=True, timeout=60).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for each in archive:
            file = archive.extractfile(each) if each.isreg() and each.size < 1000 else None
            found[each.name.removeprefix("./")] = (each.uid, each.gid, file.read() if file else b"")
    return found


@pytest.mark.parametrize("userns", [(), ("--userns", "0:200000:65536")])
def test_a_stopped_one(userns: tuple[str, ...], roots: Roots) -> None:
    run(
        "--name",
        "web",
        *userns,
        "-e",
        "B=2",
        "base",
        "sh",
        "-c",
        "echo new > /root/new; chown 7:8 /root/new; rm /etc/group",
    )
    command("wait", "web")
    found = exported("web")
    assert found["root/new"] == (7, 8, b"new\n") and "etc/group" not in found and found["etc/passwd"][:2] == (0, 0)
    image_id = command(
        "commit", "-a", "Ann", "-m", "why", "-c", 'CMD ["/bin/cat", "/root/new"]', "-c", "ENV C=3", "-c", "WORKDIR /root",
        "-c", "USER 7", "-c", "LABEL x=y", "-c", "EXPOSE 80", "-c", "STOPSIGNAL INT", "-c", "VOLUME /data", "web", "made",
    ).stdout.strip()  # fmt: skip
    details = images.inspect_image(roots.data_root, image_id)
    config = details.config
    assert (config.env, config.working_dir, config.user) == (("A=1", "B=2", "C=3"), "/root", "7")
    assert (config.exposed_ports, config.volumes) == (("80/tcp",), ("/data",))
    assert config.stop_signal == "INT" and dict(config.labels) == {"x": "y"} and details.author == "Ann"
    assert command("run", "--rm", "--user", "0", "made").stdout == "new\n"
    command("start", "web")  # nothing of it is held any more


def test_one_that_was_never_started(roots: Roots) -> None:
    command("create", "--name", "web", "base", "true")
    assert command("diff", "web").stdout == ""
    assert "bin/busybox" in exported("web")
    empty = command("commit", "web").stdout.strip()
    assert command("run", "--rm", empty, "cat", "/etc/group").stdout.startswith("root:")


@pytest.mark.parametrize("userns", [(), ("--userns", "0:200000:65536")])
def test_one_that_was_only_copied_into(userns: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("copied")
    command("create", "--name", "web", *userns, "base", "true")
    command("cp", str(tmp_path / "file"), "web:/root/file")
    assert command("diff", "web").stdout == "C /root\nA /root/file\n"
    assert exported("web")["root/file"] == (0, 0, b"copied")
    command("commit", "web", "with-file")
    assert command("run", "--rm", "with-file", "stat", "-c", "%u %s", "/root/file").stdout == "0 6\n"


@pytest.mark.parametrize("pause", ["true", "false"])
def test_a_running_and_a_paused_one(pause: str) -> None:
    run("--name", "web", "base", "sh", "-c", "echo x > /root/x; echo up; sleep 1000")
    from staying import saying, state

    saying("web", "up")
    command("commit", f"--pause={pause}", "web", "running")
    assert state("web") == "running"
    command("pause", "web")
    command("commit", f"--pause={pause}", "web", "paused")
    assert state("web") == "paused"
    for name in ("running", "paused"):
        assert command("run", "--rm", name, "cat", "/root/x").stdout == "x\n"


def test_one_line_for_what_cannot_be() -> None:
    command("create", "--name", "here", "host", "true")
    assert "runs on no image's layers" in command("commit", "here", code=1).stderr
    assert "No such container: nosuch" in command("export", "nosuch", code=1).stderr


def test_triggers_of_later_builds(busybox_root: str) -> None:
    """ONBUILD: those of the image stay, and the new ones come after them."""
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "etc"], capture_output=True, check=True).stdout
    words = [*PYCONTAIN, "import", "-c", "ONBUILD RUN one", "-", "with"]
    subprocess.run(words, input=tar, check=True, capture_output=True)
    command("create", "--name", "web", "with", "true")
    image_id = command("commit", "-c", "onbuild COPY . /two", "-c", "ONBUILD RUN three", "web").stdout.strip()
    (document,) = json.loads(command("image", "inspect", image_id).stdout)
    assert document["Config"]["OnBuild"] == ["RUN one", "COPY . /two", "RUN three"]


def test_marks_of_overlayfs_mean_nothing_in_a_copy(tmp_path: Path) -> None:
    """Neither a device 0:0 nor an attribute hides anything of a directory that is nobody's layer."""
    (tmp_path / "data/dir").mkdir(parents=True)
    (tmp_path / "data/dir/file").write_text("x")
    os.setxattr(tmp_path / "data/dir", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "data/dir/file", "trusted.overlay.metacopy", b"")
    os.mknod(tmp_path / "data/zero", 0o20600, 0)
    command("create", "--name", "web", "-v", f"{tmp_path}/data:/root", "base", "true")
    command("cp", "web:/root", str(tmp_path / "out"))
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")) == [
        "dir",
        "dir/file",
        "zero",
    ]
