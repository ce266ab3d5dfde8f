"""Attacks on ``cp``: by links, by whoever swaps them meanwhile, by tars, by what blocks or acts when it is opened.

CVE-2018-15664, 2019-10152, 2019-14271, 2026-41568, 2026-42306. What an attack reaches for is a canary on this machine.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attacks import decoys
from attacks import swapper as living_swapper
from probes import listing
from staying import PYCONTAIN, SLEEPER, command, run, saying

from pycontain.engine import copying
from pycontain.errors import InvalidArgument, NotFound, PycontainError
from pycontain.runtime import session
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]
ROUNDS = 400


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What the container has as /s: a directory, and a link to one of this machine of the same contents but for the words."""
    made = tmp_path / "volume"
    (made / "a").mkdir(parents=True)
    (made / "a/secret").write_text("inside")
    (made / "b").symlink_to(tmp_path / "host")
    return made


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Path]:
    """A directory of this machine that must stay as it is."""
    made = tmp_path / "host"
    made.mkdir()
    (made / "secret").write_text("HOST")
    with decoys(tmp_path / "canary", made):
        yield made


@contextlib.contextmanager
def swapper(volume: Path, a: str, b: str) -> Iterator[Callable[[], int]]:
    with living_swapper(volume, a, b) as swaps:
        yield swaps
    session.close_all()


def _victim(state: str, volume: Path, *options: str) -> None:
    command("create", "--name", "web", "-v", f"{volume}:/s", *options, *SLEEPER)
    if state == "running":
        command("start", "web")


def _archived(roots: Roots, path: str, *, follow: bool = False) -> dict[str, tarfile.TarInfo | bytes]:
    data = bytearray()
    buffer = bytearray(1 << 16)
    with copying.archive_out(roots, "web", path, follow=follow) as archive:
        while size := archive.readinto(buffer):
            data += buffer[:size]
    found: dict[str, tarfile.TarInfo | bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(bytes(data))) as opened:
        for each in opened:
            file = opened.extractfile(each) if each.isreg() else None
            found[each.name] = file.read() if file else each
    return found


# --- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "created"])
def test_a_swapped_link_while_copying_out(state: str, volume: Path, host: Path, roots: Roots) -> None:
    _victim(state, volume)
    words, missing = set(), 0
    rounds = ROUNDS if state == "running" else ROUNDS // 10
    with swapper(volume, "a", "b") as swaps:
        for _ in range(rounds):
            try:
                words.add(bytes(_archived(roots, "/s/a/secret")["secret"]))  # type: ignore[arg-type]
            except (NotFound, InvalidArgument):
                missing += 1
        assert swaps() > rounds
    assert words == {b"inside"} and missing


def test_a_swapped_link_in_a_tree_that_is_copied_out(volume: Path, host: Path, roots: Roots, tmp_path: Path) -> None:
    _victim("running", volume)
    with swapper(volume, "a", "b"):
        for number in range(ROUNDS // 4):
            target = tmp_path / f"out{number % 2}"  # over what is there already, too
            try:
                copying.copy_out(roots, "web", "/s/.", str(target))
            except PycontainError as error:
                assert "cannot overwrite" in str(error) or "vanish" in str(error), str(error)
    for copied in tmp_path.glob("out*"):
        for name in ("a", "b"):
            path = copied / name
            assert path.is_symlink() or not path.exists() or (path / "secret").read_text() == "inside"


@pytest.mark.parametrize("state", ["running", "created"])
def test_a_swapped_link_while_copying_in(state: str, volume: Path, host: Path, roots: Roots, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "tree/a").mkdir(parents=True)
    (tmp_path / "tree/a/file").write_text("new")
    _victim(state, volume)
    done = 0
    rounds = ROUNDS if state == "running" else ROUNDS // 10
    before = listing(host)
    with swapper(volume, "a", "b") as swaps:
        for number in range(rounds):
            try:
                if number % 2:
                    copying.copy_in(roots, "web", str(tmp_path / "new"), f"/s/a/new{number}")
                else:
                    copying.copy_in(roots, "web", f"{tmp_path}/tree/.", "/s")
                done += 1
            except PycontainError:
                pass
        assert swaps() > rounds
    assert done and listing(host) == before


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "created"])
def test_links_end_in_the_container(state: str, volume: Path, host: Path, roots: Roots, tmp_path: Path) -> None:
    (volume / "root").symlink_to("/proc/self/root")
    (volume / "init").symlink_to("/proc/1/root")
    (volume / "fds").symlink_to("/proc/self/fd")
    (volume / "cwd").symlink_to("/proc/self/cwd")
    (volume / "up").symlink_to("../" * 40)
    (volume / "circle").symlink_to("circle")
    (volume / "file").symlink_to(host / "secret")
    _victim(state, volume)
    (tmp_path / "new").write_text("new")
    ours = str(host).lstrip("/")
    for link in ("root", "init", "cwd", "up", "fds/0", "fds/3", "fds/10", "circle", "b"):
        for path in (f"/s/{link}/{ours}/secret", f"/s/{link}/secret"):
            with pytest.raises((NotFound, InvalidArgument)):
                _archived(roots, path, follow=True)
        for path in (f"/s/{link}/{ours}/new", f"/s/{link}/{ours}"):
            with pytest.raises((NotFound, InvalidArgument)):
                copying.copy_in(roots, "web", str(tmp_path / "new"), path)
    with pytest.raises(NotFound):
        _archived(roots, "/s/file", follow=True)
    assert isinstance(_archived(roots, "/s/file")["file"], tarfile.TarInfo)  # the link itself
    with pytest.raises(NotFound):  # which leads to nowhere in the container, not to a file that is made on this machine
        copying.copy_in(roots, "web", str(tmp_path / "new"), "/s/file")


