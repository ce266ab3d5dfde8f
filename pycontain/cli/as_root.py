"""For options that look into containers' files, which belong to others, in commands that an ordinary user can do otherwise."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..runtime.roots import Roots

__all__ = ["become_root", "become_root_for"]


def become_root() -> None:
    """This process is root when it returns, if only of a user namespace of its own: then the command begins again there.

    Raises: Unsupported: this user gets none.
    """
    if os.geteuid() != 0:
        from ..rootless import enter

        enter()


def become_root_for(roots: Roots, container: str) -> None:
    """As :func:`become_root`, for who looks at what a container sees: where it runs, if it does, or else anywhere.

    Raises: Unsupported; ContainerNotFound; Conflict: it has just ended.
    """
    if os.geteuid() == 0:
        return
    from ..engine.containers import find_container
    from ..errors import Conflict
    from ..rootless import enter, join

    found = find_container(roots, container)
    if not found.pid:
        enter()
    try:
        join(found.pid)
    except OSError:
        raise Conflict(f"container {found.name} has ended, or another user has started it") from None
