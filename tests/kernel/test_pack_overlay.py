"""What the kernel's overlayfs makes of a stack of layers is what we make of it: merged, as layers, and as a list."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packing import Tree, differences, layer_bytes, merged_bytes, opened, overlay, shm, tree_of, unpacked

import pycontain
from pycontain.image.diff import changes
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel


@pytest.fixture
def place() -> Iterator[Path]:
    with shm() as made:
        yield made


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [m.name + "/" * m.isdir() for m in archive]


def diff(upper: Path, *lower: Path, **options: Any) -> list[str]:
    with opened(upper, *lower) as (top, *below):
        return [f"{kind} {path}" for kind, path in changes(top, below, **options)]


# Any changes to any tree: the property


# what, on which of the things that are there, in which directory, and a number
_OPERATION = st.tuples(
    st.sampled_from(
        (
            "write", "write", "mkdir", "mkdir", "remove", "remove", "replace", "link", "symlink", "chmod", "chown", "rename",
            "rename", "xattr", "fifo", "append",
        )
    ),
    st.integers(0, 99),
    st.integers(0, 99),
    st.integers(0, 999),
)  # fmt: skip


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _there(root: str) -> tuple[list[str], list[str]]:
    """(everything, directories with the root), in an order of their own."""
    every, dirs = [], [root]
    for base, below, files in os.walk(root):
        every += [f"{base}/{name}" for name in (*below, *files)]
        dirs += [f"{base}/{name}" for name in below if not os.path.islink(f"{base}/{name}")]
    return sorted(every) or [root + "/none"], sorted(dirs)


def apply(root: str, operation: tuple[str, int, int, int]) -> None:
    """One change to a mounted tree; one that is not possible there changes nothing."""
    what, which, where, n = operation
    every, dirs = _there(root)
    path, new = every[which % len(every)], f"{dirs[where % len(dirs)]}/{'abc'[n % 3]}{'.x' * (n % 2)}"
    link = os.path.islink(path)
    try:
        if what == "write" and not os.path.lexists(new):
            Path(new).write_text(f"{n}" * (n % 5))
        elif what == "append" and os.path.isfile(path) and not link:
            with open(path, "a") as file:
                file.write(f"{n}")
        elif what == "mkdir":
            os.mkdir(new)
        elif what == "remove":
            _remove(path)
        elif what == "replace":
            _remove(path)
            os.mkdir(path)
        elif what == "link":
            os.link(path, new, follow_symlinks=False)
        elif what == "symlink":
            os.symlink(os.path.basename(path), new)
        elif what == "chmod" and not link:
            os.chmod(path, 0o700 | n % 64)
        elif what == "chown":
            os.chown(path, n, n + 1, follow_symlinks=False)
        elif what == "rename":
            os.rename(path, new)
        elif what == "xattr" and not link:
            os.setxattr(path, f"user.{n % 3}", f"{n}".encode())
        elif what == "fifo":
            os.mkfifo(new)
    except OSError:
        pass


def expected_changes(before: Tree, after: Tree) -> tuple[set[str], set[str], set[str]]:
    """(added, deleted, changed for certain), from the two trees alone."""

    def parent_is_dir(path: str, tree: Tree) -> bool:
        parent = os.path.dirname(path) or "."
        return bool(tree.get(parent, ("",))[0] == "dir")

    added = {p for p in after if p not in before}
    deleted = {p for p in before if p not in after and parent_is_dir(p, after)}
    changed = set()
    for path in before.keys() & after.keys() - {"."}:
        old, new = before[path], after[path]
        if new[0] == old[0] == "dir":
            direct = any(os.path.dirname(p) == path for p in (*added, *deleted))
            if old[1:5] != new[1:5] or direct:
                changed.add(path)
        elif old[:-2] != new[:-2]:
            changed.add(path)
    return added, deleted, changed


def check_changes(found: list[str], before: Tree, after: Tree) -> None:
    assert found == sorted(set(found), key=lambda line: os.fsencode(line[2:]))
    by_kind = {kind: {line[3:] for line in found if line[0] == kind} for kind in "ADC"}
    added, deleted, changed = expected_changes(before, after)
    assert (by_kind["A"], by_kind["D"]) == (added, deleted)
    assert changed <= by_kind["C"]
    for path in by_kind["C"] - changed:  # copied up, and as it was since: a file may be listed, a directory not
        assert path in before and path in after and after[path][0] != "dir"


@pytest.mark.parametrize("userxattr", [False, True], ids=["trusted", "user"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=st.lists(st.lists(_OPERATION, min_size=3, max_size=16), min_size=2, max_size=4))
def test_any_layers_are_what_overlayfs_shows(layers: list[list[tuple[str, int, int, int]]], userxattr: bool) -> None:
    with shm() as place:
        base = place / "base"
        base.mkdir()
        uppers, copies, before = [base], [place / "base-copy"], tree_of(base)
        unpacked(layer_bytes(base), copies[0])
        for i, operations in enumerate(layers):
            upper = place / f"u{i}"
            upper.mkdir()
            with overlay(place, uppers, upper, userxattr=userxattr) as root:
                for each in operations:
                    apply(root, each)
                after = tree_of(root)
            check_changes(diff(upper, *uppers, userxattr=userxattr), before, after)
            uppers.insert(0, upper)
            copies.insert(0, place / f"c{i}")
            layer = layer_bytes(upper, userxattr=userxattr)
            assert layer_bytes(upper, userxattr=userxattr) == layer
            unpacked(layer, copies[0])
            before = after
        with overlay(place, copies) as root:  # every layer through a tar and back
            assert differences(tree_of(root, names=False), _nameless(after)) == []
        unpacked(merged_bytes(uppers, userxattr=userxattr), place / "merged")
        # user.* attributes cannot be on fifos, so that overlayfs shows two names of one that was copied up as two
        found, expected = tree_of(place / "merged"), after
        assert differences(*(map(_nameless, (found, expected)) if userxattr else (found, expected))) == []


def _nameless(tree: Tree) -> Tree:
    return {p: t if t[0] == "dir" else t[:-1] for p, t in tree.items()}


# Each mark on its own


def test_marks_become_whiteouts_before_their_siblings(place: Path) -> None:
    lower, upper = place / "l", place / "u"
    for name in ("keep", "gone", "replaced/old", "replaced/sub/old", "etc/a", "etc/z"):
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text(name)
    upper.mkdir()
    with overlay(place, [lower], upper) as root:
        for name in ("gone", "etc/z"):
            os.unlink(f"{root}/{name}")
        shutil.rmtree(f"{root}/replaced")
        os.mkdir(f"{root}/replaced")
        Path(f"{root}/replaced/new").write_text("")
        Path(f"{root}/etc/b").write_text("")
    assert names(layer_bytes(upper)) == [
        "./", ".wh.gone", "etc/", "etc/.wh.z", "etc/b", "replaced/", "replaced/.wh..wh..opq", "replaced/new",
    ]  # fmt: skip
    assert names(merged_bytes([upper, lower])) == ["./", "etc/", "etc/a", "etc/b", "keep", "replaced/", "replaced/new"]
    assert diff(upper, lower) == [
        "C /etc", "A /etc/b", "D /etc/z", "D /gone", "C /replaced", "A /replaced/new", "D /replaced/old", "D /replaced/sub",
    ]  # fmt: skip


def test_whiteouts_are_the_same_whenever_they_were_made(place: Path) -> None:
    lower = place / "l"
    lower.mkdir()
    (lower / "gone").write_text("")
    made = []
    for name in ("1", "2"):
        upper = place / name
        upper.mkdir()
        with overlay(place, [lower], upper) as root:
            os.unlink(f"{root}/gone")
        os.utime(upper, ns=(0, 0))
        made.append(layer_bytes(upper))
    assert made[0] == made[1]


def test_whiteouts_in_the_form_of_attributes(place: Path) -> None:
    """Linux 6.7 and later: where no device node can be made, an empty file with an attribute."""
    lower, upper = place / "l", place / "u"
    for name in ("d/gone", "d/kept"):
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text(name)
    (upper / "d").mkdir(parents=True)
    (upper / "d/gone").write_text("")
    os.setxattr(upper / "d/gone", "trusted.overlay.whiteout", b"")
    os.setxattr(upper / "d", "trusted.overlay.opaque", b"x")
    (upper / "d/a").write_text("")
    with overlay(place, [upper, lower]) as root:
        if os.path.exists(f"{root}/d/gone"):
            pytest.skip("needs whiteouts by attribute (Linux 6.7)")
        assert sorted(os.listdir(f"{root}/d")) == ["a", "kept"]
    assert names(layer_bytes(upper)) == ["./", "d/", "d/.wh.gone", "d/a"]
    assert names(merged_bytes([upper, lower])) == ["./", "d/", "d/a", "d/kept"]
    assert diff(upper, lower) == ["C /d", "A /d/a", "D /d/gone"]


def test_a_directory_over_a_file_and_a_file_over_a_directory(place: Path) -> None:
    roots = [place / name for name in ("top", "mid", "low")]
    for root in roots:
        root.mkdir()
    (roots[0] / "a").mkdir()
    (roots[1] / "a").write_text("a file hides what is below it")
    (roots[2] / "a").mkdir()
    (roots[2] / "a/hidden").write_text("")
    (roots[0] / "b").write_text("")
    (roots[1] / "b").mkdir()
    (roots[1] / "b/hidden").write_text("")
    with overlay(place, roots) as mounted:
        expected = _nameless(tree_of(mounted))
    unpacked(merged_bytes(roots), place / "out")
    assert differences(tree_of(place / "out", names=False), expected) == []
    assert "a/hidden" not in expected and "b/hidden" not in expected


def test_exclusion_is_about_the_topmost(place: Path) -> None:
    upper, lower = place / "u", place / "l"
    for root, name in ((upper, "dev/made"), (upper, "etc/hosts"), (lower, "dev/of-the-image"), (lower, "etc/hosts")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(root))
    out = names(merged_bytes([upper, lower], exclude=("dev", "etc/hosts")))
    assert out == ["./", "dev/", "dev/of-the-image", "etc/", "etc/hosts"]
    assert names(layer_bytes(upper, exclude=("dev", "etc/hosts"))) == ["./", "etc/"]
    assert diff(upper, lower, exclude=("dev", "etc/hosts")) == ["C /etc"]


def test_sixty_layers(place: Path) -> None:
    roots = []
    for i in range(60):
        root = place / f"{i:02}"
        (root / "usr/lib/d").mkdir(parents=True)
        (root / "usr/lib/d" / f"only-{i}").write_text(str(i))
        (root / "usr/lib/same").write_text(str(i))
        os.chmod(root / "usr", 0o700 + i % 8)
        if i == 40:
            os.setxattr(root / "usr/lib", "trusted.overlay.opaque", b"y")
        roots.append(root)
    unpacked(merged_bytes(roots), place / "out")
    assert sorted(os.listdir(place / "out/usr/lib/d")) == sorted(f"only-{i}" for i in range(41))
    assert (place / "out/usr/lib/same").read_text() == "0"
    assert stat.S_IMODE((place / "out/usr").stat().st_mode) == 0o700


def test_owners_of_the_upper_directory_alone_are_translated(place: Path) -> None:
    upper, lower = place / "u", place / "l"
    for root, name, owner in ((upper, "d/new", 100000), (lower, "d/old", 0), (lower, "x/own", 33)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
        for path in (root, (root / name).parent, root / name):
            os.chown(path, owner, owner)
    idmap = ((0, 100000, 65536),)
    data = merged_bytes([upper, lower], uid_map=idmap, gid_map=idmap, mapped=1)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        owners = {m.name: m.uid for m in archive}
    assert owners == {".": 0, "d": 0, "d/new": 0, "d/old": 0, "x": 33, "x/own": 33}
    same = os.stat(lower / "d").st_mtime_ns
    os.utime(upper / "d", ns=(same, same))
    os.unlink(upper / "d/new")
    os.utime(upper / "d", ns=(same, same))
    assert diff(upper, lower, uid_map=idmap, gid_map=idmap) == []
    assert diff(upper, lower) == ["C /d"]


# What pycontain itself leaves in an upper directory

_SCRIPT = """
set -e
echo new > /etc/new; echo more >> /etc/passwd; rm /etc/group; rm -r /var; mkdir /var; echo z > /var/z
mkdir -p /srv/a/b; mv /home/user /home/moved; ln /etc/new /etc/hard; ln -s new /etc/soft
mknod /tmp/fifo p; chown 1000:1000 /srv/a; chmod 4755 /srv/a/b; touch -d @1500000000 /etc/new
echo ready; exec sleep 1000
"""


def running(busybox_root: str, roots: Roots, **options: Any) -> pycontain.Container:
    c = pycontain.Container(busybox_root, ["sh", "-c", _SCRIPT], stdout=pycontain.PIPE, text=True, **options)
    assert c.stdout is not None and c.stdout.readline() == "ready\n"
    return c


def upper_of(roots: Roots) -> Path:
    (found,) = Path(roots.data_root).glob("ephemeral/*/*/upper")
    return found


@pytest.mark.parametrize("userns", ["host", "auto"])
def test_upper_directory_of_a_container(userns: str, busybox_root: str, roots: Roots, place: Path) -> None:
    with running(busybox_root, roots, userns=userns) as c:
        upper = upper_of(roots)
        start = os.stat(upper).st_uid
        idmap = ((0, start, 65536),) if userns == "auto" else ()
        data = layer_bytes(upper, uid_map=idmap, gid_map=idmap)
        listing = diff(upper, Path(busybox_root), uid_map=idmap, gid_map=idmap)
        mount = Path(f"/proc/{c.pid}/mountinfo").read_text().splitlines()[0]
    assert ",redirect_dir=nofollow" in mount  # so that a renamed directory is in the upper one as a whole
    assert names(data) == [
        "./", "etc/", "etc/.wh.group", "etc/hard", "etc/new", "etc/passwd", "etc/soft", "home/", "home/.wh.user",
        "home/moved/", "srv/", "srv/a/", "srv/a/b/", "tmp/", "tmp/fifo", "var/", "var/.wh..wh..opq", "var/z",
    ]  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {m.name: m for m in archive}
    assert {m.uid for m in members.values()} == {0, 1000}
    assert (members["home/moved"].uid, members["srv/a"].uid, members["srv/a/b"].mode) == (1000, 1000, 0o4755)
    assert (members["etc/new"].type, members["etc/new"].linkname) == (tarfile.LNKTYPE, "etc/hard")
    assert members["etc/hard"].mtime == 1500000000
    assert listing == [
        "C /etc", "D /etc/group", "A /etc/hard", "A /etc/new", "C /etc/passwd", "A /etc/soft", "C /home", "A /home/moved",
        "D /home/user", "A /srv", "A /srv/a", "A /srv/a/b", "C /tmp", "A /tmp/fifo", "C /var", "D /var/tmp", "A /var/z",
    ]  # fmt: skip
    unpacked(data, place / "layer")
    with overlay(place, [place / "layer", Path(busybox_root)]) as root:
        assert Path(f"{root}/etc/passwd").read_text().endswith("more\n")
        assert sorted(os.listdir(f"{root}/var")) == ["z"]
        assert not os.path.exists(f"{root}/etc/group")


def test_container_that_changes_nothing(busybox_root: str, roots: Roots) -> None:
    with pycontain.Container(busybox_root, ["sh", "-c", "echo ready; exec sleep 1000"], stdout=pycontain.PIPE) as c:
        assert c.stdout is not None and c.stdout.readline()
        upper = upper_of(roots)
        assert names(layer_bytes(upper, root_entry=False)) == []
        assert diff(upper, Path(busybox_root)) == []
