"""One start, as a pytest-benchmark: `pytest bench --benchmark-only`. bench.startup has the peers beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed")
native: Any = pytest.importorskip("pycontain._native", exc_type=ImportError)
pycontain: Any = pytest.importorskip("pycontain")

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BUSYBOX = shutil.which("busybox")


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> str:
    if BUSYBOX is None:
        pytest.skip("busybox is not installed (tests/peers/install.sh)")
    root = tmp_path_factory.mktemp("rootfs")
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (root / name).mkdir()
    shutil.copy2(BUSYBOX, root / "bin/busybox")
    (root / "bin/true").symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return str(root)


@pytest.mark.benchmark(group="start")
def test_floor(benchmark: Any, rootfs: str) -> None:
    until_exec_ns, until_exit_ns = benchmark(native.spawn_floor, [str(Path(rootfs) / "bin/true")])
    assert 0 < until_exec_ns < until_exit_ns


@NEEDS_ROOT
@pytest.mark.benchmark(group="start")
def test_run_in_process(benchmark: Any, rootfs: str) -> None:
    result = benchmark(pycontain.run, rootfs, ["/bin/true"], network="none")
    assert result.exit_code == 0
