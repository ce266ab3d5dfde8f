"""``pycontain exec``: one more program in a container that runs, by whichever process it was started."""

from __future__ import annotations

import os

from .. import parse
from ..errors import PycontainError, SetupFailed, errno_name
from .arguments import Command, Option, Values, converted, count, read
from .detach_keys import DetachKeys, detach_keys
from .output import one_for_errors
from .run import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.entry import Entry
    from ..runtime.executing import ExecRequest, Executing
    from ..runtime.roots import Roots
    from ..runtime.running import Running

__all__ = ["COMMAND", "main"]

_CANNOT_INVOKE = 126

COMMAND = Command(
    "pycontain exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Run one more program in a running container.",
    (
        Option("-d --detach", "", "do not wait for it; it goes on when this command has ended"),
        Option("--detach-keys", "KEYS", "with -it, leave it by these, and it goes on: ctrl-x,a (ctrl-p,ctrl-q)"),
        Option("-e --env", "NAME[=VALUE]", "set a variable; without a value, pass yours on", repeat=True),
        Option("--env-file", "FILE", "set variables from lines NAME=VALUE", repeat=True),
        Option("-h --help", "", "print this"),
        Option("-i --interactive", "", "pass standard input on (it is empty otherwise)"),
        Option("--privileged", "", "all capabilities and no system call filter"),
        Option("-t --tty", "", "give it a terminal of the container's; with -i, yours"),
        Option("-u --user", "USER[:GROUP]", "run as this user of the container's (the container's)"),
        Option("-w --workdir", "DIR", "working directory inside (the container's)"),
    ),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    """The program's exit code. Raises PycontainError."""
    values, words = read(command, argv)
    count(command, words, 2, None)
    env = environment(values, os.environ)
    user = converted("user", parse.user, values.user) if values.user else None
    keys = converted("detach_keys", detach_keys, values.detach_keys or "")
    return one_for_errors(lambda: _exec(values, words, env, user, keys, roots))


def _exec(
    values: Values, words: list[str], env: tuple[tuple[str, str], ...], user: str | None, keys: bytes, roots: Roots
) -> int:
    from ..engine.containers import find_running
    from ..runtime.container_events import emit_of
    from ..runtime.entry import entry_of_found
    from ..runtime.executing import ExecRequest, start_exec
    from ..runtime.session import sealed_programs
    from . import supervise

    streams = frozenset(("stdout", "stderr", "stdin") if values.interactive else ("stdout", "stderr"))
    may_leave = values.tty and values.interactive
    if not values.detach:
        supervise.check_terminal(values.tty, streams)
    found = find_running(roots, words[0])
    entry = entry_of_found(found, sealed_programs())
    exec_id = os.urandom(32).hex()

    def emit(action: str, **more: str) -> None:
        emit_of(roots, found, action, execID=exec_id, **more)

    command = " ".join(words[1:])
    request = ExecRequest(
        args=tuple(words[1:]), env=env, user=user, workdir=values.workdir, privileged=values.privileged,
        terminal=values.tty, console_size=supervise.console_size() if values.tty else (0, 0),
        follows=not (values.detach or may_leave),  # one on a terminal is hung up with it
    )  # fmt: skip

    def begin(stdin: int, stdout: int, stderr: int) -> Executing:
        return start_exec(entry, request, stdin=stdin, stdout=stdout, stderr=stderr)

    emit(f"exec_create: {command}")
    emit(f"exec_start: {command}")
    try:
        if values.detach:
            executing = _without_streams(entry, request)
            if values.tty:
                _leave_on_terminal(executing)
            return 0  # nobody is there to see its end
        if values.tty:
            follower = supervise.attend(
                lambda *_: _without_streams(entry, request), lambda _: None, streams, terminal=True,
                keys=DetachKeys(keys) if may_leave else None,
            )  # fmt: skip
        else:
            follower = supervise.attend(begin, lambda _: None, streams, terminal=False)
    except SetupFailed as error:
        if error.exit_code == PycontainError.exit_code:
            error.exit_code = _CANNOT_INVOKE  # as Docker's, for whatever keeps a program from starting
        raise
    outcome = follower.running.outcome
    if outcome is None:
        _leave_on_terminal(follower.running)
        os.write(2, b"read escape sequence\n")
        return 1  # as docker exec
    emit("exec_die", exitCode=str(outcome.exit_code))
    return outcome.exit_code


def _leave_on_terminal(executing: Running | Executing) -> None:
    """Somebody has to read what it writes there, and to hold the terminal's other end: else it would be hung up."""
    from .. import _native
    from ..runtime.session import GUARDIAN

    try:
        _, pidfd = _native.spawn_helper((GUARDIAN, "drain"), executing.tty_fd)
    except OSError as error:
        executing.kill()
        raise SetupFailed(
            f"cannot start the helper that holds its terminal: {GUARDIAN}: {error.strerror} ({errno_name(error.errno or 0)})",
            step="detach", errno=error.errno or 0,
        ) from None  # fmt: skip
    os.close(pidfd)
    executing.close_tty()


def _without_streams(entry: Entry, request: ExecRequest) -> Executing:
    """With -t its streams are a terminal of the container's: none of ours is there, not for a moment."""
    from ..runtime.executing import start_exec

    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return start_exec(entry, request, stdin=null, stdout=null, stderr=null)
    finally:
        os.close(null)
