"""``pycontain system start-all``: after a boot, the containers whose restart policy says so run again."""

from __future__ import annotations

from .. import parse
from .arguments import Command, Option, converted, count, read
from .output import complain, one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.boot import Failure
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main", "told"]

COMMAND = Command(
    "pycontain system start-all",
    "[OPTIONS]",
    "Start the containers that ran before the boot and whose --restart says so: always; unless-stopped, if nobody has stopped "
    "it; on-failure, if it has ended with another exit code than 0, or with the machine. What runs is left alone.",
    (
        Option("-h --help", "", "print this"),
        Option("-j --jobs", "N", "so many at once (twice the processors)"),
    ),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    jobs = converted("jobs", lambda v: parse.integer(v, 1, 1000), values.jobs) if values.jobs else 0
    return one_for_errors(lambda: _start_all(roots, jobs))


def _start_all(roots: Roots, jobs: int) -> int:
    from ..engine.boot import start_all

    return told("start", *start_all(roots, at_once=jobs))


def told(verb: str, done: list[str], failures: list[Failure]) -> int:
    write("".join([f"{each}\n" for each in done]))
    for each in failures:
        text = str(each.error)
        complain(
            f"pycontain: {text}" if each.container in text else f"pycontain: cannot {verb} {each.container}: {text}"
        )
    return 1 if failures else 0
