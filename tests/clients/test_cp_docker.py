"""The path rules of ``cp``: each is tried with the real docker and with ours, on the same trees, and must end the same."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from staying import clear

from pycontain.runtime.roots import Roots
from tests.clients.engines import Docker

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(300),
]

Command = Callable[..., subprocess.CompletedProcess[bytes]]

# In the container: /work, and on the host: h/. The same names, so that each rule can be tried both ways.
_TREE = (
    ("f", "file", "one"),
    ("g", "file", "two"),
    ("d", "dir", ""),
    ("d/x", "file", "inner"),
    ("d/sub", "dir", ""),
    ("d/sub/y", "file", "deep"),
    ("e", "dir", ""),
    ("e/x", "file", "other"),
    ("e/d", "file", "a file where a directory would go"),
    ("k", "dir", ""),
    ("k/f", "dir", ""),
    ("lf", "link", "f"),
    ("ld", "link", "d"),
    ("la", "link", "/work/d"),
    ("up", "link", "../../../../work/d"),
    ("dangle", "link", "nowhere"),
)

OUT = (
    # (SRC, DEST) and options: a file
    ("ct:/work/f", "h/new"),
    ("ct:/work/f", "h/new/"),
    ("ct:/work/f", "h/g"),
    ("ct:/work/f", "h/g/"),
    ("ct:/work/f", "h/e"),
    ("ct:/work/f", "h/e/"),
    ("ct:/work/f", "h/e/."),
    ("ct:/work/f", "h/k"),
    ("ct:/work/f", "h/missing/new"),
    ("ct:/work/f/", "h/e"),
    ("ct:/work/f/.", "h/e"),
    ("ct:work/f", "h/e"),
    ("ct:/work/../work/./d/../f", "h/new"),
    ("ct:/work/f", "h/ld"),
    ("ct:/work/f", "h/lf"),
    ("ct:/work/f", "h/dangle"),
    ("ct:/work/none", "h/e"),
    ("ct:/none/none", "h/e"),
    # a directory
    ("ct:/work/d", "h/new"),
    ("ct:/work/d", "h/new/"),
    ("ct:/work/d/", "h/new"),
    ("ct:/work/d/.", "h/new"),
    ("ct:/work/d", "h/f"),
    ("ct:/work/d/.", "h/f"),
    ("ct:/work/d", "h/k"),
    ("ct:/work/d/", "h/k"),
    ("ct:/work/d/.", "h/k"),
    ("ct:/work/d/.", "h/k/"),
    ("ct:/work/d", "h/e"),  # e/d is a file
    ("ct:/work/d", "h/missing/new"),
    ("ct:/work/d", "h/ld"),
    # links
    ("ct:/work/lf", "h/new"),
    ("ct:/work/lf", "h/e"),
    ("-L", "ct:/work/lf", "h/new"),
    ("-L", "ct:/work/lf", "h/e"),
    ("ct:/work/ld", "h/k"),
    ("ct:/work/ld/", "h/k"),
    ("ct:/work/ld/.", "h/k"),
    ("-L", "ct:/work/ld", "h/k"),
    ("-L", "ct:/work/la", "h/new"),
    ("-L", "ct:/work/up", "h/k"),
    ("ct:/work/dangle", "h/k"),
    ("-L", "ct:/work/dangle", "h/k"),
    ("ct:/work/ld/x", "h/k"),
)
IN = (
    ("h/f", "ct:/work/new"),
    ("h/f", "ct:/work/new/"),
    ("h/f", "ct:/work/g"),
    ("h/f", "ct:/work/g/"),
    ("h/f", "ct:/work/e"),
    ("h/f", "ct:/work/e/"),
    ("h/f", "ct:/work/e/."),
    ("h/f", "ct:work/e"),
    ("h/f", "ct:/work/k"),
    ("h/f", "ct:/work/missing/new"),
    ("h/f/", "ct:/work/e"),
    ("h/f", "ct:/work/ld"),
    ("h/f", "ct:/work/lf"),
    ("h/f", "ct:/work/dangle"),
    ("h/none", "ct:/work/e"),
    ("h/d", "ct:/work/new"),
    ("h/d", "ct:/work/new/"),
    ("h/d/", "ct:/work/new"),
    ("h/d/.", "ct:/work/new"),
    ("h/d", "ct:/work/f"),
    ("h/d/.", "ct:/work/f"),
    ("h/d", "ct:/work/k"),
    ("h/d/", "ct:/work/k"),
    ("h/d/.", "ct:/work/k"),
    ("h/d", "ct:/work/e"),
    ("h/d", "ct:/work/missing/new"),
    ("h/d", "ct:/work/ld"),
    ("h/d", "ct:/work/la"),
    ("h/d", "ct:/work/up"),
    ("h/lf", "ct:/work/new"),
    ("h/lf", "ct:/work/e"),
    ("-L", "h/lf", "ct:/work/new"),
    ("-L", "h/lf", "ct:/work/e"),
    ("h/ld", "ct:/work/k"),
    ("h/ld/", "ct:/work/k"),
    ("h/ld/.", "ct:/work/k"),
    ("-L", "h/ld", "ct:/work/k"),
    ("h/dangle", "ct:/work/k"),
    ("-L", "h/dangle", "ct:/work/k"),
    ("-", "ct:/work/e"),
    ("-", "ct:/work/new"),
    ("-", "ct:/work/f"),
    ("-", "ct:/work/ld"),
)
WORDS = (
    ("ct:/a", "ct:/b"),
    ("h/f", "h/g"),
    ("", "ct:/b"),
    ("ct:/work/f", ""),
    ("nosuch:/a", "h/g"),
    ("h/f", "nosuch:/a"),
)


def _archive(prefix: str, *, without: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind, content in (("", "dir", ""), *_TREE):
            if name == (without or None):
                continue
            info = tarfile.TarInfo(f"{prefix}{name}" if name else prefix.rstrip("/") or ".")
            info.mtime = 1_000_000_000
            if kind == "dir":
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif kind == "link":
                info.type, info.linkname = tarfile.SYMTYPE, content
            info.size = len(content) if kind == "file" else 0
            archive.addfile(info, io.BytesIO(content.encode()) if kind == "file" else None)
    return buffer.getvalue()


# docker refuses a link in a tar that leads out of its directory; ours takes it, as a link to nowhere does no harm
_STDIN = _archive("from-tar/", without="up")


def _make(place: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(_archive("h/"))) as archive:
        archive.extractall(place, filter="fully_trusted")


def _listing(data: bytes) -> dict[str, tuple[Any, ...]]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for each in archive:
            file = archive.extractfile(each) if each.isreg() else None
            found[each.name] = (each.type, each.linkname, each.mode & 0o777, file.read() if file else b"")
    return found


class Engine:
    """cp by one of the two, in a container that is made anew for each case, and in a host directory of its own."""

    def __init__(self, program: list[str], environment: dict[str, str]) -> None:
        self._program = program
        self._environment = environment

    def __call__(self, *words: str, cwd: Path, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*self._program, *words], cwd=cwd, input=input, capture_output=True, env=self._environment, timeout=60,
            check=False,
        )  # fmt: skip

    def case(self, words: tuple[str, ...], place: Path) -> tuple[int, Any, Any]:
        place.mkdir()
        _make(place)
        made = self("create", "--name", "ct", "tree", "true", cwd=place)
        assert made.returncode == 0, made.stderr
        done = self("cp", *words, cwd=place, input=_STDIN if "-" in words else b"")
        inside = self("cp", "ct:/work", "-", cwd=place)
        assert inside.returncode == 0, inside.stderr
        assert self("rm", "-f", "ct", cwd=place).returncode == 0
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(place / "h", "h")
        return done.returncode, _listing(inside.stdout), _listing(buffer.getvalue())


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with Docker() as engine:
        engine("import", "-", "tree", input=_archive("work/"))
        yield Engine(["/usr/bin/docker"], engine.environment())


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Engine]:
    roots = Roots(data_root=str(tmp_path / "data"), run_root=str(tmp_path / "run"))
    environment = {**os.environ, "PYCONTAIN_DATA_ROOT": roots.data_root, "PYCONTAIN_RUN_ROOT": roots.run_root}
    engine = Engine([str(Path(sys.executable).parent / "pycontain")], environment)
    assert engine("import", "-", "tree", cwd=tmp_path, input=_archive("work/")).returncode == 0
    yield engine
    clear(roots)


def _compare(cases: tuple[tuple[str, ...], ...], ours: Engine, docker: Engine, place: Path) -> None:
    differences = []
    for number, words in enumerate(cases):
        theirs = docker.case(words, place / f"docker{number}")
        own = ours.case(words, place / f"ours{number}")
        if own != theirs:
            differences.append(f"cp {' '.join(words)}:\n  docker {theirs}\n  ours   {own}")
    assert not differences, "\n".join(differences)


def test_out_of_a_container(ours: Engine, docker: Engine, tmp_path: Path) -> None:
    _compare(OUT, ours, docker, tmp_path)


def test_into_a_container(ours: Engine, docker: Engine, tmp_path: Path) -> None:
    _compare(IN, ours, docker, tmp_path)


def test_words_that_make_no_sense(ours: Engine, docker: Engine, tmp_path: Path) -> None:
    _compare(WORDS, ours, docker, tmp_path)


def test_archives_have_the_same_names(ours: Engine, docker: Engine, tmp_path: Path) -> None:
    for source in ("/work", "/work/", "/work/.", "/work/f", "/work/ld", "/work/ld/", "work/d/sub"):
        names = []
        for engine in (docker, ours):
            assert engine("create", "--name", "ct", "tree", "true", cwd=tmp_path).returncode == 0
            done = engine("cp", f"ct:{source}", "-", cwd=tmp_path)
            names.append({name.removeprefix("./").rstrip("/") for name in _listing(done.stdout)})
            assert engine("rm", "-f", "ct", cwd=tmp_path).returncode == 0
        assert names[0] == names[1], source


def test_owners(ours: Engine, docker: Engine, tmp_path: Path) -> None:
    """Ours are what Docker's manual says; docker itself keeps the numbers on the way in, and never on the way out."""
    (tmp_path / "file").write_text("x")
    os.chown(tmp_path / "file", 1234, 2345)
    found = []
    for engine in (docker, ours):
        for options in ((), ("-a",)):
            assert engine("create", "--name", "ct", "tree", "true", cwd=tmp_path).returncode == 0
            assert engine("cp", *options, "file", "ct:/work/new", cwd=tmp_path).returncode == 0
            done = engine("cp", "ct:/work/new", "-", cwd=tmp_path)
            with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
                (info,) = archive.getmembers()
            assert engine("cp", *options, "ct:/work/new", "back", cwd=tmp_path).returncode == 0
            back = os.stat(tmp_path / "back")
            found.append((engine is docker, options, info.uid, info.gid, back.st_uid, back.st_gid))
            assert engine("rm", "-f", "ct", cwd=tmp_path).returncode == 0
    kept, given = (1234, 2345), (0, 0)
    assert found == [
        (True, (), *kept, *given),
        (True, ("-a",), *kept, *given),
        (False, (), *given, *given),
        (False, ("-a",), *kept, *kept),
    ]
