"""Every op of a Plan is made to fail, its child killed there, its owner killed there: the right report, nothing left.

Then whole owners are killed with containers running: the guardian cleans, or else the next owner's sweep.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import census
import forks
import pytest
from fault_requests import VARIANTS, a_request, bundles_made

import pycontain
from pycontain import _native
from pycontain.disassemble import DecodedPlan, decode
from pycontain.errors import SetupFailed
from pycontain.host import probe
from pycontain.request import RunRequest
from pycontain.runtime import running, session, shapes
from pycontain.runtime.bundle import open_bundle
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel

PREPARE, CHILD, FINISH = range(3)
BATCH = 8  # owners at once

# Deaf to every signal, and to its owner's death.
DEAF = """
import ctypes, signal, sys, time
for n in range(1, 32):
    if n not in (9, 19):
        signal.signal(n, signal.SIG_IGN)
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
print("ready", flush=True)
time.sleep(600)
"""
DEEP = "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')\n" + DEAF
BROAD = "import os\nfor n in range(2000):\n    open(f'/root/{n}', 'w').close()\n" + DEAF
# A tree of processes that has left its session and its parent behind.
ASTRAY = "import os, time\nfor _ in range(4):\n    if os.fork():\n        time.sleep(600)\n    os.setsid()\n" + DEAF


@pytest.fixture(scope="session")
def sources(base: str) -> tuple[str, str]:
    """A directory and a file to bind."""
    directory, file = Path(base, "bind"), Path(base, "bind.txt")
    directory.mkdir(mode=0o755)
    file.write_text("bound")
    (directory / "seven").write_text("#!/bin/sh\nexit 7\n")
    (directory / "seven").chmod(0o755)
    return str(directory), str(file)


@pytest.fixture(scope="module", autouse=True)
def bundles_of_variants(base: str, busybox_root: str) -> Iterator[None]:
    with bundles_made(base, busybox_root):
        yield


def plan_of(request: RunRequest, roots: Roots) -> DecodedPlan:
    if not request.image.startswith("bundle:"):
        return decode(shapes.plan_for(request, roots).data)
    made = open_bundle(request, roots, "0" * 64, (0, 0))
    made.release()
    return decode(made.plan.data)


@contextmanager
def null() -> Iterator[int]:
    fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def start(request: RunRequest, roots: Roots, fault: _native.Fault | None = None) -> running.Running:
    with null() as fd:
        return running.start(request, roots=roots, stdin=fd, stdout=fd, stderr=fd, fault=fault)


def kept(roots: Roots) -> list[str]:
    """What belongs to single containers of this process's session: nothing when none runs."""
    own = session.session_for(roots, probe())
    found = [f"{own.directory}/{name}" for name in os.listdir(own.directory)]
    for base in census.cgroup_bases():
        directory = f"{base}/{own.owner}"
        if os.path.isdir(directory):
            below = (e.path for e in os.scandir(directory) if e.is_dir() and not e.name.startswith("devices-"))
            found += below
    found += [f"process {pid}" for pid in forks.children() if not forks.name_of(pid).count("pycontain-guardian")]
    if os.path.isdir(f"{roots.run_root}/names"):
        found += os.listdir(f"{roots.run_root}/names")
    return found + sorted(os.listdir("/proc/self/fd"))


def ready(request: RunRequest, roots: Roots) -> list[str]:
    """Starts the session with a run that works; what is kept for good."""
    first = start(request, roots)
    outcome = first.wait()
    first.close_tty()
    assert outcome is not None
    assert outcome.exit_code == 7
    return kept(roots)


