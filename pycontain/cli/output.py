"""What the commands print, and how they end: Docker's exit code for what the engine refuses is 1, and 125 for wrong words."""

from __future__ import annotations

import sys

from ..errors import PycontainError, errno_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

__all__ = ["ReaderGone", "complain", "flush", "one_for_errors", "unwritable", "write"]


def write(text: str, file: TextIO | None = None) -> None:
    """To standard output, whatever its encoding: names of files and texts of images need not be representable.

    ``file``: another one; what standard error does not take is lost, as everywhere.
    Raises: PycontainError: it cannot be written to; ReaderGone.
    """
    file = file or sys.stdout
    try:
        file.write(text)
    except UnicodeEncodeError:
        encoding = file.encoding or "utf-8"
        write(text.encode(encoding, "replace").decode(encoding), file)
    except OSError as error:
        _lost(error, file)


def flush(file: TextIO | None = None) -> None:
    """What was written goes out. Raises: as :func:`write`."""
    file = file or sys.stdout
    try:
        file.flush()
    except OSError as error:
        _lost(error, file)


def _lost(error: OSError, file: TextIO) -> None:
    if file is sys.stderr:
        return
    if isinstance(error, BrokenPipeError):
        raise ReaderGone from None
    raise unwritable(error) from None


class ReaderGone(PycontainError):
    """Nobody reads standard output any more (``pycontain pull x | head -1``): the end, without a word, as by SIGPIPE.

    No OSError: below a pull such a one is the data root's.
    """

    exit_code = 128 + 13


def unwritable(error: OSError) -> PycontainError:
    """The error for standard output that does not take what is written."""
    remedy = "free some space" if error.errno in (28, 122) else "send it to a file or a pipe that is open"
    refused = PycontainError(
        f"cannot write to standard output: {error.strerror} ({errno_name(error.errno or 0)}): {remedy}"
    )
    refused.exit_code = 1
    return refused


def complain(message: str) -> None:
    """One line on standard error, as the end of a command does it: for commands that go on with the next word."""
    from .table import printable

    sys.stdout.flush()
    line = printable([" ".join(message.split(chr(10)))])[0] + "\n"
    try:
        sys.stderr.write(line)
    except UnicodeEncodeError:
        sys.stderr.write(line.encode("ascii", "backslashreplace").decode())


def one_for_errors(execute: Callable[[], int]) -> int:
    """The exit code of ``execute``; its errors end the process with 1 unless their class has a code of its own."""
    try:
        return execute()
    except PycontainError as error:
        if error.exit_code == PycontainError.exit_code:
            error.exit_code = 1
        raise
