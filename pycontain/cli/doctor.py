"""``pycontain doctor``: prints what :mod:`pycontain.doctor` finds."""

from __future__ import annotations

from ..errors import InvalidArgument
from .arguments import Command, Option, read
from .output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain doctor",
    "[--format text|json]",
    "Say what this host can do for containers, what is missing, and what to do about it.",
    (Option("--format", "FORMAT", "text or json (text)"), Option("-h --help", "", "print this")),
)


def main(argv: list[str], roots: Roots) -> int:
    values, words = read(COMMAND, argv)
    if words or values.format not in (None, "text", "json"):
        raise InvalidArgument(f"the form is `{COMMAND.prog} {COMMAND.usage}`")
    from ..doctor import report

    text, code = report(values.format or "text", roots)
    write(text if text.endswith("\n") else text + "\n")
    return code
