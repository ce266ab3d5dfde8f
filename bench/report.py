"""Tables for a terminal and for Markdown, and the plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results import PeerResult, Results
from bench.stats import Summary
from bench.targets import Verdict

COLUMNS = ("name", "what", "n", "exec p50", "exit p50", "whole p50", "p95", "p99", "min", "x floor")
TITLE = "Start a container, run true in it, clean up"
# The pairs that only differ in the parent's size or mounts are for the table; in the plot they would be noise.
NOT_PLOTTED = ("pycontain-20mb", "pycontain-500mb", "pycontain-0mounts", "pycontain-500mounts")
OURS, REFERENCE, THEIRS, INK = "#c2410c", "#94a3b8", "#3b6ea5", "#1f2937"


def milliseconds(seconds: float | None) -> str:
    """Three significant digits: 0.85, 13.2, 331."""
    if seconds is None:
        return "-"
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _p50(summary: Summary | None) -> float | None:
    return None if summary is None else summary.p50_s


def _rows(results: Results) -> list[list[str]]:
    floor = results.find("floor")
    base = _p50(floor.whole) if floor else None
    rows = []
    for peer in results.peers:
        whole = peer.whole
        if whole is None:
            continue
        times = (_p50(peer.until_exec), _p50(peer.until_exit), whole.p50_s, whole.p95_s, whole.p99_s, whole.min_s)
        ratio = f"{whole.p50_s / base:.1f}" if base else "-"
        rows.append([peer.name, peer.title, str(whole.count), *map(milliseconds, times), ratio])
    return rows


def _absent(results: Results) -> list[str]:
    lines = []
    for peer in results.peers:
        if peer.missing is not None:
            lines.append(f"missing: {peer.name}: {peer.missing}")
        elif peer.failures:
            lines.append(f"failed {len(peer.failures)} times: {peer.name}: {peer.failures[-1]}")
    return lines


def _machine(results: Results) -> list[str]:
    machine = results.machine
    load = ", ".join(f"{value:.2f}" for value in machine.loadavg)
    return [
        f"{machine.cpu}, {machine.cpus} CPUs, {machine.memory_mb} MB",
        f"kernel {machine.kernel}, cgroups {machine.cgroups}",
        f"Python {machine.python}; data on {machine.data}; {machine.date}; load average before the run {load}",
    ]


def _parallel_rows(results: Results) -> tuple[list[str], list[list[str]]]:
    levels = sorted({entry.threads for entry in results.parallel})
    head = ["at once", *(f"{level}" for level in levels)]
    rows = []
    for name in dict.fromkeys(entry.name for entry in results.parallel):
        cells = []
        for level in levels:
            entry = next((e for e in results.parallel if (e.name, e.threads) == (name, level)), None)
            if entry is None:
                cells.append("-")
                continue
            failed = f" ({len(entry.errors)} failed)" if entry.errors else ""
            cells.append(f"{entry.per_second:.0f}/s {milliseconds(entry.p50_s)}{failed}")
        rows.append([name, *cells])
    return head, rows


def _align(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return "  ".join(cells).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *map(line, rows)]


def _growth(results: Results) -> str:
    growth = results.growth
    if growth is None:
        return f"growth of the parent: not measured ({results.growth_missing})"
    kib = (growth.rss_after - growth.rss_before) // 1024
    fds = growth.fds_after - growth.fds_before
    return f"growth of the parent over {growth.runs} runs: {kib:+d} KiB resident, {fds:+d} file descriptors"


def _verdict_lines(verdicts: Sequence[Verdict]) -> list[str]:
    return [f"{'met   ' if verdict.met else 'MISSED'}  {verdict.text}: {verdict.figures}" for verdict in verdicts]


def _legend(peer: PeerResult) -> str:
    return f"{peer.name}: {peer.options}" + (f" [{peer.version}]" if peer.version else "")


def text_report(results: Results, verdicts: Sequence[Verdict]) -> str:
    lines = [f"{TITLE} (milliseconds)", *_machine(results), ""]
    lines += _align(COLUMNS, _rows(results), left=2)
    lines += ["", *_absent(results), *(f"note: {note}" for note in results.notes), ""]
    lines += ["what each isolates:", *(f"  {_legend(peer)}" for peer in results.peers)]
    if results.parallel:
        head, rows = _parallel_rows(results)
        lines += ["", "containers per second, and p50 of one start in ms:", *_align(head, rows, left=1)]
    lines += ["", _growth(results)]
    if verdicts:
        lines += ["", "targets (p50, this run):", *_verdict_lines(verdicts)]
    return "\n".join(lines)


def _markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    rule = ["---" if i < left else "---:" for i in range(len(head))]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def markdown_report(results: Results, verdicts: Sequence[Verdict]) -> str:
    lines = [f"# {TITLE}", "", "Milliseconds. " + " ".join(f"{line}." for line in _machine(results)), ""]
    lines += _markdown_table(COLUMNS, _rows(results), left=2)
    lines += ["", *(f"- {line}" for line in _absent(results)), *(f"- note: {note}" for note in results.notes)]
    lines += ["", "What each isolates:", "", *(f"- {_legend(peer)}" for peer in results.peers)]
    if results.parallel:
        head, rows = _parallel_rows(results)
        lines += ["", "Containers per second, and p50 of one start in ms:", "", *_markdown_table(head, rows, left=1)]
    lines += ["", _growth(results)[0].upper() + _growth(results)[1:] + "."]
    if verdicts:
        lines += ["", "Targets (p50, this run):", "", *(f"- {line}" for line in _verdict_lines(verdicts))]
    return "\n".join(lines) + "\n"


def write_plot(results: Results, directory: Path) -> str:
    """startup.svg and startup.png, or why not. matplotlib is optional (the `bench` extra) and slow to import."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        return "no plot: matplotlib is not installed (pip install 'pycontain[bench]')"
    shown = [peer for peer in results.peers if peer.whole is not None and peer.name not in NOT_PLOTTED]
    peers = sorted(shown, key=lambda p: _p50(p.whole) or 0, reverse=True)
    if not peers:
        return "no plot: nothing was measured"
    figure, axes = plt.subplots(figsize=(10, 1.6 + 0.42 * len(peers)), layout="constrained")
    _draw_bars(axes, peers)
    axes.set_title(TITLE, loc="left", fontsize=14, fontweight="bold", color=INK, pad=24)
    axes.text(
        0,
        1.02,
        "bar: p50 of the whole, with teardown; whisker: p95; white line: p50 until the program starts",
        transform=axes.transAxes,
        fontsize=9,
        color="#6b7280",
        va="bottom",
    )
    machine = results.machine
    source = (
        f"{machine.cpu}, {machine.cpus} CPUs, kernel {machine.kernel}, {machine.date[:10]}; python -m bench.startup"
    )
    axes.set_xlabel(f"milliseconds (logarithmic)\n{source}", fontsize=9, color="#6b7280")
    for kind in ("svg", "png"):
        figure.savefig(directory / f"startup.{kind}", dpi=150, facecolor="white")
    plt.close(figure)
    return f"plots: {directory / 'startup.svg'}, {directory / 'startup.png'}"


