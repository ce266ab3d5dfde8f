"""``commit`` and ``export`` of running containers, and the volumes that an image declares."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest
from image_cases import member, tar
from test_store_removal import check_whole

import pycontain
from pycontain.errors import Conflict, ContainerNotFound, InvalidArgument
from pycontain.image.resolve import resolve

pytestmark = pytest.mark.kernel

BASE = tar(
    *(member(name, tarfile.DIRTYPE) for name in ("bin", "etc", "data", "data/old")),
    member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755),
    *(member(f"bin/{name}", tarfile.SYMTYPE, linkname="busybox") for name in ("sh", "cat", "rm", "mkdir", "sleep", "ls", "chown")),
    member("etc/passwd", data=b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"),
    member("etc/hosts", data=b"from the image\n"),
    member("data/kept", data=b"kept\n", uid=1000, gid=1000, mode=0o640),
    member("data/old/file", data=b"old\n"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", str(tmp_path / "run"))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def base(*changes: str) -> pycontain.Image:
    return pycontain.Image.import_tar(io.BytesIO(BASE), "base", changes=changes)


def changing(script: str, image: str = "base", **options: Any) -> pycontain.Container:
    """A container that has run ``script`` and lives on."""
    c = pycontain.Container(
        image,
        ["/bin/sh", "-c", f"{script}; echo done; exec sleep 1000"],
        stdout=pycontain.PIPE,
        stop_timeout=0,
        **options,
    )
    assert c.stdout is not None and c.stdout.readline() == b"done\n"
    return c


def layer_of(image: pycontain.Image) -> dict[str, tarfile.TarInfo]:
    descriptor = image.inspect().layers[-1].descriptor
    path = Path(os.environ["PYCONTAIN_DATA_ROOT"], "blobs/sha256", descriptor.digest.encoded)
    with tarfile.open(path) as archive:
        return {info.name.removeprefix("./").rstrip("/"): info for info in archive}


def output(image: object, *args: str, **options: Any) -> str:
    return str(pycontain.run(str(image), args, text=True, check=True, **options).stdout)


def test_what_was_changed_is_the_new_layer(data: str) -> None:
    first = base("ENV A=1", "LABEL base=yes", 'CMD ["/bin/ls"]')
    with changing(
        "rm /data/kept; rm -r /data/old; mkdir /data/old; echo new > /data/old/new; echo 127.0.0.1 x >> /etc/hosts; : > /dev/x",
        env={"B": "2"}, user="root", workdir="/data", labels={"own": "yes"},
    ) as c:  # fmt: skip
        image = c.commit("made:1", author="Ann", message="changed", changes=["ENV C=3"])
        assert c.poll() is None
    assert image.names == ("made:1",) and pycontain.run(image.id, ["/bin/cat", "/data/old/new"]).stdout == b"new\n"
    assert output(image, "/bin/ls", "/data", "/data/old") == "/data:\nold\n\n/data/old:\nnew\n"
    names = set(layer_of(image))
    assert {"data/.wh.kept", "data/old", "data/old/.wh..wh..opq", "data/old/new"} <= names
    assert not any(name.startswith(("dev/", "proc", "sys", "etc/hosts")) for name in names)
    details = image.inspect()
    assert details.config.env == ("A=1", "B=2", "C=3") and details.config.working_dir == "/data"
    assert dict(details.config.labels) == {"base": "yes", "own": "yes"} and details.config.user == "root"
    assert details.config.cmd[:2] == ("/bin/sh", "-c") and details.author == "Ann" and details.parent == first.id
    assert [each.comment for each in details.history] == ["imported by pycontain", "changed"]
    first.remove(force=True)
    assert output("made:1", "/bin/cat", "/data/old/new") == "new\n"
    check_whole(data, nothing_else=True)


def test_owners_of_a_user_namespace_are_the_containers(data: str) -> None:
    base()
    with changing("echo x > /data/mine; chown 1000:1000 /data/mine", userns="auto") as c:
        assert os.stat(f"{c._running.directory}/upper/data/mine").st_uid > 1000
        image = c.commit()
        out = io.BytesIO()
        c.export(out)
    assert (layer_of(image)["data/mine"].uid, layer_of(image)["data/mine"].gid) == (1000, 1000)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        members = {info.name.removeprefix("./").rstrip("/"): info for info in archive}
    assert (members["data/mine"].uid, members["data/kept"].uid, members["etc/passwd"].uid) == (1000, 1000, 0)


def test_the_same_changes_are_the_same_image(monkeypatch: pytest.MonkeyPatch) -> None:
    base()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    ids = []
    for _ in range(2):
        with changing("mkdir /z; for n in 3 1 2; do echo $n > /z/$n; done") as c:
            ids.append(c.commit().id)
    assert ids[0] == ids[1]
    assert all(info.mtime <= 1700000000 for info in layer_of(pycontain.Image(ids[0])).values())


def test_a_container_without_changes_makes_an_image_that_runs() -> None:
    base()
    with changing(":", read_only=True) as c:
        image = c.commit("same", changes=['CMD ["/bin/cat", "/data/kept"]'])
    assert output(image) == "kept\n"


def test_a_process_that_writes_meanwhile_is_held_still() -> None:
    base()
    script = "while :; do echo x >> /a; echo x >> /b; done"
    with pycontain.Container("base", ["/bin/sh", "-c", script], stop_timeout=0) as c:
        while not os.path.exists(f"{c._running.directory}/upper/b"):
            assert c.poll() is None
        for _ in range(5):
            image = c.commit()
            seen = [output(image, "/bin/cat", name).count("x") for name in ("/a", "/b")]
            assert seen[0] - seen[1] in (0, 1)
            assert c.poll() is None and not c._running.paused
            before = Path(f"{c._running.directory}/upper/b").read_bytes()
            while Path(f"{c._running.directory}/upper/b").read_bytes() == before:
                assert c.poll() is None  # it goes on


def test_one_that_is_paused_stays_so() -> None:
    base()
    with changing("echo x > /x") as c:
        c.pause()
        image = c.commit()
        with pytest.raises(Conflict, match="already paused"):
            c.pause()
        c.unpause()
    assert output(image, "/bin/cat", "/x") == "x\n"


def test_there_is_nothing_to_commit_to_below_a_directory(tmp_path: Path) -> None:
    with (
        pycontain.Container("host", ["sleep", "1000"], stop_timeout=0) as c,
        pytest.raises(InvalidArgument, match=r"no image's layers.*pycontain export"),
    ):
        c.commit()


def test_one_that_has_ended() -> None:
    base()
    c = changing(":")
    c.close()
    with pytest.raises(Conflict, match="has ended"):
        c.commit()


def test_export_is_what_it_sees() -> None:
    base()
    with changing("rm /data/kept; rm -r /data/old; echo new > /data/new") as c:
        out = io.BytesIO()
        c.export(out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        members = {info.name.removeprefix("./").rstrip("/"): info for info in archive}
        file = archive.extractfile("data/new")
        assert file is not None and file.read() == b"new\n"
    assert "data/kept" not in members and "data/old" not in members and not any(".wh." in name for name in members)
    again = pycontain.Image.import_tar(io.BytesIO(out.getvalue()), "again")
    assert output(again, "/bin/ls", "/data") == "new\n"


def test_by_name_from_another_process(tmp_path: Path) -> None:
    import subprocess
    import sys

    from pycontain.engine import images

    base()
    command = [str(Path(sys.executable).parent / "pycontain"), "run", "--name", "here", "base", "/bin/sh", "-c"]
    with subprocess.Popen([*command, "echo x > /x; echo done; exec sleep 1000"], stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout is not None and running.stdout.readline() == b"done\n"
            roots = (str(tmp_path / "data"), str(tmp_path / "run"))
            image_id = images.commit(*roots, "here", "made")
            assert images.inspect_image(roots[0], image_id).config.cmd[0] == "/bin/sh"
            container = os.readlink(tmp_path / "run/names/here").rpartition("/")[2]
            assert images.commit(*roots, container[:10], pause=False) != image_id
            out = io.BytesIO()
            images.export(*roots, container, out)
            assert b"data/kept" in out.getvalue()
            for text in ("nobody", "", "../x", container[:10] + ("1" if container[10] == "0" else "0"), "0" * 64):
                with pytest.raises(ContainerNotFound, match="No such container"):
                    images.commit(*roots, text)
        finally:
            running.kill()
    assert output("made", "/bin/cat", "/x") == "x\n"


# Volumes


def volumes_of(c: pycontain.Container) -> Path:
    return Path(f"{c._running.directory}.volumes")


def test_a_volume_begins_as_the_images_directory_and_is_no_part_of_a_commit(data: str) -> None:
    base("VOLUME /data", "VOLUME /empty")
    with changing("echo new > /data/new; rm /data/kept; echo e > /empty/e; echo x > /x", read_only=False) as c:
        assert sorted(os.listdir(volumes_of(c) / "0/_data")) == ["new", "old"]
        assert Path(volumes_of(c), "1/_data/e").read_text() == "e\n"
        assert not os.path.exists(f"{c._running.directory}/upper/data/new")
        image = c.commit()
        place = volumes_of(c)
    assert not place.exists()
    assert "x" in layer_of(image) and not any("new" in name or name.startswith("empty/") for name in layer_of(image))
    assert output(image, "/bin/cat", "/data/kept") == "kept\n"


def test_a_volume_can_be_written_with_a_read_only_root_and_keeps_owners() -> None:
    base("VOLUME /data")
    script = "cat /data/kept > /data/copy && cat /data/copy"
    for options in ({}, {"userns": "auto"}, {"user": "1000"}):
        if "user" in options:
            script = "cat /data/kept"  # his, mode 640
        assert output("base", "/bin/sh", "-c", script, read_only=True, **options) == "kept\n"


def test_a_mount_of_the_callers_takes_a_volumes_place(tmp_path: Path) -> None:
    base("VOLUME /data")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/file").write_text("mine\n")
    assert output("base", "/bin/ls", "/data", mounts=[pycontain.bind(str(tmp_path / "own"), "/data/")]) == "file\n"
    assert output("base", "/bin/ls", "/data", tmpfs=["/data"]) == ""


def test_a_volume_behind_a_hostile_link_copies_nothing_of_the_host(tmp_path: Path) -> None:
    """CVE-2022-23648: the image's /data is a link to a directory of the host."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("key")
    layer = tar(
        member("bin/busybox", data=Path("/bin/busybox").read_bytes(), mode=0o755),
        member("data", tarfile.SYMTYPE, linkname=str(secret)),
        member("up", tarfile.SYMTYPE, linkname="../../../../../../../.." + str(secret)),
    )
    for volume in ("/data", "/up"):
        image = pycontain.Image.import_tar(io.BytesIO(layer), "hostile", changes=[f"VOLUME {volume}"])
        with pytest.raises(pycontain.SetupFailed, match=f"bind on {volume}: File exists"):  # it leads nowhere inside
            output(image, "/bin/busybox", "ls", f"{volume}/")
    assert (secret / "key").read_text() == "key" and os.listdir(secret) == ["key"]


