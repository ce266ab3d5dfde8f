"""One class for each runtime: how it is started, and that nothing of it is left whatever happens."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from census import poll_until

from .bundles import Bundle

__all__ = ["OURS", "Crun", "Finished", "Pycontain", "Runc", "Runtime", "descendants"]

DEADLINE_S = 30.0
OURS = importlib.util.find_spec("pycontain.runtime.bundle") is not None


@dataclass
class Finished:
    exit_code: int
    stdout: bytes
    stderr: str
    outside: dict[str, str] = field(default_factory=dict)  # read by pid while the probe was waiting


def descendants(pid: int) -> Iterator[int]:
    """The processes below ``pid``, which may be ending meanwhile."""
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                for child in map(int, f.read().split()):
                    yield child
                    yield from descendants(child)


def _probe_below(pid: int) -> int:
    for below in descendants(pid):
        with suppress(OSError):
            if os.readlink(f"/proc/{below}/exe").endswith("/probe"):
                return below
    raise AssertionError(f"no probe below process {pid}")


def hierarchies() -> dict[str, str]:
    """Where each controller, named hierarchy ("name=systemd") or cgroup v2 ("") is mounted."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in f:
            before, _, after = line.rstrip("\n").partition(" - ")
            kind, _, options = after.split(" ", 2)
            if kind == "cgroup2":
                found[""] = before.split()[4]
            elif kind == "cgroup":
                for word in options.split(","):
                    found[word] = before.split()[4]
    return found


def _removed(cgroup: str) -> bool:
    """EBUSY until the last process of it is reaped."""
    with suppress(OSError):
        os.rmdir(cgroup)
    return not os.path.exists(cgroup)


class _Streams:
    """The three streams of a run: pipes, or one pseudo terminal. The terminal has the
    size that the document wants for the container's: runc copies it there, sooner or later than our look."""

    def __init__(self, terminal: bool, size: tuple[int, int], cleanup: ExitStack) -> None:
        self.terminal = terminal
        self.stdout, self.stderr = b"", b""
        if terminal:
            ours, theirs = pty.openpty()
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            self.write, self.reads = ours, {ours: "stdout"}
            self.theirs = (theirs, theirs, theirs)
            opened = {ours, theirs}
        else:
            pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
            self.write, self.reads = pipes[0][1], {pipes[1][0]: "stdout", pipes[2][0]: "stderr"}
            self.theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
            opened = {fd for pair in pipes for fd in pair}
        self._open = opened
        cleanup.callback(self._close)

    def _close(self) -> None:
        for fd in self._open:
            os.close(fd)

    def started(self) -> None:
        for fd in set(self.theirs):
            os.close(fd)
            self._open.discard(fd)

    def go_on(self) -> None:
        """The byte that the probe waits for."""
        with suppress(BrokenPipeError):
            os.write(self.write, b"\n")

    def read(self, enough: Callable[[bytes], bool]) -> bool:
        """Reads until ``enough`` says so of stdout, or both have ended; False when the time is over."""
        until = time.monotonic() + DEADLINE_S
        while self.reads and not enough(self.stdout):
            ready = select.select(list(self.reads), [], [], max(0.0, until - time.monotonic()))[0]
            if not ready:
                return False
            for fd in ready:
                try:
                    data = os.read(fd, 1 << 16)
                except OSError:  # EIO: the last of the terminal's other ends is closed
                    data = b""
                name = self.reads[fd]
                setattr(self, name, getattr(self, name) + data)
                if not data:
                    del self.reads[fd]
        return True


