"""``pycontain logs``: what a container has said."""

from __future__ import annotations

import sys
import time

from .. import parse
from ..errors import InvalidArgument
from .arguments import Command, Option, Values, converted, count, read
from .filters import until as ago
from .output import flush, one_for_errors
from .units import UNSAID, instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain logs",
    "[OPTIONS] CONTAINER",
    "Print what a container has said, on the streams on which it was said.",
    (
        Option(
            "--details", "", "with the container's labels and variables that --log-opt names (none can be named yet)"
        ),
        Option("-f --follow", "", "go on until it has ended"),
        Option("-h --help", "", "print this"),
        Option("-n --tail", "N", "only the last N lines; all (all)"),
        Option("--since", "TIME", "only from then on: 2024-03-10T12:00:00, or 10m: ten minutes ago"),
        Option("-t --timestamps", "", "with the time of each line"),
        Option("--until", "TIME", "only until then"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 1, 1)
    return one_for_errors(lambda: _logs(values, words[0], roots))


def _logs(values: Values, container: str, roots: Roots) -> int:
    from ..engine.logs import Shown, read_logs

    tail = (
        None
        if values.tail in (None, "all", "-1")
        else converted("tail", lambda v: parse.integer(v, 0, 1 << 53), values.tail)
    )
    shown = Shown(timestamps=values.timestamps)
    for line in read_logs(
        roots, container, tail=tail, since=_instant("since", values.since), until=_instant("until", values.until),
        follow=values.follow,
    ):  # fmt: skip
        out = sys.stderr if line.stream == "stderr" else sys.stdout
        _write(out, shown.text(line))
        if values.follow:
            flush(out)
    return 0


def _write(out: object, text: str) -> None:
    from .output import write

    write(text, out)  # type: ignore[arg-type]


def _instant(option: str, text: str | None) -> str:
    from ..engine.logs import stamp

    if text is None:
        return ""
    seconds, digits = instant(text)
    if seconds != UNSAID:
        return stamp(seconds, digits[:9])
    try:
        return stamp(ago(text, time.time()))
    except InvalidArgument:
        raise InvalidArgument(
            f"--{option}: {parse.quote(text)} is no time: write 2024-03-10T12:00:00Z, a Unix time, or a duration such as 10m"
        ) from None