def test_a_second_copy_does_not_write_through_the_first_ones_link(
    volume: Path, host: Path, roots: Roots, tmp_path: Path
) -> None:
    (volume / "x").symlink_to(host)
    _victim("running", volume)
    copying.copy_out(roots, "web", "/s", str(tmp_path / "out"))
    assert os.readlink(tmp_path / "out/x") == str(host)
    (volume / "x").unlink()
    (volume / "x").mkdir()
    (volume / "x/secret").write_text("from inside")
    with pytest.raises(InvalidArgument, match="cannot overwrite non-directory with directory"):
        copying.copy_out(roots, "web", "/s/.", str(tmp_path / "out"))
    # nor does a file: it takes the link's place
    (volume / "x/secret").unlink()
    (volume / "x").rmdir()
    (volume / "x").write_text("a file")
    copying.copy_out(roots, "web", "/s/x", str(tmp_path / "out"))
    assert (tmp_path / "out/x").read_text() == "a file" and not (tmp_path / "out/x").is_symlink()


# --- hostile tars -----------------------------------------------------------------------------------------------------


def _entry(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def _tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("state", ["running", "created"])
@pytest.mark.parametrize("way", ["dots", "absolute", "link", "link-up", "hard-link", "hard-link-up", "root"])
def test_a_hostile_tar_stays_below_its_destination(
    way: str, state: str, volume: Path, host: Path, roots: Roots
) -> None:
    target = str(host)
    up = "../" * 40 + target.lstrip("/")
    tar = {
        "dots": _tar(_entry(f"{up}/new", data=b"x")),
        "absolute": _tar(_entry(f"{target}/secret", data=b"x")),
        "link": _tar(_entry("l", tarfile.SYMTYPE, target), _entry("l/secret", data=b"x")),
        "link-up": _tar(_entry("l", tarfile.SYMTYPE, up), _entry("l/secret", data=b"x")),
        "hard-link": _tar(_entry("h", tarfile.LNKTYPE, f"{target}/secret"), _entry("h", data=b"x")),
        "hard-link-up": _tar(_entry("h", tarfile.LNKTYPE, f"{up}/secret"), _entry("h", data=b"x")),
        "root": _tar(_entry("./", tarfile.SYMTYPE, target), _entry("secret", data=b"x")),
    }[way]
    _victim(state, volume)
    try:
        copying.archive_in(roots, "web", "/s", io.BytesIO(tar))
    except InvalidArgument:
        assert way != "absolute"
    if way == "absolute":
        assert (volume / target.lstrip("/") / "secret").read_text() == "x"


def test_a_tar_does_not_write_into_what_is_there() -> None:
    """A file of another name that is a link, a fifo or a device is replaced, not opened."""
    run("--name", "web", *SLEEPER)
    command("exec", "web", "sh", "-c", "mkfifo /tmp/f; ln -s /etc/passwd /tmp/l; mknod /tmp/n c 1 3")
    tar = _tar(*(_entry(name, data=b"new") for name in "fln"))
    subprocess.run([*PYCONTAIN, "cp", "-", "web:/tmp"], input=tar, check=True, timeout=60)
    said = command("exec", "web", "sh", "-c", "cat /tmp/f /tmp/l /tmp/n; grep -c root /etc/passwd").stdout
    assert said.startswith("newnewnew") and said != "newnewnew0\n"


# --- what blocks, acts or gives power ---------------------------------------------------------------------------------


def test_fifos_sockets_and_devices_are_not_opened(volume: Path, host: Path, roots: Roots, tmp_path: Path) -> None:
    os.mkfifo(volume / "fifo")
    os.mknod(volume / "tty", 0o20666, os.makedev(5, 2))  # who opens it gets a new terminal
    os.mknod(volume / "disk", 0o60666, os.makedev(7, 99))
    os.mknod(volume / "socket", 0o140777)
    _victim("running", volume)
    terminals = len(os.listdir("/dev/pts"))
    found = _archived(roots, "/s")
    kinds = {name: each.type for name, each in found.items() if isinstance(each, tarfile.TarInfo) and not each.isdir()}
    assert kinds == {
        "s/b": tarfile.SYMTYPE,
        "s/fifo": tarfile.FIFOTYPE,
        "s/tty": tarfile.CHRTYPE,
        "s/disk": tarfile.BLKTYPE,
    }
    assert isinstance(_archived(roots, "/s/fifo")["fifo"], tarfile.TarInfo)
    disk = _archived(roots, "/s/disk")["disk"]
    assert isinstance(disk, tarfile.TarInfo) and (disk.devmajor, disk.devminor) == (7, 99)
    assert len(os.listdir("/dev/pts")) == terminals
    (tmp_path / "new").write_text("new")
    with pytest.raises(InvalidArgument, match="must be a directory or a regular file"):
        copying.copy_in(roots, "web", str(tmp_path / "new"), "/s/fifo")
    assert _archived(roots, "/s/socket") == {}  # a tar has no kind for it


def test_no_power_comes_out(volume: Path, host: Path, roots: Roots, tmp_path: Path) -> None:
    program = volume / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o6755)
    subprocess.run(["setcap", "cap_sys_admin+ep", str(program)], check=True)
    os.setxattr(program, "user.note", b"x")
    os.mknod(volume / "disk", 0o60666, os.makedev(7, 99))
    os.chmod(volume / "disk", 0o666)
    _victim("running", volume)
    for keep in (False, True):
        out = tmp_path / f"out{keep}"
        copying.copy_out(roots, "web", "/s", str(out), keep_owners=keep)
        assert oct(os.stat(out / "program").st_mode) == "0o100755"
        assert os.listxattr(out / "program") == ["user.note"]
        assert oct(os.stat(out / "disk").st_mode) == "0o60600"


