"""Users of an image, by Docker's rules, from bytes alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument
from pycontain.image.users import ResolvedUser, read_file_in_layers, resolve_user

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# a comment
broken
web:x:1000:1001:Web,,,:/srv/web:/bin/sh
nohome:x:1002:1002
big:x:4294967296:0::/:/bin/sh
text:x:abc:0::/:/bin/sh
"""
GROUP = b"root:x:0:\nweb:x:1001:\ndocker:x:999:web,other\naudio:x:29:other,web\nhuge:x:4294967296:\n"


@pytest.mark.parametrize(
    ("spec", "uid", "gid", "gids", "home", "name"),
    [
        ("", 0, 0, (), "/root", "root"),
        ("0", 0, 0, (), "/root", "root"),
        ("root", 0, 0, (), "/root", "root"),
        ("web", 1000, 1001, (999, 29), "/srv/web", "web"),
        ("1000", 1000, 1001, (999, 29), "/srv/web", "web"),
        ("web:docker", 1000, 999, (), "/srv/web", "web"),
        ("web:7", 1000, 7, (), "/srv/web", "web"),
        ("web:", 1000, 1001, (999, 29), "/srv/web", "web"),
        (":docker", 0, 999, (), "/root", "root"),
        ("4242", 4242, 0, (), "/", ""),
        ("4242:29", 4242, 29, (), "/", ""),
        ("2147483647", 2147483647, 0, (), "/", ""),
        ("nohome", 1002, 1002, (), "/", "nohome"),
    ],
)
def test_docker_rules(spec: str, uid: int, gid: int, gids: tuple[int, ...], home: str, name: str) -> None:
    expected = ResolvedUser(uid=uid, gid=gid, additional_gids=gids, home=home, name=name)
    assert resolve_user(spec, PASSWD, GROUP, ()) == expected


def test_group_add_is_appended_once() -> None:
    assert resolve_user("web", PASSWD, GROUP, ("audio", "5", "docker")).additional_gids == (999, 29, 5)


@pytest.mark.parametrize(
    ("spec", "phrase"),
    [
        ("ghost", "unable to find user ghost: no matching entries in passwd file"),
        ("web:ghost", "unable to find group ghost: no matching entries in group file"),
        ("-1", "must be in range 0-2147483647"),
        ("2147483648", "must be in range"),
        ("4294967296", "must be in range"),
        ("9" * 5000, "must be in range"),
        ("0:4294967296", "must be in range"),
        ("big", "ids outside"),
        ("text", "ids outside"),
        ("0:huge", "id outside"),
        ("٣", "unable to find user"),
    ],
)
def test_refused(spec: str, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase):
        resolve_user(spec, PASSWD, GROUP, ())


def test_unknown_group_add() -> None:
    with pytest.raises(InvalidArgument, match="unable to find group nobody"):
        resolve_user("", PASSWD, GROUP, ("nobody",))


@given(st.text(max_size=30), st.binary(max_size=200), st.binary(max_size=200))
def test_any_input_is_an_answer_in_range_or_one_error(spec: str, passwd: bytes, group: bytes) -> None:
    try:
        found = resolve_user(spec, passwd, group, ())
    except InvalidArgument:
        return
    assert all(0 <= each < 2**31 for each in (found.uid, found.gid, *found.additional_gids))
    assert found.home.startswith("/") and "\0" not in found.home


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_numbers_mean_themselves(uid: int, gid: int) -> None:
    assert resolve_user(f"{uid}:{gid}", b"", b"", ()) == ResolvedUser(uid=uid, gid=gid)


# Reading through layers


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, Path]:
    top, low = tmp_path / "top", tmp_path / "low"
    (top / "etc").mkdir(parents=True)
    (low / "etc").mkdir(parents=True)
    (low / "etc/passwd").write_bytes(b"low")
    (low / "etc/group").write_bytes(b"low group")
    return top, low


def read(layers: tuple[Path, Path], path: str, limit: int = 100) -> bytes | None:
    return read_file_in_layers(tuple(map(str, layers)), path, limit)


def test_topmost_file_wins_and_merged_directory_shows_through(layers: tuple[Path, Path]) -> None:
    (layers[0] / "etc/passwd").write_bytes(b"top")
    assert read(layers, "/etc/passwd") == b"top"
    assert read(layers, "/etc/group") == b"low group"
    assert read(layers, "/etc/none") is None
    assert read(layers, "/etc/passwd/x") is None


def test_changed_file_is_read_again(layers: tuple[Path, Path]) -> None:
    assert read(layers, "/etc/passwd") == b"low"
    (layers[1] / "etc/passwd").write_bytes(b"new!")
    assert read(layers, "/etc/passwd") == b"new!"


@pytest.mark.parametrize("target", ["/conf", "../conf", "../../../../conf", "/loop/../conf"])
def test_links_are_resolved_across_layers(layers: tuple[Path, Path], target: str) -> None:
    top, low = layers
    (top / "etc").rmdir()
    (top / "etc").symlink_to(target.replace("../../../../conf", "/../../conf") if target[:2] == "/." else target)
    (low / "conf").mkdir()
    (low / "loop").mkdir()
    (low / "conf/passwd").write_bytes(b"linked")
    assert read(layers, "/etc/passwd") == b"linked"


def test_links_do_not_leave_the_layers(layers: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"host")
    for target in (f"{tmp_path}/secret", "../../secret", "../../../../../../../../etc/passwd-host"):
        (layers[0] / "etc/passwd").unlink(missing_ok=True)
        (layers[0] / "etc/passwd").symlink_to(target)
        assert read(layers, "/etc/passwd") is None


def test_loop_fifo_directory_and_size(layers: tuple[Path, Path]) -> None:
    etc = layers[0] / "etc"
    (etc / "a").symlink_to("b")
    (etc / "b").symlink_to("a")
    os.mkfifo(etc / "fifo")
    for path, limit, phrase in (
        ("/etc/a", 9, "symbolic links"),
        ("/etc/fifo", 9, "not a regular file"),
        ("/etc", 9, "it is a directory"),
        ("/etc/group", 8, "9 bytes, the limit is 8"),
    ):
        with pytest.raises(InvalidArgument, match=phrase):
            read(layers, path, limit)
