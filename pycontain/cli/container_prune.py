"""``pycontain container prune``: removes what does not run."""

from __future__ import annotations

from .arguments import Command, Option, count, read
from .confirm import confirmed
from .filters import Filters, check, parse_filters
from .output import complain, one_for_errors, write
from .units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain container prune",
    "[OPTIONS]",
    "Remove all containers that do not run, with all that they have written in their roots; volumes stay.",
    (
        Option(
            "--filter", "KEY=VALUE", "only these: until=TIME (2024-03-10, 24h), label=K[=V], label!=K[=V]", repeat=True
        ),
        Option("-f --force", "", "do not ask"),
        Option("-h --help", "", "print this"),
    ),
)

_FILTERS = ("label", "label!", "until")

_WARNING = "WARNING! This will remove all stopped containers."


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    filters = parse_filters(values.filter)
    return one_for_errors(lambda: _prune(roots, filters, ask=not values.force))


def _prune(roots: Roots, filters: Filters, *, ask: bool) -> int:
    from .system_prune import keep_of

    check(filters, _FILTERS)
    keep = keep_of(filters)
    if ask and not confirmed(_WARNING):
        return 0
    from ..engine.pruning import prune_containers

    removed, freed, errors = prune_containers(roots, keep)
    if removed:
        write("Deleted Containers:\n" + "".join([f"{each}\n" for each in removed]) + "\n")
    write(f"Total reclaimed space: {human_size(freed)}\n")
    for each in errors:
        complain(f"pycontain: {each}")
    return 1 if errors else 0
