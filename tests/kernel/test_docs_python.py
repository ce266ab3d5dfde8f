"""The examples of docs/python.md, run for real: what stands behind "# =>" is what an expression comes to."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

PAGE = Path(__file__).parents[2] / "docs/python.md"


def examples() -> str:
    """All of them as one program, each line where it is on the page."""
    found: list[str] = []
    inside = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            line = ""
        found.append(line if inside else "")
    return "\n".join(found)


class Checked(ast.NodeTransformer):
    """``expression  # => value`` becomes ``check(number of the line, expression)``."""

    def __init__(self, source: str) -> None:
        self.wanted: dict[int, str] = {}
        for number, line in enumerate(source.splitlines(), 1):
            if match := re.search(r"  # => (.*)$", line):
                self.wanted[number] = match[1]
        self.found: set[int] = set()

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if node.lineno not in self.wanted:
            return node
        self.found.add(node.lineno)
        call = ast.Call(ast.Name("check", ast.Load()), [ast.Constant(node.lineno), node.value], [])
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node))


def test_every_example_does_what_it_says() -> None:
    source = examples()
    checked = Checked(source)
    tree = checked.visit(ast.parse(source, str(PAGE)))
    assert checked.found == set(checked.wanted) and len(checked.found) > 20
    seen: dict[int, str] = {}

    def check(number: int, value: Any) -> None:
        seen[number] = repr(value)

    exec(compile(tree, str(PAGE), "exec"), {"check": check, "__name__": "docs"})
    assert seen == checked.wanted
