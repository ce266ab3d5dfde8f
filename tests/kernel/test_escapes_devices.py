"""Escapes by devices and consoles: /dev of the image, /dev/null and /dev/console as links, nodes made inside, the caller's
terminal, a root that is meant to be read-only."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attacks import PRELUDE, attack, decoys, evil_image, outcome, plant
from probes import SECRET, living, mounts, sh
from test_tty import read

from pycontain import options as keywords
from pycontain.errors import SetupFailed
from pycontain.runtime import running
from pycontain.runtime.roots import default_roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "image", busybox_root)


@contextmanager
def terminal(image: Path | str, *args: str, **options: Any) -> Iterator[running.Running]:
    """A container with a terminal."""
    from dataclasses import replace

    request = replace(keywords.request(str(image), args, options), terminal=True)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        c = running.start(request, roots=default_roots(), stdin=null, stdout=null, stderr=null)
    finally:
        os.close(null)
    try:
        yield c
    finally:
        c.kill()
        c.wait()
        c.close_tty()


def on_terminal(image: Path | str, script: str, **options: Any) -> str:
    """What a script on a terminal says, or "refused: ..."."""
    try:
        with terminal(image, "sh", "-c", script, **options) as c:
            return read(c.tty_fd)
    except SetupFailed as e:
        assert "(E" in str(e) and "\n" not in str(e)
        return f"refused: {e}"


WAYS = pytest.mark.parametrize("way", ["plain", "read_only", "terminal", "read_only terminal", "tmpfs", "privileged"])
ATTACK = "echo x >/dev/null; echo x >/dev/console; echo x >/dev/escape; ln -s x /dev/core2; rm /dev/ptmx; cat /dev/secret /secret"


def by(way: str, image: Path, script: str = ATTACK, **options: Any) -> str:
    """A run in one of the WAYS: they differ in what /dev is made of."""
    if "read_only" in way:
        options["read_only"] = True
    if way == "tmpfs":
        options["tmpfs"] = ["/dev:dev,exec,mode=755"]
    if way == "privileged":
        options["privileged"] = True
    return on_terminal(image, script, **options) if "terminal" in way else outcome(image, script, **options)


def far(kept: Path) -> list[str]:
    return [str(kept), "../" * 40 + str(kept).lstrip("/"), f"/proc/self/root{kept}"]


# --- /dev of the image -------------------------------------------------------------------------------------------------


@WAYS
def test_cve_2026_41579_dev_as_a_link_to_a_directory_of_the_host(way: str, image: Path, tmp_path: Path) -> None:
    """Links, nodes and mounts that an engine makes below it would be made on the host."""
    with decoys(tmp_path / "decoy") as kept:
        for name in ("pts", "shm", "mqueue"):
            (kept / "sub").joinpath(name).mkdir()
        for to in (*far(kept), *far(kept / "sub")):
            plant(image, "/dev", to)
            assert SECRET not in by(way, image)
        for name in ("pts", "shm", "mqueue"):
            (kept / "sub" / name).rmdir()


NAMES = (
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "tty",
    "console",
    "ptmx",
    "pts",
    "shm",
    "mqueue",
    "fd",
    "stdin",
    "stdout",
    "core",
)


@WAYS
def test_cve_2026_88264_names_below_dev_as_links_make_no_file_on_the_host(
    way: str, image: Path, tmp_path: Path
) -> None:
    """Each of them a link to a file of the host that there is, and to one that is not there yet."""
    with decoys(tmp_path / "decoy") as kept:
        for to in (kept / "secret", kept / "new", "/proc/sys/kernel/core_pattern"):
            for name in NAMES:
                plant(image, f"/dev/{name}", str(to))
            assert SECRET not in by(way, image)


@pytest.mark.parametrize("read_only", [False, True])
def test_cve_2025_52565_the_console_is_the_containers_own_pty(read_only: bool, image: Path, tmp_path: Path) -> None:
    for name, to in (
        ("console", "/proc/sys/kernel/core_pattern"),
        ("ptmx", "/dev/null"),
        ("pts/0", "/proc/sysrq-trigger"),
    ):
        plant(image, f"/dev/{name}", to)
    with decoys(tmp_path / "decoy"), terminal(image, "sleep", "600", read_only=read_only) as c:
        table = mounts(c.pid)
        assert table["/dev/console"][:2] == ("/0", "devpts") and "/proc/sys/kernel/core_pattern" not in table
        info = os.stat(f"/proc/{c.pid}/root/dev/console")
        assert (os.major(info.st_rdev), os.minor(info.st_rdev)) == (136, 0)
        assert os.stat(f"/proc/{c.pid}/fd/0").st_ino == info.st_ino


@pytest.mark.parametrize("what", ["file", "fifo", "link", "slave", "zero"])
def test_cve_2025_52565_a_volume_as_dev_cannot_pass_its_ptmx_for_one(what: str, image: Path, tmp_path: Path) -> None:
    """With a volume on /dev the terminal's multiplexer is the attacker's: the start fails, and nothing is made of it."""
    volume = tmp_path / "vol"
    (volume / "pts").mkdir(parents=True)
    ptmx = volume / "pts/ptmx"
    with decoys(tmp_path / "decoy") as kept:
        if what == "fifo":
            os.mkfifo(ptmx)
        elif what == "link":
            ptmx.symlink_to("/proc/sys/kernel/core_pattern")
        elif what in ("slave", "zero"):
            os.mknod(ptmx, 0o020666, os.makedev(136, 0) if what == "slave" else os.makedev(1, 5))
        else:
            ptmx.write_text("x")
        plant(volume, "console", str(kept / "secret"))
        assert on_terminal(image, "true", mounts=[f"{volume}:/dev"]).startswith("refused: ")


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("kind", ["link", "file", "fifo", "device"])
def test_cve_2025_31133_masks_are_the_null_device_whatever_the_image_has(
    kind: str, read_only: bool, image: Path, tmp_path: Path
) -> None:
    (image / "dev").mkdir(exist_ok=True)
    null = image / "dev/null"
    with decoys(tmp_path / "decoy") as kept:
        if kind == "link":
            null.symlink_to(kept / "secret")
        elif kind == "file":
            null.write_text(SECRET)
        elif kind == "fifo":
            os.mkfifo(null)
        else:
            os.mknod(null, 0o020666, os.makedev(1, 1))  # /dev/mem
        with living("sleep", "600", image=str(image), read_only=read_only) as c:
            for path in ("/proc/keys", "/proc/timer_list", "/proc/interrupts"):
                if os.path.exists(path):
                    assert os.stat(f"/proc/{c.pid}/root{path}").st_rdev == os.makedev(1, 3), path


@pytest.mark.parametrize("read_only", [False, True])
def test_cve_2026_88265_the_standard_streams_are_not_reopened_inside(
    read_only: bool, image: Path, tmp_path: Path
) -> None:
    """Standard input from nothing is the host's null device, not what the image calls so."""
    with decoys(tmp_path / "decoy") as kept:
        plant(image, "/dev/null", str(kept / "secret"))
        script = "stat -L -c %t:%T /proc/self/fd/0; cat; cat /dev/stdin; readlink /proc/self/fd/1 | cut -c 1-5; : >/dev/stdin"
        assert outcome(image, script, read_only=read_only).startswith("0 1:3\npipe:\n")


