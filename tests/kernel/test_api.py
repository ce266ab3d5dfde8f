"""The Python API: subprocess's habits, results, pipes and verbs."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from probes import living, runs, until

import pycontain
from pycontain.errors import ContainerExited, TimeoutExpired
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

CAT = ("cat",)


def sh(script: str, **options: Any) -> pycontain.CompletedContainer:
    return pycontain.run("host", ["sh", "-c", script], **options)


# --- run --------------------------------------------------------------------------------------------------------------


def test_the_result_has_subprocesss_fields() -> None:
    r = sh("echo out; echo err >&2; exit 3")
    assert (r.stdout, r.stderr) == (b"out\n", b"err\n")
    assert (r.exit_code, r.returncode, r.signal, r.oom_killed, r.timed_out) == (3, 3, None, False, False)
    assert r.args == ("sh", "-c", "echo out; echo err >&2; exit 3") and r.image == "host"
    assert len(r.id) == 64 and set(r.id) <= set("0123456789abcdef")


def test_phases_and_wall_time_add_up() -> None:
    begun = time.monotonic()
    r = sh("sleep 0.1")
    took = time.monotonic() - begun
    assert list(r.phases) == ["plan", "spawn", "run", "reap"]
    assert all(v > 0 for v in r.phases.values()) and sum(r.phases.values()) <= took + 0.001
    assert 0.1 <= r.usage.wall_s <= took and r.usage.wall_s == r.phases["run"]


def test_a_signal_is_reported_as_in_a_shell() -> None:
    r = sh("kill -9 $$; sh -c 'kill -9 $$'; echo $?", text=True)
    assert (r.stdout, r.exit_code) == ("137\n", 0)  # the first process is deaf to its own kill -9
    r = pycontain.run("host", ["sh", "-c", "kill -SEGV $$"], pid="host")
    assert (r.exit_code, r.signal) == (128 + signal.SIGSEGV, signal.SIGSEGV)


def test_text_decodes() -> None:
    r = sh("printf 'gr\\303\\274n \\377'", text=True)
    assert r.stdout == "gr\u00fcn \ufffd"
    assert sh("printf 'gr\\374n'", text=True, encoding="latin-1").stdout == "gr\u00fcn"
    with pytest.raises(UnicodeDecodeError):
        sh("printf '\\377'", text=True, errors="strict")


@pytest.mark.parametrize("size", [0, 1, 65536, 3_000_000])
def test_input_of_any_size_comes_back(size: int) -> None:
    data = os.urandom(size)
    assert pycontain.run("host", CAT, input=data).stdout == data


def test_input_as_text_and_input_that_nobody_reads() -> None:
    assert pycontain.run("host", CAT, input="gr\u00fcn", text=True).stdout == "gr\u00fcn"
    assert pycontain.run("host", ["true"], input=b"x" * 1_000_000).exit_code == 0


def test_stdin_is_empty_by_default() -> None:
    assert pycontain.run("host", CAT).stdout == b""
    assert sh("readlink /proc/self/fd/0", text=True).stdout == "/dev/null\n"


def test_files_as_streams(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from a file")
    with open(tmp_path / "in", "rb") as i, open(tmp_path / "out", "wb") as o, open(tmp_path / "err", "wb") as e:
        r = sh("cat; echo err >&2", stdin=i, stdout=o, stderr=e)
    assert (r.stdout, r.stderr) == (None, None)
    assert (tmp_path / "out").read_text() == "from a file"
    assert (tmp_path / "err").read_text() == "err\n"


def test_streams_joined_discarded_and_inherited(capfd: pytest.CaptureFixture[str]) -> None:
    r = sh("echo out; echo err >&2", stderr=pycontain.STDOUT)
    assert (r.stdout, r.stderr) == (b"out\nerr\n", None)
    r = sh("echo out; echo err >&2", stdout=pycontain.DEVNULL)
    assert (r.stdout, r.stderr) == (None, b"err\n")
    r = sh("echo out; echo err >&2", stdout=None, stderr=None)
    assert (r.stdout, r.stderr, *capfd.readouterr()) == (None, None, "out\n", "err\n")
    assert (pycontain.PIPE, pycontain.STDOUT, pycontain.DEVNULL) == (
        subprocess.PIPE,
        subprocess.STDOUT,
        subprocess.DEVNULL,
    )


def test_both_streams_full_at_once() -> None:
    r = sh("head -c 1000000 /dev/zero & head -c 1000000 /dev/zero >&2; wait")
    assert (len(r.stdout or b""), len(r.stderr or b"")) == (1_000_000, 1_000_000)


def test_check_raises_with_the_result() -> None:
    with pytest.raises(ContainerExited) as e:
        sh("echo out; exit 3", check=True, text=True)
    assert str(e.value) == f"'sh' exited with status 3 (container {e.value.result.id[:12]})"
    assert (e.value.returncode, e.value.result.stdout) == (3, "out\n")
    with pytest.raises(ContainerExited, match=r"^'sh' was killed: out of memory "):
        pycontain.run("host", ["sh", "-c", "exec python3 -c 'bytearray(200 << 20)'"], memory="24m", check=True)
    assert sh("true", check=True).exit_code == 0


def test_a_timeout_kills_and_keeps_what_was_said() -> None:
    begun = time.monotonic()
    r = sh("echo partial; sleep 60", timeout=0.3, text=True)
    assert (r.timed_out, r.exit_code, r.signal, r.stdout) == (True, 137, 9, "partial\n")
    assert 0.3 <= time.monotonic() - begun < 3 and 0.25 < r.usage.wall_s < 3


def test_a_timeout_with_check_raises() -> None:
    with pytest.raises(TimeoutExpired) as e:
        sh("echo partial; echo err >&2; sleep 60", timeout=0.2, check=True, text=True)
    assert (e.value.stdout, e.value.stderr) == ("partial\n", "err\n")
    assert e.value.usage.wall_s >= 0.15
    assert str(e.value).startswith("'sh' did not end within 0.2 seconds and was killed (container ")


def test_the_end_comes_with_the_first_process_whoever_holds_the_pipe() -> None:
    begun = time.monotonic()
    assert sh("sleep 60 & echo out").stdout == b"out\n"
    assert time.monotonic() - begun < 5


def test_an_interrupt_leaves_nothing_running(roots: Roots) -> None:
    source = "import signal, pycontain; signal.alarm(1); pycontain.run('host', ['sh', '-c', 'sleep 4242'])"
    source = "import signal\nsignal.signal(signal.SIGALRM, signal.default_int_handler)\n" + source
    r = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=20)
    assert "KeyboardInterrupt" in r.stderr
    assert b"\x004242\x00" not in b"".join(p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists())


def test_runs_from_many_threads() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: pycontain.run("host", ["echo", str(i)], text=True).stdout, range(40)))
    assert found == [f"{i}\n" for i in range(40)]


def test_roots_by_argument(tmp_path: Path, roots: Roots) -> None:
    with living(data_root=roots.data_root, run_root=str(tmp_path / "run"), name="here"):
        assert os.listdir(tmp_path / "run" / "names") == ["here"]


# --- Container --------------------------------------------------------------------------------------------------------


def test_pipes_both_ways() -> None:
    with pycontain.Container("host", CAT, stdin=pycontain.PIPE, stdout=pycontain.PIPE) as c:
        assert c.stdin is not None and c.stdout is not None and c.stderr is None
        for word in (b"hello\n", b"again\n"):
            c.stdin.write(word)
            assert c.stdout.readline() == word
        c.stdin.close()
        assert c.wait(10) == 0 and c.stdout.read() == b""


def test_pipes_as_text() -> None:
    with pycontain.Container("host", CAT, stdin=pycontain.PIPE, stdout=pycontain.PIPE, text=True) as c:
        assert c.stdin is not None and c.stdout is not None
        c.stdin.write("gr\u00fcn\n")
        assert c.stdout.readline() == "gr\u00fcn\n"
        c.stdin.close()
        assert c.wait(10) == 0


def test_facts_of_a_running_container() -> None:
    with living("sleep", "600", name="web") as c:
        # execve wakes us before it has laid out the arguments
        until(lambda: Path(f"/proc/{c.pid}/cmdline").read_bytes() == b"sleep\x00600\x00")
        assert (c.name, c.args, c.exit_code, c.returncode, c.poll(), c.usage, c.oom_killed) == (
            "web", ("sleep", "600"), None, None, None, None, False,
        )  # fmt: skip
    assert (c.exit_code, c.returncode, c.poll()) == (137, 137, 137)
    assert not runs(c.pid) and c.usage is not None and c.usage.wall_s > 0


def test_stats_of_a_running_container_and_after() -> None:
    script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo; sleep 600"
    with pycontain.Container("host", ["sh", "-c", script], stdout=pycontain.PIPE, stop_timeout=0) as c:
        assert c.stdout is not None and c.stdout.readline() == b"\n"
        live = c.stats()
    assert live.cpu_s > 0.01 and live.wall_s > 0 and (live.memory_peak_bytes is None or live.memory_peak_bytes > 50_000)
    assert c.stats() == c.usage and c.stats().cpu_s >= live.cpu_s


def test_communicate() -> None:
    with pycontain.Container("host", ["sh", "-c", "cat; echo err >&2"], stdin=-1, stdout=-1, stderr=-1) as c:
        assert c.communicate(b"x" * 300_000) == (b"x" * 300_000, b"err\n")
    assert c.exit_code == 0


def test_communicate_goes_on_after_a_timeout() -> None:
    script = "echo first; read x; echo second $x"
    with pycontain.Container("host", ["sh", "-c", script], stdin=-1, stdout=-1, text=True, pid="host") as c:
        child = os.dup(c.stdin.fileno()) if c.stdin else -1
        with pytest.raises(TimeoutExpired, match=f"^container {c.id[:12]} still runs after 0.2 seconds$") as e:
            until(lambda: runs(c.pid))
            c.communicate(timeout=0.2)
        assert e.value.stdout == "first\n"
        os.write(child, b"go\n")
        os.close(child)
        assert c.communicate(timeout=10) == ("first\nsecond go\n", None)


@pytest.mark.parametrize("text", [False, True])
def test_communicate_after_stdin_was_closed_or_broken(text: bool) -> None:
    with pycontain.Container("host", CAT, stdin=-1, stdout=-1, text=text) as c:
        assert c.stdin is not None
        c.stdin.write("x" if text else b"x")
        c.stdin.close()
        assert c.communicate(timeout=10)[0] == ("x" if text else b"x")
    with pycontain.Container("host", ["true"], stdin=-1, stdout=-1, text=text) as c:
        assert c.stdin is not None
        if text:
            c.stdin.write("never read")
        c.wait(10)
        assert c.communicate(timeout=10)[0] == ("" if text else b"")


def test_wait_with_a_timeout_leaves_it_running() -> None:
    with living() as c:
        with pytest.raises(TimeoutExpired):
            c.wait(0.05)
        assert c.poll() is None and runs(c.pid)


def test_signals_and_stop() -> None:
    script = "trap 'exit 5' USR1; trap 'exit 6' TERM; echo; while :; do sleep 0.01; done"
    verbs: list[tuple[Callable[[pycontain.Container], None], int]] = [
        (lambda c: c.send_signal(signal.SIGUSR1), 5),
        (lambda c: c.terminate(), 6),
        (lambda c: c.kill(), 137),
    ]
    for act, code in verbs:
        with pycontain.Container("host", ["sh", "-c", script], stdout=-1) as c:
            assert c.stdout is not None and c.stdout.readline() == b"\n"
            act(c)
            assert c.wait(10) == code
            act(c)  # of an ended container: nothing happens
    with pycontain.Container("host", ["sh", "-c", script], stdout=-1) as c:
        assert c.stdout is not None and c.stdout.readline() == b"\n"
        assert c.stop() == 6


def test_stop_kills_who_does_not_listen() -> None:
    begun = time.monotonic()
    with living() as c:
        assert c.stop(timeout=0.2) == 137
    assert 0.2 <= time.monotonic() - begun < 5


def test_leaving_the_block_stops_it() -> None:
    script = "trap 'echo bye >/b/said; exit 0' TERM; echo; while :; do sleep 0.01; done"
    with pycontain.Container("host", ["sh", "-c", script], stdout=-1) as c:
        assert c.stdout is not None and c.stdout.readline() == b"\n"
    assert c.exit_code != 137 and not runs(c.pid)


def test_leaving_the_block_by_an_exception_kills_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(KeyError), pycontain.Container("host", ["sleep", "600"]) as c:
        raise KeyError
    assert c.exit_code == 137 and not runs(c.pid)
    assert time.monotonic() - begun < 5


def test_a_dropped_container_warns_and_ends() -> None:
    c = pycontain.Container("host", ["sleep", "600"])
    pid = c.pid
    with pytest.warns(ResourceWarning, match="was never closed: use it in a with block"):
        del c
        gc.collect()
    assert not runs(pid)


def test_an_ended_container_does_not_warn() -> None:
    c = pycontain.Container("host", ["true"], stdout=-1)
    c.wait(10)
    c.close()
    c.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del c
        gc.collect()
