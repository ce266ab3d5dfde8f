"""The journal of events: what has happened to containers, images and volumes, written by everybody, without a lock (ADR 18).

    <data root>/events/journal.1, journal.2, ...     lines of JSON; the newest four are kept

A line is ``"\\n" JSON "\\n"``, written at once to the newest segment with O_APPEND. Who finds that his line begins at SEGMENT_BYTES or
beyond knows that it does not count, makes the next segment and writes it again there; readers pass over it. The newline before it
keeps what a full disk has cut short from spoiling the next line. src/c/monitor_event.c does the same.

No json here: a ``pycontain run`` would pay for loading it.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KEPT", "SEGMENT_BYTES", "about", "directory_of", "emit", "ready", "segments"]

SEGMENT_BYTES = 1 << 20
KEPT = 4
_TRIES = 16
_PREFIX = "journal."


def directory_of(data_root: str) -> str:
    return f"{data_root}/events"


def ready(data_root: str) -> str:
    """The directory, made when it is not there. Raises: OSError."""
    path = directory_of(data_root)
    if not os.path.isdir(path):
        os.makedirs(path, 0o700, exist_ok=True)
    return path


def segments(directory: str) -> list[int]:
    """The numbers of those that are there, the oldest first. Raises: OSError."""
    digits = [each[len(_PREFIX) :] for each in os.listdir(directory) if each.startswith(_PREFIX)]
    return sorted([int(each) for each in digits if each.isascii() and each.isdigit() and each[0] != "0"])


def path_of(directory: str, number: int) -> str:
    return f"{directory}/{_PREFIX}{number}"


def emit(data_root: str, kind: str, action: str, of: str, attributes: Mapping[str, str]) -> None:
    """Writes down that ``action`` has happened to ``of``, a "container", "image", "volume", ...: now. What cannot be written is not
    said: no command fails for its event."""
    line = f'\n{{"timeNano":{time.time_ns()},"Type":{_quoted(kind)},"Action":{_quoted(action)},{about(of, attributes)}}}}}}}\n'
    try:
        _append(ready(data_root), line.encode())
    except OSError:
        pass


def about(of: str, attributes: Mapping[str, str]) -> str:
    """The part of a line that says who it is about; further attributes and three braces may follow."""
    pairs = ",".join([f"{_quoted(name)}:{_quoted(value)}" for name, value in attributes.items()])
    # without any, what follows begins with a comma: one that is empty and passed over by readers
    return f'"Actor":{{"ID":{_quoted(of)},"Attributes":{{{pairs or _NOTHING}'


_NOTHING = '"":""'


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    import json

    return json.dumps(text)


def _append(directory: str, line: bytes) -> None:
    for _ in range(_TRIES):
        known = segments(directory)
        newest = known[-1] if known else 0
        if newest:
            try:
                fd = os.open(path_of(directory, newest), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # removed since we looked: it is old
            try:
                wrote = os.write(fd, line)
                if wrote < len(line) or os.lseek(fd, 0, os.SEEK_CUR) - wrote < SEGMENT_BYTES:
                    return
            finally:
                os.close(fd)
        _begin(directory, newest + 1)


def _begin(directory: str, number: int) -> None:
    os.close(os.open(path_of(directory, number), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    for each in segments(directory):
        if each <= number - KEPT:
            try:
                os.unlink(path_of(directory, each))
            except FileNotFoundError:
                pass
