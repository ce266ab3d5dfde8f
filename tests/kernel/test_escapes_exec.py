"""Escapes by descriptors and programs: the starting process seen from another container, /proc/PID/exe, working directories
by descriptor, sockets of the engine, set-user-ID programs."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from attacks import (
    EXIT_42,
    EXIT_EUID,
    attack,
    attacker,
    child_op,
    decoys,
    digests,
    elf,
    engine_files,
    evil_image,
    executable,
    hold,
    host_unchanged,
    outcome,
    plant,
)
from image_cases import LayoutWriter, member, tar
from probes import SECRET, living, refused, sh, status, until

import pycontain
from pycontain import options as keywords
from pycontain.errors import InvalidArgument, PycontainError, SetupFailed
from pycontain.runtime import running, shapes
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

ENGINE = os.path.realpath(sys.executable)


@pytest.fixture
def image(tmp_path: Path, busybox_root: str) -> Path:
    return evil_image(tmp_path / "image", busybox_root)


# --- 2016-9962: the starting process, seen from another container ------------------------------------------------------

# For each line "PID ..." what can be had of that process.
SPY = """
def spy(pid):
    p = f'/proc/{pid}/'
    got = {n: attempt(os.readlink, p + n) for n in ('exe', 'cwd', 'root', 'fd/0', 'fd/1', 'ns/mnt')}
    got['mem'] = attempt(lambda: os.close(os.open(p + 'mem', os.O_RDWR)))
    got['maps'] = attempt(lambda: os.read(os.open(p + 'maps', os.O_RDONLY), 1))
    got['environ'] = attempt(lambda: os.read(os.open(p + 'environ', os.O_RDONLY), 1))
    got['seize'] = sys_(101, 0x4206, int(pid), 0, 0)
    if got['seize'] == 'ok':  # a stop, for only a stopped process can be let go again
        sys_(101, 0x4207, int(pid), 0, 0)
        os.waitpid(int(pid), 0x40000000)
        sys_(101, 17, int(pid), 0, 0)
    return got
for line in sys.stdin:
    say([spy(pid) for pid in line.split()])
"""


@contextmanager
def held(roots: Roots, at: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[int]:
    """The pid of a child that is held before its op ``at``; the start then fails at its deadline."""
    request = keywords.request("host", ["true"], options)
    monkeypatch.setattr(running, "_START_DEADLINE_NS", 1_500_000_000)
    fault = hold(child_op(shapes.plan_for(request, roots).data, at))
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    errors: list[BaseException] = []

    def start() -> None:
        try:
            running.start(request, roots=roots, stdin=null, stdout=null, stderr=null, fault=fault)
        except SetupFailed as e:
            errors.append(e)

    before = set(children())
    thread = threading.Thread(target=start)
    thread.start()
    try:
        (victim,) = until(lambda: [pid for pid in set(children()) - before if settled(pid)], "a child that is held")
        yield victim
    finally:
        thread.join()
        os.close(null)
    assert len(errors) == 1


def children() -> list[int]:
    tasks = [Path(f"/proc/self/task/{t}/children") for t in os.listdir("/proc/self/task")]
    return [int(p) for t in tasks for p in t.read_text().split()]


def settled(pid: int) -> bool:
    """Whether the child has given its capabilities away, and so waits where it is held."""
    return status(pid)["CapEff"] != status("self")["CapEff"]


def had(got: dict[str, str]) -> dict[str, str]:
    """What was not refused."""
    return {what: answer for what, answer in got.items() if answer not in ("EACCES", "EPERM")}


@pytest.mark.parametrize("at", ["PDEATHSIG", "CHDIR"])
@pytest.mark.parametrize("pid", ["private", "host"])
def test_cve_2016_9962_a_starting_process_is_closed_to_other_containers(
    pid: str, at: str, roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no more capabilities than the attacker, and it still is the engine: its memory, its descriptors, its files."""
    with attacker(SPY, pid="host") as ask, living(pid="host") as other:
        with held(roots, at, monkeypatch, pid=pid) as victim:
            got, engine, equal = ask(f"{victim} {os.getpid()} {other.pid}")
            assert os.readlink(f"/proc/{victim}/exe") == ENGINE  # what is behind the door
        assert had(got) == {}
        assert had(engine) == {}
        assert equal["exe"] == equal["seize"] == "ok"  # the attack works on an equal


