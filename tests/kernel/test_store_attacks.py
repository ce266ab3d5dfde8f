"""The image store against forks, damage, races and numbers: what none of them may do to it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from image_cases import member, tar
from test_store_removal import ONE, TWO, busybox, check_whole, data, put  # noqa: F401 - data is a fixture

import pycontain
from pycontain.engine import images
from pycontain.image.workspace import locked, try_lock

pytestmark = pytest.mark.kernel


@contextmanager
def forked() -> Iterator[None]:
    """A child of a fork without exec, as multiprocessing makes them, that lives as long as the block."""
    pid = os.fork()
    if pid == 0:
        while True:
            os.read(_never, 1)
    try:
        yield
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


_never, _kept_open = os.pipe()


def test_a_lock_ends_with_its_block_whoever_was_forked_in_it(data: str) -> None:  # noqa: F811
    block = locked(data, "index")
    block.__enter__()
    with forked():
        block.__exit__(None, None, None)
        with try_lock(data, "index") as held:
            assert held


def test_a_container_that_has_ended_holds_no_image_whoever_was_forked_meanwhile(tmp_path: Path, data: str) -> None:  # noqa: F811
    put(data, "app", busybox())
    with pycontain.Container(
        "app", ["/bin/busybox", "cat"], stdin=pycontain.PIPE, data_root=data, run_root=str(tmp_path / "run")
    ) as c:
        child = forked()
        child.__enter__()
    try:
        assert c.poll() is not None
        assert images.remove_image(data, "app")
    finally:
        child.__exit__(None, None, None)
    check_whole(data, nothing_else=True)
