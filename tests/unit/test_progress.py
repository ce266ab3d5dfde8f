"""Pull and push on a terminal and without one: as many layers as there may be, on a screen that is small or changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from pycontain.cli import output
from pycontain.cli import progress as module
from pycontain.cli.progress import line_of, lines_of, shown
from pycontain.engine.images import Progress
from tests.unit.terminal_screen import Pty, Terminal


def step(layer: str, state: str, current: int = 0, total: int = 0) -> Progress:
    return Progress(layer=layer, state=state, current=current, total=total)


# --- without a terminal: what docker prints into a pipe (golden/docker, "pull localhost:5000/team/app:1.0") --------------


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=False) as progress:
        assert progress is not None
        for each in (
            step("", "1.0: Pulling from team/app"), step("8da5123964ee", "Pulling fs layer"), step("894e2cf10e5c", "Pulling fs layer"),
            step("8da5123964ee", "Downloading", 1, 2), step("8da5123964ee", "Downloading", 2, 2),
            step("8da5123964ee", "Verifying Checksum"),
            step("8da5123964ee", "Download complete"), step("8da5123964ee", "Download complete"), step("8da5123964ee", "Extracting", 1, 2),
            step("8da5123964ee", "Pull complete"), step("894e2cf10e5c", "Already exists"), step("", "Digest: sha256:0"),
        ):  # fmt: skip
            progress(each)
    assert capsys.readouterr().out.splitlines() == [
        "1.0: Pulling from team/app", "8da5123964ee: Pulling fs layer", "894e2cf10e5c: Pulling fs layer",
        "8da5123964ee: Verifying Checksum",
        "8da5123964ee: Download complete", "8da5123964ee: Pull complete", "894e2cf10e5c: Already exists", "Digest: sha256:0",
    ]  # fmt: skip


def test_next_tag_says_its_layers_again(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=False) as progress:
        assert progress is not None
        for each in (step("a", "Already exists"), step("", "2.0: Pulling from app"), step("a", "Already exists")):
            progress(each)
    assert capsys.readouterr().out.count("a: Already exists\n") == 2


def test_quiet_is_nothing_to_call() -> None:
    with shown(quiet=True) as progress:
        assert progress is None


def test_lines_of_many_threads_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(quiet=False) as progress:
        assert progress is not None
        threads = [
            threading.Thread(target=lambda n=n: [progress(step(f"{n}", f"State {at}")) for at in range(50)])
            for n in range(8)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"{n}: State {at}" for n in range(8) for at in range(50))


# --- lines on a terminal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (120, "a2abf6c4d29d: Downloading [=========================>                         ]   12.5MB/25MB"),
        (80, "a2abf6c4d29d: Downloading [===============>                ]   12.5MB/25MB"),
        (60, "a2abf6c4d29d: Downloading [=====>      ]   12.5MB/25MB"),
        (50, "a2abf6c4d29d: Downloading   12.5MB/25MB"),
        (30, "a2abf6c4d29d: Downloading   1"),
        (1, "a"),
    ],
)
def test_bar_fits(width: int, line: str) -> None:
    assert line_of(step("a2abf6c4d29d", "Downloading", 12_500_000, 25_000_000), width) == line


@pytest.mark.parametrize(
    ("current", "total", "end"), [(0, 0, "Extracting"), (5, 0, "Extracting       5B"), (9, 5, "Extracting       9B")]
)
def test_bar_without_a_total(current: int, total: int, end: str) -> None:
    assert line_of(step("a", "Extracting", current, total), 100) == f"a: {end}"


def test_bar_does_not_grow_or_shake() -> None:
    total = 31_400_000
    lines = [line_of(step("a", "Downloading", current, total), 90) for current in range(0, total + 1, total // 50)]
    assert len({line.index("]") for line in lines[1:]}) == 1
    assert all(len(line) < 90 for line in lines)


def test_too_many_layers_show_those_at_work() -> None:
    states = ["Pull complete", "Downloading", "Waiting"]
    layers = [step(f"{at:02}", states[at % 3]) for at in range(60)]
    lines = lines_of(layers, 80, 24)
    assert len(lines) == 23
    assert lines[-1] == "... and 38 more: 18 waiting, 20 done"
    assert [line[:2] for line in lines[:-1]] == sorted(line[:2] for line in lines[:-1])
    assert sum("Downloading" in line for line in lines) == 20
    assert lines_of(layers, 80, 3)[-1] == "... and 59 more: 19 at work, 20 waiting, 20 done"
    assert len(lines_of(layers, 80, 1)) == 1


# --- on a terminal ------------------------------------------------------------------------------------------------------


@pytest.fixture
def pty(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Pty]:
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Pty(*getattr(request, "param", (80, 24)))
    for each in (module, output):  # sys.stdout itself is pytest's again when the test begins
        monkeypatch.setattr(each, "sys", SimpleNamespace(stdout=terminal.stdout))
    yield terminal
    monkeypatch.undo()


def pull(names: list[str], frames: int = 5, between: object = None) -> None:
    """A whole pull; every frame is drawn, whatever the clock says."""
    with shown(quiet=False) as screen:
        assert isinstance(screen, module.Screen)
        screen(step("", "12: Pulling from library/debian"))
        for name in names:
            screen(step(name, "Pulling fs layer"))
        for frame in range(frames):
            for name in names:
                screen(step(name, "Downloading", frame * 1_000_000, frames * 1_000_000))
            screen._live.refresh()
            if callable(between):
                between(frame)
        for name in names:
            screen(step(name, "Pull complete"))
        screen(step("", "Digest: sha256:0"))
        screen(step("", "Status: Downloaded newer image for debian:12"))


@pytest.mark.parametrize("pty", [(80, 24), (200, 50), (40, 10), (20, 4), (80, 2)], indirect=True, ids=str)
@pytest.mark.parametrize("number", [1, 3, 60])
def test_every_layer_has_one_line_at_the_end(number: int, pty: Pty, request: pytest.FixtureRequest) -> None:
    width, height = os.get_terminal_size(pty.slave)
    names = [f"{at:012x}" for at in range(number)]
    pull(names)
    screen = Terminal(width, height).feed(pty.close())
    whole = [f"{name}: Pull complete"[: width - 1].rstrip() for name in names]
    text = screen.text
    start = text.index(whole[0])
    assert text[start : start + number] == whole
    if width > 50:
        assert text[:start] == ["12: Pulling from library/debian"]
        assert text[start + number :] == ["Digest: sha256:0", "Status: Downloaded newer image for debian:12", ""]
    assert screen.column == 0
    assert not {"?25l", "?25h"} & screen.escapes


def test_screen_that_grows_and_shrinks(pty: Pty) -> None:
    sizes = {0: (100, 30), 1: (60, 10), 2: (120, 40), 3: (40, 8)}
    names = [f"{at:012x}" for at in range(20)]

    def resize(frame: int) -> None:
        if frame in sizes:
            pty.resize(*sizes[frame])

    pull(names, 6, resize)
    text = Terminal(40, 1000).feed(pty.close()).text
    start = text.index(f"{names[0]}: Pull complete")
    assert text[start : start + 20] == [f"{name}: Pull complete" for name in names]
    assert text.count("Digest: sha256:0") == 1


def test_layers_of_several_tags_are_blocks(pty: Pty) -> None:
    with shown(quiet=False) as screen:
        assert screen is not None
        for tag in ("1.0", "2.0"):
            screen(step("", f"{tag}: Pulling from app"))
            screen(step("a", "Already exists"))
            screen(step("", f"Digest: {tag}"))
    text = Terminal(80, 24).feed(pty.close()).text
    assert text == [
        line for tag in ("1.0", "2.0") for line in (f"{tag}: Pulling from app", "a: Already exists", f"Digest: {tag}")
    ] + [""]


def test_threads_at_once(pty: Pty) -> None:
    with shown(quiet=False) as screen:
        assert screen is not None

        def layer(name: str) -> None:
            for at in range(200):
                screen(step(name, "Downloading", at, 200))
            screen(step(name, "Pull complete"))

        threads = [threading.Thread(target=layer, args=(f"{at:012x}",)) for at in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    text = Terminal(80, 24).feed(pty.close()).text
    assert sorted(text) == ["", *(f"{at:012x}: Pull complete" for at in range(8))]


def test_what_a_registry_says_cannot_steer_the_terminal(pty: Pty) -> None:
    with shown(quiet=False) as screen:
        assert screen is not None
        screen(step("", "[bold]x[/] \x1b[2J:smile:"))
    assert Terminal(80, 24).feed(pty.close()).text == ["[bold]x[/] \ufffd[2J:smile:", ""]


def test_terminal_that_can_nothing_gets_lines(pty: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with shown(quiet=False) as screen:
        assert isinstance(screen, module.Lines)
        screen(step("a", "Pull complete"))
    assert pty.close() == "a: Pull complete\r\n"


def test_error_leaves_whole_lines(pty: Pty) -> None:
    with pytest.raises(ValueError), shown(quiet=False) as screen:
        assert screen is not None
        screen(step("a", "Downloading", 1, 2))
        raise ValueError
    output = pty.close()
    screen_of = Terminal(80, 24).feed(output)
    assert screen_of.column == 0 and screen_of.text[-2].startswith("a: Downloading [")


def test_thread_that_is_late_draws_nothing(pty: Pty) -> None:
    with shown(quiet=False) as screen:
        assert screen is not None
        screen(step("a", "Pull complete"))
    screen(step("b", "Downloading", 1, 2))
    screen(step("", "Digest: sha256:0"))
    assert Terminal(80, 24).feed(pty.close()).text == ["a: Pull complete", ""]


_CHILD = """
import signal, sys
from pycontain.engine import images
from pycontain.engine.images import Progress

def pull(root, text, *, progress, **options):
    for at in range(60):
        progress(Progress(layer=f"{at:012x}", state="Downloading", current=at, total=100))
    signal.pause()

images.pull = pull
import os
os.geteuid = lambda: 0
sys.argv = ["pycontain", "--data-root", "/nowhere", "pull", "debian:12"]
from pycontain.cli.main import console
console()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_pull_leaves_the_terminal_as_it_was(number: int, code: int) -> None:
    terminal = Pty(80, 24)
    environment = {**{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}, "TERM": "xterm"}
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.DEVNULL, stdout=terminal.slave, stderr=terminal.slave, env=environment
    )  # fmt: skip
    try:
        terminal.wait_for("... and 38 more")
        child.send_signal(number)
        assert child.wait(30) == code
    finally:
        child.kill()
        child.wait()
    output = terminal.close()
    screen = Terminal(80, 24).feed(output)
    assert "Traceback" not in output and not {"?25l", "?25h"} & screen.escapes
    if number == signal.SIGINT:
        assert screen.column == 0
        assert [line[:12] for line in screen.text[:60]] == [f"{at:012x}" for at in range(60)]
