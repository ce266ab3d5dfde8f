"""Programs on volumes and in bundles are executed by the sealed stub: what they see, how they end, and the race for it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from probes import refused

import pycontain
from pycontain import _native
from pycontain.errors import NotExecutable, ProgramNotFound, PycontainError

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

BUSYBOX = "/bin/busybox"


@pytest.fixture
def volume(tmp_path: Path, busybox_root: str) -> Path:
    tmp_path.chmod(0o755)
    shutil.copy2(f"{busybox_root}/bin/busybox", tmp_path / "busybox")
    return tmp_path


def script(volume: Path, text: str, mode: int = 0o755) -> str:
    (volume / "script").write_text(text)
    (volume / "script").chmod(mode)
    return "/v/script"


def on_volume(volume: Path, root: str, *args: str, **options: object) -> tuple[int, str]:
    r = pycontain.run(root, args, mounts=[f"{volume}:/v"], text=True, timeout=20, **options)  # type: ignore[arg-type]
    return r.exit_code, str(r.stdout) + str(r.stderr)


def test_proc_self_exe_is_the_program_itself(volume: Path, busybox_root: str) -> None:
    assert on_volume(volume, busybox_root, "/v/busybox", "readlink", "/proc/self/exe") == (0, "/v/busybox\n")
    assert on_volume(volume, busybox_root, "/v/busybox", "sh", "-c", "echo $0 $@; ls /proc/self/fd", "a", "b") == (
        0,
        "a b\n0\n1\n2\n3\n",
    )
    assert on_volume(volume, busybox_root, "/v/busybox", "cat", "/proc/self/comm") == (0, "busybox\n")


def test_scripts(volume: Path, busybox_root: str) -> None:
    path = script(volume, "#!/bin/sh\necho $0 $1; exit 7\n")
    assert on_volume(volume, busybox_root, path, "x") == (7, f"{path} x\n")
    path = script(volume, "#!/v/busybox sh\necho $0\n")
    assert on_volume(volume, busybox_root, path) == (0, f"{path}\n")


def test_path_finds_programs_on_a_volume(volume: Path, busybox_root: str) -> None:
    script(volume, "#!/bin/sh\necho found\n")
    assert on_volume(volume, busybox_root, "script", env={"PATH": "/v:/bin"}) == (0, "found\n")


@pytest.mark.parametrize(
    ("text", "mode", "error", "words"),
    [
        ("#!/no/such/interpreter\n", 0o755, ProgramNotFound, "interpreter"),
        ("#!/etc/passwd\n", 0o755, NotExecutable, "EACCES"),
        ("no program\n", 0o755, NotExecutable, "ENOEXEC"),
        ("#!/bin/sh\n", 0o644, NotExecutable, "EACCES"),
        ("#!/proc/self/exe\n", 0o755, NotExecutable, "ELOOP"),
        ("#!/proc/1/exe\n", 0o755, NotExecutable, "ELOOP"),
        ("#!/dev/fd/3\n", 0o755, NotExecutable, "EACCES"),
    ],
)
def test_why_it_cannot_start(
    volume: Path, busybox_root: str, text: str, mode: int, error: type[PycontainError], words: str
) -> None:
    path = script(volume, text, mode)
    message = refused(error, path, image=busybox_root, mounts=[f"{volume}:/v"])
    assert words in message
    assert path in message


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"user": "1000:1000"},
        {"userns": "auto"},
        {"no_new_privileges": True},
        {"pid": "host"},
        {"cap_drop": ["ALL"]},
    ],
)
def test_it_works_with(volume: Path, busybox_root: str, options: dict[str, object]) -> None:
    assert on_volume(volume, busybox_root, "/v/busybox", "sh", "-c", "exit 9", **options) == (9, "")
    path = script(volume, "#!/bin/sh\nkill -TERM $$\n")
    assert on_volume(volume, busybox_root, path, **options)[0] in (0, 143)  # as pid 1 it is deaf to it


def test_the_programs_descriptors_are_the_usual_three(volume: Path, busybox_root: str) -> None:
    found = on_volume(volume, busybox_root, "/v/busybox", "ls", "/proc/self/fd")
    assert found == (0, "0\n1\n2\n3\n")  # 3 is the listing's own


# --- the race of 2019-5736 --------------------------------------------------------------------------------------------


@contextmanager
def swapping(path: Path, *contents: Path) -> Iterator[list[int]]:
    """While the block runs, ``path`` is one of ``contents`` after the other."""
    stop, count = threading.Event(), [0]

    def swap() -> None:
        while not stop.is_set():
            for content in contents:
                spare = path.with_name("spare")
                spare.unlink(missing_ok=True)
                if content.is_symlink():
                    spare.symlink_to(os.readlink(content))
                else:
                    os.link(content, spare)
                os.rename(spare, path)
                count[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


def digests() -> dict[str, str]:
    """The files that a way to the engine could reach."""
    package = Path(_native.__file__).parent
    files = [Path(os.path.realpath(sys.executable)), *package.glob("*.so"), *package.glob("bin/*")]
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


ATTACK = (
    "for n in 0 1 2 3 4 5 6 7 8 9; do printf x >/proc/self/exe; done 2>/dev/null\n"
    "for p in /proc/[0-9]*; do printf x >$p/exe; done 2>/dev/null\nexit 0\n"
)


def test_whoever_wins_the_race_has_the_sealed_copy_only(volume: Path, busybox_root: str) -> None:
    good, link, evil = volume / "good", volume / "link", volume / "evil"
    good.write_text("#!/bin/sh\n" + ATTACK)
    evil.write_text("#!/proc/self/exe\n" + ATTACK)
    good.chmod(0o755)
    evil.chmod(0o755)
    link.symlink_to("/proc/self/exe")
    before = digests()
    refused_, ran_ = 0, 0
    with swapping(volume / "program", good, link, evil) as swaps:
        while swaps[0] < 2000 or refused_ + ran_ < 60:
            try:
                pycontain.run(busybox_root, ["/v/program"], mounts=[f"{volume}:/v"], timeout=10)
                ran_ += 1
            except (ProgramNotFound, NotExecutable):
                refused_ += 1
    assert refused_ and ran_
    assert digests() == before