def failure(request: RunRequest, roots: Roots, fault: _native.Fault) -> SetupFailed | None:
    try:
        ended = start(request, roots, fault)
    except SetupFailed as e:
        return e
    ended.kill()
    ended.wait()
    ended.close_tty()
    return None


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_error_at_any_op_is_reported_and_leaves_nothing(
    roots: Roots, sources: tuple[str, str], variant: str
) -> None:
    request = a_request(variant, sources)
    plan = plan_of(request, roots)
    before = ready(request, roots)
    wrong = []
    for section, ops in ((PREPARE, plan.prepare), (CHILD, plan.child)):
        for op in ops:
            e = failure(request, roots, _native.Fault(kind=1, section=section, op=op.index, errno=errno.EIO))
            text = str(e)
            if e is None or (e.step, e.errno, e.arg) != ("op", errno.EIO, op.index):
                wrong.append(f"{op}: {e!r}")
            elif "EIO" not in text or "\n" in text or not text.startswith(f"cannot start {request.name or ''}"):
                wrong.append(f"{op}: message {text!r}")
            wrong += [f"{op}: left {thing}" for thing in set(kept(roots)) - set(before)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_child_killed_at_any_op_is_reported_and_leaves_nothing(
    roots: Roots, sources: tuple[str, str], variant: str
) -> None:
    request = a_request(variant, sources)
    ops = plan_of(request, roots).child
    before = ready(request, roots)
    wrong = []
    for op in ops:
        e = failure(request, roots, _native.Fault(kind=2, section=CHILD, op=op.index))
        if (
            e is None
            or (e.step, e.errno) != ("killed", errno.ECHILD)
            or "was killed before its program ran" not in str(e)
        ):
            wrong.append(f"{op}: {e!r}")
        wrong += [f"{op}: left {thing}" for thing in set(kept(roots)) - set(before)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_error_while_removing_keeps_the_outcome_and_is_removed_with_the_session(
    roots: Roots, sources: tuple[str, str], variant: str
) -> None:
    request = a_request(variant, sources)
    for op in plan_of(request, roots).finish:
        ended = start(request, roots, _native.Fault(kind=1, section=FINISH, op=op.index, errno=errno.EIO))
        outcome = ended.wait()
        assert outcome is not None
        assert (outcome.exit_code, outcome.signal, outcome.oom_killed) == (7, None, False), op
        ended.close_tty()
        session.close_all()
        assert census.left_by(roots.data_root, roots.run_root) == [], op


def _owner_killed(request: RunRequest, base: str, section: int, op: int) -> tuple[Roots, forks.Owner]:
    roots = forks.make_roots(base)

    def body(say: Callable[[object], None]) -> None:
        start(request, roots, _native.Fault(kind=3, section=section, op=op)).wait()
        os._exit(3)  # nobody has killed us

    return roots, forks.Owner(body)


def _cgroups_of_owners() -> set[str]:
    return {f"{b}/{o}" for b in census.cgroup_bases() if os.path.isdir(b) for o in os.listdir(b)}


def _left_by_owners(owners: dict[str, tuple[Roots, forks.Owner]], before: set[str]) -> list[str]:
    """Waits for the owners' deaths and for everything of theirs to go. ``before``: cgroups that were there, perhaps of a
    process that had the same number once."""
    wrong = []
    for what, (_, owner) in owners.items():
        status = owner.wait()
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            wrong.append(f"{what}: the owner ended with wait status {status}")
    wrong += [f"{', '.join(owners)}: left {thing}" for thing in forks.orphans_left()]
    cgroups = _cgroups_of_owners() - before
    for what, (roots, owner) in owners.items():
        left = [
            f for f in census.left_by(roots.data_root, roots.run_root) if "/names/" not in f and "/userns/" not in f
        ]  # the next owner's
        left += [c for c in cgroups if f"/{owner.pid}-" in c]
        wrong += [f"{what}: left {thing}" for thing in left]
    return wrong


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_owner_killed_at_any_op_leaves_nothing(base: str, sources: tuple[str, str], variant: str) -> None:
    request = a_request(variant, sources)
    plan = plan_of(request, forks.make_roots(base))
    places = [(PREPARE, op) for op in plan.prepare]
    places += [(CHILD, op) for op in plan.child]
    places += [(FINISH, op) for op in plan.finish]

    def all_of_them() -> list[str]:
        wrong = []
        for i in range(0, len(places), BATCH):
            owners = {}
            before = _cgroups_of_owners()
            for section, op in places[i : i + BATCH]:
                name = f"{op.section}[{op.index}] {op.name}"
                owners[name] = _owner_killed(request, base, section, op.index)
            wrong += _left_by_owners(owners, before)
        return wrong

    wrong = forks.in_helper(all_of_them)
    assert not wrong, "\n".join(wrong)


# --- owners killed while their containers run ---------------------------------------------------------------------------


def _python() -> str:
    """An interpreter that the image "host" has."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if path.startswith(("/usr/", "/opt/")) and os.access(path, os.X_OK):
            return path
    pytest.skip("needs a Python that the image host shows: install the Debian package python3")


def deaf(roots: Roots, program: str = DEAF, **more: object) -> pycontain.Container:
    """A running container that nobody but kill -9 stops."""
    c = pycontain.Container(
        "host", [_python(), "-c", program], stdout=pycontain.PIPE, data_root=roots.data_root,
        run_root=roots.run_root, pids=64, **more,  # type: ignore[arg-type]
    )  # fmt: skip
    assert c.stdout is not None
    assert c.stdout.readline() == b"ready\n"
    return c


def _several(roots: Roots) -> list[pycontain.Container]:
    return [deaf(roots) for _ in range(6)]


RUNNING: dict[str, Callable[[Roots], object]] = {
    "deaf": deaf,
    "several": _several,
    "host_pid": lambda roots: deaf(roots, ASTRAY, pid="host"),
    "deep_tree": lambda roots: deaf(roots, DEEP, workdir="/root"),
    "many_files": lambda roots: deaf(roots, BROAD),
    "init": lambda roots: deaf(roots, init=True),
}


@pytest.mark.parametrize("what", RUNNING)
def test_a_killed_owner_leaves_nothing(roots: Roots, what: str) -> None:
    def body(say: Callable[[object], None]) -> None:
        kept = RUNNING[what](roots)
        say("started")
        while kept:
            signal.pause()

    def scenario() -> list[str]:
        owner = forks.Owner(body)
        assert owner.hears() == "started"
        assert os.WTERMSIG(owner.end()) == signal.SIGKILL
        return forks.orphans_left()

    assert forks.in_helper(scenario) == []
    assert census.left_by(roots.data_root, roots.run_root) == []


def _guardian() -> int:
    return next(pid for pid in forks.children() if "pycontain-guardian" in forks.name_of(pid))


def test_the_next_owner_sweeps_when_the_guardian_was_killed_too(roots: Roots) -> None:
    def body(say: Callable[[object], None]) -> None:
        kept = deaf(roots, name="web")
        say(_guardian())
        say(kept.pid)
        signal.pause()

    def scenario() -> tuple[list[str], list[str]]:
        owner = forks.Owner(body)
        guardian, container = int(owner.hears()), int(owner.hears())
        os.kill(guardian, signal.SIGKILL)
        owner.end()
        os.kill(container, 0)  # deaf indeed: nobody is left to end it
        assert f"{roots.run_root}/names/web" in census.left_by(roots.data_root, roots.run_root)
        assert pycontain.run("host", ["true"], name="web").exit_code == 0
        session.close_all()
        return forks.orphans_left(), census.left_by(roots.data_root, roots.run_root)

    assert forks.in_helper(scenario) == ([], [])


def test_the_name_of_a_killed_owners_container_goes_with_the_next_owner(roots: Roots) -> None:
    def body(say: Callable[[object], None]) -> None:
        kept = deaf(roots, name="web")
        say(kept.name)
        signal.pause()

    def scenario() -> list[str]:
        owner = forks.Owner(body)
        assert owner.hears() == "web"
        owner.end()
        assert forks.orphans_left() == []  # the guardian has done its part
        assert pycontain.run("host", ["true"]).exit_code == 0
        session.close_all()
        return census.left_by(roots.data_root, roots.run_root)

    assert forks.in_helper(scenario) == []


def test_an_owner_that_becomes_another_program_leaves_nothing(roots: Roots) -> None:
    def body(say: Callable[[object], None]) -> None:
        kept = deaf(roots, name="web")
        say(kept.id)
        os.execv("/bin/sleep", ["sleep", "600"])

    def scenario() -> bool:
        owner = forks.Owner(body)
        owner.hears()
        cleaned = census.poll_until(
            lambda: not [f for f in census.left_by(roots.data_root, roots.run_root) if "/names/" not in f]
        )
        assert "sleep" in forks.name_of(owner.pid)
        owner.end()
        return cleaned and forks.orphans_left() == []

    assert forks.in_helper(scenario)
    assert pycontain.run("host", ["true"], name="web").exit_code == 0


# --- owners that fork ---------------------------------------------------------------------------------------------------


def _run_in_fork(roots: Roots, answer: multiprocessing.SimpleQueue[object]) -> None:
    result = pycontain.run("host", ["echo", "mine"], data_root=roots.data_root, run_root=roots.run_root)
    answer.put(result.stdout)


def test_a_forked_child_has_containers_of_its_own_and_ends_no_others(roots: Roots) -> None:
    context = multiprocessing.get_context("fork")
    with pycontain.Container("host", ["cat"], stdin=pycontain.PIPE, stdout=pycontain.PIPE, name="web") as c:
        answer: multiprocessing.SimpleQueue[object] = context.SimpleQueue()
        child = context.Process(target=_run_in_fork, args=(roots, answer))
        child.start()
        assert answer.get() == b"mine\n"
        child.join()
        assert child.exitcode == 0
        child.close()
        answer.close()
        assert c.communicate(b"still here", timeout=10) == (b"still here", None)
        assert c.wait() == 0


def test_a_forked_childs_exit_handlers_end_none_of_its_parents_containers(roots: Roots) -> None:
    with pycontain.Container("host", ["cat"], stdin=pycontain.PIPE, stdout=pycontain.PIPE) as c:
        pid = os.fork()
        if pid == 0:
            session.close_all()  # what atexit does
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert c.communicate(b"still here", timeout=10) == (b"still here", None)


def test_a_forked_child_outlives_its_killed_parent_with_its_own_containers(roots: Roots) -> None:
    def child(say: Callable[[object], None], go_on: int) -> None:
        own = deaf(roots)
        say(os.getpid())
        os.read(go_on, 1)
        say(pycontain.run("host", ["echo", "alive"], text=True).stdout)
        say(own.poll())
        own.close()
        session.close_all()
        os._exit(0)

    def scenario() -> list[str]:
        read, write = os.pipe()

        def body(say: Callable[[object], None]) -> None:
            kept = deaf(roots)
            say(kept.pid)
            if os.fork() == 0:
                child(say, read)
            signal.pause()

        owner = forks.Owner(body)
        parents, survivor = int(owner.hears()), int(owner.hears())
        os.kill(owner.pid, signal.SIGKILL)
        gone = census.poll_until(lambda: parents in forks.children() and forks.name_of(parents) == "")
        assert gone, "the killed owner's container lives on"
        os.write(write, b".")
        assert (owner.hears(), owner.hears(), owner.hears()) == ("alive", "", "None")
        assert owner.wait() == signal.SIGKILL
        assert os.waitpid(survivor, 0)[1] == 0
        return forks.orphans_left()

    assert forks.in_helper(scenario) == []
    assert census.left_by(roots.data_root, roots.run_root) == []


# --- containers killed from outside --------------------------------------------------------------------------------------


def test_a_container_killed_from_outside_says_signal_9(roots: Roots) -> None:
    c = deaf(roots)
    os.kill(c.pid, signal.SIGKILL)
    assert c.wait(timeout=10) == 137
    assert c._running.outcome is not None
    assert (c._running.outcome.signal, c.oom_killed) == (signal.SIGKILL, False)
    c.close()


def test_containers_killed_from_outside_while_they_start(roots: Roots) -> None:
    pycontain.run("host", ["true"])
    spared = set(forks.children())  # the guardian, and what this module has running
    over = threading.Event()
    ends: list[str] = []

    def hunt() -> None:
        while not over.is_set():
            for pid in set(forks.children()) - spared:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        for _ in range(40):
            try:
                result = pycontain.run("host", ["sleep", "10"])
                ends.append(f"{result.exit_code} {result.signal}")
            except SetupFailed as e:
                ends.append(e.step)
    finally:
        over.set()
        hunter.join()
    assert set(ends) <= {"killed", "137 9"}, ends


def test_owners_that_begin_at_once_do_not_sweep_each_other(roots: Roots) -> None:
    def body(say: Callable[[object], None]) -> None:
        for _ in range(10):
            with pycontain.Container("host", ["cat"], stdin=pycontain.PIPE, stdout=pycontain.PIPE, pids=8) as c:
                say(c.communicate(b"alive", timeout=20)[0])
            session.close_all()
        os._exit(0)

    def scenario() -> list[str]:
        owners = [forks.Owner(body) for _ in range(6)]
        said = [owner.hears() for owner in owners for _ in range(10)]
        assert set(said) == {"b'alive'"}
        assert [owner.wait() for owner in owners] == [0] * 6
        return forks.orphans_left()

    assert forks.in_helper(scenario) == []
