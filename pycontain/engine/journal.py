"""What a container has said to the journal, read back by journalctl."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from typing import Any

from ..errors import Conflict
from ..runtime import detached, monitor
from .logs import Line, stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..runtime.detached import Detached
    from ..runtime.roots import Roots

__all__ = ["read_journal"]

_QUIET_S = 0.5  # what the journal needs for what has been said last


def read_journal(
    roots: Roots, found: Detached, *, tail: int | None, since: str, until: str, follow: bool
) -> Iterator[Line]:
    """As :func:`pycontain.engine.logs.read_logs`. Raises: Conflict: it cannot be read from here."""
    words = ["journalctl", "--quiet", "--no-pager", "--all", "--output=json", f"CONTAINER_ID_FULL={found.id}"]
    words.append(f"--lines={'all' if tail is None else tail}")
    if follow:
        words.append("--follow")
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise _elsewhere(found, f"cannot run journalctl: {error.strerror}") from None
    return _lines(roots, found, process, since, until, follow)


def _elsewhere(found: Detached, why: str) -> Conflict:
    return Conflict(
        f"container {found.name} logs to the journal, and {why}: `journalctl CONTAINER_ID={found.id[:12]}` shows it"
    )


def _lines(
    roots: Roots, found: Detached, process: subprocess.Popen[bytes], since: str, until: str, follow: bool
) -> Iterator[Line]:
    assert process.stdout is not None and process.stderr is not None
    try:
        for data in _read(roots, found, process.stdout.fileno(), follow):
            line = _parsed(data)
            if line is None or line.time < since:
                continue
            if until and line.time > until:
                return
            yield line
        if not follow and process.wait() != 0:
            why = process.stderr.read().decode("utf-8", "replace").strip().split("\n")[0]
            if why:
                raise _elsewhere(found, f"journalctl cannot read it: {why[:200]}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _read(roots: Roots, found: Detached, fd: int, follow: bool) -> Iterator[bytes]:
    """Lines, until the end; of one that is followed until nothing has come for a while since the container has ended."""
    rest = b""
    ended_at = 0.0
    while True:
        if follow:
            alive = monitor.is_alive(detached.run_directory_of(roots, found.id))
            ended_at = 0.0 if alive else ended_at or time.monotonic()
            if not select.select([fd], [], [], 0.1)[0]:
                if ended_at and time.monotonic() - ended_at > _QUIET_S:
                    return
                continue
        data = os.read(fd, 1 << 16)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


def _parsed(data: bytes) -> Line | None:
    try:
        entry: dict[str, Any] = json.loads(data)
        message = entry["MESSAGE"]
        at = int(entry["__REALTIME_TIMESTAMP"])
    except (ValueError, KeyError, TypeError):
        return None  # journalctl's own words between the entries
    text = bytes(message).decode("utf-8", "replace") if isinstance(message, list) else str(message)
    return Line(
        stream="stderr" if entry.get("PRIORITY") == "3" else "stdout",
        time=stamp(at // 1_000_000, f"{at % 1_000_000:06}000"),
        text=text if entry.get("CONTAINER_PARTIAL_MESSAGE") == "true" else text + "\n",
    )