@pytest.mark.parametrize("target", ["/", "/tmp", "/proc/1/root", "9", "/dev/fd"])
def test_cve_2026_115521_a_read_only_root_whatever_the_image_has_at_proc_self_fd(
    target: str, image: Path, tmp_path: Path
) -> None:
    for n in range(24):
        plant(image, f"/proc/self/fd/{n}", target)
        plant(image, f"/proc/thread-self/fd/{n}", target)
    places = "/ /etc /tmp /root /var/tmp /bin /home/user /sbin"
    script = f"mount -o remount,rw /; for d in {places}; do touch $d/x && echo wrote $d; done 2>/dev/null"
    said = outcome(image, script, read_only=True)
    assert said.startswith(("0 ", "1 ")) and "wrote" not in said
    assert "wrote /\nwrote /etc\n" in outcome(image, script)
    with living("sleep", "600", image=str(image), read_only=True) as c:
        assert "ro" in mounts(c.pid)["/"][2]


# --- nodes made inside -------------------------------------------------------------------------------------------------

MKNOD = """
opened = []
for kind, major, minor in NUMBERS:
    for at in ('/tmp/n', '/b/n', '/dev/n', '/dev/shm/n'):
        attempt(os.unlink, at)
        if attempt(os.mknod, at, kind | 0o666, os.makedev(major, minor)) == 'ok':
            for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
                if attempt(lambda: os.close(os.open(at, flags | os.O_NONBLOCK | os.O_NOCTTY))) in ('ok', 'ENXIO', 'EBUSY', 'ENODEV'):
                    opened.append([kind, major, minor])
        attempt(os.unlink, at)
say(opened)
"""
ALLOWED = {(0o020000, 1, m) for m in (3, 5, 7, 8, 9)} | {(0o020000, 5, m) for m in (0, 2)}


