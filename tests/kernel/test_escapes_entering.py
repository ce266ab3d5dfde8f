"""Escapes by an exec: whoever comes into a container is seen by what runs there, from its first step inside on (2016-9962), and
its program is one that the container has chosen (2019-5736, 2019-14271, 2024-21626).
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from attacks import PRELUDE, elf, evil_image, executable, hold
from probes import DEADLINE_S, living, status, until

import pycontain
from pycontain.disassemble import decode
from pycontain.errors import Conflict, NotExecutable, ProgramNotFound, PycontainError, SetupFailed
from pycontain.runtime import executing
from pycontain.runtime.executing import ExecRequest, start_exec

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

# For each line: what can be had of every process that is neither this one nor the first.
SPY = """
def spy(pid):
    p = f'/proc/{pid}/'
    got = {n: attempt(os.readlink, p + n) for n in ('exe', 'cwd', 'root', 'fd/0', 'fd/1', 'ns/mnt')}
    got['mem'] = attempt(lambda: os.close(os.open(p + 'mem', os.O_RDWR)))
    got['maps'] = attempt(lambda: os.read(os.open(p + 'maps', os.O_RDONLY), 1))
    got['environ'] = attempt(lambda: os.read(os.open(p + 'environ', os.O_RDONLY), 1))
    got['exe w'] = attempt(lambda: os.open(p + 'exe', os.O_WRONLY))
    pidfd = os.pidfd_open(pid)
    got['getfd'] = sys_(438, pidfd, 0, 0)
    os.close(pidfd)
    got['seize'] = sys_(101, 0x4206, pid, 0, 0)
    if got['seize'] == 'ok':  # a stop, for only a stopped process can be let go again
        sys_(101, 0x4207, pid, 0, 0)
        os.waitpid(pid, 0x40000000)
        sys_(101, 17, pid, 0, 0)
    return got
for line in sys.stdin:
    others = [int(n) for n in os.listdir('/proc') if n.isdigit() and int(n) not in (1, os.getpid())]
    say([spy(pid) for pid in others])
"""


@contextmanager
def spied_on(**options: Any) -> Iterator[tuple[pycontain.Container, Callable[[], list[dict[str, str]]]]]:
    """A container whose first process looks at every other one in it when it is asked."""
    args = ("python3", "-I", "-S", "-c", PRELUDE + SPY)
    with living(*args, stdin=pycontain.PIPE, stdout=pycontain.PIPE, text=True, **options) as c:

        def ask() -> list[dict[str, str]]:
            assert c.stdin is not None and c.stdout is not None
            c.stdin.write("look\n")
            found: list[dict[str, str]] = json.loads(c.stdout.readline())
            return found

        yield c, ask


def children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):  # a thread that has ended since
            found |= {int(p) for p in Path(f"/proc/self/task/{task}/children").read_text().split()}
    return found


def comm(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


@contextmanager
def held(c: pycontain.Container, op: int, monkeypatch: pytest.MonkeyPatch, **wish: Any) -> Iterator[int]:
    """The pid of an exec that is held before its child op ``op``; it fails at its deadline, or when the block ends."""
    monkeypatch.setattr(executing, "_START_DEADLINE_NS", 20_000_000_000)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    before = children()
    entry = c._running.entry()
    errors: list[BaseException] = []

    def start() -> None:
        try:
            start_exec(
                entry, ExecRequest(args=("true",), **wish), stdin=null, stdout=null, stderr=null, fault=hold(op)
            ).abort()
        except PycontainError as e:
            errors.append(e)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        yield until(lambda: next((p for p in children() - before if waits(p)), 0), "an exec that is held")
    finally:
        for pid in children() - before:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        thread.join()
        os.close(null)
    assert len(errors) == 1 and isinstance(errors[0], SetupFailed)


def waits(pid: int) -> bool:
    """Held by the fault: it sleeps, in the program that enters, and not for an answer."""
    with suppress(OSError):
        return "pycontain-exec" in comm(pid) and "nanosleep" in Path(f"/proc/{pid}/wchan").read_text()
    return False


def ops_of(c: pycontain.Container, **wish: Any) -> list[str]:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        made = start_exec(c._running.entry(), ExecRequest(args=("true",), **wish), stdin=null, stdout=null, stderr=null)
        made.wait()
    finally:
        os.close(null)
    return [op.name for op in decode(made.plan.data).child]


def had(got: dict[str, str]) -> dict[str, str]:
    """What was not refused."""
    return {what: answer for what, answer in got.items() if answer not in ("EACCES", "EPERM")}


WISHES: list[dict[str, Any]] = [{}, {"user": "1000"}, {"privileged": True}]


@pytest.mark.parametrize("wish", WISHES, ids=str)
@pytest.mark.parametrize("options", [{}, {"userns": "auto", "cap_add": ["SYS_PTRACE"]}, {"user": "1000"}], ids=str)
def test_cve_2016_9962_who_enters_is_closed_to_those_inside(
    options: dict[str, Any], wish: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each step that it takes in there; before it appears, nobody sees it."""
    with spied_on(**options) as (c, ask):
        ops = ops_of(c, **wish)
        fork = ops.index("FORK")
        for op, name in enumerate(ops):
            with held(c, op, monkeypatch, **wish) as victim:
                seen = ask()
                assert len(seen) == (op > fork), name
                assert [had(got) for got in seen if had(got)] == [], name
                if op > fork:  # and if it were open
                    assert links(victim) <= HARMLESS, name
        with living_exec(c) as _:
            assert ask()[0]["exe"] == "ok" or options.get("user")  # the attack works on an equal


