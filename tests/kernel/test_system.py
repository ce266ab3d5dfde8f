"""`info`, `system df`, `system prune`; images of containers that stay, whether they run or not, and their layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from staying import command, run, state

from pycontain.engine import containers, images
from pycontain.engine.system import disk_usage
from pycontain.errors import Conflict
from pycontain.image import collect
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

IGNORED = ("host", "sleep", "1000")


@pytest.fixture
def image(staying: Roots, busybox_root: str) -> str:
    """The id of busybox:1, of one layer."""
    return imported(busybox_root, "busybox:1")


def imported(root: str, name: str) -> str:
    tar = subprocess.run(["tar", "-C", root, "-c", "."], capture_output=True, check=True).stdout
    words = [sys.executable, "-m", "pycontain", "import", "-", name]
    return subprocess.run(words, input=tar, capture_output=True, check=True).stdout.decode().strip()


def ended(*words: str) -> str:
    container_id = run(*words)
    command("wait", container_id)
    return container_id


# --- images of containers that do not run -----------------------------------------------------------------------------------


def test_a_stopped_containers_image_is_not_removed(staying: Roots, image: str) -> None:
    it = ended("--name", "it", "busybox:1", "sh", "-c", "echo kept >/x")
    short = image.removeprefix("sha256:")[:12]
    refused = command("rmi", "busybox:1", code=1).stderr
    assert refused == (
        f'pycontain: conflict: unable to remove repository reference "busybox:1" (must force) - container {it[:12]} is using its '
        f"referenced image {short}\n"
    )
    refused = command("rmi", short, code=1).stderr
    assert refused == (
        f"pycontain: conflict: unable to delete {short} (must be forced) - image is being used by stopped container {it[:12]}\n"
    )
    assert command("rmi", "-f", "busybox:1").stdout == "Untagged: busybox:1\n"
    assert command("images", "-q").stdout.split() == [short]  # it stays, without a name
    assert "must be forced" in command("rmi", "-f", short, code=1).stderr
    assert command("image", "prune", "-af").stdout == "Total reclaimed space: 0B\n"
    assert command("start", "-a", "it").stdout == ""
    assert (Path(detached.directory_of(staying, it)) / "layer/upper/x").read_text() == "kept\n"
    command("rm", "it")
    assert f"deleted: {image}" in command("image", "prune", "-f").stdout


@pytest.mark.parametrize("made", ["created", "exited"])
def test_prune_keeps_what_a_container_can_be_started_from(staying: Roots, image: str, made: str) -> None:
    if made == "created":
        command("create", "--name", "it", "busybox:1", "sh", "-c", "echo up")
    else:
        ended("--name", "it", "busybox:1", "sh", "-c", "echo up")
    assert state("it") == made
    assert command("image", "prune", "-af").stdout == "Total reclaimed space: 0B\n"
    assert command("start", "-a", "it").stdout == "up\n"
    names = command("ps", "-a", "--filter", "ancestor=busybox:1", "--format", "{{.Names}}").stdout
    assert (
        names == "it\n" == command("ps", "-a", "--filter", f"ancestor={image[7:19]}", "--format", "{{.Names}}").stdout
    )


def test_a_running_containers_image(staying: Roots, image: str) -> None:
    run("--name", "it", "busybox:1", "sleep", "1000")
    assert "a running container is using" in command("rmi", "busybox:1", code=1).stderr
    assert command("rmi", "-f", "busybox:1").stdout == "Untagged: busybox:1\n"
    command("image", "prune", "-af")
    command("restart", "-t", "0", "it")
    assert state("it") == "running"


def test_layers_that_a_removed_image_shares_with_a_stopped_containers(
    staying: Roots, image: str, busybox_root: str
) -> None:
    run("--name", "maker", "busybox:1", "sh", "-c", "echo more >/more; sleep 1000")
    command("commit", "maker", "child:1")
    command("rm", "-f", "maker")
    command("create", "--name", "it", "child:1", "cat", "/more")
    command("rmi", "busybox:1")
    command("image", "prune", "-af")
    assert command("start", "-a", "it").stdout == "more\n"


def test_who_makes_a_container_holds_its_image(staying: Roots, image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look at the image and the moment that it is written down whose it is, a removal comes."""
    seen: list[str] = []
    real = detached.publish

    def publish(roots: Roots, found: detached.Detached, prepare: Callable[[str], None] | None = None) -> None:
        with pytest.raises(Conflict):
            images.remove_image(roots.data_root, "busybox:1")
        seen.append(found.id)
        real(roots, found, prepare)

    monkeypatch.setattr("pycontain.runtime.detached_start.publish", publish)
    from pycontain.request import RunRequest

    made = containers.create(RunRequest(image="busybox:1", args=("true",)), staying)
    assert seen == [made]
    with pytest.raises(Conflict, match="must force"):
        images.remove_image(staying.data_root, "busybox:1")
    assert isinstance(collect.prune(staying.data_root, lambda _: False)[0], list)


