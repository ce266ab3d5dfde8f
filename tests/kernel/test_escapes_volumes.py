"""Escapes by volumes: links of images and volumes, exchanged while they are mounted, filled and removed; paths that lead out."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attacks import decoys, evil_image, outcome, plant, swapper
from probes import SECRET, refused
from volume_images import base

import pycontain
from pycontain.engine import volumes
from pycontain.errors import InvalidArgument, PycontainError, SetupFailed, VolumeNotFound
from pycontain.runtime import session
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

ROUNDS = 200


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "image", busybox_root)


@pytest.fixture(autouse=True)
def no_session_left(staying: Roots) -> object:
    yield
    session.close_all()


def far(kept: Path) -> list[str]:
    return [str(kept), "../" * 40 + str(kept).lstrip("/"), f"/proc/self/root{kept}", f"/./../..{kept}", "/proc/1/root"]


def place(roots: Roots, name: str) -> Path:
    return Path(volumes.create_volume(roots, name).mountpoint)


# --- the image's links ------------------------------------------------------------------------------------------------


def test_cve_2022_23648_a_copy_through_a_link_of_the_image_takes_nothing_of_the_host(
    image: Path, tmp_path: Path, roots: Roots
) -> None:
    with decoys(tmp_path / "decoy") as kept:
        for number, to in enumerate(far(kept)):
            plant(image, "data", to)
            for mount in (pycontain.volume(f"vol{number}", "/data"), pycontain.volume(None, "/data/sub")):
                assert SECRET not in outcome(image, "cat /data/secret /data/*; echo x > /data/x", mounts=[mount])
            assert os.listdir(place(roots, f"vol{number}")) in ([], ["x"])


def test_a_link_of_the_image_leads_to_the_images_own_files(image: Path, roots: Roots) -> None:
    """/data -> /../../etc: what is copied, and covered, is the image's /etc, as a program in it would find it."""
    (image / "etc/mine").write_text("of the image")
    plant(image, "data", "/../../etc")
    said = outcome(image, "cat /data/mine /etc/mine; ls /etc | wc -l", mounts=[pycontain.volume("vol", "/data")])
    assert said.startswith("0 of the imageof the image")
    assert sorted(os.listdir(place(roots, "vol"))) == sorted(os.listdir(image / "etc"))


@pytest.mark.parametrize("to", ["/proc", "/proc/self", "/proc/sys/kernel", "../proc", "/dev/../proc/1/root/proc"])
def test_cve_2019_16884_a_volume_on_a_link_to_proc_covers_nothing(to: str, image: Path) -> None:
    plant(image, "data", to)
    said = outcome(
        image, "cat /proc/self/comm; echo x > /proc/sys/kernel/core_pattern", mounts=[pycontain.volume("vol", "/data")]
    )
    assert said.startswith("refused: ") or "can't create /proc/sys/kernel/core_pattern" in said, said


def test_a_volume_over_proc_is_refused_by_any_name() -> None:
    for target in ("/proc", "/proc/sys", "/x/../proc/self", "//proc"):
        assert "guards /proc" in refused(InvalidArgument, "true", mounts=[pycontain.volume("vol", target)])


def test_what_the_image_host_hides_comes_into_no_volume(roots: Roots) -> None:
    for target in ("/etc", "/root", "/var", "/"):
        try:
            pycontain.run("host", ["true"], mounts=[pycontain.volume(f"vol{len(target)}", target)])
        except PycontainError:
            pass  # without an /etc of its own a program may not even start
    for each in volumes.list_volumes(roots):
        assert not [name for name in os.listdir(each.mountpoint) if name in ("shadow", "passwd", "lib", ".ssh")]


def test_a_directory_as_an_image_is_copied_without_what_is_mounted_in_it(
    image: Path, tmp_path: Path, roots: Roots
) -> None:
    (image / "data").mkdir()
    (image / "data/own").write_text("own")
    with decoys(tmp_path / "decoy") as kept:
        os.system(f"mount --bind {kept} {image}/data")
        try:
            assert outcome(image, "ls /data", mounts=[pycontain.volume("vol", "/data")]) == "0 own\n"
        finally:
            os.system(f"umount {image}/data")
    assert os.listdir(place(roots, "vol")) == ["own"]