def numbers() -> list[tuple[int, int, int]]:
    """Every device node of this host, and those that a host may have: disks, memory, ports, consoles."""
    found = {(0o020000, 1, m) for m in (1, 2, 4, 6, 10, 11)} | {
        (0o060000, m, n) for m in (7, 8, 253, 254, 259) for n in (0, 1)
    }
    found |= {
        (0o020000, 4, 0),
        (0o020000, 4, 64),
        (0o020000, 5, 1),
        (0o020000, 5, 3),
        (0o020000, 10, 229),
        (0o020000, 10, 200),
    }
    for path in Path("/dev").rglob("*"):
        info = path.lstat()
        if path.is_char_device() or path.is_block_device():
            found.add((info.st_mode & 0o170000, os.major(info.st_rdev), os.minor(info.st_rdev)))
    return sorted(n for n in found if n not in ALLOWED and n[1] != 136)


@pytest.mark.parametrize(
    "options", [{}, {"read_only": True}, {"user": "0:0", "cap_add": ["SYS_RAWIO", "DAC_READ_SEARCH"]}]
)
def test_mknod_of_any_device_of_the_host_opens_none(options: dict[str, Any], tmp_path: Path) -> None:
    """The host's disk, its memory, its console: a node may be made, on a volume too, and is of no use."""
    source = f"NUMBERS = {numbers()!r}\n" + MKNOD
    assert attack(source, mounts=[f"{tmp_path}:/b"], tmpfs=["/t"], **options) == []
    assert list(tmp_path.iterdir()) == []


def test_mknod_of_an_allowed_device_opens_it(tmp_path: Path) -> None:
    source = f"NUMBERS = {sorted(ALLOWED)!r}\n" + MKNOD
    opened = {tuple(n) for n in attack(source, mounts=[f"{tmp_path}:/b"])}
    assert (0o020000, 1, 3) in opened and (0o020000, 1, 5) in opened


# --- the caller's terminal ---------------------------------------------------------------------------------------------

INJECT = """
import fcntl, termios
def ioctl(fd, number, arg): return attempt(fcntl.ioctl, fd, number, arg)
answers = {}
for fd in FDS:
    answers[f'{fd} sti'] = ioctl(fd, termios.TIOCSTI, b'X')
    answers[f'{fd} steal'] = ioctl(fd, termios.TIOCSCTTY, 1)
    answers[f'{fd} take'] = ioctl(fd, termios.TIOCSCTTY, 0)
    answers[f'{fd} again'] = ioctl(fd, termios.TIOCSTI, b'X')
    answers[f'{fd} linux'] = ioctl(fd, 0x541C, bytes([2]) + bytes(16))  # TIOCLINUX: a selection, to be pasted
    reopened = attempt(lambda: os.open(f'/proc/self/fd/{fd}', os.O_RDWR))
    answers[f'{fd} reopened'] = ioctl(fd, termios.TIOCSTI, b'X')
answers['tty'] = attempt(os.open, '/dev/tty', os.O_RDWR)
say(answers)
"""