def test_a_layouts(staying: Roots, busybox_root: str, tmp_path: Path) -> None:
    """An image without a record: nothing but its container says that it is needed."""
    elsewhere = Roots(data_root=str(tmp_path / "data"), run_root=staying.run_root)
    words = [sys.executable, "-m", "pycontain", "--data-root", elsewhere.data_root, "import", "-", "busybox:1"]
    tar = subprocess.run(["tar", "-C", busybox_root, "-c", "."], capture_output=True, check=True).stdout
    subprocess.run(words, input=tar, capture_output=True, check=True)
    ended("--name", "it", f"oci:{elsewhere.data_root}:busybox:1", "sh", "-c", "echo up")
    assert disk_usage(staying).unused_layers == 0 < disk_usage(staying).layers
    command("image", "prune", "-af")
    assert command("start", "-a", "it").stdout == "up\n"
    command("rm", "it")
    assert disk_usage(staying).unused_layers == disk_usage(staying).layers > 0
    assert "Total reclaimed space: 0B" not in command("image", "prune", "-af").stdout
    assert disk_usage(staying).layers == 0


def test_a_damaged_container_keeps_no_image(staying: Roots, image: str) -> None:
    it = command("create", "busybox:1", "true").stdout.strip()
    Path(detached.directory_of(staying, it), "config").write_text("{")
    command("rmi", "busybox:1")
    command("rm", "-f", it)


def test_ancestors(staying: Roots, image: str) -> None:
    run("--name", "base", "busybox:1", "sh", "-c", "echo >/more; sleep 1000")
    command("commit", "base", "child:1")
    run("--name", "child", "child:1", "sleep", "1000")
    run("--name", "apart", *IGNORED)

    def of(*images: str) -> list[str]:
        words = [word for each in images for word in ("--filter", f"ancestor={each}")]
        return sorted(command("ps", "--format", "{{.Names}}", *words).stdout.split())

    assert of("busybox:1") == of(image) == of(image[7:15]) == ["base", "child"]
    assert (of("child:1"), of("host"), of("child:1", "host"), of("nothing")) == (
        ["child"],
        ["apart"],
        ["apart", "child"],
        [],
    )
    command("tag", "child:1", "busybox:1")  # the name is another image's now
    assert of("busybox:1") == ["child"] and of(image) == ["base", "child"]


# --- df and prune -------------------------------------------------------------------------------------------------------


