"""``pycontain stats``: what containers use, each second anew: on a terminal a table that is drawn again, otherwise one below the other."""

from __future__ import annotations

import os
import sys
import time

from .arguments import Command, Option, Values, read
from .formats import FORMAT_HELP, formatted
from .output import flush, one_for_errors, write
from .units import binary_size, human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.container_details import Usage
    from ..engine.containers import ContainerInfo
    from ..runtime.roots import Roots
    from .gotemplate import Row

__all__ = ["COMMAND", "main", "usage_row"]

COMMAND = Command(
    "pycontain stats",
    "[OPTIONS] [CONTAINER...]",
    "Show what containers use, once a second until Ctrl-C: those given, or all that run.",
    (
        Option("-a --all", "", "those that do not run as well"),
        Option("--format", "FORMAT", FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("--no-stream", "", "once, and end"),
        Option("--no-trunc", "", "print ids in full"),
    ),
    interspersed=True,
)

_HEADERS = {
    "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
_TABLE = "table " + "\t".join(
    [f"{{{{.{name}}}}}" for name in ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")]
)
_EVERY_S = 1.0
_CLEAR, _HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\033[2J", "\033[H", "\033[K", "\033[J"


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _stats(values, words, roots))


def _stats(values: Values, words: list[str], roots: Roots) -> int:
    from ..engine.containers import find_container

    form = values.format or "table"
    form = _TABLE if form == "table" else form
    # by their ids from now on: a name may go to another one
    asked = {find_container(roots, word).id: word for word in words}
    on_terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    if on_terminal and not values.no_stream:
        write(_CLEAR)
    before = _look(roots, asked, values.all)
    while True:
        time.sleep(_EVERY_S)
        now = _look(roots, asked, values.all)
        rows = []
        for key, (info, used) in now.items():
            earlier = before[key][1] if key in before else None
            rows.append(usage_row(info, asked.get(key) or info.id[:12], used, earlier, values.no_trunc))
        text = formatted(form, _HEADERS, rows)
        write(_drawn(text) if on_terminal and not values.no_stream else text)
        flush()
        if values.no_stream or (asked and not now):
            return 0
        before = now


def _look(roots: Roots, asked: dict[str, str], all: bool) -> dict[str, tuple[ContainerInfo, Usage | None]]:
    """By id; what comes and goes meanwhile is there or not."""
    from ..engine import container_details, containers
    from ..errors import Conflict, ContainerNotFound

    known = containers.list_containers(roots, all=all or bool(asked))
    found = {}
    for each in known:
        if asked and each.id not in asked:
            continue
        try:
            found[each.id] = each, container_details.usage(roots, each.id)
        except (ContainerNotFound, Conflict):
            pass
    return {key: found[key] for key in asked if key in found} if asked else found


def _drawn(text: str) -> str:
    """What fits on the terminal, over what was there."""
    try:
        width, height = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        width, height = 0, 0  # it has hung up: the next write says so
    lines = text.splitlines()
    if width and height:
        lines = [line[:width] for line in lines[: height - 1]]
    return _HOME + "".join([f"{line}{_REST_OF_LINE}\n" for line in lines]) + _REST_OF_SCREEN


def usage_row(info: ContainerInfo, called: str, used: Usage | None, earlier: Usage | None, whole: bool) -> Row:
    """``used`` None: it does not run, and uses nothing. What nobody counts on this host is "--", as in Docker."""
    from .gotemplate import Row

    fields = {
        "Container": called, "ID": info.id if whole else info.id[:12], "Name": info.name, "CPUPerc": "0.00%",
        "MemUsage": "0B / 0B", "MemPerc": "0.00%", "NetIO": "0B / 0B", "BlockIO": "0B / 0B", "PIDs": "0",
    }  # fmt: skip
    if used is not None:
        fields["CPUPerc"] = _cpu(used, earlier)
        fields["MemUsage"], fields["MemPerc"] = _memory(used.memory_bytes, used.memory_limit_bytes)
        if used.read_bytes is None or used.write_bytes is None:
            fields["BlockIO"] = "--"
        else:
            fields["BlockIO"] = f"{human_size(used.read_bytes, 3)} / {human_size(used.write_bytes, 3)}"
        fields["PIDs"] = "--" if used.pids is None else str(used.pids)
    return Row("*container.statsContext", fields)


def _memory(size: int | None, limit: int | None) -> tuple[str, str]:
    if size is None or limit is None:
        return "-- / --", "--"
    return f"{binary_size(size)} / {binary_size(limit)}", f"{size / limit * 100 if limit else 0:.2f}%"


def _cpu(used: Usage, earlier: Usage | None) -> str:
    """Of one processor, between two looks: two that are busy all the time make 200%."""
    if used.cpu_ns is None or earlier is None or earlier.cpu_ns is None:
        return "--"
    passed = used.at_ns - earlier.at_ns
    spent = used.cpu_ns - earlier.cpu_ns  # less than nothing when it was started again meanwhile
    return f"{spent / passed * 100 if passed > 0 and spent > 0 else 0:.2f}%"
