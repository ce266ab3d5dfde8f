"""How far a pull, a push or a load is: on a terminal a line per layer, drawn again and again; otherwise a line per change.

The engine sends :class:`~pycontain.engine.images.Progress` from several threads. Lines about the whole (an empty ``layer``) are
printed as they are, and end a block of layers: what follows is another block, as with `pull --all-tags`.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager

from .output import flush, write
from .table import printable
from .units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TextIO

    from ..engine.images import Progress

__all__ = ["Lines", "Screen", "line_of", "shown"]

_COUNTING = frozenset(("Downloading", "Extracting", "Pushing", "Loading layer"))  # many of each, with bytes
_WAITING = frozenset(("Waiting", "Pulling fs layer", "Preparing"))
_DONE = frozenset(("Pull complete", "Already exists", "Pushed", "Layer already exists"))
_BAR = 50


@contextmanager
def shown(*, quiet: bool, file: TextIO | None = None) -> Iterator[Callable[[Progress], None] | None]:
    """What to give the engine as ``progress``; None for ``quiet``. Leaves whole lines behind, however it ends.

    ``file``: standard output, or another.
    """
    file = file or sys.stdout
    if quiet:
        yield None
    elif file.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        screen = Screen(file)
        try:
            yield screen
        finally:
            screen.close()
    else:
        yield Lines(file)


class Lines:
    """Without a terminal: each state that a layer comes to, once; no bytes."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stdout
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            if not progress.layer:
                self._states.clear()
                write(f"{progress.state}\n", self._file)
            elif progress.state in _COUNTING or self._states.get(progress.layer) == progress.state:
                return
            else:
                self._states[progress.layer] = progress.state
                write(f"{progress.layer}: {progress.state}\n", self._file)
            flush(self._file)


class Screen:
    """On a terminal: the layers of a block in place, as many as fit; all of them when the block ends.

    The cursor stays visible: a process that is killed or stopped leaves the terminal as it was.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        from rich.console import Console, ConsoleDimensions

        out = file or sys.stdout

        class _Console(Console):
            @property
            def size(self) -> ConsoleDimensions:
                # of the very terminal that is drawn on, now; rich asks standard input first, and $COLUMNS
                try:
                    width, height = os.get_terminal_size(out.fileno())
                except OSError:  # it has hung up
                    width, height = 0, 0
                return ConsoleDimensions(width or 80, height or 24)

            @size.setter
            def size(self, _: tuple[int, int]) -> None:
                """The terminal has the size that it has."""

            def show_cursor(self, show: bool = True) -> bool:
                return False

        self._console = _Console(file=out, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._lock = threading.RLock()
        self._layers: dict[str, Progress] = {}
        self._live: Any = None
        self._final = False
        self._closed = False

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            if self._closed:  # a thread of a transfer that was given up
                return
            if not progress.layer:
                self._end_block()
                self._console.print(printable([progress.state])[0], soft_wrap=True)
                return
            self._layers[progress.layer] = progress
            if self._live is None:
                from rich.live import Live

                self._final = False
                self._live = Live(
                    self, console=self._console, refresh_per_second=10, redirect_stdout=False, redirect_stderr=False,
                    vertical_overflow="visible",
                )  # fmt: skip
                self._live.start()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._end_block()

    def _end_block(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            self._final = True
            live.stop()
        self._layers = {}

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        width, height = console.size
        layers = list(self._layers.values())  # one step of the interpreter: other threads may add to it
        for line in [line_of(each, width) for each in layers] if self._final else lines_of(layers, width, height):
            yield Text(line, no_wrap=True, overflow="crop", end="\n")


def lines_of(layers: list[Progress], width: int, height: int) -> list[str]:
    """What fits: those at work first, in their order, and one line about the others."""
    room = max(height - 1, 1)  # the cursor's own line
    if len(layers) <= room:
        return [line_of(each, width) for each in layers]
    chosen = set(sorted(range(len(layers)), key=lambda at: _rank(layers[at]))[: room - 1])
    hidden = [layer for at, layer in enumerate(layers) if at not in chosen]
    counts = [sum(_rank(each) == rank for each in hidden) for rank in range(3)]
    words = [f"{number} {word}" for number, word in zip(counts, ("at work", "waiting", "done"), strict=True) if number]
    summary = f"... and {len(hidden)} more: {', '.join(words)}"
    return [*(line_of(layers[at], width) for at in sorted(chosen)), summary[: max(width - 1, 1)]]


def _rank(progress: Progress) -> int:
    if progress.state in _WAITING:
        return 1
    return 2 if progress.state in _DONE or progress.state.startswith("Mounted from") else 0


def line_of(progress: Progress, width: int) -> str:
    """``a2abf6c4d29d: Downloading [=====>     ]  12.3MB/31.4MB``, never as wide as the terminal, which would wrap it."""
    head = f"{progress.layer}: {progress.state}"
    if progress.state not in _COUNTING or (progress.current <= 0 and progress.total <= 0):
        return head[: max(width - 1, 1)]
    numbers = f"{human_size(progress.current):>8}"
    if progress.total > 0 and progress.current <= progress.total:
        numbers += f"/{human_size(progress.total)}"
        # always as long as the longest numbers would make it, so that it does not shake
        bar = min(_BAR, width - 1 - len(head) - len("  [>]  ") - len("1.234MB/1.234MB "))
        if bar >= 10:
            done = progress.current * bar // progress.total
            head += f" [{'=' * done}>{' ' * (bar - done)}]"
    return f"{head} {numbers}"[: max(width - 1, 1)]
