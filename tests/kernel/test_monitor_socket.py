"""A monitor's socket: clients that attach, feed, ask, are slow or mean harm; and terminals."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time

import pytest
from census import poll_until
from detached import end_monitor, monitored, output, prepared, sh, until
from probes import DEADLINE_S

from pycontain.runtime import monitor
from pycontain.runtime.monitor import Control
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel


# --- terminal --------------------------------------------------------------------------------------------------------


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


# --- socket ----------------------------------------------------------------------------------------------------------


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
        end_monitor(c.run_dir)


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
