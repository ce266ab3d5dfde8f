"""Escapes by the program: what lies where it should be is exchanged during the start, so that it would run as the engine."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attacks import EXIT_42, elf, evil_image, executable, host_unchanged, plant
from bundles import bundle

import pycontain
from pycontain.errors import PycontainError
from pycontain.host import probe
from pycontain.runtime.roots import default_roots
from pycontain.runtime.session import session_for

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

ENGINE = os.path.realpath(sys.executable)


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "rootfs", busybox_root)


# What the attacker's program tells when it has won: by every way to what runs, opened for writing and truncated, seals.
WINNER = """#!/usr/bin/python3 -IS
import ctypes, errno, fcntl, json, os, sys
def attempt(f):
    try: return f()
    except OSError as e: return errno.errorcode[e.errno]
found = {}
for pid in ('1', 'self', 'thread-self'):
    paths = [f'/proc/{pid}/exe'] + [f'/proc/{pid}/map_files/' + n for n in attempt(lambda: os.listdir(f'/proc/{pid}/map_files')) or []]
    for path in paths:
        to = attempt(lambda: os.readlink(path))
        found[path] = [to, attempt(lambda: os.close(os.open(path, os.O_WRONLY)) or 'ok')]
print(json.dumps([found, sorted(os.listdir('/proc/self/fd')), sys.argv[1:], dict(os.environ)]))
"""
KINDS = ("true", "script", "elf", "link", "fifo", "odd")
WINNERS = ("true", "winner", "script", "link")  # no FIFO, which the winner's interpreter would wait for


def prepare(volume: Path, kinds: tuple[str, ...] = KINDS) -> None:
    for n, kind in enumerate(kinds):
        path = volume / kind
        if kind == "link":
            plant(volume, kind, "/proc/self/exe")
        elif kind == "fifo":
            os.mkfifo(path, 0o777)
        else:
            content: dict[str, str | bytes] = {
                "script": "#!/proc/self/exe -ISc pass\n", "elf": elf(EXIT_42, "/proc/self/exe"), "true": elf(EXIT_42),
                "winner": WINNER, "odd": "#!/v/prog\n",
            }  # fmt: skip
            executable(path, content[kind])
        os.link(path, volume / f"n{n}", follow_symlinks=False)


@contextmanager
def exchanging(volume: Path, kinds: tuple[str, ...] = KINDS) -> Iterator[Callable[[], int]]:
    """volume/prog is another of the kinds all the time, by rename; answers how often it was exchanged."""
    stop, count = threading.Event(), [0]

    def swap() -> None:
        while not stop.is_set():
            for n, kind in enumerate(kinds):
                os.link(volume / f"n{n}", volume / f"new-{kind}", follow_symlinks=False)
                os.rename(volume / f"new-{kind}", volume / "prog")
                os.unlink(volume / f"new-{kind}") if os.path.lexists(volume / f"new-{kind}") else None
                count[0] += 1

    os.link(volume / "n0", volume / "prog")
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield lambda: count[0]
    finally:
        stop.set()
        thread.join()


def started(image: str, args: list[str], **options: Any) -> tuple[str, str]:
    """How a start ended: its class or exit code; what it said."""
    try:
        r = pycontain.run(image, args, text=True, timeout=20, **options)
    except PycontainError as e:
        assert "\n" not in str(e)
        return type(e).__name__, str(e)
    assert not r.timed_out
    return str(r.exit_code), f"{r.stdout!s}{r.stderr!s}"


def check(said: list[tuple[str, str]]) -> Counter[str]:
    """No start has hung or run as the engine; what a winner could open was none of the host's."""
    ends = Counter(how for how, _ in said)
    assert set(ends) <= {"42", "0", "127", "NotExecutable", "ProgramNotFound", "SetupFailed", "139", "1"}, (
        ends,
        said,
    )
    for text in (text for how, text in said if how == "0" and text.startswith("[")):
        found, fds, _, _ = json.loads(text)
        # the program and its libraries are the image's own, of its overlay: the copy in it may be had, not this file
        assert fds == ["0", "1", "2", "3"], fds  # 3 is the listing's own
        assert not [p for p in found if found[p][0] in (ENGINE, pycontain.__file__)], found
    assert not [text for _, text in said if ENGINE in text and "Traceback" in text], said
    assert "DEADLINE" not in str(said) and "in time" not in str(said)
    return ends


@pytest.mark.race
def test_cve_2019_5736_a_program_exchanged_during_two_thousand_starts(image: Path, tmp_path: Path) -> None:
    """On a volume: a true program, a script and an ELF file whose interpreter is /proc/self/exe, a link there, a FIFO."""
    volume = tmp_path / "v"
    volume.mkdir()
    prepare(volume)
    mounts = [f"{volume}:/v"]
    with host_unchanged(), exchanging(volume) as count, ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: started(str(image), ["/v/prog"], mounts=mounts), range(1400)))
        assert count() > 5000
    ends = check(said)
    assert ends["42"] and ends["NotExecutable"] and ends["127"], ends


@pytest.mark.race
def test_cve_2019_5736_an_attacker_that_wins_opens_nothing_of_the_host(tmp_path: Path) -> None:
    """Now and then the attacker's program runs: it opens what it and process 1 run for writing, as the original does."""
    volume = tmp_path / "v"
    volume.mkdir()
    prepare(volume, WINNERS)
    with host_unchanged(), exchanging(volume, WINNERS), ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: started("host", ["/v/prog"], mounts=[f"{volume}:/v"], pids=32), range(200)))
    assert check(said)["0"] > 5