# --- the volume's own directory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["_data", "the volume", "a file", "a fifo"])
def test_a_link_in_place_of_a_volumes_directory_is_not_followed(
    what: str, image: Path, tmp_path: Path, roots: Roots
) -> None:
    """As by a container that has the data root as a bind: nothing of where it leads to is mounted, filled, counted or removed."""
    data = place(roots, "vol")
    with decoys(tmp_path / "decoy") as kept:
        os.rmdir(data)
        if what == "_data":
            data.symlink_to(kept)
        elif what == "a file":
            data.write_text(SECRET)
        elif what == "a fifo":
            os.mkfifo(data)
        else:
            for each in data.parent.iterdir():
                each.unlink()
            data.parent.rmdir()
            data.parent.symlink_to(kept)
            (kept.parent / "outside").mkdir()
        for mount in (pycontain.volume("vol", "/data"), pycontain.volume("vol", "/mnt", copy=False)):
            with pytest.raises((SetupFailed, InvalidArgument)) as caught:
                pycontain.run(str(image), ["sh", "-c", "cat /data/secret /mnt/secret"], mounts=[mount])
            assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
        if what == "the volume":
            data.parent.unlink()
        else:
            assert volumes.prune_volumes(roots, all=True) == ([], 0)
            volumes.remove_volume(roots, "vol", force=True)
    assert "vol" not in [each.name for each in volumes.list_volumes(roots)]


@pytest.mark.parametrize("name", ["..", ".", "../containers", "a/b", "/etc", "", "vol\0", "names"])
def test_no_name_leads_out_of_the_volumes(name: str, roots: Roots) -> None:
    place(roots, "vol")
    Path(roots.data_root, "containers/keep").mkdir(parents=True)
    with pytest.raises(VolumeNotFound):
        volumes.remove_volume(roots, name, force=True)
    with pytest.raises(VolumeNotFound):
        volumes.find_volume(roots, name)
    if name not in ("", "names"):
        with pytest.raises(InvalidArgument):
            volumes.create_volume(roots, name)
        with pytest.raises(PycontainError):
            pycontain.run("host", ["true"], mounts=[pycontain.volume(name, "/mnt")])
    Path(roots.data_root, "containers/keep").rmdir()
    Path(roots.data_root, "containers").rmdir()
    assert [each.name for each in volumes.list_volumes(roots)] == ["vol"]


# --- subpaths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subpath", ["..", "../..", "a/../..", "/etc", "a/../../../etc", "a\0b"])
def test_a_subpath_does_not_climb(subpath: str) -> None:
    refused(InvalidArgument, "true", mounts=[pycontain.volume("vol", "/mnt", subpath=subpath)])


def test_a_link_in_a_volume_is_no_subpath(image: Path, tmp_path: Path, roots: Roots) -> None:
    data = place(roots, "vol")
    with decoys(tmp_path / "decoy") as kept:
        for to in (*far(kept), "/", "..", "real"):
            (data / "real").mkdir(exist_ok=True)
            plant(data, "a", to)
            for subpath in ("a", "a/sub", "real/../a" if to == "never" else "a/."):
                said = outcome(image, "cat /mnt/secret", mounts=[pycontain.volume("vol", "/mnt", subpath=subpath)])
                assert said.startswith("refused: ") and "(ELOOP): a symbolic link is on the way" in said, said


# --- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.race
def test_cve_2018_15664_a_subpath_swapped_for_a_link_while_it_is_mounted(
    image: Path, tmp_path: Path, roots: Roots
) -> None:
    data = place(roots, "vol")
    (data / "a/sub").mkdir(parents=True)
    (data / "a/sub/mine").write_text("mine")
    with decoys(tmp_path / "decoy") as kept:
        plant(data, "b", str(kept))
        mount = pycontain.volume("vol", "/mnt", subpath="a/sub")
        with swapper(data, "a", "b") as swaps, ThreadPoolExecutor(2) as pool:
            script = "cat /mnt/*; echo x > /mnt/x"
            found = Counter(pool.map(lambda _: outcome(image, script, mounts=[mount])[:7], range(ROUNDS)))
            assert swaps() > ROUNDS
    assert set(found) <= {"0 mine", "0 minex", "refused"} | {each for each in found if each.startswith("0 mine")}, found
    assert found["refused"] and sum(found.values()) > found["refused"], found


