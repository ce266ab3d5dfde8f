"""Golden files: what was once looked at and found right. PYCONTAIN_UPDATE_GOLDEN=1 writes them anew; read the diff."""

from __future__ import annotations

import os
from pathlib import Path

_DIRECTORY = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    path = _DIRECTORY / name
    if os.environ.get("PYCONTAIN_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} differs; if it is meant: PYCONTAIN_UPDATE_GOLDEN=1"
