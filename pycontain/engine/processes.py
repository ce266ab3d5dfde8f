"""The processes of a container, by the host's ps(1): nothing of the container runs for it."""

from __future__ import annotations

from ..errors import InvalidArgument, Unsupported
from ..record import record
from .containers import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..runtime.roots import Roots

__all__ = ["ProcessTable", "top"]


@record
class ProcessTable:
    """``titles`` of the columns; ``processes``: of each, a cell for each title. Process ids are this host's."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


def top(roots: Roots, text: str, options: Sequence[str] = ()) -> ProcessTable:
    """``options`` of ps(1), default ``-ef``; there has to be a column PID.

    Raises: ContainerNotFound; Conflict: it does not run; InvalidArgument: ps does not take the options; Unsupported: no ps here.
    """
    header, *lines = _ps(list(options) or ["-ef"])
    titles = header.split()
    try:
        column = titles.index("PID")
    except ValueError:
        raise InvalidArgument(
            f"cannot tell whose processes these are: ps {' '.join(options)} has no column PID: add -o pid"
        ) from None
    pids = {str(pid) for pid in processes(roots, text)}
    rows = [tuple(line.split(None, len(titles) - 1)) for line in lines]
    return ProcessTable(
        titles=tuple(titles), processes=tuple([row for row in rows if len(row) > column and row[column] in pids])
    )


def _ps(options: list[str]) -> list[str]:
    """The host's own program on the host's own processes."""
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
