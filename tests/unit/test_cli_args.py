"""``pycontain run``'s words -> RunRequest, and what mistakes answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pycontain._version import __version__
from pycontain.cli import main as cli
from pycontain.cli import run
from pycontain.cli.arguments import Command, Option, count, read
from pycontain.cli.run_options import COMMAND
from pycontain.errors import InvalidArgument, PycontainError, Unsupported
from pycontain.request import Mount, RunRequest, Ulimit
from pycontain.runtime.roots import Roots


def request(*words: str, environ: dict[str, str] | None = None) -> RunRequest:
    values, rest = read(COMMAND, list(words))
    return run.request_of(values, rest, environ or {})


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ((), {}),
        (("--rm", "-i"), {}),
        (("-it",), {"terminal": True}),
        (("-m64m",), {"memory_bytes": 64 << 20}),
        (("-m=64m",), {"memory_bytes": 64 << 20}),
        (("-itm", "64m"), {"memory_bytes": 64 << 20, "terminal": True}),
        (("--memory=64m", "--memory", "65m"), {"memory_bytes": 65 << 20}),
        (("-m0", "--cpus=0", "--shm-size=0", "--blkio-weight=0", "--cpu-shares=0", "--memory-swap=0"), {}),
        (("--memory-swap", "-1", "--pids-limit", "-1"), {"memory_swap_bytes": -1, "pids_limit": -1}),
        (("--pids-limit=0",), {"pids_limit": -1}),
        (("--read-only=true", "--init=1"), {"read_only": True, "init": True}),
        (("--init", "--init=false"), {}),
        (("-t=false",), {}),
        (("-t", "-t=false"), {}),
        (("--net", "host"), {"network": "host"}),
        (("-h", "web"), {"hostname": "web"}),
        (("-e", "A=-x", "-eB=2", "-e", "HOME", "-e", "NONE"), {"env": (("A", "-x"), ("B", "2"), ("HOME", "/h"))}),
        (("--entrypoint", ""), {"entrypoint": ()}),
        (("--entrypoint", "-sh"), {"entrypoint": ("-sh",)}),
        (("-l", "a=b", "-l", "c", "-l", "a=d"), {"labels": (("a", "d"), ("c", ""))}),
        (("--ulimit", "core=1", "--ulimit=core=0"), {"ulimits": (Ulimit(name="core", soft=0, hard=0),)}),
        (("--security-opt", "no-new-privileges", "--security-opt=seccomp=/p.json"), {"no_new_privileges": True, "seccomp": "/p.json"}),
        (("--cap-add", "NET_ADMIN", "--cap-drop=ALL"), {"cap_add": ("NET_ADMIN",), "cap_drop": ("ALL",)}),
        (("--tmpfs", "/t"), {"mounts": (Mount(type="tmpfs", target="/t"),)}),
        (("-v", "./a:/b:ro"), {"mounts": (Mount(type="bind", source="./a", target="/b", read_only=True, create_source=True),)}),
        (("--stop-signal", "QUIT"), {"stop_signal": "QUIT"}),
        (("--oom-score-adj", "-500"), {"oom_score_adj": -500}),
    ],
)  # fmt: skip
def test_options(options: tuple[str, ...], fields: dict[str, Any]) -> None:
    expected = RunRequest(**{"image": "host", "args": ("sh",), **fields})
    assert request(*options, "host", "sh", environ={"HOME": "/h"}) == expected


@pytest.mark.parametrize(
    "words",
    [
        ("sh", "-c", "echo -it --rm"),
        ("ls", "-lah", "--help", "--nosuch"),
        ("sh", "--", "-x"),
        ("--version",),
        ("",),
    ],
)
def test_what_follows_the_image_belongs_to_the_program(words: tuple[str, ...]) -> None:
    assert request("--rm", "host", *words).args == words


def test_flag_that_is_on_until_it_is_taken_back() -> None:
    command = Command(
        "x", "", "", (Option("-H --human", "", "", on=True), Option("-q --quiet", "", "")), interspersed=True
    )
    for words, human in (
        ((), True),
        (("-H",), True),
        (("-H=false",), False),
        (("--human=false", "-qH"), True),
        (("a", "--human=0"), False),
    ):
        assert read(command, list(words))[0].human is human, words


@pytest.mark.parametrize(
    ("least", "most", "sentence"),
    [
        (0, 0, "'x' accepts no arguments, not 3: `x A`"), (0, 1, "'x' requires at most 1 argument, not 3"),
        (1, 1, "'x' requires 1 argument, not 3"),
        (4, None, "'x' requires at least 4 arguments, not 3"), (1, 2, "'x' requires at least 1 and at most 2 arguments, not 3"),
    ],
)  # fmt: skip
def test_number_of_words(least: int, most: int | None, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        count(Command("x", "A", "", ()), ["a", "b", "c"], least, most)
    assert sentence in str(caught.value)
    count(Command("x", "A", "", ()), ["a"] * least, least, most)


def test_two_dashes_end_the_options() -> None:
    assert request("--rm", "--", "host", "-i").args == ("-i",)


def test_rootfs_makes_the_first_word_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = request("--rootfs", "r", "sh", "-c", "x")
    assert (found.image, found.args) == (f"{tmp_path}/r", ("sh", "-c", "x"))


def test_env_files_come_before_single_variables(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\nB=2\nC\n")
    assert request("-e", "B=3", "--env-file", str(file), "host", environ={"C": "c"}).env == (
        ("A", "1"), ("B", "3"), ("C", "c"),
    )  # fmt: skip


def test_bad_line_of_an_env_file_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("A=1\nno good=2\n")
    with pytest.raises(InvalidArgument, match=f"--env-file {file}, line 2: "):
        request("--env-file", str(file), "host")


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("--memroy", "64m", "host"), "unknown option --memroy: did you mean --memory?"),
        (("-memory", "64m", "host"), "--memory"),
        (("-X", "host"), "unknown option -X: `pycontain run --help`"),
        (("--memory", "64q", "host"), "--memory: invalid size '64q'"),
        (("--memory",), "--memory needs a value: `pycontain run --memory SIZE`"),
        (("-m",), "-m needs a value"),
        (("--rm=maybe", "host"), "write --rm or --rm=false"),
        (("--rm",), "an image is missing"),
        (("--user", "a b", "host"), "--user: invalid user 'a b'"),
        (("--device-read-bps", "x", "host"), "--device-read-bps: "),
        (("--env-file", "/nonexistent", "host"), "cannot read it: No such file or directory"),
        (("--security-opt", "secomp=x", "host"), "did you mean seccomp?"),
        (("-e", "", "host"), "--env: invalid variable"),
    ],
)
def test_mistake(words: tuple[str, ...], phrase: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        request(*words)
    assert phrase in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("-p", "80:80", "host"), "bridge networks come later"),
        (("--network", "bridge", "host"), "--network: .*use none or host"),
        (("--pid", "container:x", "host"), "--pid: .*use private or host"),
    ],
)
def test_what_docker_has_and_we_do_not_yet(words: tuple[str, ...], phrase: str) -> None:
    with pytest.raises(Unsupported, match=phrase):
        request(*words)


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("--time", "host"), "--time belongs to --explain"),
        (("--format", "json", "host"), "--format belongs to --explain"),
        (("--explain", "--format", "yaml", "host"), "text or json"),
        (("--explain", "--time", "--timeout", "1", "host"), "contradict"),
        (("-a", "stdnit", "host"), "stdin or stdout or stderr"),
        (("--timeout", "soon", "host"), "--timeout: invalid time 'soon'"),
    ],
)
def test_mistake_about_the_run_itself(words: tuple[str, ...], phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase):
        cli.main(["run", *words])


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("rnu",), "unknown command 'rnu': did you mean run?"),
        (("--data-rot", "/x", "run"), "did you mean --data-root?"),
        (("--data-root",), "--data-root needs a value"),
        (("--data-root", "/x"), "a command is missing"),
        (("version", "x"), "the form is `pycontain version"),
        (("help", "rnu"), "did you mean run?"),
    ],
)
def test_mistake_before_a_command(words: tuple[str, ...], phrase: str) -> None:
    with pytest.raises(PycontainError) as caught:
        cli.main(list(words))
    assert phrase in str(caught.value)
    assert caught.value.exit_code == 125


def console(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    code = "from pycontain.cli.main import console; console()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, **options)


def test_the_version_by_a_template() -> None:
    done = console("version", "--format", "{{.Client.Version}} {{.Server.Os}}")
    assert (done.returncode, done.stdout) == (0, f"{__version__} linux\n")
    assert console("version", "--format", "{{.Engine}}").returncode == 64


def test_mistake_is_one_line_and_125() -> None:
    done = console("run", "--memroy", "1")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "pycontain: unknown option --memroy: did you mean --memory?\n"


def test_terminal_needs_a_terminal() -> None:
    done = console("run", "-it", "host", "sh", stdin=subprocess.DEVNULL)
    assert done.returncode == 125
    assert done.stderr.startswith("pycontain: the input device is not a TTY: ")


def test_reader_that_has_gone_is_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "from pycontain.cli.main import console; console()"
    done = subprocess.run(
        [sys.executable, "-c", code, "version"], stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_roots_come_from_option_then_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Roots] = []

    def version(argv: list[str], roots: Roots) -> int:
        seen.append(roots)
        return 0

    monkeypatch.setattr("pycontain.cli.version.main", version)
    monkeypatch.setenv("PYCONTAIN_DATA_ROOT", "/env")
    monkeypatch.setenv("PYCONTAIN_RUN_ROOT", "")
    monkeypatch.chdir(tmp_path)
    cli.main(["version"])
    cli.main(["--data-root", "d", "--run-root=/r", "version"])
    assert [(r.data_root, r.run_root) for r in seen] == [("/env", "/run/pycontain"), (f"{tmp_path}/d", "/r")]
