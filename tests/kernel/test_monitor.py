"""pycontain-monitor: a detached container's log, socket, state, restarts and end, with no Python in between."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from census import poll_until
from detached import Prepared, cgroups_of, prepared
from probes import DEADLINE_S

from pycontain import _native
from pycontain.runtime import monitor
from pycontain.runtime.monitor import Control
from pycontain.runtime.roots import Roots
from pycontain.spec.runtime import IDMapping

pytestmark = pytest.mark.kernel


@dataclass(frozen=True)
class Monitored:
    made: Prepared
    pid: int  # the container's, at its first start

    @property
    def state(self) -> dict[str, Any]:
        return monitor.read_state(self.made.data_dir)

    @property
    def monitor_pid(self) -> int:
        return int(self.state["monitor_pid"])

    def control(self) -> Control:
        c = Control(self.made.run_dir)
        c.settimeout(DEADLINE_S)
        return c

    def wait(self) -> dict[str, Any]:
        """The last state, once the monitor has gone."""
        assert poll_until(lambda: not monitor.is_alive(self.made.run_dir), DEADLINE_S), self.state
        return self.state

    def lines(self, *files: str) -> list[dict[str, str]]:
        found = []
        for name in files or ("log",):
            with open(f"{self.made.data_dir}/{name}", encoding="utf-8") as f:
                found += [json.loads(line) for line in f]
        return found

    def log(self, stream: str = "stdout") -> str:
        return "".join(line["log"] for line in self.lines() if line["stream"] == stream)


def _end(run_dir: str) -> None:
    with contextlib.suppress(OSError), Control(run_dir) as c:
        c.stop(signal.SIGKILL, 0)
    assert poll_until(lambda: not monitor.is_alive(run_dir))


@contextlib.contextmanager
def monitored(roots: Roots, *args: str, words: tuple[str, ...] = (), **options: Any) -> Iterator[Monitored]:
    with prepared(roots, *args, **options) as c:
        try:
            yield Monitored(c, monitor.start(c.data_dir, c.run_dir, c.slots, words))
        finally:
            _end(c.run_dir)
        assert not cgroups_of(c.id)


def sh(roots: Roots, script: str, **options: Any) -> contextlib.AbstractContextManager[Monitored]:
    return monitored(roots, "sh", "-c", script, **options)


def output(c: Control) -> tuple[bytes, bytes]:
    """What comes on the two streams until the container has ended."""
    got = {monitor.STDOUT: b"", monitor.STDERR: b""}
    while (frame := c.receive()) is not None and frame[0] != monitor.ENDED:
        got[frame[0]] += frame[1]
    return got[monitor.STDOUT], got[monitor.STDERR]


def until(c: Control, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        frame = c.receive()
        assert frame is not None and frame[0] == monitor.STDOUT, (frame, got)
        got += frame[1]
    return got


# --- start and end -----------------------------------------------------------------------------------------------

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def test_it_runs_and_its_end_is_in_the_state(roots: Roots) -> None:
    before = time.time()
    with sh(roots, "read x; exit 3", words=("stdin",)) as m:
        running = m.state
        assert running["status"] == "running" and running["pid"] == m.pid and running["finished_at"] == ""
        with open(f"/proc/{m.pid}/stat", encoding="ascii") as f:
            fields = f.read().rpartition(")")[2].split()
        assert running["pid_started"] == int(fields[22 - 3])
        assert int(fields[4 - 3]) == m.monitor_pid
        with m.control() as c:
            c.send_stdin(b"\n")
            assert c.ended() == (3, 0, False)
        ended = m.wait()
    assert (ended["status"], ended["exit_code"], ended["signal"], ended["pid"]) == ("exited", 3, 0, 0)
    assert _INSTANT.fullmatch(ended["started_at"]) and _INSTANT.fullmatch(ended["finished_at"])
    assert ended["started_at"] < ended["finished_at"]
    began = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    assert began <= ended["started_at"] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_the_monitor_is_no_child_of_who_started_it(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        with open(f"/proc/{m.monitor_pid}/status", encoding="ascii") as f:
            parent = next(line for line in f if line.startswith("PPid:")).split()[1]
        assert int(parent) != os.getpid()
        assert os.listdir(f"/proc/{m.monitor_pid}/task") == [str(m.monitor_pid)]


def test_a_killed_container_ends_with_128_and_the_signal(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        with m.control() as c:
            c.kill(signal.SIGKILL)
            assert c.ended() == (137, 9, False)
        assert m.wait()["signal"] == 9


def test_out_of_memory_is_in_the_state(roots: Roots) -> None:
    hungry = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
    with sh(roots, hungry, memory_bytes=16 << 20, memory_swap_bytes=16 << 20) as m:
        assert m.wait()["oom_killed"] is True


def test_a_plan_that_fails_gives_its_report(roots: Roots) -> None:
    with prepared(roots, "/no/such/program") as c:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(c.data_dir, c.run_dir, c.slots, ("restart=always",))
        assert (failure.value.step, failure.value.errno, failure.value.section) == ("find program", 2, "child")
        _end(c.run_dir)
        state = monitor.read_state(c.data_dir)
        assert (state["status"], state["error_step"], state["error_errno"]) == ("created", "find program", 2)
        assert not cgroups_of(c.id) and not os.path.exists(f"{c.run_dir}/attach")


def test_a_second_monitor_is_refused(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(m.made.data_dir, m.made.run_dir, m.made.slots)
        assert (failure.value.step, failure.value.errno) == ("set up monitor", 11)
        assert m.state["status"] == "running"


@pytest.mark.parametrize(
    "word", ["", "restart=never", "restart=on-failure:", "log=journald", "max-size=1k", "max-file=0", "remove=x"]
)
def test_words_that_it_does_not_know_are_refused(roots: Roots, word: str) -> None:
    with prepared(roots, "true") as c:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(c.data_dir, c.run_dir, c.slots, (word,))
        assert (failure.value.step, failure.value.errno, failure.value.arg) == ("set up monitor", 22, 0)


def test_slots_that_do_not_fit_the_plan_are_refused(roots: Roots) -> None:
    with prepared(roots, "true") as c:
        with pytest.raises(_native.StartFailure) as failure:
            monitor.start(c.data_dir, c.run_dir, c.slots[:-1])
        assert failure.value.step == "fill slots"
        _end(c.run_dir)


def test_a_launcher_that_says_nothing_is_a_failed_start(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/bin/true", "/no/such/launcher"):
        monkeypatch.setattr(monitor, "LAUNCH", program)
        with prepared(roots, "true") as c:
            with pytest.raises(_native.StartFailure) as failure:
                monitor.start(c.data_dir, c.run_dir, c.slots, ("restart=always",))
            assert failure.value.step == ("run launcher" if program == "/bin/true" else "set up monitor")
            _end(c.run_dir)


def test_when_the_monitor_is_killed_the_container_dies_and_the_lock_is_free(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        os.kill(m.monitor_pid, signal.SIGKILL)
        assert poll_until(lambda: not monitor.is_alive(m.made.run_dir))
        assert poll_until(lambda: not os.path.exists(f"/proc/{m.pid}"))
        assert m.state["status"] == "running"  # with a free lock: it is dead
        _native.finish(m.made.plan)


def _holder(lock: str) -> int:
    """The pid of who has taken the lock."""
    with open("/proc/locks", encoding="ascii") as f:
        return next(int(line.split()[4]) for line in f if f":{os.stat(lock).st_ino} " in line)


def _members(container_id: str) -> list[str]:
    found = []
    for cgroup in cgroups_of(container_id):
        with contextlib.suppress(OSError), open(f"{cgroup}/cgroup.procs", encoding="ascii") as f:
            found += f.read().split()
    return found


@pytest.mark.race
def test_a_monitor_killed_at_any_moment_of_a_start_leaves_nobody(roots: Roots) -> None:
    for i in range(20):
        with prepared(roots, "sleep", "600") as c:

            def begin(c: Prepared = c) -> None:
                with contextlib.suppress(OSError, _native.StartFailure):
                    monitor.start(c.data_dir, c.run_dir, c.slots)

            thread = threading.Thread(target=begin)
            thread.start()
            assert poll_until(lambda c=c: os.path.exists(f"{c.run_dir}/attach"))  # type: ignore[misc]
            time.sleep(i * 0.0003)
            os.kill(_holder(f"{c.run_dir}/lock"), signal.SIGKILL)
            thread.join()
            # by then no launcher is at work any more, either
            assert poll_until(lambda c=c: not monitor.is_alive(c.run_dir))  # type: ignore[misc]
            assert poll_until(lambda c=c: not _members(c.id)), i  # type: ignore[misc]
            _native.finish(c.plan)


def test_with_rm_nothing_is_left(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "echo gone >/file") as c:
        name = f"{c.data_dir}.name"
        os.symlink(c.id, name)
        words = [f"remove={path}" for path in (c.data_dir, name, c.run_dir)]
        monitor.start(c.data_dir, c.run_dir, c.slots, words)
        assert poll_until(lambda: not any(os.path.lexists(path) for path in (c.data_dir, name, c.run_dir)))
        assert not cgroups_of(c.id)


def test_what_cannot_be_removed_makes_it_dead(roots: Roots) -> None:
    with prepared(roots, "true", mounts=()) as c:
        kept = f"{c.data_dir}/kept"
        os.mkdir(kept)
        subprocess.run(["mount", "-t", "tmpfs", "none", kept], check=True)
        try:
            monitor.start(c.data_dir, c.run_dir, c.slots, (f"remove={kept}",))
            assert poll_until(lambda: not monitor.is_alive(c.run_dir))
            state = monitor.read_state(c.data_dir)
            assert (state["status"], state["not_removed"]) == ("dead", kept)
        finally:
            subprocess.run(["umount", kept], check=True)


# --- log ---------------------------------------------------------------------------------------------------------


def test_each_line_is_an_object_with_its_stream_and_time(roots: Roots) -> None:
    with sh(roots, "echo one; echo two >&2; printf three") as m:
        m.wait()
        lines = m.lines()
        with open(f"{m.made.data_dir}/log", "rb") as f:
            raw = f.read()
    assert sorted((line["stream"], line["log"]) for line in lines) == [
        ("stderr", "two\n"), ("stdout", "one\n"), ("stdout", "three"),
    ]  # fmt: skip
    assert all(list(line) == ["log", "stream", "time"] and _INSTANT.fullmatch(line["time"]) for line in lines)
    assert raw.startswith(b'{"log":"')


def _each_byte(error: UnicodeError) -> tuple[str, int]:
    """As Go does it: Python makes one U+FFFD of a cut character."""
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd", error.start + 1


codecs.register_error("each-byte", _each_byte)


def _all_bytes() -> bytes:
    return bytes(range(256)) + "ä€😀\u2028".encode() + b"\xed\xa0\x80\xc0\xaf\xf4\x90\x80\x80\xe2\x82"


def test_any_bytes_become_valid_json(roots: Roots) -> None:
    with prepared(roots, "cat", "/junk") as c:
        with open(f"{c.upper}/junk", "wb") as f:
            f.write(_all_bytes() * 50)
        m = Monitored(c, monitor.start(c.data_dir, c.run_dir, c.slots))
        m.wait()
        assert m.log() == (_all_bytes() * 50).decode("utf-8", "each-byte")


def test_a_long_line_comes_in_pieces_of_16_kib(roots: Roots) -> None:
    with prepared(roots, "cat", "/long") as c:
        text = "x" + "€" * 20000 + "\n" + "y" * 16384 + "\n" + "z" * 16383 + "\n"
        with open(f"{c.upper}/long", "wb") as f:
            f.write(text.encode())
        m = Monitored(c, monitor.start(c.data_dir, c.run_dir, c.slots))
        m.wait()
        lines = m.lines()
        assert "".join(line["log"] for line in lines) == text
        sizes = [len(line["log"].encode()) for line in lines]
        assert sizes == [16384, 16383, 16383, 10852, 16384, 1, 16384]
        assert len({line["time"] for line in lines[:4]}) == 1


def test_a_line_that_comes_in_many_writes_is_one_line(roots: Roots) -> None:
    with sh(roots, "for i in 1 2 3; do printf $i; cat /proc/self/stat >/dev/null; done; echo") as m:
        m.wait()
        assert [line["log"] for line in m.lines()] == ["123\n"]


def test_a_log_is_rotated(roots: Roots) -> None:
    with sh(roots, "seq 1 20000", words=("max-size=100000", "max-file=3")) as m:
        m.wait()
        assert sorted(n for n in os.listdir(m.made.data_dir) if n.startswith("log")) == ["log", "log.1", "log.2"]
        sizes = [os.path.getsize(f"{m.made.data_dir}/{name}") for name in ("log.1", "log.2")]
        assert all(100000 <= size < 100200 for size in sizes)
        numbers = [int(line["log"]) for line in m.lines("log.2", "log.1", "log")]
        assert numbers == list(range(numbers[0], 20001))


def test_a_single_file_is_begun_again(roots: Roots) -> None:
    with sh(roots, "seq 1 20000", words=("max-size=100000",)) as m:
        m.wait()
        assert [n for n in os.listdir(m.made.data_dir) if n.startswith("log")] == ["log"]
        assert os.path.getsize(f"{m.made.data_dir}/log") < 100200
        assert m.log().endswith("\n20000\n")


def test_without_a_log_there_is_no_file(roots: Roots) -> None:
    with sh(roots, "read x; seq 1 20000", words=("log=none", "stdin")) as m:
        with m.control() as c:
            c.attach()
            c.send_stdin(b"\n")
            assert output(c)[0] == subprocess.check_output(["seq", "1", "20000"])
        m.wait()
        assert not os.path.exists(f"{m.made.data_dir}/log")


def test_a_full_disk_does_not_stop_the_container_and_is_told_of(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "read x; seq 1 200000; read y; echo last; exit 5") as c:
        disk = f"{c.data_dir}/small"
        os.mkdir(disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
        try:
            with open(f"{disk}/plan", "wb") as f:
                f.write(c.plan)
            with open(f"{disk}/ballast", "wb") as f:
                f.write(bytes(64 << 10))
            m = Monitored(
                Prepared(c.id, disk, c.run_dir, c.plan, c.slots), monitor.start(disk, c.run_dir, c.slots, ("stdin",))
            )
            with m.control() as control:
                control.attach()
                control.send_stdin(b"\n")
                until(control, b"\n200000\n")
                os.unlink(f"{disk}/ballast")
                control.send_stdin(b"\n")
                assert control.ended() == (5, 0, False)
            state = m.wait()
            lines = m.lines()  # every line of it is whole
            logged = sum(len(line["log"]) for line in lines if line["stream"] == "stdout")
            said = sum(len(str(n)) + 1 for n in range(1, 200001)) + len("last\n")
            assert state["lost_log_bytes"] == said - logged > 0
            assert (state["status"], state["exit_code"]) == ("exited", 5)
            assert lines[-1]["log"] == "last\n"
            notices = [line["log"] for line in lines if line["stream"] == "stderr"]
            assert notices and all(n.startswith("pycontain: ") and n.endswith(" (errno 28)\n") for n in notices)
        finally:
            subprocess.run(["umount", disk], check=True)


# --- terminal ----------------------------------------------------------------------------------------------------


def test_a_terminal_is_read_written_and_resized(roots: Roots) -> None:
    script = "stty size; read x; stty size; echo got $x; test -t 2"
    with sh(roots, script, words=("tty", "stdin"), terminal=True, size=(24, 80)) as m, m.control() as c:
        c.attach()
        assert poll_until(lambda: m.log() == "24 80\r\n")
        c.resize(50, 132)
        c.send_stdin(b"word\n")
        assert until(c, b"got word\r\n").endswith(b"50 132\r\ngot word\r\n")
        assert c.ended() == (0, 0, False)
        m.wait()
        assert m.log("stderr") == ""


def test_without_a_terminal_a_size_is_refused(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m, m.control() as c, pytest.raises(monitor.Refused, match="no terminal"):
        c.resize(50, 132)


# --- socket ------------------------------------------------------------------------------------------------------


def test_standard_input_comes_from_a_client_and_ends_when_it_says_so(roots: Roots) -> None:
    with monitored(roots, "cat", words=("stdin",)) as m:
        data = os.urandom(300_000)
        with m.control() as reader, m.control() as writer:
            reader.attach()
            child = os.fork()
            if child == 0:
                writer.send_stdin(data)
                writer.end_stdin()
                os._exit(0)
            assert output(reader)[0] == data
            assert os.waitpid(child, 0)[1] == 0
        assert m.wait()["exit_code"] == 0


def test_standard_input_ends_with_its_only_client(roots: Roots) -> None:
    with monitored(roots, "cat", words=("stdin-once",)) as m:
        with m.control() as c:
            c.send_stdin(b"all\n")
        m.wait()
        assert m.log() == "all\n"


def test_standard_input_ends_with_its_only_client_who_has_said_nothing(roots: Roots) -> None:
    with monitored(roots, "sh", "-c", "echo ready; cat; echo end", words=("stdin-once",)) as m:
        with m.control() as c:  # who only looks
            c.attach()
        with m.control() as c:
            c.send_stdin(b"still open\n")
            assert poll_until(lambda: "still open" in m.log())
        m.wait()
    with monitored(roots, "cat", words=("stdin-once",)) as m:
        with m.control() as c:
            c.send_stdin(b"")
        assert m.wait()["exit_code"] == 0


def test_two_clients_see_the_same_and_each_its_streams(roots: Roots) -> None:
    with sh(roots, "read x; for i in 1 2 3; do echo out $i; echo err $i >&2; done", words=("stdin",)) as m:
        with m.control() as both, m.control() as errors:
            both.attach()
            errors.attach(stdout=False)
            both.send_stdin(b"\n")
            out, err = b"out 1\nout 2\nout 3\n", b"err 1\nerr 2\nerr 3\n"
            assert output(both) == (out, err)
            assert output(errors) == (b"", err)
        m.wait()


def test_a_client_from_the_beginning_misses_nothing(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "echo first; read x; echo $x; exit 4") as c:
        control, theirs = Control.pair()
        with control, theirs:
            monitor.start(c.data_dir, c.run_dir, c.slots, ("stdin",), client=theirs.fileno())
            theirs.close()
            control.settimeout(DEADLINE_S)
            control.send_stdin(b"second\n")
            assert until(control, b"second\n") == b"first\nsecond\n"
            assert control.ended() == (4, 0, False)
        _end(c.run_dir)


def test_a_slow_client_loses_nothing(roots: Roots) -> None:
    with sh(roots, "read x; seq 1 300000", words=("stdin",)) as m:
        with m.control() as slow, m.control() as quick:
            slow.attach()
            quick.attach()
            quick.send_stdin(b"\n")
            child = os.fork()
            if child == 0:
                os._exit(output(quick)[0] != _numbers())
            select.select([slow], [], [], DEADLINE_S)
            time.sleep(0.3)  # its buffer is full by now, and the container waits
            assert m.state["status"] == "running"
            assert output(slow)[0] == _numbers()
            assert os.waitpid(child, 0)[1] == 0
        m.wait()
        assert m.log().encode() == _numbers()


def _numbers() -> bytes:
    return "".join(f"{n}\n" for n in range(1, 300001)).encode()


def test_a_client_that_takes_nothing_is_dropped(roots: Roots) -> None:
    with sh(roots, "read x; seq 1 300000", words=("stdin",)) as m:
        with m.control() as stuck:
            stuck.attach()
            stuck.send_stdin(b"\n")
            m.wait()  # though nobody reads
        assert m.log().encode() == _numbers()


def test_a_client_that_goes_away_disturbs_nobody(roots: Roots) -> None:
    with sh(roots, "read x; seq 1 300000", words=("stdin",)) as m:
        c = m.control()
        c.attach()
        c.send_stdin(b"\n")
        until(c, b"1\n")
        c.detach()
        m.wait()
        assert m.log().encode() == _numbers()


def test_who_asks_nonsense_is_told_and_dropped(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        for words in (b"\x63\0\0\0\0\0\0\0", b"\x10\0\0\0\xff\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
            with m.control() as c:
                os.write(c.fileno(), words)
                assert c.receive() == (monitor.ERROR, b"no such request")
                assert c.receive() is None
        assert m.state["status"] == "running"


def test_too_many_clients_are_told(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m, contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(m.control()).attach()
        with m.control() as late:
            frame = late.receive()
            assert frame is not None and frame[0] == monitor.ERROR and b"too many" in frame[1]


def test_the_socket_is_for_root_and_its_user_alone(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m:
        path = f"{m.made.run_dir}/attach"
        assert os.stat(path).st_mode & 0o777 == 0o600
        os.chmod(path, 0o666)  # even so
        for directory in (roots.run_root, os.path.dirname(m.made.run_dir), m.made.run_dir):
            os.chmod(directory, 0o755)
        child = os.fork()
        if child == 0:
            fd = os.open(m.made.run_dir, os.O_PATH)
            os.setresuid(65534, 65534, 65534)
            s = socket.socket(socket.AF_UNIX)
            s.connect(f"/proc/self/fd/{fd}/attach")
            try:
                os._exit(s.recv(1) != b"")
            except ConnectionResetError:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


# --- stop, kill, restart -----------------------------------------------------------------------------------------


def test_a_stop_ends_what_ignores_its_signal_after_the_grace(roots: Roots) -> None:
    with sh(roots, "trap '' TERM; echo ready; while :; do sleep 1; done", words=("restart=always",)) as m:
        with m.control() as c:
            assert poll_until(lambda: m.log() == "ready\n")
            c.stop(signal.SIGTERM, 1)
            assert c.ended() == (137, 9, False)
        state = m.wait()
        assert (state["status"], state["stopped_by_request"], state["restart_count"]) == ("exited", True, 0)


def test_a_stop_within_the_grace_is_the_programs_own_end(roots: Roots) -> None:
    with sh(roots, "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done") as m, m.control() as c:
        assert poll_until(lambda: m.log() == "ready\n")
        c.stop(signal.SIGUSR1, monitor.FOREVER)
        assert c.ended() == (7, 0, False)
        m.wait()


def test_sigterm_for_the_monitor_is_a_stop(roots: Roots) -> None:
    with sh(roots, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done", words=("restart=always",)) as m:
        assert poll_until(lambda: m.log() == "ready\n")
        os.kill(m.monitor_pid, signal.SIGTERM)
        state = m.wait()
        assert (state["exit_code"], state["stopped_by_request"]) == (7, False)


def test_a_wrong_signal_is_refused(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m, m.control() as c:
        for number in (0, 65):
            with pytest.raises(monitor.Refused, match="no such signal"):
                c.kill(number)
            with pytest.raises(monitor.Refused, match="no such signal"):
                c.stop(number, 0)
        assert m.state["stopped_by_request"] is False


def test_on_failure_starts_again_as_often_as_it_says(roots: Roots) -> None:
    with sh(roots, "echo run >>/runs; cat /runs; exit 9", words=("restart=on-failure:3",)) as m:
        state = m.wait()
        assert (state["status"], state["exit_code"], state["restart_count"]) == ("exited", 9, 3)
        assert m.log() == "run\n" * (1 + 2 + 3 + 4)  # its layer is kept from start to start


def test_on_failure_does_not_start_again_what_has_done_well(roots: Roots) -> None:
    with monitored(roots, "true", words=("restart=on-failure",)) as m:
        assert m.wait()["restart_count"] == 0


def test_the_pause_between_restarts_doubles(roots: Roots) -> None:
    with monitored(roots, "false", words=("restart=on-failure:4",)) as m:
        began = time.monotonic()
        m.wait()
        assert time.monotonic() - began >= 0.1 + 0.2 + 0.4 + 0.8 - 0.1


def test_a_client_is_told_of_each_end(roots: Roots) -> None:
    with sh(roots, "read x; exit $x", words=("restart=on-failure:1", "stdin")) as m, m.control() as c:
        c.send_stdin(b"4\n")
        assert c.ended() == (4, 0, True)
        assert poll_until(lambda: m.state["restart_count"] == 1 and m.state["status"] == "running")
        c.send_stdin(b"0\n")
        assert c.ended() == (0, 0, False)
        m.wait()


def test_a_stop_ends_the_wait_for_a_restart(roots: Roots) -> None:
    with sh(roots, "exit 6", words=("restart=always",)) as m, m.control() as c:
        while (end := c.ended()) is not None and m.state["restart_count"] < 2:
            assert end == (6, 0, True)
        c.stop(signal.SIGTERM, 10)
        state = m.wait()
        assert (state["status"], state["stopped_by_request"]) == ("exited", True)


def test_a_policy_can_be_changed_while_it_runs(roots: Roots) -> None:
    with sh(roots, "read x; exit 3", words=("restart=always", "stdin")) as m, m.control() as c:
        c.set_policy("no")
        c.send_stdin(b"\n")
        assert c.ended() == (3, 0, False)
        assert m.wait()["restart_count"] == 0


def test_a_restart_that_fails_ends_it_with_the_reason(roots: Roots) -> None:
    with sh(roots, "read x; exit 3", words=("restart=always", "stdin")) as m, m.control() as c:
        os.rename(m.made.plan_file, f"{m.made.plan_file}.away")
        c.send_stdin(b"\n")
        assert c.ended() == (3, 0, True)
        state = m.wait()
        assert (state["status"], state["exit_code"]) == ("exited", 3)
        assert (state["error_step"], state["error_errno"]) == ("read plan file", 2)
        os.rename(f"{m.made.plan_file}.away", m.made.plan_file)
        _native.finish(m.made.plan)


def test_a_terminal_comes_again_with_each_start(roots: Roots) -> None:
    with sh(roots, "tty; exit 1", words=("restart=on-failure:2", "tty"), terminal=True) as m:
        m.wait()
        assert m.log() == "/dev/pts/0\r\n" * 3


def test_translated_layers_are_there_for_each_start(roots: Roots) -> None:
    own = (IDMapping(container_id=0, host_id=700_000, size=65536),)
    script = "echo x >>/runs; stat -c %u /runs /etc/passwd; exit 1"
    with sh(roots, script, words=("restart=on-failure:2",), uid_mappings=own, gid_mappings=own) as m:
        m.wait()
        assert m.log() == "0\n0\n" * 3
        assert os.stat(f"{m.made.upper}/runs").st_uid == 700_000


def test_paused_is_noted(roots: Roots) -> None:
    with monitored(roots, "sleep", "600") as m, m.control() as c:
        c.note_paused(True)
        assert m.state["status"] == "paused"
        c.note_paused(False)
        assert m.state["status"] == "running"


# --- cost --------------------------------------------------------------------------------------------------------


def _pss_kb(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


def _switches(pid: int) -> list[str]:
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return [line for line in f if "ctxt_switches" in line]


def test_it_costs_little_and_sleeps(roots: Roots) -> None:
    with sh(roots, "seq 1 100000; echo done; exec sleep 600") as m:
        assert poll_until(lambda: m.log().endswith("done\n"), DEADLINE_S)
        pid = m.monitor_pid
        assert poll_until(lambda: _pss_kb(pid) <= 60), _pss_kb(pid)  # what the busy time took is given back
        before = _switches(pid)
        time.sleep(2)
        assert _switches(pid) == before
