"""A real Debian root file system as a tar, made once by mmdebstrap and kept in the user's cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SUITE = "bookworm"
_NAME = f"debian-{_SUITE}-minbase-1.tar"  # another number for another recipe


def debian_tar() -> Path:
    """The tar's path; skips without mmdebstrap. Concurrent callers wait for the one that makes it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "pycontain"
    final = cache / _NAME
    if final.exists():
        return final
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed (tests/peers/install.sh)")
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{_NAME}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.exists():
            part = cache / f".{_NAME}.part"
            argv = [
                "mmdebstrap",
                "--quiet",
                "--mode=root",
                "--variant=minbase",
                "--include=perl,python3-minimal,libcap2-bin",
            ]
            done = subprocess.run([*argv, "--format=tar", _SUITE, str(part)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            os.rename(part, final)
    return final