def test_nothing_of_the_container_is_loaded(volume: Path, host: Path, roots: Roots, tmp_path: Path) -> None:
    """As a library of the container's was by docker's chroot, for a look-up of names (CVE-2019-14271)."""
    _victim("running", volume)
    (tmp_path / "new").write_text("new")
    copying.copy_in(roots, "web", str(tmp_path / "new"), "/s/new")
    before = Path("/proc/self/maps").read_text()
    copying.copy_in(roots, "web", str(tmp_path / "new"), "/s/new")
    _archived(roots, "/s")
    files = {line.split(maxsplit=5)[5] for line in before.splitlines() if len(line.split(maxsplit=5)) > 5}
    after = Path("/proc/self/maps").read_text()
    now = {line.split(maxsplit=5)[5] for line in after.splitlines() if len(line.split(maxsplit=5)) > 5}
    assert {each for each in now - files if each.startswith("/")} == set()
    assert os.readlink("/proc/self/root") == "/"


def test_a_program_that_has_changed_its_root(host: Path, roots: Roots) -> None:
    """Who is root inside may chroot: what it then shows is still the container's."""
    program = "import os, time; os.mkdir('/tmp/r'); os.chroot('/tmp/r'); print('up', flush=True); time.sleep(1000)"
    run("--name", "web", "host", "python3", "-c", program)
    saying("web", "up")
    for path in (f"{host}/secret", "/" + "../" * 40 + f"{host}/secret"):
        with pytest.raises(NotFound):
            _archived(roots, path)
