"""``pycontain update``: other limits, and another restart policy, of containers that are there."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument
from .arguments import Command, Option, Values, converted, count, read
from .each_container import for_each
from .output import one_for_errors
from .run import LIMITS
from .run_options import COMMAND as RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

_NAMES = frozenset((*LIMITS, "restart"))
# of Docker's, which the kernel has no more
_LATER = {"--kernel-memory": "the kernel no longer limits its own memory apart from the rest: --memory counts it"}

COMMAND = Command(
    "pycontain update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Change limits of containers, whether they run or not, and their restart policy. What is not named stays; 0 is: not named.",
    (
        *(
            Option(" ".join(each.names), each.metavar, _help)
            for each in RUN.options
            if each.long[2:].replace("-", "_") in _NAMES
            for _help in (each.help.removeprefix("with -d: ").rpartition(" (")[0] or each.help,)
        ),
        Option("-h --help", "", "print this"),
    ),
    later=_LATER,
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, None)
    changes = _changes(values)
    return one_for_errors(lambda: _update(words, values, changes, roots))


def _changes(values: Values) -> dict[str, Any]:
    """By field of a RunRequest."""
    found = {}
    for option, (field, convert) in LIMITS.items():
        text = getattr(values, option)
        value = converted(option, convert, text) if text else None
        if value is not None:
            found[field] = value
    return found


def _update(words: list[str], values: Values, changes: dict[str, Any], roots: Roots) -> int:
    if all(getattr(values, name) is None for name in _NAMES):
        raise InvalidArgument(
            f"you must provide one or more flags when using this command: {parse.quote('--memory 1g')}, ..."
        )
    restart = None
    if values.restart:
        from ..engine.policies import parse_restart

        restart = converted("restart", parse_restart, values.restart)
    from ..engine.updates import update

    return for_each(words, lambda word: update(roots, word, changes, restart))
