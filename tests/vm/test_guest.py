"""The guest suites as one test each: boots the cgroup v2 VM and runs tests/vm/guest in it; with systemd, tests/vm/systemd."""

from __future__ import annotations

import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.vm.run import VmUnavailable, run_guest_tests

# tests of tests/kernel that ask this kernel and cgroup v2 as well; what they skip there is v1's
ALSO = tuple(
    f"tests/kernel/{name}.py" for name in ("test_cgroups_running", "test_cgroups_path", "test_limits_settings")
)
pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]
PACKAGE = Path(__file__).parents[2] / "pycontain"


def _package_copy(target: Path) -> Path:
    shutil.copytree(PACKAGE, target / "package" / "pycontain", ignore=shutil.ignore_patterns("__pycache__"))
    return target / "package"


def test_guest_suite(tmp_path: Path) -> None:
    try:
        result = run_guest_tests(_package_copy(tmp_path), pytest_args=ALSO, timeout=1500, output_dir=tmp_path / "out")
    except VmUnavailable as error:
        pytest.fail(f"the VM cannot run here: {error}")
    sys.stdout.write(result.output)
    suite = ElementTree.parse(result.output_dir / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    reasons = [skip.attrib.get("message", "") for skip in suite.iter("skipped")]
    assert (counts["failures"], counts["errors"]) == (0, 0), result.output
    others = [r for r in reasons if not any(word in r for word in ("v1", "cgroup v2 takes", "in cgroup v2"))]
    assert not others, others
    assert result.exit_code == 0 and counts["tests"] >= 100


def test_under_systemd(tmp_path: Path) -> None:
    try:
        result = run_guest_tests(_package_copy(tmp_path), suite="systemd", timeout=600, output_dir=tmp_path / "out")
    except VmUnavailable as error:
        pytest.fail(f"the VM cannot run here: {error}")
    sys.stdout.write(result.output)
    suite = ElementTree.parse(result.output_dir / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert (counts["failures"], counts["errors"], counts["skipped"]) == (0, 0, 0), result.output
    assert result.exit_code == 0 and counts["tests"] >= 4
