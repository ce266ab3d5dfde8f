"""Lines of a log: taken apart without the JSON parser where nothing is escaped, and always to the same."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.engine.log_lines import said_when
from pycontain.engine.logs import Line, Shown, _parsed
from pycontain.errors import InvalidArgument

TIME = "2026-11-25T09:41:13.123456789Z"


def as_written(text: str, stream: str = "stdout", *, ascii: bool = False) -> bytes:
    document = {"log": text, "stream": stream, "time": TIME}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=ascii).encode()


@given(
    st.text(), st.sampled_from(["stdout", "stderr"]), st.booleans(), st.sampled_from(["", "\n", "\\n", '"\n', "\\\n"])
)
def test_any_text(text: str, stream: str, ascii: bool, end: str) -> None:
    text = text.encode("utf-8", "replace").decode() + end
    found = _parsed(as_written(text, stream, ascii=ascii))
    assert (found.text, found.stream, found.time) == (text, stream, TIME)


def test_a_text_that_looks_like_the_rest_of_a_line() -> None:
    text = '","stream":"stderr","time":"2000-01-01T00:00:00.000000000Z"}\n'
    found = _parsed(as_written(text))
    assert (found.text, found.stream, found.time) == (text, "stdout", TIME)


@pytest.mark.parametrize(
    "data", [b"", b"x", b'{"log":"a\\n"}', b"[]", b'{"log":"a\\n","stream":"stdout","time":"', b"\xff"]
)
def test_damaged(data: bytes) -> None:
    with pytest.raises(InvalidArgument, match="a line of it is damaged"):
        _parsed(data)


def test_pieces_of_two_streams_are_stamped_each_once() -> None:
    shown = Shown(timestamps=True)
    lines = [
        Line("stdout", "1", "a"),
        Line("stderr", "2", "x\n"),
        Line("stdout", "3", "b\n"),
        Line("stdout", "4", "c\n"),
    ]
    assert [shown.text(each) for each in lines] == ["1 a", "2 x\n", "b\n", "4 c\n"]
    assert [Shown(stdout=False).text(each) for each in lines] == ["", "x\n", "", ""]


def test_moments() -> None:
    at = datetime(2026, 11, 25, 10, 41, 13, 5, tzinfo=timezone(timedelta(hours=1)))
    assert said_when(at) == "2026-11-25T09:41:13.000005000Z" and said_when(None) == ""
    assert said_when(0) == "1970-01-01T00:00:00.000000000Z" and said_when(1.5) == "1970-01-01T00:00:01.500000000Z"
    with pytest.raises(InvalidArgument, match="has no zone"):
        said_when(datetime(2026, 1, 1))