def test_cve_2016_9962_the_attack_succeeds_with_sys_ptrace(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code, with the capability that the default set leaves out: the test above can fail."""
    with attacker(SPY, pid="host", cap_add=["SYS_PTRACE"]) as ask, held(roots, "CHDIR", monkeypatch) as victim:
        (got,) = ask(str(victim))
        assert got["exe"] == got["mem"] == got["maps"] == "ok"


def guardian() -> int:
    """The pid of the guardian of this process."""
    found = [pid for pid in children() if Path(f"/proc/{pid}/comm").read_text().startswith("pycontain-guard")]
    assert len(found) == 1
    return found[0]


def test_the_guardian_and_the_engine_are_closed_to_a_container_in_the_hosts_pid_namespace() -> None:
    with attacker(SPY, pid="host") as ask:
        for got in ask(f"{guardian()} {os.getpid()} 1"):
            assert had(got) == {}


# Follows every process that comes, as fast as it can; tells which programs it could see or open for writing.
STALK = """
import select
seen, opened = {}, []
def look():
    for pid in [n for n in os.listdir('/proc') if n.isdigit()]:
        for name in ('exe', 'cwd', 'root', 'fd/3', 'fd/5'):
            try: to = os.readlink(f'/proc/{pid}/{name}')
            except OSError: continue
            seen[name + ' ' + to] = seen.get(name + ' ' + to, 0) + 1
            if name == 'exe' and attempt(touch, f'/proc/{pid}/exe') == 'ok': opened.append(to)
while not select.select([sys.stdin], [], [], 0)[0]: look()
say([seen, opened])
sys.stdin.readline()
say(0)
"""


def test_cve_2019_5736_a_race_for_every_exe_of_starting_containers_opens_nothing_of_the_host() -> None:
    """Another container in the host's pid namespace runs after 150 starts, with and without the shared memory."""
    with host_unchanged(), attacker(STALK, pid="host") as ask:
        for n in range(150):
            pycontain.run("host", ["true"], pid="host" if n % 2 else "private", init=n % 3 == 0)
        seen, opened = ask("enough")
    assert opened == []
    assert not [s for s in seen if "python3.11" in s and s.startswith("exe") and s.split()[1] == ENGINE], seen
    assert len(seen) > 2  # it has seen its equals


# --- 2019-5736: /proc/self/exe -----------------------------------------------------------------------------------------

# Reopens for writing what it holds by O_PATH, until the program no longer runs: the original attack.
REOPEN = """
import time
def holds():
    found = {}
    for pid in [n for n in os.listdir('/proc') if n.isdigit()]:
        paths = [f'/proc/{pid}/exe']
        try: paths += [f'/proc/{pid}/map_files/{n}' for n in os.listdir(f'/proc/{pid}/map_files')]
        except OSError: pass
        for path in paths:
            try: found[path] = os.open(path, os.O_PATH)
            except OSError as e: found[path] = -e.errno
    return found
def reopened(fd):
    for _ in range(50):
        answer = attempt(touch, f'/proc/self/fd/{fd}')
        if answer != 'ETXTBSY': break
        time.sleep(0.002)
    return answer
"""


def test_cve_2019_5736_process_1_of_init_cannot_be_opened_for_writing() -> None:
    """With --init the first process is a program of the host: of a read-only mount, by every way to it."""
    source = """
found = {p: reopened(fd) if fd >= 0 else why(-fd) for p, fd in holds().items()}
say(found | {'/sbin/docker-init': attempt(touch, '/sbin/docker-init')})
"""
    with host_unchanged():
        found = attack(REOPEN + source, init=True)
    for path in ("/sbin/docker-init", "/proc/1/exe"):
        assert found[path] in ("EROFS", "ETXTBSY"), path
    assert [path for path, answer in found.items() if answer == "ok" and "/1/" in path] == []


def test_cve_2019_5736_the_reopening_works_on_a_program_of_ones_own() -> None:
    source = """
import shutil
shutil.copy('/bin/sleep', '/tmp/sleep')
if os.fork() == 0: os.execv('/tmp/sleep', ['sleep', '0.03'])
while os.readlink(f'/proc/2/exe') != '/tmp/sleep': pass
fd = os.open('/proc/2/exe', os.O_PATH)
os.wait()
say(reopened(fd))
"""
    assert attack(REOPEN + source) == "ok"


ENTRIES = {
    "script": "#!/proc/self/exe -IS\nimport os; print(os.readlink('/proc/self/exe'))\n",
    "script of a script": "#!/b/script\n",
    "script of a link": "#!/b/link\n",
    "script of map_files": "#!/proc/self/map_files/400000-401000\n",
    "script of a root": "#!/proc/self/root/proc/self/exe\n",
    "script of a descriptor": "#!/proc/self/fd/3\n",
    "script of a task": "#!/proc/thread-self/exe\n",
}


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("kind", [*ENTRIES, "link", "link to init"])
def test_cve_2019_5736_an_entrypoint_that_is_the_engine(kind: str, init: bool, tmp_path: Path) -> None:
    directory = tmp_path / "b"
    directory.mkdir()
    for name, text in ENTRIES.items():
        executable(directory / name.replace(" ", "-"), text)
    plant(directory, "link", "/proc/self/exe")
    plant(directory, "link-to-init", "/proc/1/exe")
    program = f"/b/{kind.replace(' ', '-')}"
    with host_unchanged():
        try:
            # few processes: a script that init runs by init runs itself by init, again and again
            r = pycontain.run("host", [program], mounts=[f"{directory}:/b"], init=init, text=True, pids=16)
        except (pycontain.NotExecutable, pycontain.ProgramNotFound):
            assert not init or kind.startswith("link")
        else:  # then it was pycontain-init that ran it, itself
            assert init and ENGINE not in str(r.stdout) + str(r.stderr)


def test_cve_2019_5736_the_engines_programs_and_libraries_are_what_they_were(image: Path) -> None:
    """An image whose every program is the attack: what is opened for writing is never of the host."""
    script = "#!/bin/busybox sh\nfor f in /proc/[0-9]*/exe /proc/[0-9]*/map_files/* /proc/[0-9]*/fd/*; do : 2>/dev/null >>$f; done\n"
    before = digests(engine_files())
    executable(image / "bin/evil", script)
    for n in range(30):
        pycontain.run(str(image), ["/bin/evil"], init=bool(n % 2), pid="host" if n % 3 == 0 else "private")
    assert digests(list(before)) == before


# --- 2024-21626: descriptors -------------------------------------------------------------------------------------------


@contextmanager
def leaky(directory: Path) -> Iterator[None]:
    """This process holds ``directory`` by every descriptor up to 64 that is free, inheritable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    held: list[int] = []
    try:
        while not held or held[-1] < 64:
            held.append(os.dup(fd))
            os.set_inheritable(held[-1], True)
        yield
    finally:
        for each in (fd, *held):
            os.close(each)


@pytest.mark.parametrize("prefix", ["/proc/self/fd/", "/wd", "/proc/1/fd/", "/proc/thread-self/fd/"])
def test_cve_2024_21626_a_working_directory_by_descriptor(prefix: str, image: Path, tmp_path: Path) -> None:
    """Every number up to 64, as it is and by a link of the image, while the engine holds a directory by all of them."""
    for n in range(65):
        plant(image, f"/wd{n}", f"/proc/self/fd/{n}")
    with decoys(tmp_path / "decoy") as kept, leaky(kept):
        for n in range(65):
            said = outcome(image, "cat secret; ls; pwd -P", workdir=f"{prefix}{n}")
            assert said.startswith("refused: "), (n, said)
        assert "No such file" in outcome(image, "cat secret", workdir="/tmp")


@pytest.mark.parametrize(
    "workdir", ["/proc/self/cwd", "/proc/1/cwd", "/proc/self/root", "/wd/..", "/proc/self/task/1/cwd"]
)
def test_cve_2024_21626_other_links_of_proc_lead_into_the_root_at_most(
    workdir: str, image: Path, tmp_path: Path
) -> None:
    plant(image, "/wd", "/proc/self/fd/40")
    with decoys(tmp_path / "decoy") as kept, leaky(kept):
        assert outcome(image, "pwd -P", workdir=workdir)[:2] in ("re", "0 ")
        assert SECRET not in outcome(image, f"cat secret ../../../../../../{kept}/secret", workdir=workdir)


def test_cve_2024_21626_standard_input_as_working_directory(image: Path, tmp_path: Path) -> None:
    """A descriptor that the container does get: it may be read, never be where it works."""
    with decoys(tmp_path / "decoy") as kept:
        fd = os.open(kept, os.O_RDONLY)
        try:
            for workdir in ("/proc/self/fd/0", "/dev/stdin", "/dev/fd/0"):
                assert outcome(image, "pwd -P; cat secret", workdir=workdir, stdin=fd).startswith("refused: "), workdir
        finally:
            os.close(fd)


def test_cve_2024_21626_the_working_directory_of_a_hostile_layout(tmp_path: Path, busybox_root: str) -> None:
    busybox = (Path(busybox_root) / "bin/busybox").read_bytes()
    layer = tar(member("sh", data=busybox, mode=0o755), member("wd", b"2", linkname="/proc/self/fd/40"))
    with decoys(tmp_path / "decoy") as kept, leaky(kept):
        for number, workdir in enumerate(
            ["/proc/self/fd/40", "/wd", "/wd/sub/..", "../../proc/self/fd/40", "proc/self/fd/41"]
        ):
            writer = LayoutWriter(tmp_path / f"layout{number}")
            layout = writer.finish(
                writer.manifest(
                    layer, config={"WorkingDir": workdir, "Cmd": ["/sh", "-c", "read line <secret; echo $line"]}
                )
            )
            try:
                r = pycontain.run(f"oci:{layout}", text=True)
            except PycontainError as e:
                assert "\n" not in str(e)
            else:
                assert SECRET not in str(r.stdout)


def test_cve_2024_21626_a_working_directory_swapped_while_the_container_starts(image: Path, tmp_path: Path) -> None:
    from attacks import swapper

    volume = tmp_path / "vol"
    (volume / "dir").mkdir(parents=True)
    plant(volume, "link", "/proc/self/fd/40")
    with decoys(tmp_path / "decoy") as kept, leaky(kept), swapper(volume, "dir", "link") as swaps:
        said = [outcome(image, "pwd -P; cat secret", workdir="/v/dir", mounts=[f"{volume}:/v"]) for _ in range(150)]
        assert swaps() > 1000
    assert {s[:1] for s in said} == {"1", "r"}  # inside (cat fails) and refused, each at least once
    assert not [s for s in said if SECRET in s or "unreachable" in s]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init": True},
        {"read_only": True},
        {"pid": "host"},
        {"privileged": True},
        {"no_new_privileges": True, "user": "1000"},
    ],
)
def test_cve_2024_21626_the_program_has_the_standard_streams_alone(options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with leaky(tmp_path / "d"):
        script = "ls -l /proc/self/fd | wc -l; ls /proc/$$/fd; ls -l /proc/$$/fd/ | grep -c pipe:"
        listed = sh(script, **options).split()
    assert listed[1:4] == ["0", "1", "2"] and len(listed) <= 6
    assert str(tmp_path) not in " ".join(listed)


# --- 2020-15257: sockets of the engine ---------------------------------------------------------------------------------


def sockets_of(pid: int) -> set[str]:
    """Inodes of the process's sockets."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def reachable(inodes: set[str]) -> list[str]:
    """Those that somebody else could connect to: bound, abstract or listening, of any family."""
    found = []
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        if words[6] in inodes and (len(words) > 7 or int(words[3], 16) & 0x10000):
            found.append(line)
    for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]:
            if line.split()[9] in inodes:
                found.append(line)
    return found