def test_sizes(staying: Roots, image: str) -> None:
    run("--name", "maker", "busybox:1", "sh", "-c", "head -c 1000000 /dev/zero >/million; sleep 1000")
    command("commit", "maker", "child:1")
    ended("--name", "done", "busybox:1", "sh", "-c", "head -c 5000 /dev/zero >/f; ln /f /g; ln -s /f /h")
    command("volume", "create", "data")
    os.mkdir(f"{staying.data_root}/volumes/data/_data/below")
    Path(staying.data_root, "volumes/data/_data/below/file").write_bytes(b"x" * 2000)
    used = disk_usage(staying)
    base, child = images.find_image(staying.data_root, "busybox:1"), images.find_image(staying.data_root, "child:1")
    assert child.size == base.size + 1_000_000
    assert used.layers == child.size  # not the sum of both
    assert used.unused_layers == 1_000_000
    by_name = {each.info.names[0]: each for each in used.images}
    assert (by_name["busybox:1"].shared, by_name["busybox:1"].unique, by_name["busybox:1"].containers) == (
        base.size,
        0,
        2,
    )
    assert (by_name["child:1"].shared, by_name["child:1"].unique, by_name["child:1"].containers) == (
        base.size,
        1_000_000,
        0,
    )
    assert {info.name: size for info, size in used.containers} == {"maker": 1_000_000, "done": 5000 + 2}
    rows = {
        row["Type"]: row for row in map(json.loads, command("system", "df", "--format", "json").stdout.splitlines())
    }
    assert [(rows[kind]["TotalCount"], rows[kind]["Active"]) for kind in rows] == [
        ("2", "1"),
        ("2", "1"),
        ("1", "0"),
        ("0", "0"),
    ]
    assert rows["Images"]["Reclaimable"].startswith("1MB (")
    assert rows["Containers"] == {
        "Type": "Containers",
        "TotalCount": "2",
        "Active": "1",
        "Size": "1.005MB",
        "Reclaimable": "5.002kB (0%)",
    }
    assert (rows["Local Volumes"]["Size"], rows["Local Volumes"]["Reclaimable"]) == ("2kB", "2kB (100%)")
    table = command("system", "df").stdout.splitlines()
    assert table[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"] and len(table) == 5
    whole = command("system", "df", "-v").stdout
    for part in (
        "Images space usage:\n\nREPOSITORY",
        "Containers space usage:\n\nCONTAINER ID",
        "Build cache usage: 0B\n",
    ):
        assert part in whole
    assert "Local Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\ndata          0         2kB\n" in whole
    assert "contradict" in command("system", "df", "-v", "--format", "{{.Type}}", code=1).stderr
    command("volume", "rm", "data")


def test_everything_that_nothing_uses(staying: Roots, image: str) -> None:
    ended("--name", "old", "-l", "keep=yes", "host", "sh", "-c", "head -c 3000 /dev/zero >/f")
    ended("--name", "older", "host", "true")
    run("--name", "runs", *IGNORED)
    asked = command("system", "prune", input="n\n").stdout
    assert asked == (
        "WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n\nAre you sure you want to continue? [y/N] "
    )
    assert command("ps", "-aq").stdout.count("\n") == 3
    filtered = command("system", "prune", "-a", "--filter", "label!=keep", input="").stdout
    assert "  Items to be pruned will be filtered with:\n  - label!=keep\n\nAre you sure" in filtered
    out = command("system", "prune", "-f", "--filter", "label!=keep=yes").stdout
    assert out.startswith("Deleted Containers:\n") and "Total reclaimed space: " in out
    assert sorted(command("ps", "-a", "--format", "{{.Names}}").stdout.split()) == ["old", "runs"]
    assert command("system", "prune", "-f", "--filter", "until=24h").stdout == "Total reclaimed space: 0B\n"
    out = command("system", "prune", "-f").stdout
    assert out.splitlines()[0] == "Deleted Containers:" and out.endswith("Total reclaimed space: 3kB\n")
    assert command("images", "-q").stdout.count("\n") == 1
    assert f"deleted: {image}" in command("system", "prune", "-af").stdout
    assert command("ps", "-aq").stdout.count("\n") == 1
    assert "not supported" in command("system", "prune", "--volumes", "--filter", "until=1h", code=1).stderr
    assert "invalid filter 'name'" in command("system", "prune", "-f", "--filter", "name=x", code=1).stderr


def test_containers_by_filter(staying: Roots) -> None:
    ended("--name", "one", "-l", "x=1", "host", "true")
    ended("--name", "two", "host", "true")
    out = command("container", "prune", "-f", "--filter", "label=x").stdout
    assert out.splitlines()[0] == "Deleted Containers:" and out.endswith("\n\nTotal reclaimed space: 0B\n")
    assert command("ps", "-a", "--format", "{{.Names}}").stdout == "two\n"


def test_info(staying: Roots, image: str) -> None:
    run("--name", "runs", *IGNORED)
    run("--name", "stands", *IGNORED)
    command("pause", "stands")
    ended("host", "true")
    document = json.loads(command("info", "--format", "json").stdout)
    counts = [document[f"Containers{each}"] for each in ("", "Running", "Paused", "Stopped")]
    assert (counts, document["Images"]) == ([3, 1, 1, 1], 1)
    assert document["KernelVersion"] == os.uname().release and document["DockerRootDir"] == staying.data_root
    assert document["MemTotal"] > 1 << 28 and document["NCPU"] >= 1 and document["OSType"] == "linux"
    text = command("system", "info").stdout
    assert "\n Containers: 3\n  Running: 1\n  Paused: 1\n  Stopped: 1\n Images: 1\n" in text
    assert command("info", "-f", "{{.Driver}} {{.CgroupDriver}}").stdout == "overlay2 cgroupfs\n"
    assert "template parsing error" in command("info", "-f", "{{.Nothing}}", code=64).stderr
    assert json.loads(command("version", "--format", "json").stdout)["kernel"] == os.uname().release
