"""``pycontain volume create``: makes a volume."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument
from .arguments import Command, Option, Values, converted, count, read
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

_CLUSTER = "there are no cluster volumes here; leave it out"
_OF_CLUSTERS = (
    "--availability", "--group", "--limit-bytes", "--required-bytes", "--scope", "--secret", "--sharing", "--topology-preferred",
    "--topology-required", "--type",
)  # fmt: skip

COMMAND = Command(
    "pycontain volume create",
    "[OPTIONS] [VOLUME]",
    "Make a volume, and print its name. One that is there already stays as it is; without VOLUME it is anonymous.",
    (
        Option("-d --driver", "DRIVER", "there is one: local (local)"),
        Option("-h --help", "", "print this"),
        Option("--label", "KEY=VALUE", "label it", repeat=True),
        Option("-o --opt", "KEY=VALUE", "a directory of the host: type=none, o=bind, device=/DIRECTORY", repeat=True),
    ),
    interspersed=True,
    later=dict.fromkeys(_OF_CLUSTERS, _CLUSTER),
)


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    count(command, words, 0, 1)
    labels = dict(converted("label", parse.label, each) for each in values.label or ())
    return one_for_errors(lambda: _create(values, words, labels, roots))


def _create(values: Values, words: list[str], labels: dict[str, str], roots: Roots) -> int:
    from ..engine import volumes as engine

    options = {}
    for text in values.opt or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidArgument(f"--opt: invalid option {parse.quote(text)}: write KEY=VALUE")
        options[key] = value
    name = words[0] if words else ""
    made = engine.create_volume(roots, name, driver=values.driver or "local", labels=labels, options=options)
    write(f"{made.name}\n")
    return 0
