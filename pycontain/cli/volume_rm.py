"""``pycontain volume rm``: removes volumes."""

from __future__ import annotations

from ..errors import VolumeNotFound
from .arguments import Command, Option, count, read
from .each_container import for_each
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain volume rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove volumes, with their files. One that a container uses, started or not, cannot be removed.",
    (
        Option("-f --force", "", "also one that is damaged; one that is not there is no error"),
        Option("-h --help", "", "print this"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, None)
    return one_for_errors(lambda: for_each(words, lambda word: _remove(roots, word, force=values.force)))


def _remove(roots: Roots, word: str, *, force: bool) -> None:
    from ..engine import volumes as engine

    try:
        engine.remove_volume(roots, word, force=force)
    except VolumeNotFound:
        if not force:
            raise