@pytest.mark.parametrize("volume", ["/", ".", "/..", "//"])
def test_a_root_that_is_a_volume_is_refused(volume: str) -> None:
    base(f'VOLUME ["{volume}"]')
    with pytest.raises(InvalidArgument, match="as a volume"):
        pycontain.run("base", ["/bin/ls"])


def test_volumes_of_many_at_once_are_their_own() -> None:
    base("VOLUME /data")
    results: list[str] = []

    def one(n: int) -> None:
        results.append(output("base", "/bin/sh", "-c", f"echo {n} > /data/n; cat /data/n"))

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert sorted(results) == [f"{n}\n" for n in range(8)]


def test_a_start_that_fails_leaves_no_volume(data: str) -> None:
    base("VOLUME /data")
    with pytest.raises(pycontain.ProgramNotFound):
        pycontain.run("base", ["/no/such"])
    assert not [each for each in Path(data, "ephemeral").glob("*/*") if each.is_dir()]


def test_layers_are_not_changed_by_any_of_this(data: str) -> None:
    image = base("VOLUME /data")
    (lower,) = resolve("base", data_root=data).lower

    def digest() -> str:
        hasher = hashlib.sha256()
        for above, dirs, files in sorted(os.walk(lower)):
            for name in sorted(dirs + files):
                info = os.lstat(f"{above}/{name}")
                hasher.update(f"{above}/{name} {info.st_mode} {info.st_uid} {info.st_mtime_ns} {info.st_size}".encode())
                assert not stat.S_ISCHR(info.st_mode)
        return hasher.hexdigest()

    before = digest()
    with changing("rm -r /data/old; echo x > /data/kept; chown 5:5 /bin", image=image.id) as c:
        c.commit()
    assert digest() == before


