"""The help of a command, by argparse: one line per option. Loaded only when somebody asks for it."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .arguments import Command

__all__ = ["help_of"]


class _OneLine(argparse.HelpFormatter):
    """One line per option, whatever the terminal's width."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=42, width=200)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = ", ".join(action.option_strings)
        indent = "" if len(action.option_strings) > 1 or not names.startswith("--") else "    "
        return f"{indent}{names} {action.metavar}" if action.nargs != 0 else f"{indent}{names}"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return [text]


def help_of(command: Command) -> str:
    """The reference of the command's options."""
    parser = argparse.ArgumentParser(
        prog=command.prog, usage=f"{command.prog} {command.usage}", description=command.summary, add_help=False,
        formatter_class=_OneLine,
    )  # fmt: skip
    for option in command.options:
        if option.metavar:
            parser.add_argument(*option.names, metavar=option.metavar, help=option.help)
        else:
            parser.add_argument(*option.names, action="store_true", help=option.help)
    if not command.commands:
        return parser.format_help()
    width = max(map(len, command.commands))
    lines = [f"  {name:<{width}} {line}\n" for name, (_, line) in command.commands.items()]
    return f"{parser.format_help()}\ncommands:\n{''.join(lines)}"
