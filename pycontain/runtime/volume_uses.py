"""Which containers use a volume: those that stay say so in their configuration, started or not; those in the foreground of a
process, from before their start on, in a file that goes with them:

    <data root>/ephemeral/<owner>/<id>.volumes/uses      a name on each line
"""

from __future__ import annotations

import os

from .held import is_held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Uses", "write_uses"]

_MARK = b'"volume"'


def write_uses(directory: str, names: list[str]) -> None:
    """Raises: OSError."""
    fd = os.open(f"{directory}/uses", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        data = "".join([f"{name}\n" for name in names]).encode()
        if os.write(fd, data) != len(data):
            raise OSError(28, os.strerror(28), f"{directory}/uses")
    finally:
        os.close(fd)


class Uses:
    """As it is at this moment. A container whose configuration is damaged uses whatever is named in it."""

    def __init__(self, data_root: str) -> None:
        self._by_name: dict[str, list[str]] = {}
        self._damaged: list[tuple[str, bytes]] = []
        for container_id, names in _in_foreground(data_root):
            self._add(container_id, names)
        for container_id in _entries(f"{data_root}/containers"):
            if len(container_id) == 64:
                self._look_at(container_id, f"{data_root}/containers/{container_id}/config")

    def of(self, name: str) -> list[str]:
        """The ids of the containers that use it."""
        return [*self._by_name.get(name, ()), *(each for each, data in self._damaged if name.encode() in data)]

    def _add(self, container_id: str, names: set[str]) -> None:
        for name in names:
            self._by_name.setdefault(name, []).append(container_id)

    def _look_at(self, container_id: str, path: str) -> None:
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            return  # it is just being removed
        if _MARK not in data:
            return
        import json

        try:
            mounts = json.loads(data.decode("utf-8", "surrogateescape"))["request"]["RunRequest"]["mounts"]
            fields = [each["Mount"] for each in mounts]
            self._add(container_id, {each.get("source", "") for each in fields if each["type"] == "volume"})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._damaged.append((container_id, data))


def _in_foreground(data_root: str) -> Iterator[tuple[str, set[str]]]:
    base = f"{data_root}/ephemeral"
    for owner in _entries(base):
        for entry in _entries(f"{base}/{owner}"):
            if not entry.endswith(".volumes") or not is_held(f"{base}/{owner}.lock"):
                continue  # of one who was killed it only has not been swept yet
            try:
                with open(f"{base}/{owner}/{entry}/uses", encoding="utf-8") as file:
                    yield entry.removesuffix(".volumes"), set(file.read().split())
            except OSError:
                continue


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
