"""Volumes in the data root, without root: names, files, who uses them; what a Plan has of them."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from pycontain.disassemble import decode
from pycontain.errors import Conflict, InvalidArgument, VolumeNotFound
from pycontain.image.rootfs import DEFAULT_CONFIG, RootFS
from pycontain.plan import plan
from pycontain.request import Mount, RunRequest
from pycontain.runtime import volume_store as store
from pycontain.runtime import volumes
from pycontain.runtime.generate import generate
from pycontain.runtime.look import Resolved
from pycontain.runtime.mount_points import mount_points
from pycontain.runtime.volume_uses import Uses
from tests.unit.plan_cases import HOSTS, PLACE

ID = "ab" + "0123456789" * 6 + "cd"


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "real").mkdir()
    (tmp_path / "data").symlink_to("real")  # a data root may be a link: those who mount follow none
    return str(tmp_path / "data")


def test_a_volume_is_there_with_all_that_belongs_to_it(data: str) -> None:
    made, new = store.create(data, "vol", labels=(("a", "b"),))
    assert new and made.mountpoint == f"{os.path.realpath(data)}/volumes/vol/_data"
    assert sorted(os.listdir(made.directory)) == ["_data", "volume"] and os.listdir(f"{data}/tmp") == []
    assert store.create(data, "vol", labels=(("x", "y"),)) == (made, False)
    assert store.find(data, "vol") == made and store.list_all(data) == [made]
    assert (os.stat(made.directory).st_mode & 0o777, os.stat(made.mountpoint).st_mode & 0o777) == (0o700, 0o755)


def test_a_filling_that_fails_leaves_nothing(data: str) -> None:
    def fill(path: str) -> None:
        Path(path, "half").write_text("x")
        raise InvalidArgument("no")

    with pytest.raises(InvalidArgument):
        store.create(data, "vol", fill=fill)
    assert store.list_all(data) == [] and os.listdir(f"{data}/tmp") == []


def test_those_that_go_with_a_container_have_its_ids_names(data: str) -> None:
    name = store.anonymous_name(ID, 10)
    assert len(name) == 64 and name == ID[::-1][:62] + "0a" and store.anonymous_name(ID, 11) != name
    for place in (f"{data}/ephemeral/1-x/{ID}.volumes/10/_data", f"{data}/containers/{ID}/volumes/3/_data"):
        os.makedirs(place)
    os.makedirs(f"{data}/containers/{ID}/volumes/junk")
    found = store.list_all(data)
    assert sorted(each.name for each in found) == sorted([name, store.anonymous_name(ID, 3)])
    assert all(each.container == ID and each.is_anonymous for each in found)
    mount = Mount(type="volume", target="/x/", source=store.anonymous_name(ID, 3), anonymous=True)
    (point,) = mount_points((mount,), data, ID, f"{data}/containers/{ID}/volumes")
    assert (point.source, point.target) == (f"{os.path.realpath(data)}/containers/{ID}/volumes/3/_data", "/x")
    volume, fd = store.hold(data, name)  # another container takes it
    os.close(fd)
    assert volume.container == "" and volume.directory == f"{os.path.realpath(data)}/volumes/{name}"
    assert volume.is_anonymous and not os.path.exists(f"{data}/ephemeral/1-x/{ID}.volumes/10")


def test_nobody_takes_what_is_just_removed(data: str) -> None:
    store.create(data, "vol")
    _, fd = store.hold(data, "vol")

    def taken(volume: store.Volume) -> None:
        raise Conflict("in use")

    other = os.open(f"{data}/volumes/vol", os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    with pytest.raises(Conflict):
        store.remove(data, "vol", taken)
    store.remove(data, "vol", lambda volume: None)
    with pytest.raises(VolumeNotFound, match="get vol: no such volume"):
        store.hold(data, "vol")
    assert os.listdir(f"{data}/tmp") == []


def test_uses_of_those_that_stay_and_of_the_damaged(data: str) -> None:
    def config(container_id: str, text: str) -> None:
        os.makedirs(f"{data}/containers/{container_id}")
        Path(data, "containers", container_id, "config").write_text(text)

    mounts = [{"Mount": {"type": "volume", "source": "one"}}, {"Mount": {"type": "bind", "source": "two"}}]
    config("1" * 64, json.dumps({"request": {"RunRequest": {"image": "volume", "mounts": mounts}}}))
    config("2" * 64, '{"request": {"RunRequest": {"mounts": [{"Mount": {"type": "volume", "source": "three')
    config("3" * 64, "{}")
    uses = Uses(data)
    assert (uses.of("one"), uses.of("two"), uses.of("three")) == (["1" * 64], [], ["2" * 64])


def test_uses_of_those_in_the_foreground_end_with_their_owner(data: str) -> None:
    os.makedirs(f"{data}/ephemeral/1-x/{ID}.volumes")
    Path(data, f"ephemeral/1-x/{ID}.volumes/uses").write_text("one\n")
    assert Uses(data).of("one") == []
    fd = os.open(f"{data}/ephemeral/1-x.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert Uses(data).of("one") == [ID]
    os.close(fd)
    assert Uses(data).of("one") == []


def test_where_volumes_are_for_a_plan(data: str, tmp_path: Path) -> None:
    real = os.path.realpath(data)
    store.create(data, "vol")
    store.create(data, "dev", options=(("device", f"{tmp_path}/data"), ("o", "bind")))
    mounts = [
        Mount(type="volume", target="/a", anonymous=True),
        Mount(type="volume", target="/b", source="vol", subpath="x/y"),
        Mount(type="volume", target="/c", source="dev"),
        Mount(type="volume", target="/d", source="dev", subpath="x"),
        Mount(type="volume", target="/e", anonymous=True),
    ]
    found = (
        ("@0", True), (f"{real}/volumes/vol/_data/x/y", True), (f"{tmp_path}/data", False), (f"{real}/x", True), ("@1", True),
    )  # fmt: skip
    assert volumes.sources(data, mounts) == found == volumes.preview(data, mounts)
    missing = [Mount(type="volume", target="/b", source="new")]
    assert volumes.preview(data, missing) == ((f"{real}/volumes/new/_data", True),)
    with pytest.raises(VolumeNotFound):
        volumes.sources(data, missing)


def test_a_plan_follows_no_link_to_a_volume() -> None:
    mounts = (
        Mount(type="volume", target="/a", source="vol", read_only=True),
        Mount(type="bind", target="/b", source="/srv"),
    )
    declared = (Mount(type="volume", target="/c", anonymous=True, inherited=True),)
    rootfs = RootFS(image="web", lower=("/layers/one",), config=DEFAULT_CONFIG)
    found = Resolved(
        rootfs=rootfs,
        binds=(("/srv", False),),
        declared=declared,
        sources=(("/d/volumes/vol/_data", True), ("@0", True)),
    )
    request = RunRequest(image="web", args=("id",), seccomp="unconfined", mounts=mounts)
    facts = HOSTS["v2-6.18"]
    spec = generate(
        request, found, facts, ((), ()), short_id="c0ffee", console_size=(0, 0), cache_dir="/nowhere", init_source="/init",
        volumes_dir="/d/ID.volumes",
    )  # fmt: skip
    clones = {op.s1: op for op in decode(plan(spec, facts, PLACE).data).prepare if op.name == "TREE_CLONE"}
    strict = {path for path, op in clones.items() if "NOSYMLINK" in op.flags}
    assert strict == {"/d/volumes/vol/_data", "/d/ID.volumes/0/_data"} and "/srv" in clones
    assert clones["/d/volumes/vol/_data"].x & 1


def test_a_name_that_is_only_a_mount_is_no_volume_of_the_image() -> None:
    request = RunRequest(image="web", mounts=(Mount(type="tmpfs", target="/a/"),))
    (found,) = volumes.declared(request, ("/a", "b", "/b/"))
    assert (found.target, found.anonymous, found.source) == ("/b", True, "")
