"""``pycontain inspect``: everything about an object of any kind; so far images are the only kind."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument, Unsupported
from .arguments import Command, Option, Values, count, read
from .inspector import INSPECT_FORMAT_HELP
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Print everything about images, as JSON.",
    (
        Option("-f --format", "FORMAT", INSPECT_FORMAT_HELP),
        Option("-h --help", "", "print this"),
        Option("--type", "TYPE", "only objects of this type: image (all there are)"),
    ),
    later={"-s": "it belongs to containers", "--size": "it belongs to containers"},
    interspersed=True,
)

_LATER = ("config", "container", "network", "node", "plugin", "secret", "service", "task", "volume")


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _inspect(values, words, command, roots.data_root))


def _inspect(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 1, None)
    if values.type in _LATER:
        raise Unsupported(f"--type: objects of type {values.type} cannot be inspected: there is image")
    if values.type not in (None, "image"):
        raise InvalidArgument(f"--type: unknown type {parse.quote(values.type)}: write image")
    from .image_inspect import inspect_images

    missing = "Error: No such image: " if values.type else "Error: No such object: "
    return inspect_images(words, values.format or "", data_root, missing)
