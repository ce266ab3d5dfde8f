"""``pycontain create``: a container that is started later."""

from __future__ import annotations

import os

from .arguments import Command, read
from .output import one_for_errors, write
from .run import request_of, with_image
from .run_options import COMMAND as RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..request import RunRequest
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

_NOT_HERE = ("--attach", "--detach", "--explain", "--format", "--time", "--timeout")

COMMAND = Command(
    "pycontain create",
    "[OPTIONS] IMAGE [PROGRAM] [ARGUMENT...]",
    "Make a container, and print its id; `pycontain start` starts it.",
    tuple([each for each in RUN.options if each.long not in _NOT_HERE]),
    later=RUN.later,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    for name in _NOT_HERE:
        setattr(values, name[2:], None)
    request = request_of(values, words, os.environ)

    def execute(request: RunRequest) -> int:
        from .detach import create

        write(create(request, values, roots, stdin_once=True) + "\n")
        return 0

    return one_for_errors(lambda: with_image(request, values, roots, execute))
