"""``pycontain search``: says why there is none."""

from __future__ import annotations

from ..errors import Unsupported
from .arguments import Command, Option, count, read
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain search",
    "TERM",
    "Not supported: a registry's protocol has no search. Docker Hub's web page has.",
    (Option("-h --help", "", "print this"),),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    return one_for_errors(lambda: _refuse(words, command))


def _refuse(words: list[str], command: Command) -> NoReturn:
    count(command, words, 1, 1)
    raise Unsupported(
        "search is not supported: the protocol of registries (OCI distribution) has no search, Docker Hub's is a service of "
        "its own: search at https://hub.docker.com/search, then `pycontain pull NAME`"
    )
