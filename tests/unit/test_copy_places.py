"""Where a copy goes: docker's rules, and look-ups that stay below a root. Needs no privilege: a root is any directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.engine.copy_places import Destination, Place, clean, find_destination, find_source
from pycontain.errors import InvalidArgument, NotFound, PycontainError


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Place]:
    """A "container" with a file, directories and links, and beside it what must never be found."""
    inside = tmp_path / "root"
    (inside / "dir/sub").mkdir(parents=True)
    (inside / "file").write_text("inside")
    (inside / "to-dir").symlink_to("dir")
    (inside / "to-file").symlink_to("file")
    (inside / "absolute").symlink_to("/dir/sub")
    (inside / "up").symlink_to("../../../../secret")
    (inside / "dangling").symlink_to("dir/none")
    (inside / "circle").symlink_to("circle")
    (inside / "outside").symlink_to(tmp_path / "secret")
    (inside / "proc").symlink_to("/proc/self/root")
    os.mkfifo(inside / "fifo")
    (tmp_path / "secret").write_text("outside")
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield Place(fd, "web")
    os.close(fd)


@pytest.mark.parametrize(
    ("path", "base", "expected"),
    [
        ("/a/b", "/", "/a/b"),
        ("a/b", "/", "/a/b"),
        ("a/b", "/home/me", "/home/me/a/b"),
        ("/a//b/./c/../d", "/", "/a/b/d"),
        ("/a/", "/", "/a/"),
        ("/a/.", "/", "/a/."),
        ("/a/..", "/", "/"),
        ("/../../x", "/", "/x"),
        ("", "/", "/"),
        (".", "/", "/."),
        ("./", "/", "/"),
        ("/", "/", "/"),
        ("//x", "/", "/x"),
        ("..", "/home/me", "/home"),
        ("\udcff", "/", "/\udcff"),
    ],
)
def test_a_path_is_cleaned_by_its_words(path: str, base: str, expected: str) -> None:
    assert clean(os.fsencode(path), os.fsencode(base)) == os.fsencode(expected)
    with pytest.raises(InvalidArgument, match="NUL"):
        clean(os.fsencode(path) + b"\0")


def destination(place: Place, path: bytes) -> tuple[bytes, bool, bool]:
    found = find_destination(place, path)
    try:
        return found.name, found.exists, found.wants_directory
    finally:
        found.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dir", (b"", True, False)),
        ("/dir/", (b"", True, False)),
        ("/", (b"", True, False)),
        ("/to-dir", (b"", True, False)),
        ("/absolute", (b"", True, False)),
        ("/file", (b"file", True, False)),
        ("/to-file", (b"file", True, False)),
        ("/new", (b"new", False, False)),
        ("/new/", (b"new", False, True)),
        ("/to-dir/new", (b"new", False, False)),
        ("/dangling", (b"none", False, False)),
        ("/up", (b"secret", False, False)),  # below the root, where there is none
    ],
)
def test_destinations(root: Place, path: str, expected: tuple[bytes, bool, bool]) -> None:
    assert destination(root, os.fsencode(path)) == expected


@pytest.mark.parametrize(
    ("path", "phrase"),
    [
        ("/none/new", "Could not find the file /none in container web"),
        ("/file/new", "Could not find the file /file in container web"),
        ("/file/", "it is not a directory"),
        ("/to-file/", "it is not a directory"),
        ("/outside", "Could not find the file"),
        ("/circle", "ELOOP"),
        ("/fifo", "must be a directory or a regular file"),
        ("/proc/etc", "ELOOP"),
    ],
)
def test_destinations_that_cannot_be(root: Place, path: str, phrase: str) -> None:
    with pytest.raises(PycontainError, match=phrase):
        destination(root, os.fsencode(path))


@pytest.mark.parametrize(
    ("path", "follow", "name", "kind"),
    [
        ("/file", False, b"file", 0o100000),
        ("/dir", False, b"dir", 0o40000),
        ("/dir/", False, b"dir", 0o40000),
        ("/dir/.", False, b"", 0o40000),
        ("/", False, b"", 0o40000),
        ("/to-dir", False, b"to-dir", 0o120000),
        ("/to-dir", True, b"to-dir", 0o40000),
        ("/to-dir/", False, b"to-dir", 0o40000),
        ("/to-file", True, b"to-file", 0o100000),
        ("/circle", False, b"circle", 0o120000),
        ("/fifo", False, b"fifo", 0o10000),  # and nobody waits for its other end
    ],
)
def test_sources(root: Place, path: str, follow: bool, name: bytes, kind: int) -> None:
    found = find_source(root, os.fsencode(path), follow=follow)
    try:
        assert (found.name, found.info.st_mode & 0o170000) == (name, kind)
    finally:
        found.close()


@pytest.mark.parametrize("path", ["/up", "/outside", "/dangling", "/none", "/file/", "/file/.", "/none/none"])
def test_sources_that_are_not_there(root: Place, path: str) -> None:
    with pytest.raises(NotFound, match="Could not find the file"):
        find_source(root, os.fsencode(path), follow=True)


def test_a_link_to_what_a_process_has_open_is_none(tmp_path: Path) -> None:
    fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(InvalidArgument, match="ELOOP"):
            find_source(Place(fd, "web"), b"/proc/self/root/etc", follow=True)
        with pytest.raises(InvalidArgument, match="ELOOP"):
            find_destination(Place(fd, "web"), b"/proc/self/cwd")
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("/file", "/dir", b"file"),
        ("/file", "/new", b"new"),
        ("/file", "/to-file", b"file"),
        ("/dir", "/dir", b"dir"),
        ("/dir/.", "/dir", b""),
        ("/dir/.", "/new", b"new"),
        ("/dir", "/new/", b"new"),
        ("/dir", "/file", "cannot copy directory"),
        ("/file", "/new/", "no such directory"),
    ],
)
def test_what_the_copy_is_called(root: Place, source: str, target: str, expected: bytes | str) -> None:
    found = find_source(root, os.fsencode(source), follow=False)
    to: Destination = find_destination(root, os.fsencode(target))
    try:
        if isinstance(expected, bytes):
            assert to.name_for(found, root, os.fsencode(target)) == expected
        else:
            with pytest.raises((NotFound, InvalidArgument), match=expected):
                to.name_for(found, root, os.fsencode(target))
    finally:
        found.close()
        to.close()
