"""config.json documents for tests: the corpus, and a change to one place of a document."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus" / "config"
DELETED: Any = object()

# the same words as a complaint uses: process.args[0], linux.sysctl["net.core.somaxconn"]
_STEP = re.compile(r'\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]|\.?([A-Za-z_][A-Za-z0-9_]*)')


def document(name: str) -> Any:
    return json.loads((CORPUS / f"{name}.json").read_bytes())


def steps(path: str) -> list[str | int]:
    found: list[str | int] = []
    for index, key, name in _STEP.findall(path):
        found.append(int(index) if index else key or name)
    return found


def joined(path: list[str | int]) -> str:
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


def edited(source: Any, changes: dict[str, Any]) -> Any:
    """A copy with each place of ``changes`` set, or removed; missing objects and next items on the way are made."""
    made = copy.deepcopy(source)
    for path, value in changes.items():
        *way, last = steps(path)
        at = made
        for step in way:
            if isinstance(at, list) and step == len(at):
                at.append({})
            at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
        if value is DELETED:
            del at[last]
        elif isinstance(at, list) and last == len(at):
            at.append(value)
        else:
            at[last] = value
    return made


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[list[str | int]]:
    """The paths of everything that is neither an object nor an array."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*at, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, (*at, index))
    else:
        yield list(at)
