"""Where ``save`` and ``export`` write: a file that has its name only when it is whole, a pipe, or standard output."""

from __future__ import annotations

import sys
from contextlib import contextmanager

from ..engine.written import written
from ..errors import InvalidArgument
from .output import flush, unwritable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["output_file"]


@contextmanager
def output_file(path: str | None, what: str) -> Iterator[BinaryIO]:
    """``path`` None: standard output, unless it is a terminal. ``what`` begins the messages: "cannot save".

    Raises: InvalidArgument; PycontainError: standard output cannot be written to.
    """
    if path is not None:
        if not path:
            raise InvalidArgument(f"{what}: -o needs the name of a file, not ''")
        with written(path, what) as file:
            yield file
        return
    if sys.stdout.isatty():
        raise InvalidArgument("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    flush()
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from None
