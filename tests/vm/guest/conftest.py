"""Runs inside the cgroup v2 VM (see tests/vm/test_guest.py): one container host of the kind that production has."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

CGROUP = "/sys/fs/cgroup/pycontain"
DATA, RUN = "/var/lib/pycontain", "/run/pycontain"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test ends with no cgroup, no directory and no guardian of ours."""
    yield
    from pycontain.runtime.session import close_all

    close_all()
    assert not os.path.exists(CGROUP)
    assert not os.path.exists(f"{DATA}/ephemeral") or os.listdir(f"{DATA}/ephemeral") == []
    assert not [name for name in os.listdir(RUN) if name.startswith("templates")] if os.path.exists(RUN) else True
    with open("/proc/self/mountinfo", encoding="ascii") as f:
        assert "pycontain" not in f.read()
