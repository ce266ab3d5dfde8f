"""Events: how they are written, read back, filtered and printed; what rotation and crashes do to them."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from pycontain import journal
from pycontain.cli.events import _formatter, line_of
from pycontain.engine.events import Event, Events, events, matches
from pycontain.errors import Conflict, InvalidArgument
from pycontain.runtime.roots import Roots

ID = "f" * 64


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(data_root=str(tmp_path / "data"), run_root=str(tmp_path / "run"))


def known(roots: Roots, **options: Any) -> list[Event]:
    with events(roots, since=0, until=time.time(), **options) as found:
        return list(found)


def emit(roots: Roots, action: str = "start", **attributes: str) -> None:
    journal.emit(roots.data_root, "container", action, ID, attributes)


def segment(roots: Roots, number: int = 1) -> Path:
    return Path(journal.ready(roots.data_root), f"journal.{number}")


# --- writing and reading ------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(roots: Roots) -> None:
    begun = time.time_ns()
    odd = 'a "b" \\ \n \x1b \u00e4 \udc80 \U0001f600'
    emit(roots, "create", image="host", name="web", label=odd)
    journal.emit(roots.data_root, "volume", "destroy", "data", {})
    first, second = known(roots)
    assert (first.kind, first.action, first.id) == ("container", "create", ID)
    assert first.attributes == (("image", "host"), ("label", odd), ("name", "web"))
    assert (second.kind, second.id, second.attributes) == ("volume", "data", ())
    assert begun <= first.time_ns <= second.time_ns <= time.time_ns()


def test_since_and_until(roots: Roots) -> None:
    emit(roots, "first")
    between = time.time()
    time.sleep(0.001)
    emit(roots, "second")
    with events(roots, since=between, until=time.time()) as found:
        assert [each.action for each in found] == ["second"]
    with events(roots, until=between) as found:  # all that is known until then
        assert [each.action for each in found] == ["first"]


def test_an_order_by_time(roots: Roots) -> None:
    for at in (30, 10, 20):
        line = {"timeNano": at, "Type": "container", "Action": str(at), "Actor": {"ID": ID, "Attributes": {}}}
        with segment(roots).open("a") as file:
            file.write(f"\n{json.dumps(line)}\n")
    assert [each.action for each in known(roots)] == ["10", "20", "30"]


def test_only_what_comes_from_now_on(roots: Roots) -> None:
    emit(roots, "before")
    with events(roots) as following:
        assert following.read() == []
        emit(roots, "after")
        assert [each.action for each in following.read()] == ["after"]
        assert following.read() == []


def test_it_wakes_up_and_ends(roots: Roots) -> None:
    child = os.fork()
    if child == 0:
        time.sleep(0.1)
        emit(roots)
        os._exit(0)
    with events(roots, until=time.time() + 1) as following:
        assert [each.action for each in following] == ["start"]
    assert time.time() >= following._until_ns / 1e9  # type: ignore[operator]
    os.waitpid(child, 0)


def test_asyncio(roots: Roots) -> None:
    import asyncio

    async def follow() -> list[Event]:
        loop = asyncio.get_running_loop()
        with events(roots) as following:
            come: asyncio.Future[list[Event]] = loop.create_future()

            def wake() -> None:
                found = following.read()
                if found and not come.done():
                    come.set_result(found)

            loop.add_reader(following.fileno(), wake)
            loop.call_later(0.01, emit, roots, "start")
            try:
                return await asyncio.wait_for(come, 10)
            finally:
                loop.remove_reader(following.fileno())

    assert [each.action for each in asyncio.run(follow())] == ["start"]


# --- rotation, crashes --------------------------------------------------------------------------------------------------


def test_the_sizes_are_the_monitors_too() -> None:
    source = (Path(__file__).parents[2] / "src/c/monitor_event.c").read_text()
    found = re.search(r"SEGMENT = 1 << (\d+), KEPT = (\d+)", source)
    assert found is not None
    assert (1 << int(found[1]), int(found[2])) == (journal.SEGMENT_BYTES, journal.KEPT)


def test_rotation_under_a_follower(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1000)
    with events(roots) as following:
        found: list[Event] = []
        for at in range(200):
            emit(roots, str(at), name="x" * (at % 90))
            if at % 7 == 0:
                found += following.read()
        found += following.read()
    assert [each.action for each in found] == [str(at) for at in range(200)]
    assert (following.damaged, following.missed) == (0, 0)
    there = journal.segments(journal.directory_of(roots.data_root))
    assert len(there) == journal.KEPT and there[-1] - there[0] == journal.KEPT - 1
    assert all(segment(roots, each).stat().st_size < 2500 for each in there)
    kept = [int(each.action) for each in known(roots)]
    assert kept == list(range(kept[0], 200)) and len(kept) > 10


def test_a_follower_that_is_too_slow_says_so(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1000)
    emit(roots, "first")
    with events(roots) as following:
        for at in range(200):
            emit(roots, str(at))
        found = [each.action for each in following.read()]
    assert found[0] == "0" and found[-1] == "199"  # what it had open, and what is kept
    assert following.missed > 0 and len(found) < 200


def test_what_begins_beyond_the_end_does_not_count(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 10)
    emit(roots, "counts")
    emit(roots, "is in the next one")
    assert segment(roots).read_text().count("is in the next one") == 1 == segment(roots, 2).read_text().count("is in")
    assert [each.action for each in known(roots)] == ["counts", "is in the next one"]


@pytest.mark.parametrize(
    "wreck",
    [
        b'\n{"timeNano":1,"Type":"contai', b"\0" * 50, b"\n[]\n", b'\n{"timeNano":"1"}\n', b"\n" + b"[" * 5000 + b"\n", b"\n\xff\xfe\n",
        b'\n{"timeNano":1,"Type":"container","Action":"x","Actor":{"ID":"y","Attributes":{"a":1}}}\n',
    ],
)  # fmt: skip
def test_a_damaged_line_is_passed_over_and_counted(roots: Roots, wreck: bytes) -> None:
    emit(roots, "before")
    with segment(roots).open("ab") as file:
        file.write(wreck)
    emit(roots, "after")
    with events(roots, since=0, until=time.time()) as found:
        assert [each.action for each in found] == ["before", "after"]
        assert found.damaged == 1


def test_a_line_cut_short_at_the_end_of_a_segment(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 400)
    with events(roots) as following:
        emit(roots, "before")
        with segment(roots).open("ab") as file:
            file.write(b'\n{"timeNano":1,"Type":"' + b"x" * 400)
        emit(roots, "after")
        assert [each.action for each in following.read()] == ["before", "after"]
        assert following.damaged == 1


def test_a_late_writer_of_a_segment_that_is_gone(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped between its look at the directory and its write: what it says is in the newest one all the same."""
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 300)
    emit(roots, "first")
    looks = journal.segments
    stale = iter([[1]])
    for at in range(30):
        emit(roots, str(at))
    monkeypatch.setattr(journal, "segments", lambda directory: next(stale, None) or looks(directory))
    emit(roots, "late")
    monkeypatch.setattr(journal, "segments", looks)
    assert known(roots)[-1].action == "late"


