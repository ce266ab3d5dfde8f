"""``pycontain save``: images become an archive."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

_FORMATS = ("docker-archive", "oci-archive")

COMMAND = Command(
    "pycontain save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Write images with their names to a tar archive, to standard output by default.",
    (
        Option("--format", "FORMAT", "docker-archive, or oci-archive (docker-archive, which OCI tools read as well)"),
        Option("-h --help", "", "print this"),
        Option("-o --output", "FILE", "write to a file, which is there only when it is whole"),
    ),
    later={"--platform": "an image here is of one platform, and is saved as it is"},
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    form = values.format or _FORMATS[0]
    if form not in _FORMATS:
        raise InvalidArgument(f"--format: there is no format {parse.quote(form)}: write {' or '.join(_FORMATS)}")
    return one_for_errors(lambda: _save(values, words, command, form, roots.data_root))


def _save(values: Values, words: list[str], command: Command, form: str, data_root: str) -> int:
    count(command, words, 1, None)
    from ..engine import images as engine
    from .output_file import output_file

    with output_file(values.output, "cannot save") as out:
        engine.save(data_root, words, out, format=form)
    return 0
