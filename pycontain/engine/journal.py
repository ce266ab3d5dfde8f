"""What a container has said to the journal, read back by journalctl."""

from __future__ import annotations

import json
import os
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

__all__ = ["JournalReader"]

_LOOK_S = 0.1
_QUIET_S = 0.5  # what the journal needs for what has been said last


class JournalReader:
    """As :class:`pycontain.engine.logs.LogReader`. Raises: Conflict: the journal cannot be read from here."""

    def __init__(
        self, roots: Roots, found: Detached, tail: int | None, since: str, until: str, follow: bool
    ) -> None:  # fmt: skip
        words = ["journalctl", "--quiet", "--no-pager", "--all", "--output=json", f"CONTAINER_ID_FULL={found.id}"]
        words.append(f"--lines={'all' if tail is None else tail}")
        if follow:
            words.append("--follow")
        self._found, self._run_directory = found, detached.run_directory_of(roots, found.id)
        self._since, self._until, self._follows = since, until, follow
        self._rest = b""
        self._ended_at = 0.0
        self.is_over = False
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise self._elsewhere(f"cannot run journalctl: {error.strerror}") from None
        os.set_blocking(self.fileno(), False)

    def _elsewhere(self, why: str) -> Conflict:
        return Conflict(
            f"container {self._found.name} logs to the journal, and {why}: `journalctl CONTAINER_ID={self._found.id[:12]}` shows it"
        )

    def fileno(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def left_s(self) -> float | None:
        return _LOOK_S if self._follows else None

    def lines(self) -> Iterator[Line]:
        """Those that are there now."""
        came = False
        while not self.is_over:
            data = self._read()
            if data is None:
                break
            came = True
            if not data:
                self._end()
            *whole, self._rest = (self._rest + data).split(b"\n")
            for each in whole:
                line = _parsed(each)
                if line is None or line.time < self._since:
                    continue
                if self._until and line.time > self._until:
                    self.is_over = True
                    return
                yield line
        if self._follows and not came and not self.is_over:
            self._look_whether_over()

    def _read(self) -> bytes | None:
        try:
            return os.read(self.fileno(), 1 << 16)
        except BlockingIOError:
            return None

    def _look_whether_over(self) -> None:
        """Nothing has come for a while since the container has ended."""
        if monitor.is_alive(self._run_directory):
            self._ended_at = 0.0
            return
        self._ended_at = self._ended_at or time.monotonic()
        self.is_over = time.monotonic() - self._ended_at > _QUIET_S

    def _end(self) -> None:
        self.is_over = True
        if self._follows or self._process.wait() == 0:
            return
        assert self._process.stderr is not None
        why = self._process.stderr.read().decode("utf-8", "replace").strip().split("\n")[0]
        if why:
            raise self._elsewhere(f"journalctl cannot read it: {why[:200]}")

    def close(self) -> None:
        process = self._process
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
