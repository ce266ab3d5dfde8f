"""``pycontain system prune``: removes what nothing uses, all kinds of it at once."""

from __future__ import annotations

import time

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .confirm import confirmed
from .filters import Filters, check, labels_match, parse_filters, until
from .output import complain, one_for_errors, write
from .units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.pruning import Keep
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "keep_of", "main"]

COMMAND = Command(
    "pycontain system prune",
    "[OPTIONS]",
    "Remove what nothing uses: containers that do not run, and images without a name. Asks first.",
    (
        Option("-a --all", "", "all images that no container uses, not only those without a name"),
        Option(
            "--filter", "KEY=VALUE", "only these: until=TIME (2024-03-10, 24h), label=K[=V], label!=K[=V]", repeat=True
        ),
        Option("-f --force", "", "do not ask"),
        Option("-h --help", "", "print this"),
        Option("--volumes", "", "anonymous volumes that no container uses as well"),
    ),
)

_FILTERS = ("label", "label!", "until")


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    filters = parse_filters(values.filter)
    return one_for_errors(lambda: _prune(values, filters, roots))


def keep_of(filters: Filters) -> Keep:
    """Of containers and volumes: what a filter does not let go."""
    from ..engine.pruning import Keep

    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())
    now = time.time()
    bound = min([until(text, now) for text in filters.get("until", ())], default=None)
    return Keep(
        created_after=bound,
        labels=lambda labels: not labels_match(wanted, labels) or (bool(unwanted) and labels_match(unwanted, labels)),
    )


def _prune(values: Values, filters: Filters, roots: Roots) -> int:
    check(filters, _FILTERS)
    if values.volumes and "until" in filters:
        raise InvalidArgument('the "until" filter is not supported with "--volumes": leave out one of them')
    keep = keep_of(filters)
    if not values.force and not confirmed(_warning(values, filters)):
        return 0
    from ..engine.pruning import prune_everything
    from .image_prune import keeper

    done = prune_everything(roots, keep, keeper(filters), all_images=values.all, volumes=values.volumes)
    images = [f"{each.action.lower()}: {each.what}" for each in done.images]
    for title, lines in (("Containers", done.containers), ("Volumes", done.volumes), ("Images", images)):
        if lines:
            write(f"Deleted {title}:\n" + "".join([f"{each}\n" for each in lines]) + "\n")
    write(f"Total reclaimed space: {human_size(done.freed)}\n")
    for each in done.errors:
        complain(f"pycontain: {each}")
    return 1 if done.errors else 0


def _warning(values: Values, filters: Filters) -> str:
    """Docker's words; networks and a build cache, which it names as well, are not there yet."""
    lines = ["WARNING! This will remove:", "  - all stopped containers"]
    if values.volumes:
        lines.append("  - all anonymous volumes not used by at least one container")
    lines.append(
        "  - all images without at least one container associated to them" if values.all else "  - all dangling images"
    )
    if filters:
        lines += ["", "  Items to be pruned will be filtered with:"]
        lines += [f"  - {name}={value}" for name, values_of in sorted(filters.items()) for value in values_of]
    return "\n".join([*lines, ""])