def test_a_journal_that_is_removed_wakes_who_follows(roots: Roots) -> None:
    with events(roots, until=time.time() + 20) as following:
        shutil.rmtree(journal.directory_of(roots.data_root))
        with pytest.raises(Conflict, match="has been removed meanwhile"):
            list(following)


def test_a_full_disk_fails_no_command(roots: Roots) -> None:
    Path(roots.data_root).mkdir()
    Path(roots.data_root, "events").write_text("no directory")
    emit(roots)


# --- filters and forms --------------------------------------------------------------------------------------------------


def made(kind: str = "container", action: str = "start", of: str = ID, **attributes: str) -> Event:
    return Event(kind=kind, action=action, id=of, attributes=tuple(sorted(attributes.items())), time_ns=1)


START = made(image="debian:12", name="web", tier="front")
IMAGE = made("image", "pull", "debian:12", name="debian")


@pytest.mark.parametrize(
    ("event", "filters", "met"),
    [
        (START, {}, True), (START, {"type": ["container"]}, True), (START, {"type": ["image", "volume"]}, False),
        (START, {"event": ["start"]}, True), (START, {"event": ["star"]}, False), (START, {"event": ["die", "start"]}, True),
        (made(action="exec_start: sh -c x"), {"event": ["exec_start"]}, True),
        (made(action="health_status: healthy"), {"event": ["health_status"]}, True),
        (made(action="health_status: healthy"), {"event": ["health_status: healthy"]}, True),
        (made(action="exec_start: sh"), {"event": ["exec_start: ls"]}, False),
        (START, {"container": ["web"]}, True), (START, {"container": ["ffff"]}, True), (START, {"container": ["we"]}, True),
        (START, {"container": ["db"]}, False), (IMAGE, {"container": ["debian"]}, False),
        (START, {"image": ["debian:12"]}, True), (START, {"image": ["debian"]}, True), (START, {"image": ["deb"]}, False),
        (IMAGE, {"image": ["debian"]}, True), (IMAGE, {"image": ["debian:12"]}, True), (IMAGE, {"image": ["debian:13"]}, False),
        (START, {"label": ["tier"]}, True), (START, {"label": ["tier=front"]}, True), (START, {"label": ["tier=back"]}, False),
        (START, {"label": ["tier", "other"]}, False), (START, {"volume": ["web"]}, False), (START, {"scope": ["local"]}, True),
        (made("volume", "create", "data"), {"volume": ["data"]}, True), (START, {"scope": ["swarm"]}, False),
        (START, {"type": ["container"], "event": ["die"]}, False),
    ],
)  # fmt: skip
def test_filters(event: Event, filters: dict[str, list[str]], met: bool) -> None:
    assert matches(event, filters) == met


