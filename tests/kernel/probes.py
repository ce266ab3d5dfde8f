"""Questions to the kernel about a container, from outside by its pid and from inside by a short program."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pycontain
from pycontain.errors import PycontainError

DEADLINE_S = 20.0


def sh(script: str, *, image: str = "host", **options: Any) -> str:
    """What ``script`` prints in a new container; it must succeed."""
    r = pycontain.run(image, ["sh", "-c", script], text=True, timeout=DEADLINE_S, **options)
    assert r.exit_code == 0, (r.exit_code, r.stdout, r.stderr)
    assert isinstance(r.stdout, str)
    return r.stdout


def py(source: str, **options: Any) -> str:
    """What a Python program prints in a new container on the image "host"; it must succeed."""
    r = pycontain.run("host", ["python3", "-I", "-S", "-c", source], text=True, timeout=DEADLINE_S, **options)
    assert r.exit_code == 0, (r.exit_code, r.stdout, r.stderr)
    assert isinstance(r.stdout, str)
    return r.stdout


def fails(script: str, *, image: str = "host", **options: Any) -> str:
    """What ``script`` says on stderr; it must not succeed."""
    r = pycontain.run(image, ["sh", "-c", script], text=True, timeout=DEADLINE_S, **options)
    assert r.exit_code != 0, (r.stdout, r.stderr)
    assert isinstance(r.stderr, str)
    return r.stderr


@contextlib.contextmanager
def living(*args: str, image: str = "host", **options: Any) -> Iterator[pycontain.Container]:
    """A container that runs until the block ends; its program has begun."""
    with pycontain.Container(image, args or ("sleep", "600"), stop_timeout=0.0, **options) as c:
        yield c


def refused(error: type[PycontainError], *args: str, image: str = "host", **options: Any) -> str:
    """The message with which a start is refused: one line, of exactly this class."""
    try:
        r = pycontain.run(image, args or ("true",), timeout=DEADLINE_S, **options)
    except PycontainError as e:
        assert type(e) is error, repr(e)
        assert "\n" not in str(e)
        return str(e)
    raise AssertionError(f"it started: {r}")


def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Asks again until the answer is true; at the deadline the test fails."""
    end = time.monotonic() + DEADLINE_S
    while not (answer := condition()):
        assert time.monotonic() < end, f"deadline: {what or condition}"
        time.sleep(0.005)
    return answer


# --- /proc ------------------------------------------------------------------------------------------------------------


def status(pid: int | str) -> dict[str, str]:
    """/proc/PID/status by field."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def runs(pid: int) -> bool:
    """Whether the process has not ended; one that waits to be reaped has."""
    try:
        return status(pid)["State"][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def namespace(pid: int | str, kind: str) -> str:
    """ "kind:[inode]"."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def mounts(pid: int | str) -> dict[str, tuple[str, str, set[str]]]:
    """Mount point -> (root, file system type, mount and superblock options); of several on one point the last."""
    found = {}
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        found[fields[4]] = (fields[3], tail[0], {*fields[5].split(","), *fields[6:]})
    return found


def limits(pid: int | str) -> dict[str, tuple[str, str]]:
    """/proc/PID/limits: name -> (soft, hard)."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): (line[26:46].strip(), line[47:67].strip()) for line in lines}


def cgroup_dirs(pid: int) -> dict[str, Path]:
    """Controller ("" is cgroup v2) -> the directory of the process's cgroup, as this host sees it."""
    mounted: dict[str, str] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            mounted.setdefault("", left.split()[4])
        elif kind == "cgroup":
            for option in options.split(","):
                mounted.setdefault(option, left.split()[4])
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            if name in mounted:
                found[name] = Path(mounted[name] + path)
    return found


# --- host directories that must stay as they are ----------------------------------------------------------------------


def listing(directory: Path) -> dict[str, str]:
    """Every path below ``directory`` with its type, mode, owner and content's digest."""
    found = {}
    for path in sorted([directory, *directory.rglob("*")]):
        info = path.lstat()
        content = ""
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        found[str(path)] = f"{info.st_mode:o} {info.st_uid}:{info.st_gid} {content}"
    return found


SECRET = "canary-4f1d9c"


@contextlib.contextmanager
def canary(directory: Path) -> Iterator[Path]:
    """A host directory that no container may see or change: ``secret`` holds SECRET, ``sub`` is empty."""
    directory.mkdir()
    (directory / "secret").write_text(SECRET)
    (directory / "sub").mkdir()
    before = listing(directory)
    yield directory
    assert listing(directory) == before
