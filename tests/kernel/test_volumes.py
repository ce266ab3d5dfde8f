"""Volumes of containers: what they begin with, who uses them, what stays of them and what goes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import census
import pytest
from ordinary_user import OrdinaryUser
from staying import PYCONTAIN, command, run, saying
from volume_images import FILES, base, data, files, names, output

import pycontain
from pycontain.engine import containers, volumes
from pycontain.errors import Conflict, VolumeNotFound
from pycontain.runtime import session
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

SLEEP = ("base:1", "/bin/sleep", "600")


# --- what they begin with ---------------------------------------------------------------------------------------------


def test_a_volume_begins_as_the_images_directory_with_all_that_its_files_have() -> None:
    base()
    assert output("-v", "new:/data", "base:1", "/bin/cat", "/data/kept") == "kept\n"
    place = data("new")
    assert files(place) == FILES
    top, kept = place.stat(), (place / "kept").stat()
    assert (top.st_uid, top.st_gid, top.st_mode & 0o7777, int(top.st_mtime)) == (33, 44, 0o2750, 1_000_000_000)
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o7777, kept.st_nlink) == (33, 7, 0o640, 2)
    assert os.getxattr(place / "kept", "user.color") == b"red"
    assert (place / "hard").stat().st_ino == kept.st_ino and os.readlink(place / "link") == "/etc/passwd"
    assert (place / "dir/inner").stat().st_uid == 1000 and (place / "dir").stat().st_mode & 0o7777 == 0o1777


def test_only_an_empty_volume_is_filled_and_not_with_nocopy() -> None:
    base()
    assert output("-v", "one:/data:nocopy", "base:1", "/bin/ls", "/data") == ""
    assert output("--mount", "src=one,dst=/data,volume-nocopy", "base:1", "/bin/ls", "/data") == ""
    output("-v", "one:/mnt", "base:1", "/bin/touch", "/mnt/mine")  # the image has no such directory
    assert output("-v", "one:/data", "base:1", "/bin/ls", "/data") == "mine\n"
    output("-v", "two:/owned", "base:1", "/bin/true")  # an empty directory has an owner all the same
    assert (data("two").stat().st_uid, data("two").stat().st_mode & 0o7777) == (1000, 0o700)
    output("-v", "three:/data:ro", "base:1", "/bin/true")
    assert files(data("three")) == FILES


def test_a_volume_of_the_image_host_begins_empty_whatever_the_host_has_there() -> None:
    assert output("-v", "etc:/etc/ssl:ro", "host", "ls", "/etc/ssl") == ""
    assert files(data("etc")) == []


def test_sixteen_processes_with_the_same_new_volume_fill_it_once() -> None:
    base()
    script = 'stat -c %i /data/kept /data/dir; echo "$0" >> /data/kept'
    started = [
        subprocess.Popen(
            [*PYCONTAIN, "run", "--rm", "-v", "new:/data", "base:1", "/bin/sh", "-c", script, str(n)],
            stdout=subprocess.PIPE, text=True,
        )
        for n in range(16)
    ]  # fmt: skip
    said = [each.communicate(timeout=120)[0] for each in started]
    assert [each.returncode for each in started] == [0] * 16
    assert len(set(said)) == 1 and len(said[0].split()) == 2  # everybody has seen the same files
    lines = (data("new") / "kept").read_text().splitlines()
    assert lines[0] == "kept" and sorted(map(int, lines[1:])) == list(range(16))
    assert sorted(os.listdir(data("new").parent)) == ["_data", "volume"]


_KILLED = """
import os, sys
from pycontain.image import workspace
from pycontain.runtime import volume_copy, volume_store, volumes
from pycontain.image.resolve import resolve
root, moment = sys.argv[1], sys.argv[2]
seen = 0
def die(*args, **options): os.kill(os.getpid(), 9)
move = volume_copy._move
def second(*args):
    global seen
    seen += 1
    if seen == 3: die()
    move(*args)
