"""``pycontain volume ls``: the list of volumes, in Docker's columns."""

from __future__ import annotations

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .filters import Filters, check, labels_match, parse_filters, truth
from .formats import FORMAT_HELP
from .output import one_for_errors, write
from .table import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import Pattern

    from ..runtime.roots import Roots
    from ..runtime.volume_store import Volume
    from .gotemplate import Row

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain volume ls",
    "[OPTIONS]",
    "List volumes, by name.",
    (
        Option("-f --filter", "KEY=VALUE", "dangling=true|false, driver=, label=K[=V], name=", repeat=True),
        Option("--format", "FORMAT", FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("-q --quiet", "", "print only names"),
    ),
    interspersed=True,
    later={"--cluster": "there are no cluster volumes here; leave it out"},
)

_FILTERS = ("dangling", "driver", "label", "name")
_HEADERS = {
    "Availability": "AVAILABILITY", "Driver": "DRIVER", "Group": "GROUP", "Labels": "LABELS", "Links": "LINKS",
    "Mountpoint": "MOUNTPOINT", "Name": "VOLUME NAME", "Scope": "SCOPE", "Size": "SIZE", "Status": "STATUS",
}  # fmt: skip
_UNSAID = "N/A"


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    filters = parse_filters(values.filter)
    return one_for_errors(lambda: _ls(values, filters, roots))


def _ls(values: Values, filters: Filters, roots: Roots) -> int:
    check(filters, _FILTERS)
    unused = truth(filters, "dangling")
    patterns = [_pattern(each) for each in filters.get("name", ())]
    from ..engine import volumes as engine

    found = [each for each in engine.list_volumes(roots) if _matches(each, filters, patterns)]
    if unused is not None:
        free = {each.name for each in engine.dangling(roots, found)}
        found = [each for each in found if (each.name in free) is unused]
    write(_listed(found, values))
    return 0


def _pattern(text: str) -> Pattern[str]:
    import re

    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidArgument(f"invalid filter 'name={text[:40]}': {error}") from None


def _matches(volume: Volume, filters: Filters, patterns: list[Pattern[str]]) -> bool:
    """All kinds of filters must be met; of several of one kind, one; of labels all."""
    if not labels_match(filters.get("label", ()), volume.labels):
        return False
    if "driver" in filters and "local" not in filters["driver"]:
        return False
    return not patterns or any(each.search(volume.name) for each in patterns)


def _listed(found: list[Volume], values: Values) -> str:
    form = values.format or "table"
    if form == "table":
        if values.quiet:
            return "".join([f"{each.name}\n" for each in found])
        return align([["DRIVER", "VOLUME NAME"], *(["local", each.name] for each in found)])
    from .formats import formatted

    if form == "raw":
        form = "name: {{.Name}}" if values.quiet else "name: {{.Name}}\ndriver: {{.Driver}}\n"
    return formatted(form, _HEADERS, [_row(each) for each in found])


def _row(volume: Volume) -> Row:
    from .gotemplate import Function, Row

    fields = {
        "Availability": _UNSAID, "Driver": "local", "Group": _UNSAID,
        "Labels": ",".join([f"{key}={value}" for key, value in volume.labels]), "Links": _UNSAID, "Mountpoint": volume.mountpoint,
        "Name": volume.name, "Scope": "local", "Size": _UNSAID, "Status": _UNSAID,
    }  # fmt: skip
    label = Function(lambda name: dict(volume.labels).get(name, ""), "string")
    return Row("*formatter.volumeContext", fields, methods={"Label": label})
