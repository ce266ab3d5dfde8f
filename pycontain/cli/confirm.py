"""The question before something is removed for good."""

from __future__ import annotations

import sys

from .output import write

__all__ = ["confirmed"]


def confirmed(warning: str) -> bool:
    """Asks; whatever is not a "y" is a no, and so is the end of the input."""
    write(f"{warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        write("\n")
    return answer.strip().lower() == "y"
