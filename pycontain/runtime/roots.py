"""Where pycontain keeps things: the data root (survives a boot) and the run root (does not)."""

from __future__ import annotations

import os
import stat

from ..errors import InvalidArgument, errno_name
from ..record import record
from ..rootless import outside

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


def default_roots(data_root: str | None = None, run_root: str | None = None) -> Roots:
    """What is not given: from PYCONTAIN_DATA_ROOT and PYCONTAIN_RUN_ROOT, else /var/lib/pycontain and /run/pycontain; of
    an ordinary user, $XDG_DATA_HOME/pycontain (~/.local/share) and $XDG_RUNTIME_DIR/pycontain (/tmp/pycontain-run-UID).

    Raises: InvalidArgument for a directory that another user could have laid out for this one."""
    data = data_root or os.environ.get("PYCONTAIN_DATA_ROOT")
    run = run_root or os.environ.get("PYCONTAIN_RUN_ROOT")
    uid = _ordinary_user()
    if uid is not None:
        data, run = data or _user_data(uid), run or _user_run(uid)
    return Roots(data_root=data or "/var/lib/pycontain", run_root=run or "/run/pycontain")


def _ordinary_user() -> int | None:
    """The uid outside, of one who is root here at most in a user namespace of his own; None for root."""
    return outside() if os.geteuid() == 0 else os.geteuid()


def _user_data(uid: int) -> str:
    given = os.environ.get("XDG_DATA_HOME", "")
    if given.startswith("/"):  # a relative one is to be ignored (XDG Base Directory Specification)
        return f"{given}/pycontain"
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        import pwd

        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            raise InvalidArgument(
                f"no data root: user {uid} has no home directory, and $HOME is not set. Give --data-root DIR"
            ) from None
    return home.rstrip("/") + "/.local/share/pycontain"


def _user_run(uid: int) -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if not runtime.startswith("/"):
        return _private_tmp(uid)
    try:
        owner = os.stat(runtime).st_uid
    except OSError as e:
        raise InvalidArgument(
            f"no run root: $XDG_RUNTIME_DIR, {runtime}: {e.strerror} ({errno_name(e.errno or 0)}). {_REMEDY}"
        ) from None
    if owner != os.geteuid():
        raise InvalidArgument(f"no run root: $XDG_RUNTIME_DIR, {runtime}, belongs to another user. {_REMEDY}")
    return f"{runtime}/pycontain"


_REMEDY = "Log in as this user (su and sudo keep another's), unset it, or give --run-root DIR"


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
            f"no run root: {path} is not a directory of this user's own, and only his to write to. Remove it, set "
            "$XDG_RUNTIME_DIR, or give --run-root DIR"
        )
    return path
