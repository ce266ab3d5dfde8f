"""``pycontain attach`` and ``start -a``: on terminals of their own, and through pipes."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time

import census
import pytest
from staying import SLEEPER, command, monitor_pid, run, saying, state
from terminals import DEADLINE_S, LEAVE, PROGRAM, SAID, Sessions, attached, said

from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


# --- a terminal -------------------------------------------------------------------------------------------------------


def test_echo_through_cat(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "stty -echo; echo ready; exec cat")
    saying("it", "ready")
    session = sessions("attach", "it")
    assert census.poll_until(session.is_raw)
    session.type(b"hello\r")
    session.until(b"hello\r\n")
    session.type(b"\x04")  # the end of a terminal's input is a key
    assert session.end() == 0
    assert session.seen.replace(b"\x00", b"") == b"hello\r\n"  # of its former output nothing
    assert state("it") == "exited"


def test_the_size_is_ours_and_follows_us(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh")
    session = sessions("attach", "it")
    assert census.poll_until(session.is_raw)
    session.type(b"while [ \"$(stty size)\" != '31 91' ]; do sleep 0.02; done; echo si''zed\r")
    session.until(b"sized")
    session.resize(40, 100)
    session.type(b"while [ \"$(stty size)\" != '40 100' ]; do sleep 0.02; done; echo re''sized\r")
    session.until(b"resized")
    session.type(b"exit 5\r")
    assert session.end() == 5


def test_without_anybody_there_its_terminal_has_no_size() -> None:
    run("-t", "--name", "it", "host", "stty", "size")
    assert command("wait", "it").stdout == "0\n"
    assert command("logs", "it").stdout == "0 0\n"


def test_control_c_is_the_programs_and_not_ours(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "trap 'echo caught' INT; echo ready; while :; do sleep 0.05; done")
    saying("it", "ready")
    session = sessions("attach", "it")
    assert census.poll_until(session.is_raw)
    session.type(b"\x03")
    session.until(b"caught")
    session.type(b"\x03")
    session.until(lambda seen: seen.count(b"caught") == 2)
    session.type(LEAVE)
    assert session.end() == 1 and state("it") == "running"


def test_detach_and_attach_again(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "stty -echo; echo ready; while read x; do echo got $x; done; exit 6")
    saying("it", "ready")
    for word in (b"one", b"two"):
        session = sessions("attach", "it")
        before = termios.tcgetattr(session.fd)
        assert census.poll_until(session.is_raw)
        session.type(word + b"\r")
        session.until(b"got " + word + b"\r\n")
        session.type(b"\x10")
        session.type(b"x\r")  # no detachment
        session.until(b"got \x10x\r\n")
        session.type(b"\x10")
        time.sleep(0.05)  # two reads
        session.type(b"\x11after\r")
        session.until(SAID)
        after = termios.tcgetattr(session.fd)
        assert session.end() == 1
        assert session.seen.endswith(b"got \x10x\r\n" + SAID) and before == after
    assert state("it") == "running" and "after" not in command("logs", "it").stdout
    session = sessions("attach", "it")
    assert census.poll_until(session.is_raw)
    session.type(b"\x04")
    assert session.end() == 6


def test_keys_of_ones_own(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "stty raw -echo; echo ready; exec cat")
    saying("it", "ready")
    session = sessions("attach", "--detach-keys", "ctrl-x,a", "it")
    assert census.poll_until(session.is_raw)
    session.type(LEAVE + b"!")
    session.until(LEAVE + b"!")
    session.type(b"\x18a")
    assert session.end() == 1 and session.seen.endswith(SAID)
    done = command("attach", "--detach-keys", "ctrl-x,no", "it", code=125)
    assert "--detach-keys: invalid key sequence 'ctrl-x,no': there is no key 'no'" in done.stderr


def test_what_is_typed_just_before_the_keys_arrives(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "stty -echo; echo ready; exec cat")
    saying("it", "ready")
    for n in range(5):
        session = sessions("attach", "it")
        assert census.poll_until(session.is_raw)
        session.type(b"word%d\r" % n + LEAVE)
        assert session.end() == 1
    assert census.poll_until(
        lambda: command("logs", "it").stdout == "ready\n" + "".join(f"word{n}\n" for n in range(5))
    )


def test_two_see_the_same(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "stty -echo; echo ready; exec cat")
    saying("it", "ready")
    both = [sessions("attach", "it") for _ in range(2)]
    assert census.poll_until(lambda: all(each.is_raw() for each in both))
    for n, each in enumerate(both):
        each.type(b"from %d\r" % n)
        for one in both:
            one.until(b"from %d\r\n" % n)
    both[0].type(LEAVE)
    assert both[0].end() == 1
    both[1].type(b"\x04")
    assert both[1].end() == 0
    assert both[1].seen == b"from 0\r\nfrom 1\r\n"


def test_a_client_that_is_killed_leaves_it_running(sessions: Sessions) -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "stty -echo; echo ready; exec cat")
    saying("it", "ready")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP):
        session = sessions("attach", "it")
        before = termios.tcgetattr(session.fd)
        assert census.poll_until(session.is_raw)
        os.kill(session.pid, number)
        if number == signal.SIGKILL:
            assert session.end() == -9
            continue
        assert census.poll_until(lambda s=session: not s.is_raw())  # type: ignore[misc]
        assert termios.tcgetattr(session.fd) == before
        assert session.end() == 128 + number
    assert state("it") == "running"
    session = sessions("attach", "it")
    assert census.poll_until(session.is_raw)
    session.type(b"still\r")
    session.until(b"still\r\n")


def test_a_window_that_is_closed_leaves_it_running() -> None:
    run("-it", "--name", "it", "host", "sh", "-c", "stty -echo; echo ready; exec cat")
    saying("it", "ready")
    pid, master = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup: only the end of file tells
        os.execv(PROGRAM[0], [*PROGRAM, "attach", "it"])
    assert census.poll_until(lambda: not termios.tcgetattr(master)[3] & termios.ICANON)
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    assert state("it") == "running"


def test_a_terminal_is_not_fed_by_a_pipe() -> None:
    run("-it", "--name", "it", "host", "sleep", "1000")
    assert "the input device is not a TTY" in command("attach", "it", code=1, input="").stderr


def test_only_looking(sessions: Sessions) -> None:
    """--no-stdin, and a terminal without -i: nothing is typed there, and Ctrl-C is ours."""
    run("-it", "--name", "open", "host", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
    run("-t", "--name", "shut", "host", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
    for words in (("--no-stdin", "open"), ("shut",)):
        session = sessions("attach", *words)
        session.until(b"tick")
        assert not session.is_raw()
        session.type(b"\x03")
        assert session.end() == 130
        assert state(words[-1]) == "running"


# --- pipes ------------------------------------------------------------------------------------------------------------


def test_streams_and_the_exit_code() -> None:
    run("-i", "--name", "it", "host", "sh", "-c", "echo up; read x; echo $x; echo wrong >&2; exit 9")
    saying("it", "up")
    done = command("attach", "it", input="hello\n", code=9)
    assert (done.stdout, done.stderr) == ("hello\n", "wrong\n")


def test_input_that_is_not_taken() -> None:
    """Made without -i: what is typed goes nowhere, and its end ends nothing."""
    run("--name", "it", "host", "sh", "-c", "cat; echo up; trap 'echo bye; exit 4' USR1; while :; do sleep 0.05; done")
    saying("it", "up")
    with attached("attach", "it") as process:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        census.poll_until(lambda: _is_attached("it"))
        command("kill", "-s", "USR1", "it")
        assert process.communicate(timeout=DEADLINE_S)[0] == b"bye\n"
    assert process.returncode == 4


def _is_attached(name: str) -> bool:
    """Whether its monitor has a client."""
    from pycontain.runtime.roots import default_roots

    roots = default_roots()
    pid = monitor_pid(roots, detached.find_id(roots, name))
    sockets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    return sum(each.startswith("socket:") for each in sockets) > 1


def test_input_that_ends(roots: Roots) -> None:
    """Once for a container that was made to be attached to; not for one that was left alone from the beginning."""
    command("create", "-i", "--name", "once", "host", "sh", "-c", "cat; exit 3")
    assert command("start", "-a", "-i", "once", input="all\n", code=3).stdout == "all\n"
    command("start", "once")  # without anybody: its input stays open
    assert state("once") == "running"
    assert command("attach", "once", input="more\n", code=3).stdout == "more\n"

    run("-i", "--name", "open", "host", "sh", "-c", "while read x; do echo got $x; done")
    for word in (b"one", b"two"):
        with attached("attach", "open") as process:
            assert process.stdin is not None
            process.stdin.write(word + b"\n")
            process.stdin.close()
            process.stdin = None
            said(process, b"got " + word + b"\n")
            process.kill()
    assert state("open") == "running"


def test_input_ends_with_a_client_that_is_killed() -> None:
    command("create", "-i", "--name", "it", "host", "sh", "-c", "echo up; cat; exit 3")
    with attached("start", "-ai", "it") as process:
        said(process, b"up\n")
        process.kill()
    assert command("wait", "it").stdout == "3\n"


def test_a_reader_that_waits_too_long_is_left_behind_and_told() -> None:
    run(
        "--name",
        "it",
        "host",
        "sh",
        "-c",
        "trap 'seq 1 100000' USR1; echo up; while :; do sleep 0.05; done",
    )
    saying("it", "up")
    with attached("attach", "it") as process:
        assert census.poll_until(lambda: _is_attached("it"))
        command("kill", "-s", "USR1", "it")
        assert census.poll_until(lambda: not _is_attached("it"), 30)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1 and state("it") == "running"
    assert b"has gone on without this command" in err and err.count(b"\n") == 1
    assert out.startswith(b"1\n2\n") and b"\n100000\n" not in out


def test_signals_go_on_or_end_us() -> None:
    script = "trap 'echo int' INT; trap 'echo term; exit 8' TERM; echo up; while :; do sleep 0.05; done"
    run("--name", "it", "host", "sh", "-c", script)
    saying("it", "up")
    with attached("attach", "--sig-proxy=false", "it") as process:
        assert census.poll_until(lambda: _is_attached("it"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130 and state("it") == "running"
    assert census.poll_until(lambda: not _is_attached("it"))
    with attached("attach", "it") as process:
        assert census.poll_until(lambda: _is_attached("it"))
        process.send_signal(signal.SIGINT)
        said(process, b"int\n")
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=DEADLINE_S)[0] == b"term\n"
    assert process.returncode == 8


def test_three_interrupts_leave_what_does_not_mind() -> None:
    run("--name", "deaf", "host", "sh", "-c", "trap 'echo no' INT; echo up; while :; do sleep 0.05; done")
    saying("deaf", "up")
    with attached("attach", "deaf") as process:
        assert census.poll_until(lambda: _is_attached("deaf"))
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            said(process, b"no\n")
        process.send_signal(signal.SIGINT)
        assert b"after three interrupts" in process.communicate(timeout=DEADLINE_S)[1]
    assert process.returncode == 1 and state("deaf") == "running"


def test_fast_output_and_much_input_are_whole() -> None:
    """Both ways at once, more than any buffer holds: neither waits for the other."""
    command("create", "-i", "--name", "it", "host", "cat")
    data = b"".join(b"%d\n" % n for n in range(600_000))
    with attached("start", "-ai", "it") as process:
        assert process.communicate(data, timeout=120)[0] == data
    assert process.returncode == 0
    command("create", "--name", "seq", "host", "seq", "1", "500000")
    assert command("start", "-a", "seq").stdout == "".join(f"{n}\n" for n in range(1, 500_001))


def test_input_that_it_does_not_read_stops_no_signal() -> None:
    run("-i", "--name", "it", "host", "sh", "-c", "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done")
    saying("it", "up")
    with attached("attach", "it") as process:
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        assert census.poll_until(lambda: _is_full(process.stdin.fileno()))  # type: ignore[union-attr]
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 5
        os.set_blocking(process.stdin.fileno(), True)


def _is_full(fd: int) -> bool:
    try:
        while os.write(fd, bytes(65536)):
            pass
    except BlockingIOError:
        pass
    return not select.select([], [fd], [], 0.2)[1]


def test_a_reader_that_goes_ends_us_alone() -> None:
    run("--name", "it", "host", "sh", "-c", "while :; do echo tick; sleep 0.02; done")
    with attached("attach", "it") as process:
        said(process, b"tick\n")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 141
    assert state("it") == "running"


def test_the_end_of_its_monitor_is_its_end(roots: Roots) -> None:
    container_id = run("--name", "it", *SLEEPER)
    with attached("attach", "it") as process:
        assert census.poll_until(lambda: _is_attached("it"))
        os.kill(monitor_pid(roots, container_id), signal.SIGKILL)
        assert process.wait(DEADLINE_S) == 255


def test_what_cannot_be_attached_to() -> None:
    command("create", "--name", "made", "host", "true")
    run("--name", "still", *SLEEPER)
    command("pause", "still")
    for name, why in (
        ("made", "You cannot attach to a stopped container, start it first"),
        ("still", "You cannot attach to a paused container, unpause it first"),
        ("nobody", "No such container: nobody"),
    ):
        done = command("attach", name, code=1)
        assert why in done.stderr and done.stdout == "" and done.stderr.count("\n") == 1
    assert "cannot start a paused container" in command("start", "-a", "still", code=1).stderr
    run("--name", "again", "--restart", "always", "host", "false")
    assert census.poll_until(lambda: state("again") == "restarting")
    refused = subprocess.run([*PROGRAM, "attach", "again"], capture_output=True, text=True, timeout=DEADLINE_S)
    assert refused.returncode == 1  # "restarting container", or the exit code of a start that was just then
    with attached("run", "--name", "front", "host", "sh", "-c", "echo; exec sleep 100") as process:
        said(process, b"\n")
        assert "runs in the foreground of another command" in command("attach", "front", code=1).stderr
        command("kill", "front")
        process.communicate(timeout=DEADLINE_S)
