"""Command lines in Docker's manner on top of argparse: where options end, and one line for a mistake.

Docker's flags are Go's: ``-it``, ``-m64m``, ``--rm=false``, a value may begin with a dash, and what follows IMAGE belongs
to the program. argparse knows none of the last three, so the words are brought into its form first: ``--name=value``.
"""

from __future__ import annotations

import argparse

from .. import parse
from ..errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["Command", "Option", "parser_of", "read", "split"]


class Option:
    """One option: ``names`` as in the help ("-m --memory"), ``metavar`` empty for a flag. Aliases are not in the help."""

    __slots__ = ("aliases", "help", "metavar", "names", "repeat")

    def __init__(
        self, names: str, metavar: str, help: str, *, repeat: bool = False, aliases: tuple[str, ...] = ()
    ) -> None:
        self.names = names.split()
        self.metavar = metavar
        self.help = help
        self.repeat = repeat
        self.aliases = aliases

    @property
    def long(self) -> str:
        return self.names[-1]


class Command:
    """``usage`` follows the program's name. ``later``: options of Docker's that are not there yet, and what to do.

    ``interspersed``: options may follow positional words; otherwise the first such word ends them.
    """

    __slots__ = ("interspersed", "later", "options", "prog", "summary", "usage")

    def __init__(
        self, prog: str, usage: str, summary: str, options: tuple[Option, ...], *, later: dict[str, str] | None = None,
        interspersed: bool = False,
    ) -> None:  # fmt: skip
        self.prog = prog
        self.usage = usage
        self.summary = summary
        self.options = options
        self.later = later or {}
        self.interspersed = interspersed


class _OneLine(argparse.HelpFormatter):
    """One line per option. With a width of its own: argparse would load shutil to ask for the terminal's."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=42, width=200)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = ", ".join(action.option_strings)
        indent = "" if len(action.option_strings) > 1 or not names.startswith("--") else "    "
        return f"{indent}{names} {action.metavar}" if action.nargs != 0 else f"{indent}{names}"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [text]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidArgument(f"{message}; see `{self.prog} --help`")


def parser_of(command: Command) -> argparse.ArgumentParser:
    """The command's argparse parser. Its help is the reference of the command's options."""
    parser = _Parser(
        prog=command.prog, usage=f"{command.prog} {command.usage}", description=command.summary, add_help=False,
        allow_abbrev=False, formatter_class=_OneLine,
    )  # fmt: skip
    for option in command.options:
        if option.metavar:
            action = "append" if option.repeat else "store"
            parser.add_argument(*option.names, action=action, metavar=option.metavar, help=option.help)
        elif option.long == "--help":
            parser.add_argument(*option.names, action="help", help=option.help)
        else:
            parser.add_argument(*option.names, action="store_true", help=option.help)
    return parser


def read(command: Command, argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options' values, and the words after them. ``--help`` prints the help and ends the process.

    Raises: InvalidArgument; Unsupported: an option of Docker's that is not there yet.
    """
    words, rest = split(command, argv)
    return parser_of(command).parse_args(words), rest


def split(command: Command, argv: list[str]) -> tuple[list[str], list[str]]:
    """Options in the form ``--name`` or ``--name=value``, and the other words."""
    known = {name: option for option in command.options for name in (*option.names, *option.aliases)}
    words: list[str] = []
    rest: list[str] = []
    queue = argv[::-1]
    while queue:
        word = queue.pop()
        if word == "--":
            break
        if word == "-" or not word.startswith("-"):
            rest.append(word)
            if not command.interspersed:
                break
        elif word.startswith("--"):
            _long(command, known, word, queue, words)
        else:
            _shorts(command, known, word, queue, words)
    return words, rest + queue[::-1]


def _long(command: Command, known: dict[str, Option], word: str, queue: list[str], words: list[str]) -> None:
    name, equals, value = word.partition("=")
    option = known.get(name) or _unknown(command, known, name)
    if not option.metavar:
        # the last one counts, so --rm=false also undoes an earlier --rm
        words[:] = [each for each in words if each != option.long]
        if not equals or _boolean(option, value):
            words.append(option.long)
    else:
        words.append(f"{option.long}={value if equals else _next(command, option, name, queue)}")


def _shorts(command: Command, known: dict[str, Option], word: str, queue: list[str], words: list[str]) -> None:
    at = 1
    while at < len(word):
        name = f"-{word[at]}"
        option = known.get(name) or _unknown(command, known, name, word)
        at += 1
        if option.metavar:
            value = word[at:].removeprefix("=") if at < len(word) else _next(command, option, name, queue)
            words.append(f"{option.long}={value}")
            return
        if word.startswith("=", at):
            if _boolean(option, word[at + 1 :]):
                words.append(option.long)
            return
        words.append(option.long)


def _next(command: Command, option: Option, name: str, queue: list[str]) -> str:
    if not queue:
        raise InvalidArgument(f"{name} needs a value: `{command.prog} {name} {option.metavar}`")
    return queue.pop()


def _boolean(option: Option, value: str) -> bool:
    return parse.boolean(value, form=f"{option.long} or {option.long}=false")


def _unknown(command: Command, known: dict[str, Option], name: str, word: str = "") -> NoReturn:
    if name in command.later:
        raise Unsupported(f"cannot use {name}: {command.later[name]}")
    if word.removeprefix("-") and "-" + word in known:  # -name for --name
        raise InvalidArgument(f"unknown option {word}: did you mean -{word}?")
    longs = [each for each in known if each.startswith("--")]
    hint = parse.nearest(name, longs if name.startswith("--") else [], f"`{command.prog} --help` lists the options")
    raise InvalidArgument(f"unknown option {parse.quote(name) if not name.isprintable() else name}{hint}")
