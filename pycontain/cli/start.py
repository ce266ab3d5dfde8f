"""``pycontain start``: starts containers that have been made, or have ended."""

from __future__ import annotations

from ..errors import InvalidArgument, PycontainError
from .arguments import Command, Option, converted, count, read
from .detach_keys import detach_keys
from .each_container import for_each
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start containers that have been made, or have ended.",
    (
        Option("-a --attach", "", "show what it says, and pass signals on; its exit code is this command's"),
        Option("--detach-keys", "KEYS", "with a terminal, leave the container by these: ctrl-x,a (ctrl-p,ctrl-q)"),
        Option("-h --help", "", "print this"),
        Option("-i --interactive", "", "as -a, and pass standard input on, to a container made with -i"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, None)
    keys = converted("detach_keys", detach_keys, values.detach_keys or "")
    if values.attach or values.interactive:
        return one_for_errors(lambda: _attached(words, roots, keys, stdin=values.interactive))
    from ..engine import containers as engine

    return one_for_errors(lambda: for_each(words, lambda word: engine.start(roots, word)))


def _attached(words: list[str], roots: Roots, keys: bytes, *, stdin: bool) -> int:
    if len(words) > 1:
        raise InvalidArgument(
            "you cannot start and attach multiple containers at once: name one, or leave out -a and -i"
        )
    from ..engine import attach as engine
    from .attached import console_size, follow
    from .signals import Signals

    with Signals() as signals:
        try:
            attachment = engine.start_attached(roots, words[0], console_size=console_size())
        except PycontainError as error:
            error.exit_code = 1  # 126 and 127 too, as Docker's
            raise
        with attachment:
            signals.started(0)
            return follow(attachment, signals, stdin=stdin, keys=keys) or 0
