"""Command lines in Docker's manner: where options end, and one line for a mistake.

Docker's flags are Go's: ``-it``, ``-m64m``, ``--rm=false``, a value may begin with a dash, and what follows IMAGE belongs
to the program. argparse knows none of the last three, and loading it takes a sixth of a whole `pycontain run`: only the
help uses it.
"""

from __future__ import annotations

from .. import parse
from ..errors import InvalidArgument, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["Command", "Option", "Values", "converted", "count", "read", "split"]


class Option:
    """One option: ``names`` as in the help ("-m --memory"), ``metavar`` empty for a flag. Aliases are not in the help.

    ``on``: a flag that is set unless it is taken back: ``--human=false``.
    """

    __slots__ = ("aliases", "help", "metavar", "names", "on", "repeat")

    def __init__(
        self, names: str, metavar: str, help: str, *, repeat: bool = False, aliases: tuple[str, ...] = (), on: bool = False
    ) -> None:  # fmt: skip
        self.names = names.split()
        self.metavar = metavar
        self.help = help
        self.repeat = repeat
        self.aliases = aliases
        self.on = on

    @property
    def long(self) -> str:
        return self.names[-1]


class Command:
    """``usage`` follows the program's name. ``later``: options of Docker's that are not there yet, and what to do.

    ``interspersed``: options may follow positional words; otherwise the first such word ends them. ``commands``: of a command
    that has commands of its own, ``name -> (module, one line of help)``; ``synonyms`` are their other names.
    """

    __slots__ = ("commands", "interspersed", "later", "options", "prog", "summary", "synonyms", "usage")

    def __init__(
        self, prog: str, usage: str, summary: str, options: tuple[Option, ...], *, later: dict[str, str] | None = None,
        interspersed: bool = False, commands: dict[str, tuple[str, str]] | None = None,
        synonyms: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.prog = prog
        self.usage = usage
        self.summary = summary
        self.options = options
        self.later = later or {}
        self.interspersed = interspersed
        self.commands = commands or {}
        self.synonyms = synonyms or {}

    def called(self, prog: str) -> Command:
        """The same under another name: ``pycontain image ls`` is ``pycontain images``."""
        return Command(
            prog, self.usage, self.summary, self.options, later=self.later, interspersed=self.interspersed,
            commands=self.commands, synonyms=self.synonyms,
        )  # fmt: skip


class Values:
    """One attribute for each option, ``--name-of-it`` as ``name_of_it``: a flag is True or False, what can be repeated a
    list, any other its last value; None when it is not given."""

    def __init__(self, command: Command, words: list[str]) -> None:
        known = {option.long: option for option in command.options}
        for option in command.options:
            setattr(self, _attribute(option), None if option.metavar else option.on)
        for word in words:
            name, _, value = word.partition("=")
            option = known[name]
            to = _attribute(option)
            if option.repeat:
                setattr(self, to, [*(getattr(self, to) or ()), value])
            else:
                setattr(self, to, value if option.metavar else value != "false")

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def _attribute(option: Option) -> str:
    return option.long.lstrip("-").replace("-", "_")


def read(command: Command, argv: list[str]) -> tuple[Values, list[str]]:
    """The options' values, and the words after them. ``--help`` prints the help and ends the process.

    Raises: InvalidArgument; Unsupported: an option of Docker's that is not there yet.
    """
    words, rest = split(command, argv)
    if "--help" in words:
        from .help import help_of
        from .output import write

        write(help_of(command))
        raise SystemExit(0)
    return Values(command, words), rest


def count(command: Command, words: list[str], least: int, most: int | None) -> None:
    """Raises InvalidArgument unless there are ``least`` to ``most`` words (None: any number), as Docker says it: with 1, not with
    the 125 of a wrong option."""
    if least <= len(words) and (most is None or len(words) <= most):
        return
    if most == 0:
        wanted = "accepts no arguments"
    elif most is None:
        wanted = f"requires at least {_arguments(least)}"
    elif most == least:
        wanted = f"requires {_arguments(least)}"
    else:
        wanted = (
            f"requires at least {least} and at most {_arguments(most)}"
            if least
            else f"requires at most {_arguments(most)}"
        )
    error = InvalidArgument(f"{parse.quote(command.prog)} {wanted}, not {len(words)}: `{command.prog} {command.usage}`")
    error.exit_code = 1
    raise error


def _arguments(number: int) -> str:
    return f"{number} argument{'' if number == 1 else 's'}"


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
        _flag(option, not equals or _boolean(option, value), words)
    else:
        words.append(f"{option.long}={value if equals else _next(command, option, name, queue)}")


def _flag(option: Option, on: bool, words: list[str]) -> None:
    """The last one counts, so --rm=false also undoes an earlier --rm."""
    words[:] = [each for each in words if each.partition("=")[0] != option.long]
    if on:
        words.append(option.long)
    elif option.on:
        words.append(f"{option.long}=false")


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
            _flag(option, _boolean(option, word[at + 1 :]), words)
            return
        _flag(option, True, words)


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


def converted(option: str, convert: Callable[[str], Any], value: str) -> Any:
    """``convert(value)``; an error names the option."""
    try:
        return convert(value)
    except (InvalidArgument, Unsupported) as error:
        raise type(error)(f"--{option.replace('_', '-')}: {error}") from None
