"""The guest suites as one test each: boots the cgroup v2 VM and runs tests/vm/guest in it; with systemd, tests/vm/systemd; with SELinux,
tests/vm/selinux."""

from __future__ import annotations

import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.vm.run import VmOldKernelGone, VmUnavailable, run_guest_tests

# tests of tests/kernel that ask this kernel and cgroup v2 as well; what they skip there is v1's
ALSO = tuple(
    f"tests/kernel/{name}.py"
    for name in (
        "test_cgroups_running",
        "test_cgroups_path",
        "test_limits_settings",
        "test_many_layers",
        "test_launch",
        "test_stats",
        "test_exec",
    )
)
ALSO += tuple(
    f"tests/kernel/{name}"
    for name in (
        "test_detached.py::test_a_life",
        "test_detached.py::test_each_start_is_counted_from_zero",
        "test_detached.py::test_restart_policies",
        "test_detached.py::test_pause",
        "test_detached.py::test_ids_of_its_own",
        "test_detached.py::test_killed_for_its_memory",
        "test_detached_ends.py::test_a_monitor_that_is_killed",
    )
)
# what the least kernel does another way, by the tests of how it is done elsewhere
OLD = tuple(f"tests/kernel/{name}.py" for name in ("test_mount_options_kernel", "test_bundle", "test_hooks_inside"))
pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]
PACKAGE = Path(__file__).parents[2] / "pycontain"


def _package_copy(target: Path) -> Path:
    shutil.copytree(PACKAGE, target / "package" / "pycontain", ignore=shutil.ignore_patterns("__pycache__"))
    return target / "package"


def _counts(suite: str, tmp_path: Path, *, timeout: float, pytest_args: tuple[str, ...] = ()) -> tuple[int, list[str]]:
    """How many tests were run in the VM, all of which passed or were skipped, and why they were."""
    try:
        result = run_guest_tests(
            _package_copy(tmp_path), suite=suite, pytest_args=pytest_args, timeout=timeout, output_dir=tmp_path / "out"
        )
    except VmOldKernelGone as error:
        pytest.skip(str(error))
    except VmUnavailable as error:
        pytest.fail(f"the VM cannot run here: {error}")
    sys.stdout.write(result.output)
    found = ElementTree.parse(result.output_dir / "junit.xml").getroot().find("testsuite")
    assert found is not None
    assert (found.attrib["failures"], found.attrib["errors"], result.exit_code) == ("0", "0", 0), result.output
    return int(found.attrib["tests"]), [skip.attrib.get("message", "") for skip in found.iter("skipped")]


def test_guest_suite(tmp_path: Path) -> None:
    count, skipped = _counts("guest", tmp_path, timeout=1500, pytest_args=ALSO)
    others = [r for r in skipped if not any(word in r for word in ("v1", "cgroup v2 takes", "in cgroup v2"))]
    assert not others, others
    assert count >= 115


def test_under_systemd(tmp_path: Path) -> None:
    count, skipped = _counts("systemd", tmp_path, timeout=600)
    assert count >= 4 and not skipped


def test_under_selinux(tmp_path: Path) -> None:
    count, skipped = _counts("selinux", tmp_path, timeout=600)
    assert count >= 22 and not skipped


def test_under_linux_5_10(tmp_path: Path) -> None:
    count, skipped = _counts("old", tmp_path, timeout=900, pytest_args=OLD)
    assert count >= 110
    assert all("came with Linux" in reason or "v1" in reason for reason in skipped), skipped