class Runtime:
    """Runs bundles, one at a time. ``state``: a directory for what the runtime keeps."""

    name = ""

    def __init__(self, state: Path) -> None:
        self.state = state / self.name
        self.state.mkdir(mode=0o700)

    @staticmethod
    def missing() -> str:
        """Why the runtime cannot be used here; "" when it can."""
        raise NotImplementedError

    def command(self, bundle: Bundle) -> list[str]:
        raise NotImplementedError

    def before(self) -> list[str]:
        """Shell commands that this runtime needs to be run first, in a mount namespace of its own."""
        return []

    def _launched(self, bundle: Bundle) -> list[str]:
        """In a mount namespace of its own: what a document without one mounts is not left on the host."""
        first = [*self.before(), *bundle.before]
        shell = ["sh", "-c", " && ".join([*first, 'exec "$@"']), "sh"] if first else []
        return ["unshare", "-m", *shell, *self.command(bundle)]

    def forget(self, bundle: Bundle) -> None:
        """Removes what a failed run may have left."""

    def run(
        self,
        bundle: Bundle,
        look: Callable[[int, int], dict[str, str]] = lambda pid, runtime: {},
        surroundings: Callable[[], object] | None = None,
    ) -> Finished:
        """One run from the start to its end. ``look``: asked while the probe waits, with its pid and the runtime's.
        ``surroundings``: called in the forked child before the runtime is executed."""
        with ExitStack() as cleanup:
            streams = _Streams(bundle.terminal, bundle.console_size, cleanup)
            stdin, stdout, stderr = streams.theirs
            command = self._launched(bundle)
            process = subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, cwd=bundle.directory, start_new_session=True,
                preexec_fn=surroundings,
            )  # fmt: skip
            cleanup.callback(self._end, process, bundle)
            streams.started()
            assert streams.read(lambda out: out.endswith((b"}\n", b"}\r\n"))), f"{command}: silent for {DEADLINE_S} s"
            outside = look(_probe_below(process.pid), process.pid) if streams.stdout.startswith(b"{") else {}
            streams.go_on()
            assert streams.read(lambda out: False), f"{command}: did not end in {DEADLINE_S} s"
            code = process.wait(DEADLINE_S)
            return Finished(code, streams.stdout, streams.stderr.decode(errors="replace"), outside)

    def _end(self, process: subprocess.Popen[bytes], bundle: Bundle) -> None:
        if process.poll() is None:
            below = list(descendants(process.pid))
            for pid in (*below, process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(DEADLINE_S)
        self.forget(bundle)
        for path in self._cgroups(bundle):  # crun leaves them when it refuses a document late
            assert poll_until(lambda: _removed(path)), f"{path} is still in use"  # noqa: B023

    @staticmethod
    def _cgroups(bundle: Bundle) -> list[str]:
        return [f"{at}/{bundle.id}" for at in set(hierarchies().values()) if os.path.isdir(f"{at}/{bundle.id}")]


class _OCICommand(Runtime):
    """A runtime with runc's command line."""

    package = ""

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which(cls.name) else f"needs {cls.name} (Debian package {cls.package})"

    def command(self, bundle: Bundle) -> list[str]:
        return [self.name, "--root", str(self.state), "run", "--bundle", str(bundle.directory), bundle.id]

    def forget(self, bundle: Bundle) -> None:
        if (self.state / bundle.id).exists():
            delete = [self.name, "--root", str(self.state), "delete", "--force", bundle.id]
            subprocess.run(delete, timeout=DEADLINE_S, check=False, capture_output=True)


class Runc(_OCICommand):
    name = package = "runc"


class Crun(_OCICommand):
    name = package = "crun"

    def before(self) -> list[str]:
        """On a hybrid host crun refuses to start while cgroup v2 has a controller: hidden from it, the rest is v1."""
        at = hierarchies().get("", "/sys/fs/cgroup")
        return [] if at == "/sys/fs/cgroup" else [f"umount {at}"]


class Pycontain(Runtime):
    name = "pycontain"

    @staticmethod
    def missing() -> str:
        return ""

    def command(self, bundle: Bundle) -> list[str]:
        return [sys.executable, "-m", "pycontain", "run", "-i", f"bundle:{bundle.directory}"]
