"""Fixtures of the comparison: the static probe, a tmpfs for the bundles, and the runtimes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .comparison import Comparison
from .known import VERSIONS
from .runtimes import OURS, Crun, Pycontain, Runc, Runtime


@pytest.fixture(scope="session")
def bundle_directory(base: str) -> Iterator[Path]:
    """A tmpfs: hundreds of small roots are made and removed, which is slow on some ext4."""
    made = Path(base) / "oci"
    made.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", "comparison", str(made)], check=True)
    yield made
    subprocess.run(["umount", str(made)], check=True)


@pytest.fixture(scope="session")
def probe(bundle_directory: Path) -> Path:
    """probe.c, compiled statically."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("needs gcc and a static libc (Debian packages gcc and libc6-dev)")
    made = bundle_directory / "probe"
    source = Path(__file__).with_name("probe.c")
    subprocess.run([gcc, "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o", made, source], check=True)
    return made


def _other_versions() -> list[str]:
    """One line for each peer that is not the version whose differences are recorded."""
    said = {
        n: subprocess.run([n, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
        for n in VERSIONS
    }
    return [f"this is {said[n]}; what is known is of {n} {v}" for n, v in VERSIONS.items() if v not in said[n]]


@pytest.fixture(scope="session")
def oci(bundle_directory: Path, probe: Path, busybox_root: str) -> Comparison:
    """The comparison over all runtimes; what each makes of a case is kept, because two tests ask for it."""
    kinds: list[type[Runtime]] = [Runc, Crun, *([Pycontain] if OURS else [])]
    for kind in kinds:
        if kind.missing():
            pytest.skip(kind.missing())
    busybox = bundle_directory / "busybox"
    shutil.copy2(f"{busybox_root}/bin/busybox", busybox)
    state = bundle_directory / "state"
    state.mkdir(mode=0o700)
    runtimes = {kind.name: kind(state) for kind in kinds}
    return Comparison(bundle_directory, probe, str(busybox), runtimes, _other_versions())
