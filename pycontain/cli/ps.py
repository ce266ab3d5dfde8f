"""``pycontain ps``: the list of containers, in Docker's columns."""

from __future__ import annotations

import time

from .. import parse
from .arguments import Command, Option, Values, converted, count, read
from .filters import Filters, parse_filters
from .formats import FORMAT_HELP
from .output import complain, one_for_errors, write
from .table import align, printable
from .units import human_duration, human_size, instant, local_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.containers import ContainerInfo
    from ..errors import PycontainError
    from ..runtime.roots import Roots
    from .gotemplate import Row

__all__ = ["COMMAND", "main", "status_of"]

_FILTERS = "ancestor=, before=, exited=CODE, health=, id=, label=, name=, since=, status=, volume="

COMMAND = Command(
    "pycontain ps",
    "[OPTIONS]",
    "List containers that run, the newest first.",
    (
        Option("-a --all", "", "those that do not run as well"),
        Option("-f --filter", "KEY=VALUE", _FILTERS, repeat=True),
        Option("--format", "FORMAT", FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("-l --latest", "", "only the newest"),
        Option("-n --last", "N", "only the N newest"),
        Option("--no-trunc", "", "print ids and commands in full"),
        Option("-q --quiet", "", "print only ids"),
        Option("-s --size", "", "how many bytes its own layer has, and its image with it"),
    ),
    interspersed=True,
)  # fmt: skip

_HEADERS = {
    "ID": "CONTAINER ID", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT", "RunningFor": "CREATED",
    "State": "STATE", "Status": "STATUS", "Ports": "PORTS", "Names": "NAMES", "Labels": "LABELS", "Size": "SIZE",
    "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS",
}  # fmt: skip
_COMMAND_SHOWN = 20
_MOUNT_SHOWN = 15


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    filters = parse_filters(values.filter)
    last = converted("last", lambda value: parse.integer(value, -1, 1 << 31), values.last or "-1")
    return one_for_errors(lambda: _ps(values, filters, 1 if values.latest else last, roots))


def _ps(values: Values, filters: Filters, last: int, roots: Roots) -> int:
    from ..engine.container_filters import select

    damaged: list[PycontainError] = []
    found = select(
        roots, filters, all=values.all or last > 0, damaged=damaged
    )  # as with Docker, whoever asks for the newest means all
    if last > 0:
        found = found[:last]
    write(_listed(found, _sizes(found, values, roots), values))
    for each in damaged:
        complain(f"pycontain: {each}")
    return 1 if damaged else 0


def _sizes(found: list[ContainerInfo], values: Values, roots: Roots) -> dict[str, str]:
    """By id, where they are asked for: looking at every file of a container takes its time."""
    if not values.size and ".Size" not in (values.format or ""):
        return {}
    from ..engine import container_details
    from ..errors import ContainerNotFound
    from .as_root import become_root

    become_root()
    shown = {}
    for each in found:
        try:
            sizes = container_details.sizes(roots, each)
        except ContainerNotFound:
            continue  # removed meanwhile
        virtual = f" (virtual {human_size(sizes.layer + sizes.image, 3)})" if sizes.image else ""
        shown[each.id] = human_size(sizes.layer, 3) + virtual
    return shown


def _listed(found: list[ContainerInfo], sizes: dict[str, str], values: Values) -> str:
    form = values.format or "table"
    rows = [_fields(each, sizes.get(each.id, "0B"), values.no_trunc) for each in found]
    if form == "table":
        if values.quiet:
            return "".join([f"{row['ID']}\n" for row in rows])
        names = ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
        if values.size:
            names.append("Size")
        return align([[_HEADERS[name] for name in names], *(printable([row[name] for name in names]) for row in rows)])
    from .formats import formatted

    if form == "raw":
        form = "container_id: {{.ID}}" if values.quiet else (
            "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\n"
            "status: {{.Status}}\nnames: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n"
        ) + ("size: {{.Size}}\n" if values.size else "")  # fmt: skip
    return formatted(form, _HEADERS, [_row(row, each) for row, each in zip(rows, found, strict=True)])


def _fields(info: ContainerInfo, size: str, whole: bool) -> dict[str, str]:
    now = time.time()
    command = info.command
    if not whole and len(command) > _COMMAND_SHOWN:
        command = command[: _COMMAND_SHOWN - 1] + "…"
    return {
        "ID": info.id if whole else info.id[:12],
        "Image": info.image,
        "Command": _quoted(command),
        "CreatedAt": local_time(int(info.created)),
        "RunningFor": f"{human_duration(now - info.created)} ago",
        "State": info.state,
        "Status": status_of(info, now),
        "Ports": "",
        "Names": info.name,
        "Labels": ",".join(f"{key}={value}" for key, value in info.labels),
        "Size": size,
        "Mounts": ",".join([_mount(each.name or each.source, whole) for each in info.mounts]),
        "LocalVolumes": str(sum(each.kind == "volume" for each in info.mounts)),
        "Networks": "",
    }


def _mount(name: str, whole: bool) -> str:
    return name if whole or len(name) <= _MOUNT_SHOWN else name[: _MOUNT_SHOWN - 1] + "…"


def status_of(info: ContainerInfo, now: float) -> str:
    if info.state == "created":
        return "Created"
    if info.state == "dead":
        return "Dead"
    if info.state == "exited":
        return f"Exited ({info.exit_code}) {_since(info.finished_at, now)} ago"
    if info.state == "restarting":
        return f"Restarting ({info.exit_code}) {_since(info.finished_at, now)} ago"
    up = _since(info.started_at, now) if info.started_at else human_duration(now - info.created)
    if info.state == "paused":
        return f"Up {up} (Paused)"
    health = "health: starting" if info.health == "starting" else info.health
    return f"Up {up} ({health})" if health else f"Up {up}"


def _since(text: str, now: float) -> str:
    at, fraction = instant(text)
    return human_duration(now - at - float(f"0.{fraction}"))


def _quoted(text: str) -> str:
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    )
    return f'"{escaped}"'


def _row(fields: dict[str, str], info: ContainerInfo) -> Row:
    from .gotemplate import Function, Row

    label = Function(lambda name: dict(info.labels).get(name, ""), "string")
    return Row("*formatter.ContainerContext", fields, methods={"Label": label})
