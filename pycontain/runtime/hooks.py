"""Hooks of a bundle: those of the runtime's namespace are run here; for those inside, what they read and what they said.

Spec: opencontainers/runtime-spec config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle".
"""

from __future__ import annotations

import os

from ..errors import SetupFailed, errno_name
from ..ops import SYNC_CREATE_CONTAINER, SYNC_START_CONTAINER
from .failure import hook_of
from .userns import NOTHING, Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._native import StartFailure
    from ..spec.runtime import Hook, Hooks

__all__ = ["InsideHooks", "run_hook"]

_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE
_NAMES = {SYNC_CREATE_CONTAINER: "createContainer", SYNC_START_CONTAINER: "startContainer"}


def _file(name: str) -> Descriptor:
    return Descriptor(os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))


class InsideHooks:
    """createContainer and startContainer hooks of one start: files in memory, which the Plan is given (plan_hooks.HooksInside)."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = {SYNC_CREATE_CONTAINER: hooks.create_container, SYNC_START_CONTAINER: hooks.start_container}
        self._states = {kind: _file("pycontain-state") for kind, some in self._hooks.items() if some}
        self._said = _file("pycontain-said") if self._states else NOTHING

    @property
    def given(self) -> tuple[Descriptor, ...]:
        return (*self._states.values(), self._said) if self._states else ()

    @property
    def allowance_s(self) -> int | None:
        """How long they may take together; None when one has no timeout."""
        timeouts = [hook.timeout for kind in self._states for hook in self._hooks[kind]]
        return None if None in timeouts else sum(t or 0 for t in timeouts)

    def tell(self, kind: int, state: bytes) -> None:
        """What hooks of this kind read. Sealed: theirs is the same file, and a hostile one is not to write for the next."""
        import fcntl

        fd = self._states[kind].fd
        os.write(fd, state)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)

    def close(self) -> None:
        """The start is over; who was given them has them still."""
        for each in self.given:
            each.close()

    def explain(self, failure: StartFailure, plan: bytes) -> SetupFailed | None:
        """The sentence for a hook that failed inside; None when that is not what failed."""
        if failure.step not in ("run hook", "hook", "hook timeout"):
            return None
        kind, index = hook_of(plan, failure.arg)
        hook = self._hooks[kind][index]
        where, number = f"hooks.{_NAMES[kind]}[{index}]", failure.errno
        if failure.step == "hook timeout":
            what = f"{hook.path} has not ended in {hook.timeout} s and was killed"
        elif failure.step == "run hook":
            what = f"cannot run {hook.path}: {os.strerror(number)} ({errno_name(number)})"
            if kind == SYNC_START_CONTAINER and number == 2:
                what += ". Its path is one inside the container"
        else:
            status = f"status {number}" if number < 256 else f"signal {number - 256}"
            what = f"{hook.path} failed with {status}{_last_line(os.pread(self._said.fd, 4096, 0))}"
        return SetupFailed(f"{where}: {what}", step="hook", errno=number if failure.step == "run hook" else 0)


def _last_line(said: bytes) -> str:
    last = said.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
    return f": {last}" if last else ""


def run_hook(where: str, hook: Hook, state: bytes, directory: str) -> None:
    """One in the runtime's namespace, in the bundle's directory. Raises SetupFailed."""
    import subprocess

    env = dict(item.partition("=")[::2] for item in hook.env)
    try:
        status, complaint = _call(list(hook.args or (hook.path,)), hook.path, env, state, hook.timeout, directory)
    except subprocess.TimeoutExpired:
        raise SetupFailed(
            f"{where}: {hook.path} has not ended in {hook.timeout} s and was killed", step="hook"
        ) from None
    except OSError as e:
        raise SetupFailed(
            f"{where}: cannot run {hook.path}: {e.strerror} ({errno_name(e.errno or 0)})",
            step="hook",
            errno=e.errno or 0,
        ) from None
    if status != 0:
        raise SetupFailed(f"{where}: {hook.path} failed with status {status}{_last_line(complaint)}", step="hook")


def _call(
    words: list[str], path: str, env: dict[str, str], state: bytes, timeout: float | None, directory: str
) -> tuple[int, bytes]:
    """Exit status and stderr. However this is left, the process has ended and is reaped: subprocess.run leaves one that a
    Ctrl-C has ended to be reaped some day."""
    from subprocess import PIPE, Popen

    process = Popen(words, executable=path, env=env, cwd=directory, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        _, complaint = process.communicate(state, timeout)
        return process.returncode, complaint
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
