"""Where pycontain keeps things: the data root (survives a boot) and the run root (does not)."""

from __future__ import annotations

import os
import stat

from ..errors import InvalidArgument
from ..record import record
from ..rootless import MARK

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
    """From PYCONTAIN_DATA_ROOT and PYCONTAIN_RUN_ROOT, else /var/lib/pycontain and /run/pycontain; of an ordinary user,
    $XDG_DATA_HOME/pycontain (~/.local/share) and $XDG_RUNTIME_DIR/pycontain (/tmp/pycontain-run-UID)."""
    data, run = "/var/lib/pycontain", "/run/pycontain"
    uid = _ordinary_user()
    if uid is not None:
        home = os.environ.get("HOME") or "/"
        data = (os.environ.get("XDG_DATA_HOME") or f"{home}/.local/share") + "/pycontain"
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        run = f"{runtime}/pycontain" if runtime else _private_tmp(uid)
    return Roots(
        data_root=os.environ.get("PYCONTAIN_DATA_ROOT") or data, run_root=os.environ.get("PYCONTAIN_RUN_ROOT") or run
    )


def _ordinary_user() -> int | None:
    """The uid outside, of one who is root here at most in a user namespace of his own; None for root."""
    mark = os.environ.get(MARK)
    if os.geteuid() != 0:
        return os.geteuid()
    if mark is None:
        return None
    uid = mark.partition(":")[0]
    return int(uid) if uid.isdigit() else None


def _private_tmp(uid: int) -> str:
    """A directory in /tmp that is ours alone: one that another user has put there is not taken."""
    path = f"/tmp/pycontain-run-{uid}"
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return path  # the first use will say why
    info = os.lstat(path)
    if info.st_uid != os.geteuid() or not stat.S_ISDIR(info.st_mode) or info.st_mode & 0o022:
        raise InvalidArgument(
            f"the run root {path} is not this user's own directory: remove it, or set XDG_RUNTIME_DIR"
        )
    return path
