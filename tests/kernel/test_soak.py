"""Start, look into, stop and remove, again and again: nothing is left, and nothing becomes more.

A hundred and fifty lives in CI; `make soak` runs ten thousand (PYCONTAIN_SOAK).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import pycontain
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

_LIVES = int(os.environ.get("PYCONTAIN_SOAK", "150"))
_THREADS = 3


def _resident_kib() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])


def _live(engine: pycontain.Engine, number: int) -> None:
    """One life. Each way to an end has its turn."""
    program = ["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.02; done"]
    c = engine.containers.run("host", program, detach=True, name=f"life-{number}", pids=32)
    with c.logs(
        text=True, follow=True
    ) as lines:  # the first process has no default action for TERM: its trap is there by now
        assert next(iter(lines)) == "up\n"
    assert c.exec(["sh", "-c", "echo hello >/tmp/f; cat /tmp/f"], text=True).stdout == "hello\n"
    end = number % 3
    if end == 0:
        c.stop(timeout=10)
        assert c.exit_code == 7
        c.start()
        c.kill()
        assert c.wait(timeout=20) == 137
    elif end == 1:
        c.kill("TERM")
        assert c.wait(timeout=20) == 7
    c.remove(force=end == 2)


@pytest.mark.timeout(60 + _LIVES)
def test_many_lives(staying: Roots) -> None:
    engine = pycontain.Engine(staying.data_root, staying.run_root)
    numbers = iter(range(_LIVES))
    failures: list[str] = []
    lock = threading.Lock()

    def loop() -> None:
        while not failures:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                _live(engine, number)
            except Exception as error:  # whatever it was fails the test
                failures.append(f"life {number}: {type(error).__name__}: {error}")

    for number in range(10):
        _live(engine, -1 - number)
    before, fds = _resident_kib(), len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=loop) for _ in range(_THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not failures, failures[0]
    assert engine.containers.list(all=True) == []
    assert len(os.listdir("/proc/self/fd")) <= fds + 2
    assert _resident_kib() < before + 20_000  # the rest is the census's (conftest.py)