if moment == "copied": volume_copy._native.syncfs = die
if moment == "named": volume_copy._take_over = die
if moment == "moving": volume_copy._move = second
if moment == "moved": volume_copy._native.remove_tree = die
volume, _ = volume_store.create(root, "new")
volume_copy.fill(root, volume, resolve("base:1", data_root=root).lower, "/data")
"""


@pytest.mark.parametrize("moment", ["copied", "named", "moving", "moved"])
@pytest.mark.parametrize("by", ["run", "start", "nocopy"])
def test_a_killed_copy_leaves_no_half_filled_volume(moment: str, by: str, roots: Roots) -> None:
    base()
    if by == "start":
        command("create", "--name", "it", "-v", "new:/data:nocopy", "base:1", "/bin/find", "/data", "-mindepth", "1")
    done = subprocess.run([sys.executable, "-c", _KILLED, roots.data_root, moment], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    if by == "start":
        found = command("start", "-a", "it").stdout.split()
    else:
        mode = ":nocopy" if by == "nocopy" else ""
        found = output("-v", f"new:/data{mode}", "base:1", "/bin/find", "/data", "-mindepth", "1").split()
    whole = [f"/data/{each}" for each in FILES]
    assert sorted(found) == ([] if moment == "copied" and by != "run" else whole)
    assert sorted(os.listdir(data("new").parent)) == ["_data", "volume"]
    if found:
        assert (data("new").stat().st_uid, int(data("new").stat().st_mtime)) == (33, 1_000_000_000)
    assert os.listdir(f"{roots.data_root}/tmp") == [] or by != "run"


def test_what_a_container_writes_while_the_volume_is_filled_stays(roots: Roots) -> None:
    base()
    done = subprocess.run([sys.executable, "-c", _KILLED, roots.data_root, "named"], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (data("new") / "kept").write_text("a container's")
    assert output("-v", "new:/data", "base:1", "/bin/cat", "/data/kept", "/data/dir/inner") == "a container'sinner\n"


# --- who uses them ----------------------------------------------------------------------------------------------------


def test_a_volume_in_use_cannot_be_removed_whether_its_container_runs_or_not() -> None:
    base()
    created = command("create", "-v", "vol:/data", *SLEEP).stdout.strip()
    started = run("--mount", "type=volume,src=vol,dst=/mnt,readonly", *SLEEP)
    found = command("volume", "rm", "vol", "nosuch", code=1).stderr.splitlines()
    assert found[0] in (
        f"pycontain: remove vol: volume is in use - [{created}, {started}]",
        f"pycontain: remove vol: volume is in use - [{started}, {created}]",
    )
    assert found[1] == "pycontain: get nosuch: no such volume"
    assert command("volume", "rm", "-f", "vol", code=1).stderr.startswith("pycontain: remove vol: volume is in use")
    command("volume", "create", "free")
    assert command("volume", "ls", "-q", "-f", "dangling=true").stdout == "free\n"
    assert command("volume", "ls", "-q", "-f", "dangling=false").stdout == "vol\n"
    assert command("volume", "prune", "-af").stdout.startswith("Deleted Volumes:\nfree\n\nTotal reclaimed space: 0B")
    listed = command("ps", "-a", "-q", "--no-trunc", "-f", "volume=vol").stdout.split()
    assert sorted(listed) == sorted([created, started])
    assert command("ps", "-q", "--no-trunc", "-f", "volume=/mnt").stdout.split() == [started]
    command("rm", "-f", created, started)
    assert command("volume", "rm", "vol").stdout == "vol\n"


def test_a_container_in_the_foreground_uses_its_volumes_from_before_its_start(roots: Roots) -> None:
    base()
    with pycontain.Container(
        "base:1", ["/bin/sleep", "600"], mounts=[pycontain.volume("vol", "/data")], stop_timeout=0
    ) as c:
        with pytest.raises(Conflict, match=rf"remove vol: volume is in use - \[{c.id}\]"):
            volumes.remove_volume(roots, "vol")
        assert volumes.dangling(roots, volumes.list_volumes(roots)) == []
    session.close_all()
    volumes.remove_volume(roots, "vol")
    with pytest.raises(VolumeNotFound, match="get vol: no such volume"):
        volumes.remove_volume(roots, "vol")


def test_of_one_in_the_foreground_ps_and_inspect_know_the_mounts(tmp_path: Path) -> None:
    base()
    words = ["run", "--rm", "--name", "it", "-v", "vol:/data:ro", "-v", "/anon", "-v", f"{tmp_path}:/b", *SLEEP]
    process = subprocess.Popen([*PYCONTAIN, *words])
    try:
        assert census.poll_until(lambda: command("ps", "-q", "-f", "volume=vol").stdout != "")
        assert (
            command("ps", "-q", "-f", f"volume={tmp_path}").stdout
            == command("ps", "-q", "-f", "volume=/anon").stdout
            != ""
        )
        vol, anon, bind = json.loads(command("inspect", "it").stdout)[0]["Mounts"]
        assert (vol["Name"], vol["Mode"], vol["RW"], vol["Source"]) == ("vol", "ro", False, str(data("vol")))
        assert (anon["Type"], anon["Mode"], anon["RW"]) == ("volume", "", True) and bind["Type"] == "bind"
        assert names() == sorted([anon["Name"], "vol"]) and str(data(anon["Name"])) == anon["Source"]
        assert anon["Name"] in command("volume", "rm", anon["Name"], code=1).stderr
        command("stop", "-t", "0", "it")
        process.wait(30)
    finally:
        process.kill()
        process.wait(30)
    assert names() == ["vol"]


def test_removing_and_taking_into_use_at_once_never_leaves_a_container_without_its_volume(roots: Roots) -> None:
    base()
    over = threading.Event()

    def remove() -> None:
        while not over.is_set():
            try:
                volumes.remove_volume(roots, "vol")
            except (Conflict, VolumeNotFound):
                pass

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for _ in range(12):
            made = command("create", "-v", "vol:/data", "base:1", "/bin/cat", "/data/kept").stdout.strip()
            assert command("start", "-a", made).stdout == "kept\n"
            assert output("-v", "vol:/data", "base:1", "/bin/cat", "/data/kept") == "kept\n"
            command("rm", made)
    finally:
        over.set()
        remover.join(30)


def test_a_prune_takes_no_volume_of_a_container_that_is_being_made(roots: Roots) -> None:
    base("VOLUME /data")
    over = threading.Event()

    def prune() -> None:
        while not over.is_set():
            volumes.prune_volumes(roots, all=True)

    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        for _ in range(12):
            made = command("create", "-v", "/anon", "base:1", "/bin/cat", "/data/kept").stdout.strip()
            assert command("start", "-a", made).stdout == "kept\n"
            assert len(volumes.list_volumes(roots)) == 2
            command("rm", "-v", made)
    finally:
        over.set()
        pruner.join(30)


# --- what stays and what goes -----------------------------------------------------------------------------------------


def test_named_ones_stay_and_anonymous_ones_go_with_rm_v() -> None:
    base("VOLUME /declared")
    words = ("-v", "vol:/data", "-v", "/anon", *SLEEP)
    first, second, third = (command("create", *words).stdout.strip() for _ in range(3))
    mounts = json.loads(command("inspect", first).stdout)[0]["Mounts"]
    anonymous = sorted(each["Name"] for each in mounts if each["Destination"] != "/data")
    assert len(anonymous) == 2 and all(len(each) == 64 for each in anonymous) and len(names()) == 7
    assert "com.docker.volume.anonymous" in command("volume", "inspect", anonymous[0]).stdout
    command("rm", "-v", first)
    assert not set(anonymous) & set(names()) and len(names()) == 5
    command("rm", second)
    assert len(names()) == 5
    assert command("container", "prune", "-f").stdout.startswith(f"Deleted Containers:\n{third}\n\nTotal ")
    assert len(names()) == 5
    assert command("volume", "prune", "-f").stdout.count("\n") == 1 + 4 + 1 + 1
    assert names() == ["vol"]


@pytest.mark.parametrize("how", ["foreground", "monitor", "killed", "removed", "never started", "failed"])
def test_with_rm_the_anonymous_ones_go_however_the_container_ends(how: str, roots: Roots) -> None:
    base("VOLUME /declared")
    words = [
        "--rm",
        "-v",
        "vol:/data",
        "-v",
        "/anon",
        "base:1",
        "/bin/sh",
        "-c",
        "echo x > /anon/x; echo up; sleep 600",
    ]
    if how == "foreground":
        output(*words[1:-1], "echo x > /declared/x")
    elif how == "killed":
        with subprocess.Popen([*PYCONTAIN, "run", *words], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"up\n" and len(names()) == 3
            process.kill()
        assert census.poll_until(lambda: not any(Path(roots.data_root, "ephemeral").iterdir()))
    elif how == "failed":
        command("run", "-d", *words[:-3], "/no/such", code=127)
    else:
        made = command("create", *words).stdout.strip()
        assert len(names()) == 3
        if how != "never started":
            command("start", made)
            saying(made, "up")
            assert (
                data(json.loads(command("inspect", made).stdout)[0]["Mounts"][1]["Name"]) / "x"
            ).read_text() == "x\n"
        command("stop" if how == "monitor" else "rm", *(("-t", "0") if how == "monitor" else ("-f",)), made)
        assert census.poll_until(lambda: not os.path.exists(f"{roots.data_root}/containers/{made}"))
    assert names() == ["vol"]


def test_content_survives_restarts_and_starts() -> None:
    base("VOLUME /declared")
    script = "for d in /data /anon /declared; do echo $0 >> $d/starts; stat -c %i $d/starts; done; echo up; sleep 600"
    made = run("-v", "vol:/data", "-v", "/anon", "base:1", "/bin/sh", "-c", script, "once")
    saying(made, "up")
    first = command("logs", made).stdout
    command("restart", "-t", "0", made)
    command("stop", "-t", "0", made)
    command("start", made)
    assert census.poll_until(lambda: command("logs", made).stdout == first * 3)
    for each in json.loads(command("inspect", made).stdout)[0]["Mounts"]:
        assert Path(each["Source"], "starts").read_text() == "once\n" * 3
    command("rm", "-f", "-v", made)
    assert names() == ["vol"]


def test_a_volume_that_was_removed_by_hand_is_missed_at_the_start(roots: Roots) -> None:
    base()
    mount = "type=volume,src=vol,dst=/data,readonly,volume-nocopy"
    command("create", "--name", "it", "--mount", mount, *SLEEP)
    shutil.rmtree(data("vol").parent)
    assert "cannot start it: get vol: no such volume" in command("start", "it", code=1).stderr
    assert json.loads(command("inspect", "-f", "{{json .HostConfig.Mounts}}", "it").stdout) == [
        {"Type": "volume", "Source": "vol", "Target": "/data", "ReadOnly": True, "VolumeOptions": {"NoCopy": True}}
    ]
    command("volume", "create", "vol")
    command("start", "it")


def test_a_creation_that_fails_leaves_no_volume() -> None:
    base("VOLUME /declared")
    command("create", "--name", "taken", *SLEEP)
    command("rm", "-v", command("create", *SLEEP).stdout.strip())
    before = names()
    for more in ((), ("--rm",)):
        done = command("create", *more, "--name", "taken", "-v", "vol:/data", "-v", "/anon", *SLEEP, code=1)
        assert "is already in use" in done.stderr and names() == before
    assert "no such volume" not in command("start", "taken").stderr


# --- from other containers --------------------------------------------------------------------------------------------


def test_volumes_from(tmp_path: Path) -> None:
    base()
    (tmp_path / "file").write_text("of the host\n")
    source = command(
        "create", "-v", "vol:/data", "-v", "/anon", "-v", f"{tmp_path}:/b:ro", "--tmpfs", "/t", *SLEEP
    ).stdout.strip()
    anonymous = next(name for name in names() if name != "vol")
    assert output("--volumes-from", source, "base:1", "/bin/cat", "/b/file", "/data/kept") == "of the host\nkept\n"
    output("--volumes-from", source, "base:1", "/bin/touch", "/anon/x")
    assert anonymous in names() and files(data(anonymous)) == ["x"]
    wrong = command("run", "--volumes-from", f"{source}:ro", "base:1", "/bin/touch", "/data/y", code=1)
    assert "Read-only file system" in wrong.stderr
    user = command("create", "--volumes-from", source, "-v", "other:/data:nocopy", *SLEEP).stdout.strip()
    document = json.loads(command("inspect", user).stdout)[0]
    assert {each["Destination"]: each.get("Name") for each in document["Mounts"]} == {
        "/data": "other", "/anon": anonymous, "/b": None
    }  # fmt: skip
    assert document["HostConfig"]["VolumesFrom"] == [source] and document["HostConfig"]["Binds"] == [
        "other:/data:nocopy"
    ]
    command("rm", "-v", source)
    assert anonymous in names()
    command("rm", "-v", user)
    assert names() == ["other", "vol"]
    assert "No such container: nosuch" in command("run", "--volumes-from", "nosuch", *SLEEP, code=125).stderr
    assert "write CONTAINER or CONTAINER:ro" in command("run", "--volumes-from", "x:rx", *SLEEP, code=125).stderr


@pytest.mark.parametrize("kind", ["foreground", "detached"])
def test_a_volume_taken_from_one_that_goes_stays_until_its_last_user_has_gone(kind: str, roots: Roots) -> None:
    base()
    words = (
        "--rm",
        "--name",
        "first",
        "-v",
        "/anon",
        "base:1",
        "/bin/sh",
        "-c",
        "echo x > /anon/x; echo up; sleep 600",
    )
    process = subprocess.Popen([*PYCONTAIN, "run", *words], stdout=subprocess.PIPE) if kind == "foreground" else None
    if process is None:
        run(*words)
        saying("first", "up")
    else:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        assert census.poll_until(lambda: "first" in command("ps", "--format", "{{.Names}}").stdout)
    (name,) = names()
    second = run("--rm", "--volumes-from", "first", *SLEEP)
    assert names() == [name] and data(name) == Path(roots.data_root, "volumes", name, "_data").resolve()
    command("exec", "first", "/bin/touch", "/anon/y")  # its own mount has not been touched
    assert files(data(name)) == ["x", "y"]
    command("stop", "-t", "0", "first")
    if process is not None:
        process.communicate(timeout=30)
    assert census.poll_until(lambda: "first" not in command("ps", "-a", "--format", "{{.Names}}").stdout)
    assert names() == [name] and command("exec", second, "/bin/ls", "/anon").stdout == "x\ny\n"
    command("rm", "-f", second)
    assert names() == []


# --- owners -----------------------------------------------------------------------------------------------------------


def test_owners_are_the_same_for_containers_with_any_id_map() -> None:
    base()
    script = "chown 33:44 /data/mine"
    output("--userns", "0:300000:65536", "-v", "vol:/data", "base:1", "/bin/sh", "-c", f"touch /data/mine; {script}")
    show = ("base:1", "/bin/stat", "-c", "%u %g", "/data/mine", "/data/kept")
    for words in ((), ("--userns", "0:500000:65536"), ("--userns", "auto")):
        assert output(*words, "-v", "vol:/data", *show) == "33 44\n33 7\n", words
    assert (data("vol") / "mine").stat().st_uid == 33
    made = command("create", "--userns", "0:400000:65536", "-v", "/anon", "-v", "vol:/data", *show).stdout.strip()
    assert command("start", "-a", made).stdout == "33 44\n33 7\n"


def test_volumes_of_an_ordinary_user(user: OrdinaryUser, nothing_of_the_user_left: None) -> None:
    done = user.pycontain(
        "run", "-v", "vol:/mnt", "host", "sh", "-c", "echo x > /mnt/x; chown 7:8 /mnt/x; ls -ln /mnt/x"
    )
    assert done.returncode == 0 and done.stdout.split()[2:4] == ["7", "8"], done
    assert user.pycontain("run", "-v", "vol:/mnt", "-v", "/anon", "host", "cat", "/mnt/x").stdout == "x\n"
    assert user.pycontain("volume", "ls", "-q").stdout == "vol\n"
    place = user.data_root / "volumes/vol/_data/x"
    assert place.stat().st_uid == user.first + 6
    assert user.pycontain("volume", "prune", "-af").stdout.startswith("Deleted Volumes:\nvol\n")
    assert not place.exists()


@pytest.mark.parametrize("kind", ["run", "create"])
def test_killed_at_any_moment_nothing_is_half(kind: str, roots: Roots) -> None:
    """The first user of a new volume is killed after more and more of its work; the next one finds all, and nothing of it is left."""
    base("VOLUME /declared")
    words = {"run": ["run", "--rm"], "create": ["create", "--rm"]}[kind]
    for step in range(24):
        process = subprocess.Popen(
            [*PYCONTAIN, *words, "-v", "vol:/data", "-v", "/anon", "base:1", "/bin/true"], stdout=subprocess.DEVNULL
        )
        try:
            process.wait(0.08 + step * 0.012)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
        found = output("-v", "vol:/data", "base:1", "/bin/find", "/data", "-mindepth", "1").split()
        assert sorted(found) == [f"/data/{each}" for each in FILES], step
        for each in containers.list_containers(roots, all=True):
            containers.remove(roots, each.id, force=True)
        assert census.poll_until(lambda: not any(Path(roots.data_root, "ephemeral").iterdir()))
        assert names() == ["vol"] and sorted(os.listdir(data("vol").parent)) == ["_data", "volume"]
        command("volume", "rm", "vol")
        assert os.listdir(f"{roots.data_root}/tmp") == []
