"""What a container's events say of it, whoever writes them: the engine, the command in whose foreground it runs, its monitor."""

from __future__ import annotations

import os

from .. import journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .detached import Detached
    from .foreground import Foreground
    from .roots import Roots

__all__ = ["emit_of", "leave_for_monitor", "renamed"]


def emit_of(roots: Roots, found: Detached | Foreground, action: str, **more: str) -> None:
    """Has happened to it now. ``more``: further attributes."""
    journal.emit(roots.data_root, "container", action, found.id, {**_attributes(found), **more})


def _attributes(found: Detached | Foreground) -> dict[str, str]:
    image = found.image if hasattr(found, "image") else found.request.image
    return {**dict(found.config.labels), "image": image, "name": found.name}


def renamed(roots: Roots, directory: str, found: Detached, old_name: str) -> None:
    """Its monitor knows of it as well, when this returns."""
    try:
        _write_about(directory, found)
    except OSError:
        pass  # its next events have the old name
    emit_of(roots, found, "rename", oldName=f"/{old_name}")  # with the slash, as Docker's


def _write_about(directory: str, found: Detached) -> None:
    """For its monitor, into its directory: not synced, for each start writes it anew. Raises: OSError."""
    path = f"{directory}/about"
    temporary = f"{path}.{os.getpid()}.new"
    with open(temporary, "w", encoding="ascii", errors="backslashreplace") as file:
        file.write(journal.about(found.id, _attributes(found)))
    os.rename(temporary, path)


def leave_for_monitor(roots: Roots, directory: str, found: Detached) -> list[str]:
    """The words for its monitor (src/c/monitor.c), and the file that it reads."""
    try:
        _write_about(directory, found)
        return [f"events={journal.ready(roots.data_root)}"]
    except OSError:
        return []  # a full disk keeps no container from starting for its events
