"""``pycontain unshare``: a program in the user namespace of rootless containers, where it is root."""

from __future__ import annotations

import os

from .. import parse, rootless
from ..errors import NotExecutable, ProgramNotFound, Unsupported
from .arguments import Command, Option, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain unshare",
    "[PROGRAM] [ARGUMENT...]",
    "Run a program, or your shell, as root of your own user namespace: where a Python program may start rootless containers.",
    (Option("-h --help", "", "print this"),),
)


def main(argv: list[str], roots: Roots) -> int:
    _, words = read(COMMAND, argv)
    if not rootless.is_inside():
        raise Unsupported("pycontain unshare is for an ordinary user: root needs no user namespace to start containers")
    words = words or [os.environ.get("SHELL") or "/bin/sh"]
    try:
        os.execvp(words[0], words)  # does not return
    except (FileNotFoundError, NotADirectoryError):
        raise ProgramNotFound(f"cannot run {parse.quote(words[0])}: no such program in $PATH") from None
    except OSError as e:
        raise NotExecutable(f"cannot run {parse.quote(words[0])}: {e.strerror}") from None