def test_cve_2020_15257_nothing_of_the_engine_listens_in_the_hosts_network() -> None:
    with living(network="host") as c:
        ours = sockets_of(os.getpid()) | sockets_of(guardian()) | sockets_of(c.pid)
        assert reachable(ours) == []
        assert "pycontain" not in sh("cat /proc/net/unix", network="host")
        with socket.socket(socket.AF_UNIX) as s:  # the look finds one
            s.bind("\0pycontain-test-abstract")
            s.listen()
            assert len(reachable(sockets_of(os.getpid()))) == 1
            assert "@pycontain-test-abstract" in sh("cat /proc/net/unix", network="host")
    with living(network="none") as c:
        assert Path(f"/proc/{c.pid}/net/unix").read_text().count("\n") == 1


# --- programs ----------------------------------------------------------------------------------------------------------


def test_a_set_user_id_program_gives_nothing_with_no_new_privileges(image: Path) -> None:
    executable(image / "bin/euid", elf(EXIT_EUID), 0o4755)
    codes = [pycontain.run(str(image), ["/bin/euid"], user="200", no_new_privileges=n).exit_code for n in (True, False)]
    assert codes == [200, 0]  # and without, it does: the attack works


def test_an_elf_interpreter_of_the_image_is_the_images(image: Path) -> None:
    """What the look for the engine must not forbid: the machine code of our own making runs."""
    executable(image / "bin/plain", elf(EXIT_42))
    assert pycontain.run(str(image), ["/bin/plain"]).exit_code == 42


