"""How commands of images end when their streams are closed or full, and when they are asked to end."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from tests import registries
from tests.cutting_proxy import CuttingProxy
from tests.registries import DebianRegistry

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PYCONTAIN = str(Path(sys.executable).parent / "pycontain")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", str(tmp_path / "data"))
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", str(tmp_path / "run"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    return str(tmp_path / "data")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DebianRegistry]:
    with registries.start(tmp_path) as started:
        yield started


def image(name: str, size: int = 1000) -> pycontain.Image:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = size
        archive.addfile(info, io.BytesIO(random.Random(1).randbytes(size)))
    return pycontain.Image.import_tar(io.BytesIO(buffer.getvalue()), name)


def shell(script: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["bash", "-c", script.replace("pycontain ", f"{PYCONTAIN} ")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 1, done.stderr
    return done


@pytest.mark.parametrize(
    ("script", "code", "phrase"),
    [
        ("pycontain images >&-", 1, "cannot write to standard output: Bad file descriptor (EBADF)"),
        ("pycontain images > /dev/full", 1, "cannot write to standard output: No space left on device (ENOSPC): free"),
        ("pycontain save app > /dev/full", 1, "No space left on device (ENOSPC)"),
        ("pycontain save app >&-", 1, "(EBADF)"),
        ("pycontain save -o /dev/full app", 1, "cannot save to /dev/full: No space left on device (ENOSPC)"),
        ("pycontain save app | head -c 10 > /dev/null; exit ${PIPESTATUS[0]}", 141, ""),
        ("pycontain images 2>&-", 0, ""),
        ("pycontain images <&-", 0, ""),
        ("pycontain rmi nosuch 2>&-", 1, ""),
        ("pycontain images <&- >/dev/null 2>&-", 0, ""),
        ("pycontain --help > /dev/full", 1, "ENOSPC"),
    ],
)
def test_streams(data: str, script: str, code: int, phrase: str) -> None:
    image("app", 3_000_000)
    done = shell(script)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert phrase in done.stderr and (phrase or not done.stderr)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_pull_that_is_asked_to_end_leaves_nothing(
    data: str, registry: DebianRegistry, number: signal.Signals
) -> None:
    name = f"{registry.host}/big:1"
    image(name, 8 << 20).push()
    pycontain.Image(name).remove(force=True)
    with (
        CuttingProxy(registry.host, [1 << 20] * 9, stalls=True) as proxy,
        subprocess.Popen(
            [PYCONTAIN, "pull", name.replace(registry.host, proxy.host)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as pulling,
    ):
        assert proxy.stalled.wait(30)
        pulling.send_signal(number)
        _, errors = pulling.communicate(timeout=10)
        assert (pulling.returncode, errors) == (128 + number, "")
    assert not os.listdir(f"{data}/tmp") and not os.listdir(f"{data}/layers") and not os.listdir(f"{data}/names")


def test_a_save_that_fails_leaves_the_old_file(data: str, tmp_path: Path) -> None:
    image("app")
    target = tmp_path / "out.tar"
    target.write_text("old")
    done = shell(f"pycontain save -o {target} app nosuch")
    assert done.returncode == 1 and target.read_text() == "old" and [p.name for p in tmp_path.glob(".pycontain*")] == []
    assert shell(f"pycontain save -o {target} app").returncode == 0 and tarfile.is_tarfile(target)