@pytest.mark.parametrize(
    ("compression", "level", "ending", "magic"),
    [("gzip", 9, "+gzip", b"\x1f\x8b"), ("zstd", 19, "+zstd", b"\x28\xb5\x2f\xfd"), ("", None, "tar", b"")],
)
def test_a_layer_as_it_is_wanted(compression: str, level: int | None, ending: str, magic: bytes) -> None:
    base()
    with changing("echo x > /x") as c:
        image = c.commit(compression=compression, level=level)
        with pytest.raises(InvalidArgument):
            c.commit(compression="bzip2")
        with pytest.raises(InvalidArgument):
            c.commit(compression="gzip", level=10)
    descriptor = image.inspect().layers[-1].descriptor
    blob = Path(os.environ["PYCONTAIN_DATA_ROOT"], "blobs/sha256", descriptor.digest.encoded).read_bytes()
    assert descriptor.media_type.endswith(ending) and blob.startswith(magic)
    assert output(image, "/bin/cat", "/x") == "x\n"


def test_the_images_stop_signal_ends_it() -> None:
    base("STOPSIGNAL SIGUSR1")
    script = "trap 'echo usr1; exit 3' USR1; trap 'echo term; exit 4' TERM; echo ready; while :; do sleep 0.02; done"
    for options, ended in (({}, (b"usr1\n", 3)), ({"stop_signal": "TERM"}, (b"term\n", 4))):
        with pycontain.Container("base", ["/bin/sh", "-c", script], stdout=pycontain.PIPE, **options) as c:  # type: ignore[arg-type]
            assert c.stdout is not None and c.stdout.readline() == b"ready\n"
            code = c.stop()
            assert (c.stdout.read(), code) == ended


def test_a_stop_signal_that_is_none_is_said(data: str) -> None:
    import gzip
    import json

    layer = BASE
    config = {
        "architecture": "amd64", "os": "linux", "config": {"StopSignal": "SIGNOSUCH"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }  # fmt: skip
    entry = [{"Config": "c", "RepoTags": ["odd:1"], "Layers": ["l"]}]
    members = [
        member("c", data=json.dumps(config).encode()),
        member("l", data=gzip.compress(layer)),
        member("manifest.json", data=json.dumps(entry).encode()),
    ]
    pycontain.Image.load(io.BytesIO(tar(*members)))
    with pytest.raises(InvalidArgument, match="its StopSignal: unknown signal"):
        pycontain.run("odd:1", ["/bin/ls"])
    assert output("odd:1", "/bin/cat", "/data/kept", stop_signal="TERM") == "kept\n"
