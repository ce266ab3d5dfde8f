"""``pycontain container prune``: removes what does not run."""

from __future__ import annotations

from .arguments import Command, Option, count, read
from .confirm import confirmed
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain container prune",
    "[OPTIONS]",
    "Remove all containers that do not run, with all that they have written in their roots; volumes stay.",
    (
        Option("-f --force", "", "do not ask"),
        Option("-h --help", "", "print this"),
    ),
    later={"--filter": "it comes later; `pycontain rm $(pycontain ps -aq --filter ...)` does it"},
)

_WARNING = "WARNING! This will remove all stopped containers."


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    return one_for_errors(lambda: _prune(roots, ask=not values.force))


def _prune(roots: Roots, *, ask: bool) -> int:
    from ..engine import containers as engine

    if ask and not confirmed(_WARNING):
        return 0
    removed = engine.prune(roots)
    if removed:
        write("Deleted Containers:\n" + "".join([f"{each}\n" for each in removed]))
    return 0
