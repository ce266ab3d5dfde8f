"""``pycontain system df``: what takes how much room, and how much of it nothing uses."""

from __future__ import annotations

import time

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .formats import FORMAT_HELP, formatted
from .output import one_for_errors, write
from .table import align, printable
from .units import UNSAID, ago, human_duration, human_size, unix_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..engine.system import DiskUsage
    from ..runtime.roots import Roots
    from .gotemplate import Row

__all__ = ["COMMAND", "main", "summary", "verbose"]

COMMAND = Command(
    "pycontain system df",
    "[OPTIONS]",
    "Show how much room images, containers and volumes take, and how much of it nothing uses. Layers that images share count once.",
    (
        Option("--format", "FORMAT", FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("-v --verbose", "", "each image, container and volume"),
    ),
)

_HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
_TABLE = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    return one_for_errors(lambda: _df(values, roots))


def _df(values: Values, roots: Roots) -> int:
    if values.verbose and values.format and values.format != "json":
        raise InvalidArgument(
            "--verbose and a template contradict each other: leave out one of them, or write --format json"
        )
    from ..engine.system import disk_usage

    used = disk_usage(roots)
    if values.verbose and values.format:
        write(_json(used) + "\n")
    elif values.verbose:
        write(verbose(used, time.time()))
    else:
        form = _TABLE if values.format in (None, "", "table") else values.format
        write(formatted(form, _HEADERS, summary(used)))
    return 0


def summary(used: DiskUsage) -> list[Row]:
    """A line for each kind."""
    running = [size for info, size in used.containers if info.is_alive]
    of_containers = sum([size for _, size in used.containers])
    of_volumes = sum([each.size for each in used.volumes])
    unused = sum([each.size for each in used.volumes if not each.links])
    return [
        _row("Images", len(used.images), sum([each.containers > 0 for each in used.images]), used.layers, used.unused_layers),
        _row("Containers", len(used.containers), len(running), of_containers, of_containers - sum(running)),
        _row("Local Volumes", len(used.volumes), sum([each.links > 0 for each in used.volumes]), of_volumes, unused),
        _row("Build Cache", 0, 0, 0, 0, share=False),
    ]  # fmt: skip


def _row(kind: str, total: int, active: int, size: int, reclaimable: int, *, share: bool = True) -> Row:
    from .gotemplate import Row

    text = human_size(reclaimable)
    if share and size > 0:
        text += f" ({reclaimable * 100 // size}%)"
    fields = {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": human_size(size),
        "Reclaimable": text,
    }
    return Row("*formatter.diskUsageContext", fields)


def _images(used: DiskUsage, now: float) -> list[dict[str, str]]:
    rows = []
    for each in used.images:
        for name in each.info.names or ("<none>:<none>",):
            repository, _, tag = name.rpartition(":")
            created = unix_time(each.info.created)
            rows.append({
                "Repository": repository, "Tag": tag, "ID": each.info.id.removeprefix("sha256:")[:12],
                "CreatedSince": "N/A" if created == UNSAID else ago(created, now), "Size": human_size(each.shared + each.unique),
                "SharedSize": human_size(each.shared), "UniqueSize": human_size(each.unique), "Containers": str(each.containers),
            })  # fmt: skip
    return rows


def _containers(used: DiskUsage, now: float) -> list[dict[str, str]]:
    from .ps import status_of

    return [
        {
            "ID": info.id[:12], "Image": info.image, "Command": f'"{info.command[:19] + "…" if len(info.command) > 20 else info.command}"',
            "LocalVolumes": str(sum(mount.kind == "volume" for mount in info.mounts)), "Size": human_size(size, 3),
            "RunningFor": human_duration(now - info.created) + " ago", "Status": status_of(info, now), "Names": info.name,
        }
        for info, size in used.containers
    ]  # fmt: skip


def _volumes(used: DiskUsage) -> list[dict[str, str]]:
    return [{"Name": each.name, "Links": str(each.links), "Size": human_size(each.size)} for each in used.volumes]


_SECTIONS = (
    ("Images", ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS")),
    ("Containers", ("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES")),
    ("Local Volumes", ("VOLUME NAME", "LINKS", "SIZE")),
)


def verbose(used: DiskUsage, now: float) -> str:
    parts = []
    for (title, header), rows in zip(
        _SECTIONS, (_images(used, now), _containers(used, now), _volumes(used)), strict=True
    ):
        parts.append(
            f"{title} space usage:\n\n" + align([list(header), *(printable(list(row.values())) for row in rows)])
        )
    cache = align([["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"]])
    return "\n".join([*parts, f"Build cache usage: 0B\n\n{cache}"])


def _json(used: DiskUsage) -> str:
    import json

    now = time.time()
    document = {
        "Images": _images(used, now), "Containers": _containers(used, now), "Volumes": _volumes(used), "BuildCache": [],
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