@pytest.mark.race
def test_cve_2019_10152_a_target_swapped_for_a_link_while_volumes_are_mounted_and_filled(
    image: Path, tmp_path: Path, roots: Roots
) -> None:
    """The image is a directory in which another container exchanges: what is mounted can be seen from the root, what is copied was
    in the image."""
    (image / "a/data").mkdir(parents=True)
    (image / "a/data/mine").write_text("mine")
    with decoys(tmp_path / "decoy") as kept:
        (kept / "data").mkdir()
        try:
            plant(image, "b", str(kept))
            with swapper(image, "a", "b") as swaps, ThreadPoolExecutor(2) as pool:

                def one(number: int) -> str:
                    mount = pycontain.volume(f"vol{number}", "/a/data")
                    return outcome(image, "cat /a/data/*; grep -c volumes/vol /proc/self/mountinfo", mounts=[mount])

                said = Counter(pool.map(one, range(ROUNDS)))
                assert swaps() > ROUNDS
        finally:
            (kept / "data").rmdir()
    assert not [each for each in said if SECRET in each]
    assert {each for each in said if not each.startswith("refused")} <= {
        "0 mine1\n", "0 1\ncat: can't open '/a/data/*': No such file or directory\n"
    }, said  # fmt: skip
    filled = {tuple(sorted(os.listdir(each.mountpoint))) for each in volumes.list_volumes(roots)}
    assert filled <= {(), ("mine",)}


@pytest.mark.race
def test_cve_2023_0778_what_is_swapped_in_a_volume_while_it_is_counted_and_removed(
    tmp_path: Path, roots: Roots
) -> None:
    """From outside, as by a container that still has it after its engine was killed: a link is counted and removed as a link."""
    with decoys(tmp_path / "decoy") as kept:
        for number in range(10):
            data = place(roots, f"vol{number}")
            for each in range(40):
                (data / f"d{each}/x").mkdir(parents=True)
                (data / f"l{each}").symlink_to(kept)
            over = threading.Event()

            def swap(fd: int = os.open(data, os.O_RDONLY), over: threading.Event = over) -> None:
                while not over.is_set():
                    for each in range(40):
                        try:
                            os.rename(f"d{each}", "t", src_dir_fd=fd, dst_dir_fd=fd)
                            os.rename(f"l{each}", f"d{each}", src_dir_fd=fd, dst_dir_fd=fd)
                            os.rename("t", f"l{each}", src_dir_fd=fd, dst_dir_fd=fd)
                        except OSError:
                            pass
                os.close(fd)

            thread = threading.Thread(target=swap)
            thread.start()
            try:
                # what is renamed just when it is deleted stays in tmp, and the next one deletes it
                removed, freed = volumes.prune_volumes(roots, all=True)
                assert volumes.list_volumes(roots) == []
            finally:
                over.set()
                thread.join(30)
            assert removed in ([], [f"vol{number}"]) and freed <= 80 * len(str(kept))
        place(roots, "vol")
        assert os.listdir(f"{roots.data_root}/tmp") == []


@pytest.mark.race
def test_a_container_in_its_volume_swaps_what_others_are_filled_beside(roots: Roots) -> None:
    """Whoever has an empty volume while it is filled gets what he has not put there himself, and nothing is written elsewhere."""
    base()
    data = place(roots, "vol")
    script = "while :; do ln -s /etc /v/dir; ln -s /etc/passwd /v/kept; rm -f /v/dir /v/kept; done"
    with pycontain.Container("base:1", ["/bin/sh", "-c", script], mounts=[f"{data}:/v"], stop_timeout=0):
        for _ in range(60):
            assert pycontain.run("base:1", ["/bin/true"], mounts=["vol:/data"]).exit_code == 0
            words = [f"/data/{name}" for name in ("dir", "kept", "hard", "link")]
            pycontain.run("base:1", ["/bin/rm", "-rf", *words], mounts=["vol:/data:nocopy"])
    assert json.dumps(sorted(os.listdir(data.parent))) == '["_data", "volume"]'
