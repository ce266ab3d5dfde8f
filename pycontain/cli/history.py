"""``pycontain history``: how an image was made, the last step first."""

from __future__ import annotations

import time

from .arguments import Command, Option, Values, count, read
from .formats import FORMAT_HELP
from .output import one_for_errors, write
from .table import align, display_width, printable
from .units import ago, human_size, rfc3339_local, unix_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..image.details import HistoryEntry, ImageDetails
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain history",
    "[OPTIONS] IMAGE",
    "Show how an image was made: its steps, the last one first, and the size of the layer that each has made.",
    (
        Option("--format", "FORMAT", FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("-H --human", "", "sizes and times for people; --human=false: bytes, RFC 3339 (true)", on=True),
        Option("--no-trunc", "", "print ids and steps in full"),
        Option("-q --quiet", "", "print only ids"),
    ),
    later={"--platform": "an image here is of one platform; pull the other one with `pycontain pull --platform`"},
    interspersed=True,
)

_HEADERS = {
    "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE",
    "Comment": "COMMENT",
}  # fmt: skip
_2000 = 946_684_800  # before it a time is none that people need in words: reproducible builds write 1970 or 1980
_WIDTH = 45


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _history(values, words, command, roots.data_root))


def _history(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 1, 1)
    from ..engine import images as engine

    write(_listed(engine.inspect_image(data_root, words[0]), values))
    return 0


def _listed(details: ImageDetails, values: Values) -> str:
    entries = details.history[::-1]
    rows = [_fields(details if at == 0 else None, entry, values) for at, entry in enumerate(entries)]
    form = values.format or "table"
    if form != "table":
        from .formats import formatted
        from .gotemplate import Row

        return formatted(form, _HEADERS, [Row("*image.historyContext", row) for row in rows])
    if values.quiet:
        return "".join([f"{row['ID']}\n" for row in rows])
    columns = ("ID", "CreatedSince" if values.human else "CreatedAt", "CreatedBy", "Size", "Comment")
    return align([[_HEADERS[name] for name in columns], *(printable([row[name] for name in columns]) for row in rows)])


def _fields(topmost: ImageDetails | None, entry: HistoryEntry, values: Values) -> dict[str, str]:
    image_id = "<missing>" if topmost is None else topmost.info.id if values.no_trunc else topmost.info.id[7:19]
    created = unix_time(entry.created)
    at = rfc3339_local(created)
    since = at if not values.human else ago(created, time.time()) if created > _2000 else "N/A"
    created_by = entry.created_by.replace("\t", " ")
    size = entry.layer.size if entry.layer is not None else 0
    return {
        "ID": image_id, "CreatedAt": at, "CreatedSince": since,
        "CreatedBy": created_by if values.no_trunc else ellipsis(created_by, _WIDTH),
        "Size": human_size(size, 3) if values.human else str(size), "Comment": entry.comment,
    }  # fmt: skip


def ellipsis(text: str, width: int) -> str:
    """Cut to ``width`` columns of a terminal, the last of them a "…"."""
    if display_width(text) <= width:
        return text
    kept = text[: width - 1]
    while display_width(kept) > width - 1:
        kept = kept[:-1]
    return kept + "\N{HORIZONTAL ELLIPSIS}"
