"""What ``make demo`` runs: a first container, limits seen to hold, and how long the starts took."""

from __future__ import annotations

import os
import sys

import pycontain


def _say(title: str, result: pycontain.CompletedContainer) -> None:
    out = str(result.stdout or "").strip()
    print(f"\n{title}")
    for line in out.splitlines():
        print(f"    | {line}")
    p, u = result.phases, result.usage
    ended = (
        "out of memory: the kernel killed it"
        if result.oom_killed
        else "timed out: killed"
        if result.timed_out
        else f"exit code {result.exit_code}"
    )
    peak = "" if u.memory_peak_bytes is None else f", {u.memory_peak_bytes / 1e6:.1f} MB at most"
    print(f"    {ended}; started in {(p['plan'] + p['spawn']) * 1e3:.1f} ms; used {u.cpu_s * 1e3:.0f} ms of CPU{peak}")


def main() -> int:
    if os.geteuid() != 0:
        print(
            "make demo: pycontain is built (.venv/bin/pycontain). Running containers still needs root: sudo make demo",
            file=sys.stderr,
        )
        return 1
    try:
        run = pycontain.run
        run("host", ["true"])  # the first start of a process also builds its templates and compiles the seccomp filter
        print("pycontain runs this machine's own programs in a container: its root read-only below a layer of its own,")
        print("with its own processes, network, host name, users' files hidden, and few of root's powers.")
        script = (
            "echo I am $(id -un), process $$, on $(hostname);"
            "echo processes I see: $(ls -d /proc/[0-9]* | wc -l); echo my network: $(ls /sys/class/net)"
        )
        _say("A shell:  pycontain run --rm host sh", run("host", ["sh", "-c", script], text=True))
        _say(
            "Its writes stay in it:  rm -rf /usr/bin",
            run("host", ["sh", "-c", "rm -rf /usr/bin; echo /usr/*"], text=True),
        )
        _say("200 MB with --memory 64m", run("host", ["python3", "-c", "bytearray(200 << 20)"], memory="64m"))
        _say(
            "An endless loop with --cpus 0.5 --timeout 1",
            run("host", ["sh", "-c", "while :; do :; done"], cpus=0.5, timeout=1),
        )
        times = sorted(sum(run("host", ["true"]).phases[k] for k in ("plan", "spawn")) * 1e3 for _ in range(50))
        print(
            f"\n50 more starts: {times[25]:.1f} ms each in the median, {times[-1]:.1f} ms at most, until the program runs."
        )
        print(
            "Next:  sudo .venv/bin/pycontain run --rm -it host bash     sudo .venv/bin/pycontain run --explain host id"
        )
    except pycontain.PycontainError as error:
        print(f"make demo: {error}", file=sys.stderr)
        print("make demo: `.venv/bin/pycontain doctor` tells what this host lacks", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
