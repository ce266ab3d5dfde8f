"""Standard streams that whoever started us has closed (``pycontain images >&-``), for which Python has None.

Their numbers are taken, so that no file of an image is opened as "standard error" and gets a message written into it. Input is
empty, errors go nowhere, and output that somebody asked for is an error, not lost: ``save`` with nowhere to write did not save.
"""

from __future__ import annotations

import io
import os
import sys

from .output import unwritable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["stand_in"]


def stand_in() -> None:
    """Puts something in the place of each closed stream."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = _Closed()


class _ClosedBytes(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> NoReturn:
        raise unwritable(OSError(9, os.strerror(9)))


class _Closed(io.TextIOWrapper):
    def __init__(self) -> None:
        super().__init__(io.BufferedWriter(_ClosedBytes()), encoding="utf-8")

    def fileno(self) -> int:
        return 1

    def write(self, text: str) -> NoReturn:
        raise unwritable(OSError(9, os.strerror(9)))
