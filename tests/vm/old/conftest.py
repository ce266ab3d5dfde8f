"""Runs inside the VM booted with Debian 11's kernel (see tests/vm/test_guest.py)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.vm.guest.conftest import nothing_left

__all__ = ["nothing_left", "root"]


@pytest.fixture(scope="session")
def root() -> str:
    made = Path("/var/lib/pct-old")
    (made / "bin").mkdir(parents=True)
    (made / "bin/busybox").write_bytes(Path("/usr/bin/busybox").read_bytes())
    (made / "bin/busybox").chmod(0o755)
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in applets:
        if name != "busybox":
            (made / "bin" / name).symlink_to("busybox")
    return str(made)
