"""What the process inside must not inherit from whoever started the runtime, or must: same document, odd parents."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
from collections.abc import Callable

import pytest

from .comparison import Case, Comparison, with_known
from .known import Known, runc
from .runtimes import OURS

pytestmark = pytest.mark.kernel

_libc = ctypes.CDLL(None)


def _ignoring() -> None:
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _oom_score() -> None:
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as f:
        f.write("300")


def _another_fd() -> None:
    fd = os.open("/etc/passwd", os.O_RDONLY)
    os.dup2(fd, 9)
    fcntl.fcntl(9, fcntl.F_SETFD, 0)


def _prctl(number: int, *values: int) -> Callable[[], None]:
    def call() -> None:
        assert _libc.prctl(number, *values, *[0] * (4 - len(values))) == 0

    return call


_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_TIMERSLACK, _PR_SET_THP_DISABLE = 1, 8, 29, 41
_PARENTS: dict[str, Callable[[], object]] = {
    "umask": lambda: os.umask(0o077),
    "ignored-signals": _ignoring,
    "blocked-signals": lambda: signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGUSR2, signal.SIGTERM}
    ),
    "oom-score": _oom_score,
    "nice": lambda: os.nice(7),
    "batch": lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)),
    "io-priority": lambda: _libc.syscall(251, 1, 0, 2 << 13 | 7),  # ioprio_set
    "one-cpu": lambda: os.sched_setaffinity(0, {0}),
    "groups": lambda: os.setgroups([10, 20, 30]),
    "core-limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    "few-files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 2000)),
    "another-fd": _another_fd,
    "environment": lambda: os.environ.update(LD_PRELOAD="", SECRET="1"),
    "personality": lambda: _libc.personality(0x0040000),  # ADDR_NO_RANDOMIZE
    "no-new-privileges": _prctl(38, 1),
    "death-signal": _prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1),
    "timer-slack": _prctl(_PR_SET_TIMERSLACK, 1000),
    "huge-pages-off": _prctl(_PR_SET_THP_DISABLE, 1),
}

PARENTS = tuple(Case(f"parent-{name}", surroundings=parent) for name, parent in _PARENTS.items())
KNOWN: dict[str, tuple[Known, ...]] = {
    "parent-blocked-signals": (runc("status SigBlk", "leaves some of the blocked signals blocked"),),
}

CASES = with_known(PARENTS, KNOWN)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each
def test_peers(oci: Comparison, case: Case) -> None:
    oci.peers(case)


if OURS:

    @each
    def test_pycontain(oci: Comparison, case: Case) -> None:
        oci.ours(case)