@pytest.mark.race
def test_cve_2019_5736_a_program_exchanged_in_a_bundles_root(image: Path) -> None:
    volume = image / "v"
    volume.mkdir()
    prepare(volume)
    with host_unchanged(), exchanging(volume) as count, bundle(str(image), "", {"process.args": ["/v/prog"]}) as name:
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda _: started(name, []), range(600)))
        assert count() > 2000
    ends = check(said)
    assert ends["42"] and ends["NotExecutable"], ends


def stub_fd() -> int:
    """Of this process's sealed stub."""
    pycontain.run("host", ["true"])
    return session_for(default_roots(), probe()).stub_fd


def test_the_stub_is_sealed_and_cannot_be_written_to() -> None:
    """By its fd, by /proc, by mapping, by mode: what is reached by who wins the race."""
    fd = stub_fd()
    seals = fcntl.fcntl(fd, 1034)  # F_GET_SEALS
    assert seals & 0xF == 0xF, hex(seals)  # seal, shrink, grow, write
    try:
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    except OSError:
        opened = os.dup(fd)
    try:
        for attack in (
            lambda: os.pwrite(opened, b"x", 0),
            lambda: os.ftruncate(opened, 0),
            lambda: mmap.mmap(opened, 1, mmap.MAP_SHARED, mmap.PROT_WRITE),
            lambda: os.posix_fallocate(opened, 0, 1 << 20),
            lambda: fcntl.fcntl(opened, 1033, 0),  # F_ADD_SEALS: nothing can be changed about them either
        ):
            with pytest.raises(OSError, match=r"not permitted|Bad file|denied"):
                attack()
        if seals & 0x20:  # F_SEAL_EXEC
            with pytest.raises(PermissionError):
                os.fchmod(opened, 0o777 ^ 0o111)
    finally:
        os.close(opened)


ARGS = ["/v/echo", "", "a b", "\n", "é", "-x", "--", "x" * 5000, *map(str, range(200))]
ECHO = """#!/usr/bin/python3 -IS
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ), sorted(os.listdir('/proc/self/fd')), os.readlink('/proc/self/exe')]))
"""


def test_arguments_and_environment_arrive_unchanged_through_the_stub(tmp_path: Path) -> None:
    """The same program on the root's own mount, without the stub, and on a volume, by it."""
    volume = tmp_path / "v"
    volume.mkdir()
    executable(volume / "echo", ECHO)
    env = {"A": "", "B": "x y\n", "LONG": "y" * 9000, "EQUAL": "=", "PATH": "/usr/bin:/bin"}
    how, text = started("host", ARGS, mounts=[f"{volume}:/v"], env=env)
    assert how == "0", text
    argv, environment, fds, exe = json.loads(text)
    assert argv == ARGS[1:] and fds == ["0", "1", "2", "3"] and "memfd" not in exe
    copy = ["sh", "-c", 'cp /v/echo /tmp/echo && exec /tmp/echo "$@"', *ARGS]
    _, plain = started("host", copy, mounts=[f"{volume}:/v"], env=env)
    assert json.loads(plain)[0] == argv
    both = [{k: v for k, v in e.items() if k not in ("PWD", "HOSTNAME")} for e in (json.loads(plain)[1], environment)]
    assert both[0] == both[1]


@pytest.mark.parametrize("fds", [0, 3, 4, 64])
def test_the_program_has_the_standard_streams_alone_by_the_stub(fds: int, tmp_path: Path) -> None:
    """Whatever number the stub and the report socket have: descriptors up to ``fds`` of the caller's are taken."""
    volume = tmp_path / "v"
    volume.mkdir()
    executable(volume / "echo", ECHO)
    held = [os.open("/", os.O_RDONLY) for _ in range(fds)]
    for fd in held:
        os.set_inheritable(fd, True)
    try:
        assert json.loads(started("host", ["/v/echo"], mounts=[f"{volume}:/v"])[1])[2] == ["0", "1", "2", "3"]
    finally:
        for fd in held:
            os.close(fd)


@pytest.mark.parametrize(
    ("content", "end"),
    [
        ("#!/proc/self/exe\n", "NotExecutable"), ("#!/v/link\n", "NotExecutable"), ("#!/v/none\n", "ProgramNotFound"),
        ("", "NotExecutable"), ("\x7fELF", "NotExecutable"), ("#!/v/prog\n", "NotExecutable"), ("#!\n", "NotExecutable"),
        (elf(EXIT_42, "/proc/self/exe"), "NotExecutable"), (elf(EXIT_42, "/v/link"), "NotExecutable"),
        (elf(EXIT_42), "42"),
    ],
)  # fmt: skip
def test_what_cannot_be_executed_by_the_stub_is_said(content: str | bytes, end: str, tmp_path: Path) -> None:
    volume = tmp_path / "v"
    volume.mkdir()
    plant(volume, "link", "/proc/self/exe")
    executable(volume / "prog", content)
    with host_unchanged():
        how, text = started("host", ["/v/prog"], mounts=[f"{volume}:/v"])
    assert how == end or (end == "ProgramNotFound" and how == "NotExecutable"), (how, text)