HARMLESS = {"/dev/null", "socket", "memfd:pycontain-exec"}


def links(pid: int) -> set[str]:
    """What its descriptors lead to, without numbers."""
    found = {os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
    return {each.lstrip("/").partition(" ")[0] if "memfd" in each else each.partition(":[")[0] for each in found}


@contextmanager
def living_exec(c: pycontain.Container) -> Iterator[int]:
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        found = start_exec(c._running.entry(), ExecRequest(args=("sleep", "600")), stdin=null, stdout=null, stderr=null)
    finally:
        os.close(null)
    try:
        yield found.pid
    finally:
        found.abort()


def test_cve_2016_9962_a_tracer_inside_finds_no_power_that_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CAP_SYS_PTRACE of the engine's own user namespace everything can be looked at: then there is nothing to be had."""
    with spied_on(cap_add=["SYS_PTRACE"]) as (c, ask):
        ops = ops_of(c)
        theirs = status(c.pid)
        for op in range(ops.index("FORK") + 1, len(ops)):
            with held(c, op, monkeypatch) as victim:
                (got,) = ask()
                assert got["exe"] == got["mem"] == got["seize"] == "ok"  # the attack works
                own = status(victim)
                for name in ("Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd", "Seccomp", "Seccomp_filters"):
                    assert own[name] == theirs[name], (ops[op], name)
                assert links(victim) <= HARMLESS
                assert os.readlink(f"/proc/{victim}/exe").startswith("/memfd:pycontain-exec")
                assert got["exe w"] != "ok"  # sealed, and being executed


def test_cve_2016_9962_no_memory_of_the_engine_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = b"pycontain-canary-" + os.urandom(8).hex().encode()  # in our memory, for as long as this runs
    with spied_on() as (c, _):
        ops = ops_of(c)
        for op in (ops.index("SETNS"), ops.index("FORK") + 1):
            with held(c, op, monkeypatch) as victim:
                text = Path(f"/proc/{victim}/maps").read_text()
                assert "python" not in text and ".so" not in text
                assert secret not in memory(victim)
    assert secret


def memory(pid: int) -> bytes:
    found = b""
    with open(f"/proc/{pid}/mem", "rb", 0) as f:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            low, high = (int(n, 16) for n in line.split()[0].split("-"))
            with suppress(OSError, ValueError, OverflowError):
                f.seek(low)
                found += f.read(min(high - low, 1 << 24))
    return found


# --- 2019-5736: the program leads back to the one that enters ----------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "image", busybox_root)


@pytest.mark.parametrize(
    "path", ["/proc/self/exe", "/proc/thread-self/exe", "/proc/1/exe", "/dev/fd/3", "/proc/self/fd/3"]
)
def test_cve_2019_5736_programs_that_lead_to_who_enters(image: Path, path: str) -> None:
    executable(image / "bin/evil-script", f"#!{path}\nx\n".encode())
    (image / "bin/evil-link").symlink_to(path)
    executable(image / "bin/evil-loaded", elf(b"\xf4", path))
    with living("sleep", "600", image=str(image)) as c:
        for program in ("evil-script", "evil-link", "evil-loaded", path):
            with pytest.raises((NotExecutable, ProgramNotFound)):
                c.exec([program], timeout=DEADLINE_S)
        assert c.exec(["true"]).exit_code == 0


def test_cve_2019_5736_the_copy_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by root of the host, while it is executed and after."""
    with living() as c, held(c, len(ops_of(c)) - 1, monkeypatch) as victim:
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
            with pytest.raises(OSError):
                os.open(f"/proc/{victim}/exe", flags)
    fd = c._running.session.enter_fd if c._running.session.enter_fd >= 0 else -1
    if fd >= 0:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)


# --- 2019-14271: nothing of the container's is loaded or looked up by the engine ----------------------------------------


def test_cve_2019_14271_users_are_read_and_nothing_is_loaded(image: Path) -> None:
    for name in ("libnss_files.so.2", "libnss_evil.so.2"):
        executable(image / "bin" / name, b"\x7fELF evil")
    (image / "etc/nsswitch.conf").write_text("passwd: evil files\n")
    with living("sleep", "600", image=str(image)) as c:
        maps = Path("/proc/self/maps").read_text()
        assert c.exec(["id", "-u"], user="user", text=True).stdout == "1000\n"
        new = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()} - {
            line.split()[-1] for line in maps.splitlines()
        }
        assert not [each for each in new if "nss" in each or str(image) in each]


# --- 2024-21626: working directories that lead out ----------------------------------------------------------------------


def test_cve_2024_21626_links_to_descriptors(image: Path) -> None:
    for n in range(12):
        (image / f"cwd{n}").symlink_to(f"/proc/self/fd/{n}")
    (image / "up").symlink_to("/proc/self/cwd/../../..")
    with living("sleep", "600", image=str(image)) as c:
        for n in range(12):
            with pytest.raises(SetupFailed, match="working directory"):
                c.exec(["true"], workdir=f"/cwd{n}")
        assert c.exec(["pwd"], workdir="/up", text=True).stdout == "/\n"


# A first process that traces every other one, and never lets go.
HOLD = """
for line in sys.stdin:
    others = [int(n) for n in os.listdir('/proc') if n.isdigit() and int(n) not in (1, os.getpid())]
    say([sys_(101, 0x4206, pid, 0, 0) for pid in others])
"""


def test_a_tracer_that_does_not_let_go_holds_up_nobody() -> None:
    args = ("python3", "-I", "-S", "-c", PRELUDE + HOLD)
    with living(*args, stdin=pycontain.PIPE, stdout=pycontain.PIPE, text=True) as c:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        found = start_exec(c._running.entry(), ExecRequest(args=("sleep", "600")), stdin=null, stdout=null, stderr=null)
        os.close(null)
        assert c.stdin is not None and c.stdout is not None
        c.stdin.write("seize\n")
        assert json.loads(c.stdout.readline()) == ["ok"]
        found.kill()
        with pytest.raises(Conflict, match="traces it"):
            found.wait(DEADLINE_S)
        os.kill(c.pid, 9)
        assert c.wait(DEADLINE_S) == 137


def test_what_it_sees_of_the_engine_is_nothing() -> None:
    """No variable of ours, no directory, no parent."""
    os.environ["PYCONTAIN_TEST_SECRET"] = "x"
    try:
        with living() as c:
            out = str(c.exec(["sh", "-c", "env; echo $PPID; readlink /proc/self/cwd"], text=True).stdout)
    finally:
        del os.environ["PYCONTAIN_TEST_SECRET"]
    assert "SECRET" not in out and out.splitlines()[-2:] == ["0", "/"]
