"""The guest suite as one test here: boots the cgroup v2 VM once and runs tests/vm/guest in it."""

from __future__ import annotations

import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.vm.run import VmUnavailable, run_guest_tests

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]
PACKAGE = Path(__file__).parents[2] / "pycontain"


def _package_copy(target: Path) -> Path:
    shutil.copytree(PACKAGE, target / "package" / "pycontain", ignore=shutil.ignore_patterns("__pycache__"))
    return target / "package"


def test_guest_suite(tmp_path: Path) -> None:
    try:
        result = run_guest_tests(_package_copy(tmp_path), timeout=1500, output_dir=tmp_path / "out")
    except VmUnavailable as error:
        pytest.fail(f"the VM cannot run here: {error}")
    sys.stdout.write(result.output)
    suite = ElementTree.parse(result.output_dir / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert (counts["failures"], counts["errors"], counts["skipped"]) == (0, 0, 0), result.output
    assert result.exit_code == 0 and counts["tests"] >= 14
