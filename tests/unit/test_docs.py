"""docs/cli.md is the help of every command, word for word. PYCONTAIN_UPDATE_GOLDEN=1 writes it anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pycontain.cli.main import COMMANDS as MAIN

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/cli.md"
GROUPS = ("container", "image", "manifest", "system")
# under another name it is another page only where it is another command
ALONE = (
    "container inspect", "container prune", "image inspect", "image prune", "image tree", "manifest inspect", "system df",
    "system prune", "system start-all", "system stop-all",
)  # fmt: skip


def _commands() -> list[str]:
    """All, each followed by what is only below it."""
    found = []
    for name in MAIN:
        if name != "help":
            found += [name, *(each for each in ALONE if each.startswith(f"{name} "))]
    return found


def _help(*words: str) -> str:
    code = "import sys; from pycontain.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *words, "--help"], capture_output=True, text=True, check=True
    ).stdout.rstrip()


def _page() -> str:
    head = (
        "# The command line\n\n"
        "Exit codes of `run`: the program's own; 125 pycontain failed, 126 the program cannot be executed, 127 it is not in\n"
        "the image, 128 + n it was ended by signal n, 124 `--timeout` ran out. `exec` ends as `run` does, but with 1 where there is no\n"
        "such container, it has ended, or is paused, and with 126 for whatever else keeps its program from starting. The commands of\n"
        "images end as Docker's: 125 for words that are wrong, 64 for a template of `inspect` that cannot be parsed, 1 for everything\n"
        "else that fails.\n"
    )
    parts = [head, f"## pycontain\n\n```\n{_help()}\n```\n"]
    parts += [f"## pycontain {name}\n\n```\n{_help(*name.split())}\n```\n" for name in _commands()]
    return "\n".join(parts)


def test_what_is_only_below_a_group_has_its_page() -> None:
    from importlib import import_module

    flat = {module for module, _ in MAIN.values()}
    for group in GROUPS:
        for verb, (module, _) in import_module(f"pycontain.cli.{group}").COMMAND.commands.items():
            assert (module not in flat) == (f"{group} {verb}" in ALONE), f"{group} {verb}"


def test_reference_page_is_the_help() -> None:
    page = _page()
    if os.environ.get("PYCONTAIN_UPDATE_GOLDEN"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page


def test_every_document_that_is_linked_exists() -> None:
    import re

    for document in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
