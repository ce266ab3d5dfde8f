"""``pycontain system stop-all``: before a shutdown, all containers that run are stopped in order."""

from __future__ import annotations

from .. import parse
from .arguments import Command, Option, converted, count, read
from .output import one_for_errors
from .system_start_all import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain system stop-all",
    "[OPTIONS]",
    "Stop all detached containers that run, each by its stop signal, as a shutdown does: `system start-all` starts them again.",
    (
        Option("-h --help", "", "print this"),
        Option("-j --jobs", "N", "so many at once (twice the processors)"),
        Option("-t --timeout", "SECONDS", "until SIGKILL, -1: never (each container's --stop-timeout)", aliases=("--time",)),
    ),
)  # fmt: skip


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    jobs = converted("jobs", lambda v: parse.integer(v, 1, 1000), values.jobs) if values.jobs else 0
    grace = None
    if values.timeout:
        grace = float(converted("timeout", lambda v: parse.integer(v, -1, 1 << 31), values.timeout))
    return one_for_errors(lambda: _stop_all(roots, jobs, grace))


def _stop_all(roots: Roots, jobs: int, grace_s: float | None) -> int:
    from ..engine.boot import stop_all

    return told("stop", *stop_all(roots, at_once=jobs, grace_s=grace_s))