def test_a_filter_that_does_not_exist(roots: Roots) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        events(roots, filters={"colour": ["red"]})


def test_a_line_is_dockers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        attributes = (("image", "a"), ("name", "b\x1b[1m"))
        event = Event(
            kind="container", action="create", id="abc", attributes=attributes, time_ns=1_795_608_000_000_000_001
        )
        line = line_of(event)
        assert line.startswith("2026-11-25T13:00:00.000000001+01:00 container create abc (image=a, name=b")
        assert "\x1b" not in line and line.endswith(")")
    finally:
        monkeypatch.undo()
        time.tzset()


def test_forms() -> None:
    assert (
        _formatter("{{.Type}} {{.Action}} {{.ID}} {{.Actor.Attributes.name}} {{.TimeNano}}")(START)
        == f"container start {ID} web 1"
    )
    document = json.loads(_formatter("json")(START))
    assert list(document) == ["status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"]
    assert document["from"] == "debian:12" and document["Actor"]["Attributes"]["tier"] == "front"
    assert list(json.loads(_formatter("{{json .}}")(made("volume", "create", "data")))) == [
        "Type", "Action", "Actor", "scope", "time", "timeNano",
    ]  # fmt: skip
    with pytest.raises(InvalidArgument, match="template parsing error"):
        _formatter("{{.Nothing}}")(START)
    with pytest.raises(InvalidArgument, match="template parsing error"):
        _formatter("{{")


def test_closed_for_good(roots: Roots) -> None:
    before = os.listdir("/proc/self/fd")
    emit(roots)
    found = Events(journal.ready(roots.data_root), None, None, {})
    found.close()
    found.close()
    assert os.listdir("/proc/self/fd") == before
