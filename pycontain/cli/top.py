"""``pycontain top``: the processes of a container, by the host's ps(1)."""

from __future__ import annotations

from ..errors import InvalidArgument, Unsupported
from .arguments import Command, Option, count, read
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain top",
    "CONTAINER [PS OPTION...]",
    "Show the processes of a container, as the host's ps(1) does: `pycontain top web -o pid,etime,cmd` (-ef).",
    (Option("-h --help", "", "print this"),),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    count(command, words, 1, None)
    return one_for_errors(lambda: _top(words[0], words[1:], roots))


def _top(container: str, options: list[str], roots: Roots) -> int:
    from ..engine import containers as engine
    from .table import printable

    header, *lines = _ps(options or ["-ef"])
    titles = header.split()
    try:
        column = titles.index("PID")
    except ValueError:
        raise InvalidArgument(
            f"cannot tell whose processes these are: ps {' '.join(options)} has no column PID: add -o pid"
        ) from None
    pids = {str(pid) for pid in engine.processes(roots, container)}
    rows = [titles]
    for line in lines:
        cells = line.split(None, len(titles) - 1)
        if len(cells) > column and cells[column] in pids:
            rows.append(printable(cells))
    widths = [max(len(row[at]) if at < len(row) else 0 for row in rows) for at in range(len(titles))]
    for row in rows:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        write("   ".join([*padded, row[-1]]).rstrip() + "\n")
    return 0


def _ps(options: list[str]) -> list[str]:
    """The host's own program on the host's own processes: nothing of the container runs."""
    import subprocess

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise Unsupported("cannot list processes: this host has no ps: install procps") from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        said = done.stderr.strip().splitlines()
        raise InvalidArgument(f"ps {' '.join(options)}: {said[0] if said else 'it has printed nothing'}")
    return lines
