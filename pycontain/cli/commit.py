"""``pycontain commit``: what a container has changed becomes an image."""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument
from .arguments import Command, Option, Values, converted, count, read
from .output import one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Make an image of what a container has changed, and print its id.",
    (
        Option("-a --author", "TEXT", 'who makes it: "Ann <ann@example.org>"'),
        Option(
            "-c --change", "INSTRUCTION", 'set in the image: CMD ["sh"], ENV A=b, WORKDIR /srv, USER...', repeat=True
        ),
        Option("--compression", "KIND", "of the new layer: gzip, zstd or none (gzip)"),
        Option("--compression-level", "N", "1 to 9 with gzip (1), 1 to 22 with zstd (3)"),
        Option("-h --help", "", "print this"),
        Option("-m --message", "TEXT", "why it is made"),
        Option("--no-pause", "", "let the container run on meanwhile"),
        Option("-p --pause", "", "pause the container meanwhile (true)", on=True),
    ),
)

_LEVELS = {"gzip": 9, "zstd": 22}


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    compression, level = _compression(values)
    return one_for_errors(lambda: _commit(values, words, compression, level, command, roots))


def _compression(values: Values) -> tuple[str, int | None]:
    chosen = values.compression or "gzip"
    converted("compression", lambda v: parse.choice(v, ("none", *_LEVELS)), chosen)
    compression = "" if chosen == "none" else chosen
    if values.compression_level is None:
        return compression, None
    if not compression:
        raise InvalidArgument("--compression-level: there is none without a compression: leave it out")
    return compression, converted(
        "compression_level", lambda v: parse.integer(v, 1, _LEVELS[compression]), values.compression_level
    )


def _commit(
    values: Values, words: list[str], compression: str, level: int | None, command: Command, roots: Roots
) -> int:
    count(command, words, 1, 2)
    name = words[1] if len(words) > 1 else ""
    if len(words) > 1 and not name:
        raise InvalidArgument(f"the new image's name is empty: leave it out, or write `{command.prog} {command.usage}`")
    from ..engine import images as engine

    image_id = engine.commit(
        roots.data_root, roots.run_root, words[0], name, changes=values.change or (), author=values.author or "",
        message=values.message or "", pause=values.pause and not values.no_pause,
        compression=compression, level=level,
    )  # fmt: skip
    write(image_id + "\n")
    return 0
