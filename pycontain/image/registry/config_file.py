"""Docker's ``config.json``, changed in place: one entry of ``auths``, everything else as it was.

The file belongs to Docker's tools, too: fields that are unknown here stay, a symbolic link stays one (its target is replaced),
and a reader sees the old file or the new one, never a part (temporary file, fsync, rename; 0600). Writers of ours wait for
each other by a lock on the directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...errors import InvalidArgument, errno_name
from ..documents import parse_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ConfigFile", "editing"]

_MAX_FILE_BYTES = 4 << 20


class ConfigFile:
    """The file as it was when the lock was taken: ``data`` are its bytes, b"" when there is none."""

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        self.data = data

    def replace_entry(self, domain: str, key: str, entry: dict[str, str] | None) -> bool:
        """Sets the registry's entry under ``key``, or removes it with None; entries under its other names go. Whether
        there was one. Nothing is written when nothing changes."""
        from .credentials import registry_of_key

        try:
            document = parse_json(self.data, self.path) if self.data.strip() else {}
        except InvalidArgument as error:
            raise InvalidArgument(f"{error}: mend it or move it away; $DOCKER_CONFIG names another directory") from None
        auths = document.get("auths")
        if auths is None:
            auths = {}
        if not isinstance(auths, dict):
            raise InvalidArgument(f"cannot use {self.path}: auths is not an object")
        old = [each for each in auths if registry_of_key(each) == (domain, "")]
        if entry is None and not old:
            return False
        kept = {name: value for name, value in auths.items() if name not in old or (entry is not None and name == key)}
        if entry is not None:
            kept[key] = entry
        document["auths"] = kept
        self._write(document)
        return bool(old)

    def _write(self, document: dict[str, Any]) -> None:
        target = os.path.realpath(self.path)
        data = _to_bytes(document)
        temporary = ""
        try:
            fd, temporary = tempfile.mkstemp(prefix=".config.json.", dir=os.path.dirname(target))  # 0600
            with os.fdopen(fd, "wb") as file:
                with suppress(OSError):  # of a file that another user owns (sudo): his, where that is allowed
                    owner = os.stat(target)
                    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                        os.fchown(fd, owner.st_uid, owner.st_gid)
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(temporary, target)
        except OSError as error:
            if temporary:
                with suppress(OSError):
                    os.unlink(temporary)
            raise InvalidArgument(
                f"cannot write {self.path}: {error.strerror} ({errno_name(error.errno or 0)}): "
                "$DOCKER_CONFIG names another directory"
            ) from None
        self.data = data


def _to_bytes(document: dict[str, Any]) -> bytes:
    """As Docker writes it: indented by tabs."""
    try:
        return (json.dumps(document, indent="\t", ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half a surrogate pair: only as an escape
        return (json.dumps(document, indent="\t") + "\n").encode()


@contextmanager
def editing(path: str) -> Iterator[ConfigFile]:
    """Holds the lock. The directory is made when it is not there, 0700. Raises: InvalidArgument."""
    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(
            f"cannot use {path}: {directory}: {error.strerror} ({errno_name(error.errno or 0)}): "
            "$DOCKER_CONFIG names another directory"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield ConfigFile(path, _read(target))
    finally:
        os.close(fd)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror} ({errno_name(error.errno or 0)})") from None
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidArgument(f"cannot read {path}: more than {_MAX_FILE_BYTES} bytes")
    return data
