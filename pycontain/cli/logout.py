"""``pycontain logout``: forgets what ``pycontain login`` and ``docker login`` have kept."""

from __future__ import annotations

import sys

from .arguments import Command, Option, read
from .login import server_of
from .output import flush, one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain logout",
    "[SERVER]",
    "Log out of a registry (Docker Hub): remove its login from ~/.docker/config.json, or from its credential helper.",
    (Option("-h --help", "", "print this"),),
    interspersed=True,
)


def main(argv: list[str], roots: Roots) -> int:
    _, words = read(COMMAND, argv)
    return one_for_errors(lambda: _log_out(words))


def _log_out(words: list[str]) -> int:
    domain = server_of(words, COMMAND)
    from ..image.registry.credentials import HUB_KEY, Credentials

    credentials = Credentials()
    shown = HUB_KEY if domain == "docker.io" else domain
    write(f"Removing login credentials for {shown}\n" if credentials.erase(domain) else f"Not logged in to {shown}\n")
    elsewhere = credentials.is_elsewhere(domain)
    if elsewhere:
        flush()
        sys.stderr.write(
            f"{elsewhere} still has a login for {domain}, which belongs to other tools and is used here, too\n"
        )
    return 0
