"""``pycontain version``."""

from __future__ import annotations

import os
import sys

from .._version import __version__
from ..errors import InvalidArgument
from .arguments import Command, Option, read
from .output import write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain version",
    "[--format text|json|TEMPLATE]",
    "Print the versions of pycontain, Python and the kernel.",
    (
        Option("--format", "FORMAT", "text, json, or a Go template: '{{.Client.Version}}', '{{.Server.KernelVersion}}' (text)"),
        Option("-h --help", "", "print this"),
    ),
)  # fmt: skip


def main(argv: list[str], roots: Roots) -> int:
    values, words = read(COMMAND, argv)
    if words:
        raise InvalidArgument(f"the form is `{COMMAND.prog} {COMMAND.usage}`")
    kernel = os.uname()
    python = ".".join(str(part) for part in sys.version_info[:3])
    if values.format in (None, "text"):
        write(f"pycontain {__version__} (Python {python}, Linux {kernel.release} {kernel.machine})\n")
        return 0
    # client and server are one program here; both names are there for those who ask for either
    of_both = {"Version": __version__, "Os": "linux", "Arch": kernel.machine, "KernelVersion": kernel.release}
    document = {
        "version": __version__, "python": python, "kernel": kernel.release, "machine": kernel.machine, "Client": of_both,
        "Server": of_both,
    }  # fmt: skip
    if values.format == "json":
        import json

        write(json.dumps(document) + "\n")
    else:
        write(_applied(values.format, document) + "\n")
    return 0


def _applied(form: str, document: dict[str, Any]) -> str:
    from .gotemplate import Struct, TemplateError, parse

    fields = {name: Struct(f"command.{name}Version", document[name]) for name in ("Client", "Server")}
    try:
        return parse(form).execute(Struct("command.versionInfo", {**document, **fields}))
    except TemplateError as error:
        refused = InvalidArgument(f"template parsing error: {error}")
        refused.exit_code = 64
        raise refused from None
