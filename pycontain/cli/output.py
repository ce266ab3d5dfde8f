"""What the commands print, and how they end: Docker's exit code for what the engine refuses is 1, and 125 for wrong words."""

from __future__ import annotations

import sys

from ..errors import PycontainError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

__all__ = ["complain", "one_for_errors", "write"]


def write(text: str, file: TextIO | None = None) -> None:
    """To standard output, whatever its encoding: names of files and texts of images need not be representable."""
    file = file or sys.stdout
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = file.encoding or "utf-8"
        file.write(text.encode(encoding, "replace").decode(encoding))


def complain(message: str) -> None:
    """One line on standard error, as the end of a command does it: for commands that go on with the next word."""
    sys.stdout.flush()
    try:
        sys.stderr.write(f"{' '.join(message.split(chr(10)))}\n")
    except UnicodeEncodeError:
        sys.stderr.write(f"{' '.join(message.split(chr(10)))}\n".encode("ascii", "backslashreplace").decode())


def one_for_errors(execute: Callable[[], int]) -> int:
    """The exit code of ``execute``; its errors end the process with 1 unless their class has a code of its own."""
    try:
        return execute()
    except PycontainError as error:
        if error.exit_code == PycontainError.exit_code:
            error.exit_code = 1
        raise
