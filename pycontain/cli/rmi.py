"""``pycontain rmi``: takes names away, and with the last name the image."""

from __future__ import annotations

from ..errors import NotFound, PycontainError
from .arguments import Command, Option, Values, count, read
from .output import complain, one_for_errors, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["COMMAND", "main"]

COMMAND = Command(
    "pycontain rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove images. An image with several names only loses the one that is given; goes on after an error, and ends with 1.",
    (
        Option("-f --force", "", "also one that containers use or that has several names; one that is not there is no error"),
        Option("-h --help", "", "print this"),
        Option("--no-prune", "", "keep the layers that nothing uses any more"),
    ),
    later={"--platform": "an image here is of one platform: remove it by its name or id"},
    interspersed=True,
)  # fmt: skip


def main(argv: list[str], roots: Roots, command: Command = COMMAND) -> int:
    values, words = read(command, argv)
    return one_for_errors(lambda: _remove(values, words, command, roots.data_root))


def _remove(values: Values, words: list[str], command: Command, data_root: str) -> int:
    count(command, words, 1, None)
    from ..engine import images as engine

    errors: list[PycontainError] = []
    for word in words:
        try:
            removed = engine.remove_image(data_root, word, force=values.force, prune=not values.no_prune)
        except PycontainError as error:
            errors.append(error)
            continue
        write("".join([f"{one.action}: {one.what}\n" for one in removed]))
    for each in errors:
        complain(f"pycontain: {each}")
    fatal = [each for each in errors if not (values.force and isinstance(each, NotFound))]
    return 1 if fatal else 0
