"""What each layer changed, on directories as the unpacker leaves them."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pycontain.cli.layer_changes import LayerChanges, changes_of
from pycontain.errors import NotFound
from pycontain.image.details import HistoryEntry
from tests.unit.fake_engine import FakeEngine, Run, command, details, fake, info, layer

_FIXTURES = (command, fake)

Make = Callable[..., str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """``make({"a/b": 3, "c": None, "d/": "opaque"})``: a layer of a file of 3 bytes, a whiteout and an opaque directory."""
    made = 0

    def one(entries: dict[str, int | str | None], opaque_root: bool = False) -> str:
        nonlocal made
        made += 1
        root = tmp_path / f"layer{made}"
        root.mkdir()
        for name, what in entries.items():
            path = root / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
                if what == "opaque":
                    _opaque(path)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if what is None:
                _whiteout(path)
            elif isinstance(what, str):
                path.symlink_to(what)
            else:
                path.write_bytes(b"x" * what)
        if opaque_root:
            _opaque(root)
        return str(root)

    return one


def _whiteout(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR, 0)
    except PermissionError:
        pytest.skip("making a whiteout needs Linux 5.8 or root")


def _opaque(path: Path) -> None:
    try:
        os.setxattr(path, "user.overlay.opaque", b"y")
    except OSError as error:
        pytest.skip(f"user.* extended attributes on {path.parent}: {error.strerror}")


def counts(changes: LayerChanges) -> tuple[int, int, int, int]:
    return changes.added.count, changes.changed.count, changes.removed.count, changes.directories


def names(layers: list[str], shown: int = 9) -> list[tuple[list[str], list[str], list[str]]]:
    return [
        ([p for p, _ in each.added.some], [p for p, _ in each.changed.some], [p for p, _ in each.removed.some])
        for each in changes_of(layers, shown)
    ]


def test_files_and_directories(make: Make) -> None:
    base = make({"bin/sh": 100, "etc/passwd": 10, "etc/old": 5, "var/": "", "lib": "usr/lib"})
    upper = make({"etc/passwd": 12, "etc/old": None, "srv/app/x": 1000, "srv/app/y": 20, "nosuch": None})
    one, two = changes_of([base, upper], 3)
    assert counts(one) == (4, 0, 0, 3)
    assert (one.added.size, one.added.some[0]) == (115, ("bin/sh", 100))
    assert counts(two) == (2, 1, 1, 2)
    assert two.added.some == (("srv/app/x", 1000), ("srv/app/y", 20))
    assert two.changed.some == (("etc/passwd", 12),)
    assert two.removed.some == (("etc/old", 0),)


def test_removed_and_made_anew_is_added(make: Make) -> None:
    layers = [make({"a": 1}), make({"a": None}), make({"a": 2})]
    assert names(layers) == [(["a"], [], []), ([], [], ["a"]), (["a"], [], [])]


def test_directory_and_file_in_each_others_place(make: Make) -> None:
    layers = [make({"a/b": 1, "c": 1}), make({"a": 3, "c/d": 4}), make({"c/d": 5, "a/b": 1})]
    assert names(layers)[1:] == [(["c/d"], ["a", "c"], []), (["a/b"], ["c/d", "a"], [])]


def test_opaque_directory_removes_what_was_in_it(make: Make) -> None:
    base = make({"d/a": 1, "d/b": 1, "d/sub/x": 1, "d/sub/y": 1, "d/gone": 1})
    middle = make({"d/gone": None, "d/c": 1})
    top = make({"d/": "opaque", "d/b": 2, "d/new": 2, "d/sub/x": 2})
    assert names([base, middle, top])[2] == (["d/new"], ["d/b", "d/sub/x"], ["d/a", "d/c", "d/sub/y"])
    # and what was hidden stays so for the layers above
    assert names([base, middle, top, make({"d/a": 1, "d/sub/y": None, "d/b": None})])[3] == (["d/a"], [], ["d/b"])


def test_directory_removed_and_made_anew(make: Make) -> None:
    layers = [make({"d/a": 1}), make({"d": None}), make({"d/b": 1}), make({"d/a": 1})]
    assert names(layers)[1:] == [([], [], ["d"]), (["d/b"], [], []), (["d/a"], [], [])]
    assert [each.directories for each in changes_of(layers, 0)] == [1, 0, 1, 0]


def test_opaque_root_removes_everything(make: Make) -> None:
    layers = [make({"a": 1, "b/c": 1}), make({"n": 1}, opaque_root=True), make({"a": 1})]
    assert names(layers)[1:] == [(["n"], [], ["a", "b"]), (["a"], [], [])]


def test_links_are_not_followed(make: Make, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("x")
    base = make({"d": str(tmp_path / "outside"), "up": ".."})
    assert names([base, make({"d/secret": 1, "up/x": 1})])[1] == (["d/secret", "up/x"], ["d", "up"], [])


def test_hard_links_count_their_bytes_once(make: Make) -> None:
    base = make({"a": 1000})
    os.link(f"{base}/a", f"{base}/b")
    assert changes_of([base], 0)[0].added.size == 1000


def test_number_of_paths_that_are_named(make: Make) -> None:
    base = make({f"{at:02}": at % 7 for at in range(50)})
    for shown in (0, 1, 5, 60):
        some = changes_of([base], shown)[0].added.some
        expected = sorted([(f"{at:02}", at % 7) for at in range(50)], key=lambda each: (-each[1], each[0]))
        assert list(some) == expected[:shown]


def test_sixty_layers(make: Make) -> None:
    layers = [make({"shared": at, f"own/{at}": at}) for at in range(60)]
    changes = changes_of(layers, 1)
    assert [counts(each) for each in changes[1:]] == [(1, 1, 0, 0)] * 59


def test_deep_tree(make: Make) -> None:
    base = make({"/".join(["d"] * 255) + "/file": 1})
    assert changes_of([base, base], 1)[1].changed.count == 1


def test_layer_that_is_gone(make: Make) -> None:
    with pytest.raises(
        NotFound, match=r"cannot look into layer /nosuch: No such file or directory \(ENOENT\): pull or load"
    ):
        changes_of([make({}), "/nosuch"], 1)


def test_descriptors_are_closed(make: Make) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    changes_of([make({"a/b": 1}), make({"a/c": 1})], 1)
    with pytest.raises(NotFound):
        changes_of([make({}), "/nosuch"], 1)
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- the command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(fake: FakeEngine, make: Make) -> FakeEngine:
    paths = [
        make({"bin/sh": 1200, "etc/passwd": 10, "a\x1b[2J": 3}),
        make({"etc/passwd": 12, "bin/sh": None}),
        make({}),
    ]
    layers = tuple(
        layer(number, size, path) for number, size, path in zip((1, 2, 3), (1213, 12, 0), paths, strict=True)
    )
    steps = (
        HistoryEntry(created="", created_by="ADD  rootfs.tar /", layer=layers[0]), HistoryEntry(created="", created_by="ENV A=b"),
        HistoryEntry(created="", created_by="RUN " + "long " * 50, layer=layers[1]),
        HistoryEntry(created="", created_by="", comment="buildkit", layer=layers[2]),
    )  # fmt: skip
    fake.images = [details(info(), layers=layers, history=steps, variant="v8", architecture="arm64")]
    return fake


def test_tree(image: FakeEngine, command: Run) -> None:
    lines = command("image", "tree", "app:1.0").out.splitlines()
    assert lines == [
        "app:1.0  0123456789ab  1.23MB, 3 layers, linux/arm64/v8",
        "├─ 000000000000  1.21kB  ADD rootfs.tar /",
        "│    added 3 files (1.21kB) in 2 directories",
        "│    +  1.2kB  bin/sh",
        "│    +    10B  etc/passwd",
        "│    +     3B  a\ufffd[2J",
        "├─ 000000000000     12B  RUN " + ("long " * 50)[:69] + "…",
        "│    changed 1 file (12B), removed 1",
        "│    ~    12B  etc/passwd",
        "│    -         bin/sh",
        "└─ 000000000000      0B  buildkit",
        "     changed nothing",
    ]


def test_tree_without_paths_and_in_full(image: FakeEngine, command: Run) -> None:
    out = command("image", "tree", "--paths", "0", "--no-trunc", "app:1.0").out
    assert "bin/sh" not in out and ("long " * 50).strip() in out


def test_tree_as_json(image: FakeEngine, command: Run) -> None:
    ended = command("image", "tree", "--format", "json", "--paths", "1", "app:1.0")
    assert ended.out.count("\n") == 1
    document = json.loads(ended.out)
    assert [each["CreatedBy"].split()[0] for each in document["Layers"]] == ["ADD", "RUN", "buildkit"]
    assert document["Layers"][1]["Removed"] == {"Count": 1, "Size": 0, "Paths": [{"Path": "bin/sh", "Size": 0}]}
    assert document["Layers"][0]["Added"]["Count"] == 3


def test_tree_of_a_history_that_does_not_fit(fake: FakeEngine, command: Run, make: Make) -> None:
    fake.images = [details(info(), layers=(layer(1, 1, make({"a": 1})),), history=())]
    assert "├" not in command("image", "tree", "app:1.0").out
    assert "added 1 file (1B)" in command("image", "tree", "app:1.0").out


@pytest.mark.parametrize("words", [("--format", "yaml", "a"), ("--paths", "x", "a"), ("--paths", "-1", "a")])
def test_tree_refuses(words: tuple[str, ...], command: Run) -> None:
    assert command("image", "tree", *words).code == 125
