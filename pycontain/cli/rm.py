"""``pycontain rm``: removes containers that stay."""

from __future__ import annotations

from ..errors import ContainerNotFound
from .arguments import Command, Option, count, read
from .each_container import for_each
from .output import complain, one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove containers, with all that they have written in their roots; volumes stay.",
    (
        Option("-f --force", "", "kill those that run; one that is not there is no error"),
        Option("-h --help", "", "print this"),
        Option("-v --volumes", "", "with their anonymous volumes, unless others use them"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, None)
    return one_for_errors(
        lambda: for_each(words, lambda word: _remove(roots, word, force=values.force, volumes=values.volumes))
    )


def _remove(roots: Roots, word: str, *, force: bool, volumes: bool) -> bool:
    from ..engine import containers as engine

    try:
        engine.remove(roots, word, force=force, volumes=volumes)
    except ContainerNotFound as error:
        if not force:
            raise
        complain(f"pycontain: {error}")  # said, but no error
        return False
    return True
