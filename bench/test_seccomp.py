"""Seccomp on the start path: the profile compiled cold, and taken from the cache. `pytest bench --benchmark-only`"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
seccomp: Any = pytest.importorskip("pycontain.seccomp")

CAPABILITIES = frozenset({"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT"})
PROFILE = Path(__file__).resolve().parent.parent / "pycontain/seccomp/default.json"


@pytest.mark.benchmark(group="seccomp")
def test_compile_default_profile(benchmark: Any) -> None:
    def compile_it() -> bytes:
        profile = seccomp.parse_docker_profile(PROFILE.read_bytes(), CAPABILITIES, platform.machine(), (6, 1))
        return bytes(seccomp.compile_filter(profile))

    assert len(benchmark(compile_it)) % 8 == 0  # whole BPF instructions


@pytest.mark.benchmark(group="seccomp")
def test_default_filter_cached(benchmark: Any, tmp_path: Path) -> None:
    wanted = (CAPABILITIES, platform.machine(), (6, 1), str(tmp_path))
    cold = seccomp.default_filter(*wanted)
    assert benchmark(seccomp.default_filter, *wanted) == cold
