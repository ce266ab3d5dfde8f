"""The log driver journald, with a socket of the test's own for the journal's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import census
import pytest
from staying import PYCONTAIN, command

from pycontain.engine import containers, logs
from pycontain.errors import Conflict, Unsupported
from pycontain.request import RunRequest
from pycontain.runtime import detached, journal, monitor
from pycontain.runtime.detached import Logging, Restart
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


class Journal:
    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(20)

    def entry(self) -> dict[str, bytes]:
        """One datagram, as the journal reads it."""
        data, found = self.socket.recv(1 << 18), {}
        while data:
            line, _, data = data.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                size = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + size], data[9 + size :]
            found[name.decode()] = value
        return found


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    path = str(tmp_path / "socket")
    monkeypatch.setattr(journal, "SOCKET", path)
    made = Journal(path)
    yield made
    made.socket.close()


def start(roots: Roots, script: str, *, name: str = "web", tag: str = "", restart: str = "no") -> str:
    request = RunRequest(image="host", args=("sh", "-c", script), name=name)
    logging = Logging(driver="journald", tag=tag)
    container_id = containers.create(request, roots, logging=logging, restart=Restart(policy=restart))
    containers.start(roots, container_id)
    return container_id


def test_every_line_with_its_fields(roots: Roots, received: Journal) -> None:
    container_id = start(roots, "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf 'no end \\377'")
    common = {
        "CONTAINER_ID": container_id[:12], "CONTAINER_ID_FULL": container_id, "CONTAINER_NAME": "web", "CONTAINER_TAG": container_id[:12],
        "SYSLOG_IDENTIFIER": container_id[:12], "IMAGE_NAME": "host",
    }  # fmt: skip
    said = [received.entry() for _ in range(3)]
    fixed = {name: value.encode() for name, value in common.items()}
    assert said == [
        {**fixed, "PRIORITY": b"6", "MESSAGE": b"one"}, {**fixed, "PRIORITY": b"3", "MESSAGE": b"two"},
        {**fixed, "PRIORITY": b"6", "MESSAGE": b"no end \xff"},
    ]  # fmt: skip
    assert containers.wait(roots, "web") == 0
    assert not os.path.exists(f"{detached.directory_of(roots, container_id)}/log")
    (found,) = json.loads(command("inspect", "web").stdout)
    assert found["HostConfig"]["LogConfig"] == {"Type": "journald", "Config": {}} and found["LogPath"] == ""


def test_a_long_line_comes_in_pieces(roots: Roots, received: Journal) -> None:
    start(roots, "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end", tag="t/{{.Name}}/{{.ImageName}}")
    said = [received.entry() for _ in range(4)]
    assert [(len(each["MESSAGE"]), each.get("CONTAINER_PARTIAL_MESSAGE")) for each in said] == [
        (16384, b"true"), (16384, b"true"), (40000 - 2 * 16384, None), (3, None),
    ]  # fmt: skip
    assert said[0]["CONTAINER_TAG"] == said[0]["SYSLOG_IDENTIFIER"] == b"t/web/host"


def test_lines_that_look_like_fields_are_none(roots: Roots, received: Journal) -> None:
    start(roots, "printf 'PRIORITY=0\\nCONTAINER_NAME=other\\n'; printf 'MESSAGE\\n'")
    said = [received.entry() for _ in range(3)]
    assert [each["MESSAGE"] for each in said] == [b"PRIORITY=0", b"CONTAINER_NAME=other", b"MESSAGE"]
    assert {each["CONTAINER_NAME"] for each in said} == {b"web"} and {each["PRIORITY"] for each in said} == {b"6"}


def test_a_journal_that_takes_nothing_stops_neither_container_nor_monitor(roots: Roots, received: Journal) -> None:
    container_id = start(roots, "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i + 1)); done; exit 3")
    assert containers.wait(roots, "web") == 3
    state = monitor.read_state(detached.directory_of(roots, container_id))
    assert 0 < state["lost_log_bytes"] < 2000 * 10
    assert received.entry()["MESSAGE"] == b"line 0"


def test_a_journal_that_has_gone(roots: Roots, received: Journal, tmp_path: Path) -> None:
    container_id = start(roots, "read x; echo said; exit 4", restart="no")
    assert containers.wait(roots, "web") == 4
    received.socket.close()
    os.unlink(tmp_path / "socket")
    with pytest.raises(Unsupported, match="there is no socket"):
        containers.start(roots, "web")
    assert monitor.read_state(detached.directory_of(roots, container_id))["exit_code"] == 4


# --- reading it back --------------------------------------------------------------------------------------------------


def test_logs_are_journalctls(roots: Roots, received: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container_id = start(roots, "true")
    entries = [
        {"MESSAGE": "one", "PRIORITY": "6", "__REALTIME_TIMESTAMP": "1700000000000001"},
        {"MESSAGE": [255, 97], "PRIORITY": "3", "__REALTIME_TIMESTAMP": "1700000001000000"},
        {
            "MESSAGE": "a",
            "PRIORITY": "6",
            "CONTAINER_PARTIAL_MESSAGE": "true",
            "__REALTIME_TIMESTAMP": "1700000002000000",
        },
    ]
    program = tmp_path / "journalctl"
    lines = "\n".join(json.dumps(each) for each in entries)
    program.write_text(f"#!/bin/sh\necho \"$@\" >{tmp_path}/words\ncat <<'END'\n{lines}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = list(logs.read_logs(roots, "web", tail=5))
    assert [(each.stream, each.text) for each in found] == [
        ("stdout", "one\n"),
        ("stderr", "\ufffda\n"),
        ("stdout", "a"),
    ]
    assert found[0].time == "2023-11-14T22:13:20.000001000Z"
    assert f"CONTAINER_ID_FULL={container_id} --lines=5" in (tmp_path / "words").read_text()
    assert len(list(logs.read_logs(roots, "web", since="2023-11-14T22:13:21.0"))) == 2
    assert containers.wait(roots, "web") == 0
    assert len(list(logs.read_logs(roots, "web", follow=True))) == 3
    program.write_text("#!/bin/sh\necho 'No journal files were found.' >&2; exit 1\n")
    with pytest.raises(
        Conflict, match=f"No journal files were found.: `journalctl CONTAINER_ID={container_id[:12]}` shows it"
    ):
        list(logs.read_logs(roots, "web"))
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(Conflict, match="cannot run journalctl: No such file"):
        logs.read_logs(roots, "web")


# --- the command line -------------------------------------------------------------------------------------------------


def test_without_a_journal_it_is_refused_and_nothing_stays(roots: Roots) -> None:
    if os.path.exists(journal.SOCKET):
        pytest.skip("a journal runs here")
    done = subprocess.run(
        [*PYCONTAIN, "run", "-d", "--log-driver", "journald", "host", "true"], capture_output=True, text=True
    )
    assert done.returncode == 125 and "systemd-journald does not run" in done.stderr and done.stderr.count("\n") == 1
    assert command("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--log-driver", "journald", "--log-opt", "max-size=1m"), "unknown option 'max-size=1m': the driver journald has tag=TEXT"),
        (("--log-driver", "journald", "--log-opt", "tag={{.Nothing}}"), "--log-opt: unknown tag '{{.Nothing}}'"),
        (("--log-driver", "syslog"), "there is no driver 'syslog' here: write json-file, journald or none"),
    ],
)  # fmt: skip
def test_what_cannot_be(words: tuple[str, ...], wrong: str) -> None:
    assert wrong in command("run", "-d", *words, "host", "true", code=125).stderr


def test_memory(roots: Roots, received: Journal) -> None:
    container_id = start(roots, "seq 1 10; exec sleep 600")
    for _ in range(10):
        received.entry()
    pid = monitor.read_state(detached.directory_of(roots, container_id))["monitor_pid"]

    def pss_kb() -> int:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))

    assert census.poll_until(lambda: pss_kb() <= 60), pss_kb()