@pytest.mark.parametrize("kind", ["fifo", "directory", "character device", "socket"])
def test_cve_2026_93320_what_is_no_file_is_not_waited_for(kind: str, image: Path) -> None:
    """A FIFO or a device in place of the program, of /etc/passwd or of /etc/group: an error at once, never a hang."""
    for at in ("bin/prog", "etc/passwd", "etc/group"):
        path = image / at
        path.unlink(missing_ok=True)
        if kind == "fifo":
            os.mkfifo(path, 0o777)
        elif kind == "directory":
            path.mkdir()
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(str(path))
        else:
            os.mknod(path, 0o020777, os.makedev(5, 0))
        with pytest.raises(PycontainError, match=r"^[^\n]*$"):
            pycontain.run(str(image), ["/bin/prog" if at == "bin/prog" else "true"], user="1000:extra", timeout=5)
        shutil.rmtree(path) if kind == "directory" else path.unlink()
        (image / "etc/passwd").touch()
        (image / "etc/group").write_text("extra:x:2000:\n")


def test_an_unknown_user_of_a_hostile_passwd_does_not_become_root(image: Path) -> None:
    """2024-40635: numbers that wrap around to 0."""
    for uid in ("4294967296", "-1", "0x0", "18446744073709551616", "4294967295", "2147483648"):
        (image / "etc/passwd").write_text(f"evil:x:{uid}:0::/:/bin/sh\n")
        assert refused(InvalidArgument, "id", image=str(image), user="evil"), uid
        if uid != "0x0":
            refused(InvalidArgument, "id", image=str(image), user=uid)


@pytest.mark.parametrize("interpreter", ["/proc/self/exe", "/proc/thread-self/exe", "/link"])
def test_cve_2019_5736_an_elf_interpreter_that_is_the_engine(interpreter: str, image: Path, tmp_path: Path) -> None:
    """PT_INTERP is opened before the old program's memory goes, as a script's interpreter is. The core dump tells what was
    mapped, by the host's path."""
    volume = tmp_path / "vol"
    volume.mkdir()
    plant(image, "/link", "/proc/self/exe")
    executable(image / "bin/evil", elf(EXIT_42, interpreter))
    with suppress(pycontain.NotExecutable):
        pycontain.run(str(image), ["/bin/evil"], mounts=[f"{volume}:/v"], workdir="/v", ulimits={"core": 1 << 24})
    assert [core.name for core in volume.iterdir() if ENGINE.encode() in core.read_bytes()] == []
