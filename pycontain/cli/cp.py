"""``pycontain cp``: files between a container and this machine."""

from __future__ import annotations

import sys

from ..errors import InvalidArgument
from .arguments import Command, Option, Values, count, read
from .output import flush, one_for_errors, unwritable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain cp",
    "[OPTIONS] CONTAINER:SRC DEST|-  or  SRC|- CONTAINER:DEST",
    "Copy files and directories between a container, which may be stopped, and this machine; - is a tar on standard input or output.",
    (
        Option("-a --archive", "", "keep users and groups; else all is the container's root's, or yours"),
        Option("-h --help", "", "print this"),
        Option("-L --follow-link", "", "copy what the symbolic link SRC leads to"),
        Option("-q --quiet", "", "do not say how much was copied (as when standard error is no terminal)"),
    ),
    interspersed=True,
)

_CHUNK = 1 << 18


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _cp(values, words, command, roots))


def _split(word: str) -> tuple[str, str]:
    """("", PATH) of this machine, or (CONTAINER, PATH)."""
    if word.startswith("/"):
        return "", word
    container, colon, path = word.partition(":")
    if not colon or container.startswith("."):  # ./file:name
        return "", word
    return container, path


def _cp(values: Values, words: list[str], command: Command, roots: Roots) -> int:
    count(command, words, 2, 2)
    for word, what in zip(words, ("source", "destination"), strict=True):
        if not word:
            raise InvalidArgument(f"{what} can not be empty: write `{command.prog} {command.usage}`")
    (source_in, source), (target_in, target) = _split(words[0]), _split(words[1])
    if source_in and target_in:
        raise InvalidArgument("copying between containers is not supported: copy to this machine first, then from it")
    if not source_in and not target_in:
        raise InvalidArgument("must specify at least one container source: write CONTAINER:PATH for one of the two")
    from .as_root import become_root_for

    become_root_for(roots, source_in or target_in)
    from ..engine import copying

    if target == "-" and source_in:
        _write_archive(roots, source_in, source, follow=bool(values.follow_link))
        return 0
    if source_in:
        size = copying.copy_out(
            roots, source_in, source, target, follow=bool(values.follow_link), keep_owners=bool(values.archive)
        )
        _say(size, _absolute(target), values)
        return 0
    if source == "-":
        size = copying.archive_in(roots, target_in, target, sys.stdin.buffer)
    else:
        size = copying.copy_in(
            roots, target_in, source, target, follow=bool(values.follow_link), keep_owners=bool(values.archive)
        )
    _say(size, f"{target_in}:{target}", values)
    return 0


def _absolute(path: str) -> str:
    import os

    from ..engine.copy_places import clean

    return os.fsdecode(clean(os.fsencode(path), os.getcwdb()))


def _write_archive(roots: Roots, container: str, path: str, *, follow: bool) -> None:
    from ..engine import copying

    flush()
    with copying.archive_out(roots, container, path, follow=follow) as archive:
        buffer = memoryview(bytearray(_CHUNK))
        while size := archive.readinto(buffer):
            try:
                sys.stdout.buffer.write(buffer[:size])
            except BrokenPipeError:
                raise
            except OSError as error:
                raise unwritable(error) from None
    flush()


def _say(size: int, where: str, values: Values) -> None:
    """On standard error, when that is a terminal, as Docker does."""
    if values.quiet or not sys.stderr.isatty():
        return
    from .table import printable
    from .units import human_size

    sys.stderr.write(f"Successfully copied {human_size(size, 3)} to {printable([where])[0]}\n")
