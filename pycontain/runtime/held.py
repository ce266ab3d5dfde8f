"""Whether somebody holds a lock file: an flock that the kernel drops with its holder tells the living from the dead."""

from __future__ import annotations

import fcntl
import os

__all__ = ["is_held"]


def is_held(path: str) -> bool:
    """False when there is no such file, or none that we may open."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask at once do not see each other
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
