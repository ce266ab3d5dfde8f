"""``pycontain events``: what has happened, and what happens, one line each, in Docker's words."""

from __future__ import annotations

import time

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .filters import parse_filters
from .filters import until as instant_of
from .output import complain, flush, one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.events import Event
    from ..runtime.roots import Roots
    from .gotemplate import Struct

__all__ = ["COMMAND", "line_of", "main"]

COMMAND = Command(
    "pycontain events",
    "[OPTIONS]",
    "Show what happens to containers, images and volumes, until Ctrl-C, or --until.",
    (
        Option(
            "-f --filter", "KEY=VALUE", "container=, event=, image=, label=K[=V], scope=, type=, volume=, network=...", repeat=True
        ),
        Option("--format", "FORMAT", "'json', or a Go template of each event: '{{.Type}} {{.Action}} {{.ID}}'"),
        Option("-h --help", "", "print this"),
        Option("--since", "TIME", "also what has happened since then: 2024-03-10T12:00:00, or 10m: ten minutes ago"),
        Option("--until", "TIME", "end then"),
    ),
)  # fmt: skip


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 0)
    return one_for_errors(lambda: _events(values, roots))


def _events(values: Values, roots: Roots) -> int:
    from ..engine.events import events

    now = time.time()
    since = None if values.since is None else _instant("since", values.since, now)
    until = None if values.until is None else _instant("until", values.until, now)
    shown = line_of if not values.format else _formatter(values.format)
    with events(roots, since=since, until=until, filters=parse_filters(values.filter)) as following:
        try:
            for event in following:
                write(shown(event) + "\n")
                flush()
        finally:
            if following.damaged:
                complain(f"pycontain: {following.damaged} damaged lines of the journal were passed over")
            if following.missed:
                complain(f"pycontain: {following.missed} parts of the journal were removed before they could be read")
    return 0


def _instant(option: str, text: str, now: float) -> float:
    try:
        return instant_of(text, now)
    except InvalidArgument:
        raise InvalidArgument(
            f"--{option}: invalid time {text[:100]!r}: it is no time and no duration: write 2024-03-10T12:00:00, a Unix time, or 10m"
        ) from None


def line_of(event: Event) -> str:
    """``2024-03-10T13:00:00.000000000+01:00 container create ID (image=..., name=...)``"""
    from .table import printable
    from .units import rfc3339_local

    at = rfc3339_local(event.time_ns // 1_000_000_000)
    stamp = f"{at[:19]}.{event.time_ns % 1_000_000_000:09}{at[19:]}"
    line = f"{stamp} {event.kind} {event.action} {event.id}"
    if event.attributes:
        line += " (" + ", ".join([f"{name}={value}" for name, value in event.attributes]) + ")"
    return printable([line])[0]


def _formatter(form: str) -> Callable[[Event], str]:
    from .gotemplate import TemplateError, parse

    source = "{{json .}}" if form == "json" else form.replace("\\t", "\t").replace("\\n", "\n")

    def shown(event: Event) -> str:
        try:
            return template.execute(_message(event))
        except TemplateError as error:
            raise InvalidArgument(f"template parsing error: {error}") from None

    try:
        template = parse(source)
    except TemplateError as error:
        refused = InvalidArgument(f"template parsing error: {error}")
        refused.exit_code = 64
        raise refused from None
    return shown


def _message(event: Event) -> Struct:
    """Docker's events.Message: the first three are for clients of before 2016, and only of containers and images."""
    from .gotemplate import Int64, Struct

    of_old = event.kind in ("container", "image")
    fields = {
        "status": event.action if of_old else "",
        "id": event.id if of_old else "",
        "from": dict(event.attributes).get("image", "") if event.kind == "container" else "",
        "Type": event.kind,
        "Action": event.action,
        "Actor": Struct("events.Actor", {"ID": event.id, "Attributes": dict(event.attributes)}),
        "scope": "local",
        "time": Int64(event.time_ns // 1_000_000_000),
        "timeNano": Int64(event.time_ns),
    }
    return Struct(
        "events.Message", fields, optional=("status", "id", "from"),
        aliases={"Status": "status", "ID": "id", "From": "from", "Scope": "scope", "Time": "time", "TimeNano": "timeNano"},
    )  # fmt: skip
