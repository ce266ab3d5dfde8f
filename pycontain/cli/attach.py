"""``pycontain attach``: what a container says, and what is typed for it, as if it ran here."""

from __future__ import annotations

import os

from .arguments import Command, Option, converted, count, read
from .detach_keys import detach_keys
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain attach",
    "[OPTIONS] CONTAINER",
    "Connect this terminal to a container that runs; its exit code is this command's.",
    (
        Option("--detach-keys", "KEYS", "with a terminal, leave the container by these: ctrl-x,a (ctrl-p,ctrl-q)"),
        Option("-h --help", "", "print this"),
        Option("--no-stdin", "", "only show what it says"),
        Option("--sig-proxy", "", "without a terminal, pass signals on; =false: they end this command", on=True),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, 1)
    keys = converted("detach_keys", detach_keys, values.detach_keys or "")
    return one_for_errors(lambda: _attach(words[0], roots, keys, stdin=not values.no_stdin, sig_proxy=values.sig_proxy))


def _attach(container: str, roots: Roots, keys: bytes, *, stdin: bool, sig_proxy: bool) -> int:
    from ..engine import attach as engine
    from .attached import check_terminal, follow
    from .signals import Signals

    with Signals() as signals, engine.attach(roots, container) as attachment:
        signals.started(0)
        check_terminal(attachment, stdin=stdin)
        code = follow(attachment, signals, stdin=stdin, keys=keys, sig_proxy=sig_proxy, redraw=True)
    if code is not None:
        return code
    os.write(2, b"read escape sequence\n")
    return 1  # as docker attach; `start -a` ends with 0 and says nothing
