"""Where the ``pycontain`` program begins."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def console() -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    import gc

    gc.disable()  # a short life: collections while modules load are a tenth of it
    try:
        from .main import console as run

        run()
    except KeyboardInterrupt:  # while modules load, or while it ends: the second one of somebody in a hurry
        import os

        os._exit(130)
