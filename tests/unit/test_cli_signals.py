"""Signals that arrive while a container is being started."""

from __future__ import annotations

import os
import signal
import time

import pytest

from pycontain.cli.signals import Signals


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # the handler runs between two instructions


def test_first_signal_waits_for_the_container() -> None:
    begun_ns = time.monotonic_ns()
    with Signals() as signals:
        send(signal.SIGTERM)
        signals.started(begun_ns)
        assert signals.take() == bytes([signal.SIGTERM])


def test_signal_before_there_is_a_container_ends_the_start() -> None:
    with Signals() as signals:
        send(signal.SIGINT)
        with pytest.raises(SystemExit) as ended:
            signals.started(time.monotonic_ns())
    assert ended.value.code == 130


def test_second_signal_ends_a_long_start() -> None:
    with Signals():
        send(signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            send(signal.SIGTERM)
    assert ended.value.code == 143


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)]
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGWINCH)] == before
