"""Where pycontain keeps things: the data root (survives a boot) and the run root (does not)."""

from __future__ import annotations

import os

from ..errors import InvalidArgument
from ..record import record

__all__ = ["Roots", "default_roots"]


@record
class Roots:
    """Absolute directories, made when first needed."""

    data_root: str = "/var/lib/pycontain"
    run_root: str = "/run/pycontain"

    def __post_init__(self) -> None:
        for name, path in (("data root", self.data_root), ("run root", self.run_root)):
            if not path.startswith("/") or "\0" in path:
                raise InvalidArgument(f"the {name} must be an absolute path, not {path!r}")


def default_roots() -> Roots:
    """From PYCONTAIN_DATA_ROOT and PYCONTAIN_RUN_ROOT, else /var/lib/pycontain and /run/pycontain."""
    return Roots(
        data_root=os.environ.get("PYCONTAIN_DATA_ROOT") or "/var/lib/pycontain",
        run_root=os.environ.get("PYCONTAIN_RUN_ROOT") or "/run/pycontain",
    )
