"""``pycontain port``: the ports that a container has published. None can be yet: it has no network, or the host's."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument, NotFound
from .arguments import Command, Option, count, read
from .output import one_for_errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain port",
    "CONTAINER [PORT[/PROTOCOL]]",
    "List the published ports of a container: there are none yet, so it prints nothing.",
    (Option("-h --help", "", "print this"),),
    interspersed=True,
)

_MAX_PORT = 65535


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    _, words = read(command, argv)
    return one_for_errors(lambda: _port(words, command, roots))


def _port(words: list[str], command: Command, roots: Roots) -> int:
    count(command, words, 1, 2)
    from ..engine.containers import find_container

    find_container(roots, words[0])
    if not words[1:]:
        return 0
    container, port = words
    number, _, protocol = port.partition("/")
    protocol = protocol or "tcp"
    if (
        protocol not in ("tcp", "udp", "sctp")
        or not number.isascii()
        or not number.isdigit()
        or int(number[:6]) > _MAX_PORT
    ):
        raise InvalidArgument(
            f"invalid port {parse.quote(port)}: write a number up to {_MAX_PORT}, and /tcp, /udp or /sctp behind it"
        )
    raise NotFound(f"no public port '{number}/{protocol}' published for {container}")
