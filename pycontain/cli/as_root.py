"""For options that look into containers' files, which belong to others, in commands that an ordinary user can do otherwise."""

from __future__ import annotations

import os

__all__ = ["become_root"]


def become_root() -> None:
    """This process is root when it returns, if only of a user namespace of its own: then the command begins again there.

    Raises: Unsupported: this user gets none.
    """
    if os.geteuid() != 0:
        from ..rootless import enter

        enter()
