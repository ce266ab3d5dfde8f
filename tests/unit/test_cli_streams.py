"""Standard streams that are closed, full, or no longer read: one line at most, the right exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEADLINE_S = 60.0
COMMANDS = (
    "images",
    "image ls --digests",
    "version",
    "--help",
    "help run",
    "image",
    "images --help",
    "doctor --help",
)


def shell(data_root: Path, line: str, stdin: int | None = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    """``line`` by bash; in it ``p`` is pycontain."""
    script = f'p() {{ "$PYTHON" -m pycontain "$@"; }}\n{line}'
    given = {
        "PYTHON": sys.executable,
        "PYCONTAIN_DATA_ROOT": str(data_root),
        "PYCONTAIN_RUN_ROOT": str(data_root / "run"),
    }
    return subprocess.run(
        ["bash", "-c", script], stdin=stdin, capture_output=True, text=True, timeout=DEADLINE_S, env={**os.environ, **given},
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("buffering", ["", "1"])
@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(("to", "code"), [(">&-", "EBADF"), (">/dev/full", "ENOSPC")])
def test_output_that_goes_nowhere_is_one_line(tmp_path: Path, words: str, to: str, code: str, buffering: str) -> None:
    done = shell(tmp_path, f"export PYTHONUNBUFFERED={buffering}; p {words} {to}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pycontain: cannot write to standard output: ") and f"({code})" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", ["images", "version", "--help"])
@pytest.mark.parametrize("to", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_other_streams_may_be_closed(tmp_path: Path, words: str, to: str) -> None:
    done = shell(tmp_path, f"p {words} {to}")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout


def test_an_error_nobody_can_read_has_its_exit_code(tmp_path: Path) -> None:
    for to in ("2>&-", "2>/dev/full", "<&- >&- 2>&-"):
        assert shell(tmp_path, f"p no-such-command {to}").returncode == 125


@pytest.mark.parametrize("words", ["image prune", "login -u ann --password-stdin localhost:1"])
def test_closed_standard_input_is_an_empty_one(tmp_path: Path, words: str) -> None:
    closed, empty = shell(tmp_path, f"p {words} <&-"), shell(tmp_path, f"p {words} </dev/null")
    assert (closed.returncode, closed.stdout, closed.stderr) == (empty.returncode, empty.stdout, empty.stderr)


def test_reader_that_has_gone_ends_it_without_a_word(tmp_path: Path) -> None:
    done = shell(tmp_path, "p --help | true; echo ${PIPESTATUS[0]}; p help run 2>&1 | head -c 1 | wc -c")
    assert done.stdout.split() in (["141", "1"], ["0", "1"])  # 0: all of it was in the pipe before its reader had gone
    assert done.stderr == ""


def test_files_never_get_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\nfrom pycontain.cli.closed_streams import stand_in\nstand_in()\n"
        "os._exit(0 if os.open(sys.executable, os.O_RDONLY) > 2 else 1)\n"
    )
    assert shell(tmp_path, f'"$PYTHON" {program} <&- >&- 2>&-').returncode == 0