def as_session_leader(body: str, *args: str) -> str:
    """What Python says that runs as the leader of a session with a terminal of its own; then what is in its input."""
    source = f"""
import fcntl, os, struct, sys, termios
sys.path[:0] = {[p for p in sys.path if p]!r}
{body}
left = struct.unpack('i', fcntl.ioctl(0, termios.FIONREAD, b'0000'))[0]
os.write(1, b'left %d.' % left)
"""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", source, *args])
    try:
        attributes = termios.tcgetattr(master)
        attributes[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(master, termios.TCSANOW, attributes)
        said = read(master)
    finally:
        os.waitpid(pid, 0)
        os.close(master)
    return said


RUN = """
import pycontain
r = pycontain.run('host', ['python3', '-I', '-S', '-c', sys.argv[1]], stdin=0, stdout=pycontain.PIPE, stderr=0, timeout=20)
os.write(1, r.stdout)
from pycontain.runtime import session
session.close_all()
"""


def test_nothing_can_be_typed_into_the_callers_terminal() -> None:
    """TIOCSTI and its kin, by the terminal that the caller gave as standard streams."""
    if Path("/proc/sys/dev/tty/legacy_tiocsti").read_text() != "1\n":
        pytest.skip("the kernel forbids TIOCSTI to all (dev.tty.legacy_tiocsti = 0)")
    said = as_session_leader(RUN, PRELUDE + "FDS = [0, 2]\n" + INJECT)
    assert "ok" not in said and '"0 sti": "EPERM"' in said and "left 0." in said, said
    own = as_session_leader("fcntl.ioctl(0, termios.TIOCSTI, b'X')")
    assert "left 1." in own  # who owns the terminal can: the attack works


def test_a_node_of_the_callers_terminal_opens_nothing() -> None:
    """Ptys are allowed by their major number: a node of another one, made inside, must not lead to the host's."""
    master, slave = pty.openpty()
    try:
        number = os.fstat(slave).st_rdev
        source = f"NUMBERS = [({0o020000}, {os.major(number)}, {os.minor(number)})]\n" + MKNOD
        assert attack(source, mounts=["/var/tmp:/b"]) == []
        assert fcntl.ioctl(slave, termios.FIONREAD, b"0000") == struct.pack("i", 0)
    finally:
        os.close(master)
        os.close(slave)


def test_ptys_of_two_containers_are_strangers() -> None:
    with terminal("host", "sleep", "600") as one:
        os.write(one.tty_fd, b"typed\n")
        assert sh("ls /dev/pts; cat /dev/pts/0 2>&1; true").split("\n")[0] == "ptmx"


LISTEN = """
import select
print('listening', flush=True)
stolen = [os.read(fd, 64).decode() for fd in (1, 2) if os.isatty(fd) and select.select([fd], [], [], 0.5)[0]]
open('/v/stolen', 'w').write(json.dumps(stolen))
"""


def test_a_container_without_input_does_not_read_what_is_typed(tmp_path: Path) -> None:
    """`pycontain run IMAGE` from a terminal, neither -i nor -t: what the user types next is for the shell."""
    (tmp_path / "v").mkdir()
    words = ["run", "-v", f"{tmp_path}/v:/v", "host", "python3", "-I", "-S", "-c", PRELUDE + LISTEN]
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pycontain", *words])
    try:
        read(master, "listening")
        os.write(master, b"a password\n")
        read(master)
    finally:
        os.waitpid(pid, 0)
        os.close(master)
    assert (tmp_path / "v/stolen").read_text() == "[]"


@pytest.mark.parametrize("options", [{"read_only": True}, {"privileged": True}])
def test_a_volume_on_dev_gets_no_device_nodes(options: dict[str, Any], image: Path, tmp_path: Path) -> None:
    """They would be nodes of the host's directory, open to every user of the host, and the next start would fail on them."""
    volume = tmp_path / "vol"
    volume.mkdir()
    for _ in range(2):
        assert outcome(image, "true", mounts=[f"{volume}:/dev"], **options) == "0 "
    assert [p.name for p in volume.iterdir() if p.is_char_device() or p.is_block_device()] == []
