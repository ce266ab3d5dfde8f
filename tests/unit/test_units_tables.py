"""Sizes, times and columns in Docker's words."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli import units
from pycontain.cli.history import ellipsis
from pycontain.cli.table import align, display_width, elastic, printable
from pycontain.cli.units import UNSAID


# what go-units gives: of three digits as in lists of images, of four as in all else
@pytest.mark.parametrize(
    ("size", "three", "four"),
    [
        (0, "0B", "0B"), (1, "1B", "1B"), (999, "999B", "999B"), (1000, "1kB", "1kB"), (1234, "1.23kB", "1.234kB"),
        (72_800_000, "72.8MB", "72.8MB"), (1_236_000, "1.24MB", "1.236MB"), (999_999, "1e+03kB", "1000kB"),
        (123_456_789_012, "123GB", "123.5GB"), (5 * 10**15, "5PB", "5PB"), (2**63, "9.22EB", "9.223EB"), (10**28, "1e+04YB", "1e+04YB"),
    ],
)  # fmt: skip
def test_human_size(size: int, three: str, four: str) -> None:
    assert units.human_size(size, 3) == three
    assert units.human_size(size) == four


_H, _D = 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "Less than a second"), (0, "Less than a second"), (0.99, "Less than a second"), (1, "1 second"), (59.9, "59 seconds"),
        (60, "About a minute"), (119, "About a minute"), (120, "2 minutes"), (_H - 1, "59 minutes"), (_H, "About an hour"),
        (_H * 1.4, "About an hour"), (_H * 1.5, "2 hours"), (47 * _H, "47 hours"), (48 * _H, "2 days"), (13 * _D, "13 days"),
        (14 * _D, "2 weeks"), (59 * _D, "8 weeks"), (60 * _D, "2 months"), (729 * _D, "24 months"), (730 * _D, "2 years"),
        (3650 * _D, "10 years"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, words: str) -> None:
    assert units.human_duration(seconds) == words


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)), st.integers(-1439, 1439))
def test_unix_time_is_that_of_the_calendar(when: datetime, offset: int) -> None:
    sign, minutes = "-" if offset < 0 else "+", abs(offset)
    text = f"{when.isoformat(timespec='microseconds')}{sign}{minutes // 60:02}:{minutes % 60:02}"
    expected = when.replace(microsecond=0, tzinfo=timezone.utc).timestamp() - offset * 60
    assert units.unix_time(text) == int(expected)


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "2024-03-10", "2024-03-10T12:34:56", "2024-13-10T12:34:56Z", "2024-03-10T24:34:56Z", "2024-03-10T12:60:56Z",
        "2024-00-10T12:34:56Z", "2024-03-10T12:34:56+1:00", "2024-03-10T12:34:56Zx", "2024/03/10T12:34:56Z", "\u0662024-03-10T12:34:56Z",
        "2024-03-10T12:34:56.5", "0001-01-01T00:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_is_unsaid(text: str) -> None:
    assert units.unix_time(text) == UNSAID


def test_instants_compare_to_the_nanosecond() -> None:
    texts = [
        "2024-03-10T12:34:56Z",
        "2024-03-10T12:34:56.000000001Z",
        "2024-03-10T12:34:56.1Z",
        "2024-03-10T13:34:57+01:00",
    ]
    instants = [units.instant(text) for text in texts]
    assert instants == sorted(set(instants))


@pytest.mark.parametrize(
    ("zone", "local", "rfc3339"),
    [
        ("UTC", "2024-07-01 12:00:00 +0000 UTC", "2024-07-01T12:00:00Z"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2024-07-01 14:00:00 +0200 CEST", "2024-07-01T14:00:00+02:00"),
        ("NST3:30", "2024-07-01 08:30:00 -0330 NST", "2024-07-01T08:30:00-03:30"),
    ],
)
def test_local_times_are_gos(zone: str, local: str, rfc3339: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        at = units.unix_time("2024-07-01T12:00:00Z")
        assert units.local_time(at) == local
        assert units.rfc3339_local(at) == rfc3339
    finally:
        monkeypatch.undo()
        time.tzset()


def test_unsaid_time_is_the_year_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert units.local_time(UNSAID) == "0001-01-01 00:00:00 +0000 UTC"


# --- columns ----------------------------------------------------------------------------------------------------------


def test_columns_are_at_least_ten_wide() -> None:
    assert align([("A", "B", "C"), ("1234567", "12345678", "x")]) == "A         B          C\n1234567   12345678   x\n"


def test_no_rows_are_no_lines() -> None:
    assert align([]) == ""


def test_wide_characters_count_twice() -> None:
    assert display_width("漢字") == 4
    assert display_width("größe") == 5
    assert align([("漢字漢字漢字", "x"), ("abc", "y")]) == "漢字漢字漢字   x\nabc            y\n"


# what Go's tabwriter gives with Docker's settings (minwidth 10, padding 3)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\tb\nc\td\n", "a         b\nc         d\n"),
        ("\ta\n\tbb\n", "          a\n          bb\n"),
        ("12345678901\tb\n1\tb\n", "12345678901   b\n1             b\n"),
        ("a\tb\tc\nx\ty\n", "a         b         c\nx         y\n"),
        ("long enough text\tb\n\nx\ty\n", "long enough text   b\n\nx         y\n"),
        ("no tabs\nat all\n", "no tabs\nat all\n"),
        (
            "a\tlong enough text\tc\nb\td\ne\tf\tg\n",
            "a         long enough text   c\nb         d\ne         f         g\n",
        ),
        ("", ""),
    ],
)
def test_elastic_tabstops(text: str, expected: str) -> None:
    assert elastic(text) == expected


def test_ellipsis_counts_columns() -> None:
    assert ellipsis("a" * 45, 45) == "a" * 45
    assert ellipsis("a" * 46, 45) == "a" * 44 + "…"
    assert ellipsis("漢" * 23, 45) == "漢" * 22 + "…"


def test_printable_cells_cannot_steer_the_terminal() -> None:
    assert printable(["\x1b[31mred", "a\nb", "ok é"]) == ["\ufffd[31mred", "a\ufffdb", "ok é"]
