"""A detached container's log: JSON lines for any bytes, rotated, on a disk that may be full."""

from __future__ import annotations

import codecs
import os
import subprocess

import pytest
from detached import INSTANT, Monitored, Prepared, output, prepared, sh, until

from pycontain.runtime import monitor
from pycontain.runtime.roots import Roots

pytestmark = pytest.mark.kernel


def test_each_line_is_an_object_with_its_stream_and_time(roots: Roots) -> None:
    with sh(roots, "echo one; echo two >&2; printf three") as m:
        m.wait()
        lines = m.lines()
        with open(f"{m.made.data_dir}/log", "rb") as f:
            raw = f.read()
    assert sorted((line["stream"], line["log"]) for line in lines) == [
        ("stderr", "two\n"), ("stdout", "one\n"), ("stdout", "three"),
    ]  # fmt: skip
    assert all(list(line) == ["log", "stream", "time"] and INSTANT.fullmatch(line["time"]) for line in lines)
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


def test_on_a_disk_that_stays_full_the_end_is_in_the_state_all_the_same(roots: Roots) -> None:
    with prepared(roots, "sh", "-c", "seq 1 200000; exit 5") as c:
        disk = f"{c.data_dir}/small"
        os.mkdir(disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
        try:
            with open(f"{disk}/plan", "wb") as f:
                f.write(c.plan)
            monitor.start(disk, c.run_dir, c.slots)
            state = Monitored(Prepared(c.id, disk, c.run_dir, c.plan, c.slots), 0).wait()
            assert os.statvfs(disk).f_bavail == 0
            assert (state["status"], state["exit_code"]) == ("exited", 5) and state["lost_log_bytes"] > 0
        finally:
            subprocess.run(["umount", disk], check=True)
