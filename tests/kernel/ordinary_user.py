"""An ordinary user of the tests' own, with subordinate ids, on a machine that is not changed for it.

The user exists in a private mount namespace only: copies of /etc/passwd, /etc/group, /etc/subuid and /etc/subgid with one
line more are bound over the real ones there. He cannot read /root, where this interpreter may lie, so that the system's
own Python runs a copy of the package.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from probes import status

import pycontain

__all__ = [
    "CLI", "DEADLINE_S", "PYTHON", "RANGE", "OrdinaryUser", "inner", "living", "make_user", "one_line", "sh",
]  # fmt: skip

PYTHON = "/usr/bin/python3"
DEADLINE_S = 60.0
RANGE = 65536
_BOUND = ("passwd", "group", "subuid", "subgid")
CLI = "from pycontain.cli.entry import console; console()"


@dataclass(frozen=True, kw_only=True)
class OrdinaryUser:
    """``directory`` belongs to root; ``home`` and ``runtime`` to the user."""

    directory: Path
    uid: int
    first: int  # of the subordinate ids, for users and groups alike

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def runtime(self) -> Path:
        return self.directory / "runtime"

    @property
    def data_root(self) -> Path:
        return self.home / ".local/share/pycontain"

    @property
    def run_root(self) -> Path:
        return self.runtime / "pycontain"

    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PYTHONPATH": str(self.directory / "package"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            "SHELL": "/bin/sh",
        }

    def argv(self, words: Sequence[str], *, before: str = "") -> list[str]:
        """``words`` as the user, in a mount namespace where he exists. ``before``: shell commands run there as root."""
        binds = [f"mount --bind {shlex.quote(str(self.directory / name))} /etc/{name}" for name in _BOUND]
        become = (
            f"exec setpriv --reuid {self.uid} --regid {self.uid} --clear-groups --bounding-set=+all --inh-caps=-all --"
        )
        script = "set -e\n" + "\n".join((*binds, before, f'cd {shlex.quote(str(self.home))}; {become} "$@"'))
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]

    def cli(self, *words: str, before: str = "") -> list[str]:
        return self.argv([PYTHON, "-c", CLI, *words], before=before)

    def start(
        self, argv: list[str], *, env: dict[str, str | None] | None = None, **options: object
    ) -> subprocess.Popen[str]:
        merged = {**self.environment(), **(env or {})}
        given = {k: v for k, v in merged.items() if v is not None}
        return subprocess.Popen(argv, env=given, text=True, **options)  # type: ignore[call-overload,no-any-return]

    def run(
        self, argv: list[str], *, env: dict[str, str | None] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Never longer than the deadline: killed then, and the test fails."""
        with self.start(
            argv, env=env, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(stdin, timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def pycontain(
        self, *words: str, before: str = "", env: dict[str, str | None] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self.run(self.cli(*words, before=before), env=env, stdin=stdin)

    def python(self, source: str) -> subprocess.CompletedProcess[str]:
        """A program by ``pycontain unshare``."""
        return self.pycontain("unshare", PYTHON, "-c", source)

    def processes(self) -> list[str]:
        """Of the user and of his subordinate ids."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                uid = os.stat(f"/proc/{name}").st_uid
                words = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ")[:120]
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            # a process that may not be dumped belongs to root there: its own ids are in status
            if uid == 0:
                try:
                    uid = int(Path(f"/proc/{name}/status").read_text().partition("\nUid:")[2].split()[0])
                except (OSError, IndexError):
                    continue
            if state not in "ZX" and (uid == self.uid or self.first <= uid < self.first + RANGE):
                found.append(f"process {name} {words}")
        return found


def _package(target: Path) -> None:
    source = Path(pycontain.__file__).parent
    shutil.copytree(source, target / "pycontain", ignore=shutil.ignore_patterns("__pycache__", "*.c"))
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def make_user(base: str) -> Iterator[OrdinaryUser]:
    for tool in ("setpriv", "unshare", "newuidmap", "newgidmap", PYTHON):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: run tests/peers/install.sh")
    if subprocess.run([PYTHON, "-I", "-c", "import _cffi_backend"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs python3-cffi-backend for {PYTHON}: run tests/peers/install.sh")
    # ids that no other run of these tests has: what is left of them is ours
    number = os.getpid()
    user = OrdinaryUser(
        directory=Path(base) / "ordinary", uid=1_000_000 + number, first=(1 << 29) + number % 4096 * 2 * RANGE
    )
    user.directory.mkdir(mode=0o755)
    for path in (user.home, user.runtime):
        path.mkdir(mode=0o700)
        os.chown(path, user.uid, user.uid)
    _package(user.directory / "package")
    line = f"tester{number}:x:{user.uid}:{user.uid}:tests:{user.home}:/bin/sh\n"
    added = {"passwd": line, "group": f"tester{number}:x:{user.uid}:\n"}
    for name in _BOUND:
        given = added.get(name, f"tester{number}:{user.first}:{RANGE}\n")
        real = Path("/etc") / name
        (user.directory / name).write_text((real.read_text() if real.exists() else "") + given)
    yield user
    left = user.processes()
    assert not left, left


# --- his containers ---------------------------------------------------------------------------------------------------


def sh(user: OrdinaryUser, script: str, *options: str, image: str = "host") -> str:
    done = user.pycontain("run", *options, image, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, ""), (done.stdout, done.stderr)
    return done.stdout


def one_line(done: subprocess.CompletedProcess[str], code: int = 125) -> str:
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr.startswith("pycontain: ") and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@contextlib.contextmanager
def living(user: OrdinaryUser, *options: str, image: str = "host") -> Iterator[int]:
    """A container that waits: the pid of its first process, as this host counts. Ends when the block does."""
    argv = user.cli("run", "-i", *options, image, "sh", "-c", "echo ready; cat")
    with user.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            yield inner(process.pid)
        finally:
            process.stdin.close()
            process.wait(20)


def inner(engine: int) -> int:
    """The container's first process below the engine."""
    for task in os.listdir(f"/proc/{engine}/task"):
        for pid in Path(f"/proc/{engine}/task/{task}/children").read_text().split():
            if len(status(pid)["NSpid"].split()) > 1:
                return int(pid)
    raise AssertionError("no container below the engine")
