"""``python -m pycontain``."""

from __future__ import annotations

from .cli.entry import console

console()
