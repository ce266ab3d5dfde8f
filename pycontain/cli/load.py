"""``pycontain load``: an archive becomes images."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from ..errors import InvalidArgument, errno_name
from .arguments import Command, Option, Values, count, read
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain load",
    "[OPTIONS]",
    "Take images out of an archive (of docker or OCI, plain or compressed), from standard input by default.",
    (
        Option("-h --help", "", "print this"),
        Option("-i --input", "FILE", "read a file; -: standard input"),
        Option(
            "--platform", "OS/ARCH[/VARIANT]", "of an image for several machines: linux/arm64, ... (this machine's)"
        ),
        Option("-q --quiet", "", "do not show how far it is"),
    ),
    interspersed=True,
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _load(values, words, command, roots.data_root))


def _load(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 0, 0)
    from ..engine import images as engine
    from .progress import shown

    # Docker, too, shows no layers of a load without a terminal
    with _opened(values.input) as source, shown(quiet=values.quiet or not sys.stdout.isatty()) as progress:
        found = engine.load(data_root, source, platform=values.platform or "", progress=progress)
    for info in found:
        if info.names:
            write("".join([f"Loaded image: {name}\n" for name in info.names]))
        else:
            write(f"Loaded image ID: {info.id}\n")
    return 0


@contextmanager
def _opened(path: str | None) -> Iterator[BinaryIO]:
    if path in (None, "", "-"):
        if sys.stdin.isatty():
            raise InvalidArgument("requested load from stdin, but stdin is empty: write -i FILE, or redirect")
        yield sys.stdin.buffer
        return
    assert path is not None
    with _file(path) as file:
        yield file


def _file(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        code = f" ({errno_name(error.errno or 0)})" if isinstance(error, OSError) else ""
        why = getattr(error, "strerror", None) or error
        raise InvalidArgument(
            f"cannot load {path}: {why}{code}: name an archive that `pycontain save` or docker made"
        ) from None
