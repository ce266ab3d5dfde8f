"""The file that a save or an export goes to: it has its name only when it is whole."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress

from ..errors import InvalidArgument, errno_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

__all__ = ["written"]


@contextmanager
def written(path: str, what: str) -> Iterator[BinaryIO]:
    """A file is new, 0600, and replaces what had its name when the block ends without an error; a device or a pipe is written to.

    ``what`` begins the messages: "cannot save". Raises: InvalidArgument.
    """
    if not path or "\0" in path:
        raise InvalidArgument(f"{what}: the output needs the name of a file, not {path!r}")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:
        raise _cannot(what, path, error) from None
    if stat.S_ISDIR(mode):
        raise InvalidArgument(f"{what} to {path}: it is a directory: name a file in it")
    with _replacing(path, what) if stat.S_ISREG(mode) else _device(path, what) as file:
        yield file


@contextmanager
def _device(path: str, what: str) -> Iterator[BinaryIO]:
    try:
        with open(path, "wb") as file:
            yield file
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot(what, path, error) from None


@contextmanager
def _replacing(path: str, what: str) -> Iterator[BinaryIO]:
    target = os.path.realpath(path)  # a link stays one
    temporary = f"{os.path.dirname(target)}/.pycontain-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _cannot(what, path, error) from None
    try:
        with open(fd, "wb") as file:
            yield file
        os.rename(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):  # interrupted just after the rename: it is whole
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise _cannot(what, path, error) from None
        raise


def _cannot(what: str, path: str, error: OSError) -> InvalidArgument:
    remedy = (
        "free some space, or name a file elsewhere"
        if error.errno in (28, 122)
        else "name a file in a directory that you may write to"
    )
    return InvalidArgument(f"{what} to {path}: {error.strerror} ({errno_name(error.errno or 0)}): {remedy}")
