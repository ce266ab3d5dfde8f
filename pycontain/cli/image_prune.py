"""``pycontain image prune``: removes what has no name, or what no container uses."""

from __future__ import annotations

import time

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .confirm import confirmed
from .filters import Filters, check, labels_match, parse_filters, truth, until
from .output import one_for_errors, write
from .units import UNSAID, human_size, unix_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..image.records import ImageInfo
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "keeper", "main"]

COMMAND = Command(
    "pycontain image prune",
    "[OPTIONS]",
    "Remove images without a name; with -a all those that no container uses. Asks first.",
    (
        Option("-a --all", "", "all images that no container uses, not only those without a name"),
        Option(
            "--filter", "KEY=VALUE", "only these: until=TIME (2024-03-10, 24h), label=K[=V], label!=K[=V]", repeat=True
        ),
        Option("-f --force", "", "do not ask"),
        Option("-h --help", "", "print this"),
    ),
    interspersed=True,
)

_FILTERS = ("dangling", "label", "label!", "until")
_WARNING = {
    False: "WARNING! This will remove all dangling images.",
    True: "WARNING! This will remove all images without at least one container associated to them.",
}


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    filters = parse_filters(values.filter)
    return one_for_errors(lambda: _prune(values, words, filters, command, roots.data_root))


def _prune(values: Values, words: list[str], filters: Filters, command: Command, data_root: str) -> int:
    count(command, words, 0, 0)
    check(filters, _FILTERS)
    dangling = truth(filters, "dangling")
    if values.all and dangling:
        raise InvalidArgument("--all and --filter dangling=true contradict each other: leave out one of them")
    everything = values.all or dangling is False
    keep = keeper(filters)
    if not values.force and not confirmed(_WARNING[everything]):
        return 0
    from ..engine import images as engine

    removed, freed = engine.prune_images(data_root, all=everything, keep=keep)
    if removed:
        lines = [f"{each.action.lower()}: {each.what}\n" for each in removed]
        write(f"Deleted Images:\n{''.join(lines)}\n")
    write(f"Total reclaimed space: {human_size(freed)}\n")
    return 0


def keeper(filters: Filters) -> Callable[[ImageInfo], bool]:
    """What to keep: of the newest ``until`` bound, the labels that must all be there, and those that must not."""
    now = time.time()
    bound = min([until(text, now) for text in filters.get("until", ())], default=None)
    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())

    def keep(info: ImageInfo) -> bool:
        created = unix_time(info.created)
        if bound is not None and (created == UNSAID or created > bound):
            return True
        return not labels_match(wanted, info.labels) or (bool(unwanted) and labels_match(unwanted, info.labels))

    return keep
