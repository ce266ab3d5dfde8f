"""Help: one line per option, with its unit and default, and nothing forgotten."""

from __future__ import annotations

from importlib import import_module

import pytest

from pycontain.cli import main as cli
from pycontain.cli.arguments import Command
from pycontain.cli.help import help_of
from pycontain.cli.run_options import COMMAND as RUN

COMMANDS: list[Command] = [
    cli.TOP,
    *(
        import_module(f"pycontain.cli.{module}").COMMAND
        for module, _ in cli.COMMANDS.values()
        if module and module != "run"
    ),
    RUN,
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.prog)
def test_one_line_per_option(command: Command) -> None:
    lines = help_of(command).splitlines()
    for option in command.options:
        invocation = ", ".join(option.names) + (f" {option.metavar}" if option.metavar else "")
        found = [line for line in lines if line.strip().startswith(invocation + "  ")]
        assert [line.split("  ")[-1].strip() for line in found] == [option.help]
        assert len(found[0]) <= 120
    assert lines[0] == f"usage: {command.prog} {command.usage}"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.prog)
def test_no_name_twice(command: Command) -> None:
    names = [name for option in command.options for name in (*option.names, *option.aliases)]
    assert len(names) == len(set(names))
    assert not set(names) & set(command.later)


def test_options_are_in_order_of_their_long_names() -> None:
    longs = [option.long for option in RUN.options]
    assert longs == sorted(longs)


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_top_help_names_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", [name for name, (module, _) in cli.COMMANDS.items() if module])
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([name, "--help"], ["help", name]):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: pycontain {name} ")


def test_limits_name_unit_and_default() -> None:
    helps = {option.long: option.help for option in RUN.options}
    for name in ("--memory", "--cpus", "--shm-size", "--pids-limit", "--timeout", "--network", "--oom-score-adj"):
        assert "(" in helps[name]
    assert all("bytes" in helps[name] for name in ("--memory", "--memory-swap", "--shm-size", "--device-read-bps"))
