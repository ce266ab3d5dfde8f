"""Archives, containers and prunes: what those commands ask of the engine, what they print, how they end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pycontain.engine.images import Removed
from pycontain.errors import ContainerNotFound, ImageNotFound
from pycontain.image.records import ImageInfo
from tests.unit.fake_engine import ID, FakeEngine, Run, command, fake, info

_FIXTURES = (command, fake)
OTHER = "sha256:" + "f" * 64


# --- archives ---------------------------------------------------------------------------------------------------------


def _writes(data: bytes) -> Any:
    def save(*args: Any, **options: Any) -> None:
        out: BinaryIO = args[-1]
        out.write(data)

    return save


def test_save_to_standard_output(fake: FakeEngine, command: Run) -> None:
    fake.answers("save", _writes(b"tar\x00"))
    assert command("save", "a", "b:1").out == "tar\x00"
    assert fake.calls[0][1][:2] == ("/nowhere", ["a", "b:1"]) and fake.calls[0][2] == {"format": "docker-archive"}


def test_save_to_a_file(fake: FakeEngine, command: Run, tmp_path: Path) -> None:
    fake.answers("save", _writes(b"tar"))
    target, link = tmp_path / "x.tar", tmp_path / "link"
    link.symlink_to(target)
    assert command("image", "save", "-o", str(link), "--format", "oci-archive", "a").code == 0
    assert target.read_bytes() == b"tar" and link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert fake.calls[-1][2] == {"format": "oci-archive"}


def test_failed_save_leaves_what_was_there(fake: FakeEngine, command: Run, tmp_path: Path) -> None:
    target = tmp_path / "x.tar"
    target.write_bytes(b"old")

    def fail(root: str, names: list[str], out: BinaryIO, **_: Any) -> None:
        out.write(b"new")
        raise ImageNotFound("no such image: b")

    fake.answers("save", fail)
    ended = command("save", "-o", str(target), "a", "b")
    assert (ended.code, ended.err) == (1, "pycontain: no such image: b\n")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.tar"]


def test_full_disk_is_said(fake: FakeEngine, command: Run, tmp_path: Path) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    fake.answers("export", full)
    ended = command("export", "-o", str(tmp_path / "x"), "c")
    assert (ended.code, os.listdir(tmp_path)) == (1, [])
    assert f"cannot export to {tmp_path}/x: No space left on device (ENOSPC): free some space" in ended.err


def test_save_into_a_device_or_a_directory(fake: FakeEngine, command: Run, tmp_path: Path) -> None:
    fake.answers("save", _writes(b"tar"))
    assert command("save", "-o", "/dev/null", "a").code == 0 and not Path("/dev/null").is_file()
    assert "it is a directory" in command("save", "-o", str(tmp_path), "a").err
    assert "(ENOENT)" in command("save", "-o", str(tmp_path / "no/dir"), "a").err
    assert "-o needs the name of a file" in command("save", "-o", "", "a").err


@pytest.mark.parametrize("words", [("save", "a"), ("export", "c")])
def test_no_archive_to_a_terminal(words: tuple[str, ...], fake: FakeEngine, command: Run) -> None:
    ended = command(*words, terminal=True)
    assert (ended.code, ended.err) == (
        1,
        "pycontain: cowardly refusing to save to a terminal. Use the -o flag or redirect\n",
    )


def test_no_archive_from_a_terminal(command: Run) -> None:
    ended = command("load", terminal=True)
    assert ended.code == 1 and "requested load from stdin, but stdin is empty" in ended.err


def test_unknown_archive_format(command: Run) -> None:
    ended = command("save", "--format", "zip", "a")
    assert ended.code == 125 and "write docker-archive or oci-archive" in ended.err


def test_load(fake: FakeEngine, command: Run, tmp_path: Path) -> None:
    archive = tmp_path / "x.tar"
    archive.write_bytes(b"bytes of a tar")
    seen: list[bytes] = []

    def load(root: str, source: BinaryIO, *, platform: str, progress: Any) -> list[ImageInfo]:
        seen.append(source.read())
        assert platform == ""
        assert progress is None  # nothing to draw on
        return [info("a:1"), info("", id=OTHER), info(names=("b:1", "b:2"))]

    fake.answers("load", load)
    out = f"Loaded image: a:1\nLoaded image ID: {OTHER}\nLoaded image: b:1\nLoaded image: b:2\n"
    assert command("load", "-i", str(archive)).out == out
    assert command("load", "-q", stdin=b"from a pipe \xff").out == out
    assert command("load", "-i", "-", stdin=b"-").out == out
    assert seen == [b"bytes of a tar", b"from a pipe \xff", b"-"]


def test_load_of_a_platform(fake: FakeEngine, command: Run) -> None:
    fake.answers("load", [])
    command("load", "--platform", "linux/arm64", stdin=b"x")
    assert fake.calls[-1][2] == {"platform": "linux/arm64", "progress": None}


def test_load_of_no_file(command: Run, tmp_path: Path) -> None:
    ended = command("load", "-i", str(tmp_path / "no"))
    assert ended.code == 1 and "No such file or directory (ENOENT): name an archive" in ended.err
    assert "null byte" in command("load", "-i", "a\0b").err


# --- containers -------------------------------------------------------------------------------------------------------


def test_commit(fake: FakeEngine, command: Run) -> None:
    fake.answers("commit", ID)
    assert (
        command("commit", "-a", "Ann", "-m", "why", "-c", "USER x", "--change=ENV a=b", "-p=false", "web", "app:2").out
        == f"{ID}\n"
    )
    assert fake.calls[-1] == (
        "commit", ("/nowhere", "/nowhere/run", "web", "app:2"),
        {
            "changes": ["USER x", "ENV a=b"], "author": "Ann", "message": "why", "pause": False,
            "compression": "gzip", "level": None,
        },
    )  # fmt: skip
    command("commit", "web")
    assert fake.calls[-1][1] == ("/nowhere", "/nowhere/run", "web", "") and fake.calls[-1][2]["pause"] is True
    command("commit", "--no-pause", "web")
    assert fake.calls[-1][2]["pause"] is False
    command("commit", "--compression", "zstd", "--compression-level=19", "web")
    assert (fake.calls[-1][2]["compression"], fake.calls[-1][2]["level"]) == ("zstd", 19)
    command("commit", "--compression=none", "web")
    assert fake.calls[-1][2]["compression"] == ""


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--compression=bzip2",), "--compression: invalid value 'bzip2': write none or gzip or zstd"),
        (("--compression-level=0",), "--compression-level: invalid number '0'"),
        (("--compression-level=10",), "write a whole number from 1 to 9"),
        (("--compression=zstd", "--compression-level=23"), "write a whole number from 1 to 22"),
        (("--compression=none", "--compression-level=1"), "--compression-level: there is none without a compression"),
    ],
)
def test_commit_with_a_compression_that_is_none(words: tuple[str, ...], wrong: str, command: Run) -> None:
    ended = command("commit", *words, "web")
    assert ended.code == 125 and wrong in ended.err


def test_export(fake: FakeEngine, command: Run) -> None:
    fake.answers("export", _writes(b"files"))
    assert command("export", "web").out == "files"
    fake.answers("export", ContainerNotFound("no such container: web"))
    assert command("export", "web").code == 1


# --- import -----------------------------------------------------------------------------------------------------------


def test_import_of_an_url(command: Run) -> None:
    ended = command("import", "https://example.org/x.tar", "x")
    assert (
        ended.code == 1
        and "an URL is not fetched: `curl -fL https://example.org/x.tar | pycontain import - NAME`" in ended.err
    )


def test_import_passes_on_what_it_is_told(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import pycontain.image.importer as importer

    calls: list[tuple[Any, Any]] = []

    def import_tar(*args: Any, **options: Any) -> str:
        calls.append((args, options))
        return ID

    monkeypatch.setattr(importer, "import_tar", import_tar)
    monkeypatch.delenv("DOCKER_DEFAULT_PLATFORM", raising=False)
    assert command("import", "-c", "USER x", "-m", "why", "--platform", "linux/arm64", "f", "n").out == f"{ID}\n"
    command("image", "import", "f")
    assert calls[1] == (("f", ""), {"data_root": "/nowhere", "changes": ()})
    args, options = calls[0]
    assert args == ("f", "n") and (options["changes"], options["message"]) == (["USER x"], "why")
    assert (options["platform"].os, options["platform"].architecture) == ("linux", "arm64")


def test_import_of_what_does_not_exist(command: Run, tmp_path: Path) -> None:
    ended = command("import", "/nosuch", "x", data_root=str(tmp_path))
    assert ended.code == 1 and "No such file or directory (ENOENT)" in ended.err


# --- prune ------------------------------------------------------------------------------------------------------------

PRUNED = [Removed(action="Untagged", what="a:1"), Removed(action="Deleted", what=ID)]


def test_prune_asks(fake: FakeEngine, command: Run) -> None:
    fake.answers("prune_images", (PRUNED, 1_500_000))
    question = "WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] "
    for answer in ("n\n", "\n", "yes please\n"):
        assert command("image", "prune", stdin=answer).out == question
    assert command("image", "prune").out == question + "\n"  # the end of the input, and of the line
    assert fake.calls == []
    for answer in ("y\n", "Y\n"):
        ended = command("image", "prune", stdin=answer)
        assert ended.out == f"{question}Deleted Images:\nuntagged: a:1\ndeleted: {ID}\n\nTotal reclaimed space: 1.5MB\n"


def test_prune_of_all_asks_otherwise(fake: FakeEngine, command: Run) -> None:
    fake.answers("prune_images", ([], 0))
    out = command("image", "prune", "-a", stdin="y\n").out
    assert out.startswith("WARNING! This will remove all images without at least one container associated to them.\n")
    assert out.endswith("Total reclaimed space: 0B\n")
    assert fake.calls[-1][2]["all"] is True
    command("image", "prune", "-f", "--filter", "dangling=false")
    assert fake.calls[-1][2]["all"] is True


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ((), set()), (("until=2022-01-01Z",), {"new", "unsaid"}), (("label=a",), {"old", "unsaid"}),
        (("label=a=1", "label=b"), {"new", "old", "unsaid"}),
        (("label!=a",), {"new"}), (("label!=a", "label!=b"), set()), (("label=a", "until=2030-01-01Z"), {"old", "unsaid"}),
    ],
)  # fmt: skip
def test_prune_keeps_what_the_filters_say(
    filters: tuple[str, ...], kept: set[str], fake: FakeEngine, command: Run
) -> None:
    images = {
        "new": info(created="2024-01-01T00:00:00Z", labels=(("a", "1"),)), "old": info(created="2020-01-01T00:00:00Z"),
        "unsaid": info(created=""),
    }  # fmt: skip
    fake.answers("prune_images", ([], 0))
    command("image", "prune", "-f", *[word for each in filters for word in ("--filter", each)])
    keep = fake.calls[-1][2]["keep"]
    assert {name for name, image in images.items() if keep(image)} == kept


@pytest.mark.parametrize("words", [("--filter", "foo=x"), ("--filter", "until=x"), ("-a", "--filter", "dangling=true")])
def test_prune_refuses(words: tuple[str, ...], fake: FakeEngine, command: Run) -> None:
    fake.answers("prune_images", ([], 0))
    assert command("image", "prune", "-f", *words).code == 1
    assert fake.calls == []
