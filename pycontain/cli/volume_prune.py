"""``pycontain volume prune``: removes volumes that no container uses."""

from __future__ import annotations

from .arguments import Command, Option, Values, count, read
from .confirm import confirmed
from .filters import Filters, check, labels_match, parse_filters, truth
from .output import one_for_errors, write
from .units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots
    from ..runtime.volume_store import Volume

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain volume prune",
    "[OPTIONS]",
    "Remove anonymous volumes that no container uses; with -a named ones too. Asks first.",
    (
        Option("-a --all", "", "all that no container uses, not only anonymous ones"),
        Option("--filter", "KEY=VALUE", "only these: label=K[=V], label!=K[=V], all=true", repeat=True),
        Option("-f --force", "", "do not ask"),
        Option("-h --help", "", "print this"),
    ),
    interspersed=True,
)

_FILTERS = ("all", "label", "label!")
_WARNING = {
    False: "WARNING! This will remove anonymous local volumes not used by at least one container.",
    True: "WARNING! This will remove all local volumes not used by at least one container.",
}


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    filters = parse_filters(values.filter)
    return one_for_errors(lambda: _prune(values, filters, roots))


def _prune(values: Values, filters: Filters, roots: Roots) -> int:
    check(filters, _FILTERS)
    everything = values.all or bool(truth(filters, "all"))
    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())

    def keep(volume: Volume) -> bool:
        return not labels_match(wanted, volume.labels) or (bool(unwanted) and labels_match(unwanted, volume.labels))

    if not values.force and not confirmed(_WARNING[everything]):
        return 0
    from ..engine import volumes as engine

    removed, freed = engine.prune_volumes(roots, all=everything, keep=keep)
    if removed:
        lines = [f"{each}\n" for each in removed]
        write(f"Deleted Volumes:\n{''.join(lines)}\n")
    write(f"Total reclaimed space: {human_size(freed)}\n")
    return 0