def _draw_bars(axes: Any, peers: Sequence[PeerResult]) -> None:
    lowest = min(peer.whole.min_s for peer in peers if peer.whole) * 1e3
    left = lowest / 3
    highest = max(peer.whole.p95_s for peer in peers if peer.whole) * 1e3
    for place, peer in enumerate(peers):
        whole = peer.whole
        assert whole is not None
        p50, p95 = whole.p50_s * 1e3, whole.p95_s * 1e3
        color = OURS if peer.name.startswith("pycontain") else REFERENCE if peer.name == "floor" else THEIRS
        axes.barh(place, p50 - left, left=left, height=0.66, color=color, zorder=2)
        axes.plot([p50, p95], [place, place], color=INK, linewidth=1.2, zorder=3)
        axes.plot([p95, p95], [place - 0.16, place + 0.16], color=INK, linewidth=1.2, zorder=3)
        until_exec = _p50(peer.until_exec)
        if until_exec is not None and left < until_exec * 1e3 < p50:
            axes.plot([until_exec * 1e3] * 2, [place - 0.33, place + 0.33], color="white", linewidth=1.6, zorder=4)
        label = f"{milliseconds(whole.p50_s)} ms"
        axes.annotate(
            label,
            (max(p50, p95), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            color=INK,
        )
    axes.set_xscale("log")
    axes.set_xlim(left, highest * 2.2)
    axes.set_yticks(range(len(peers)), [peer.title for peer in peers], fontsize=10, color=INK)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="x", color="#e5e7eb", linewidth=0.8, zorder=0)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
