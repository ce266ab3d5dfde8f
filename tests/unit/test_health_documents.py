"""Durations as Go has them, an image's health check, and what is made of it and the caller's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.durations import duration_ns, duration_text
from pycontain.errors import InvalidArgument
from pycontain.healthcheck import check, command_of, merged
from pycontain.image.changes import parse_changes
from pycontain.image.documents import config_to_json, parse_config
from pycontain.image.rootfs import Healthcheck, ImageConfig
from pycontain.record import replaced

MS = 1_000_000


@pytest.mark.parametrize(
    ("text", "ns", "again"),
    [
        ("0", 0, "0s"), ("1s", 1000 * MS, "1s"), ("500ms", 500 * MS, "500ms"), ("1m30s", 90_000 * MS, "1m30s"),
        ("1.5h", 5_400_000 * MS, "1h30m0s"),
        ("1h", 3_600_000 * MS, "1h0m0s"), ("+2us", 2000, "2µs"), ("2µs", 2000, "2µs"), ("2μs", 2000, "2µs"), ("1.5ns", 1, "1ns"),
        (".5s", 500 * MS, "500ms"), ("1.s", 1000 * MS, "1s"), ("90s", 90_000 * MS, "1m30s"), ("1.5s", 1500 * MS, "1.5s"),
        ("-1m", -60_000 * MS, "-1m0s"), ("1s1s", 2000 * MS, "2s"), ("1.000001s", 1_000_001_000, "1.000001s"),
    ],
)  # fmt: skip
def test_durations(text: str, ns: int, again: str) -> None:
    assert (duration_ns(text), duration_text(ns)) == (ns, again)


@pytest.mark.parametrize(
    "text", ["", "1", "s", ".s", "1x", "1 s", "1.2.3s", "--1s", "1s-", "\u0661s", "9" * 30 + "h", "1s" * 51, "1d"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid duration"):
        duration_ns(text)


@given(st.integers(0, (1 << 63) - 1))
def test_a_duration_reads_as_it_was_written(ns: int) -> None:
    assert duration_ns(duration_text(ns)) == ns


def config_of(value: str) -> ImageConfig:
    document = f'{{"rootfs": {{"type": "layers", "diff_ids": []}}, "config": {{"Healthcheck": {value}}}}}'
    return parse_config(document.encode(), "it").config


def test_an_images_check_is_read_and_written() -> None:
    text = '{"Test": ["CMD", "a", "b"], "Interval": 5000000, "Timeout": 0, "Retries": 4, "Foreign": 1}'
    found = config_of(text)
    assert found.healthcheck == Healthcheck(test=("CMD", "a", "b"), interval_ns=5 * MS, retries=4)
    assert config_to_json(found) == {"Healthcheck": {"Test": ["CMD", "a", "b"], "Interval": 5 * MS, "Retries": 4}}
    assert config_of("null").healthcheck is None


@pytest.mark.parametrize("value", ["1", "[]", '{"Test": "CMD"}', '{"Test": [1]}', '{"Interval": "1s"}',
                                   '{"Interval": 1.5}', '{"Retries": true}',
                                   '{"Interval": 9223372036854775808}', '{"Test": ["CMD", "a\\u0000"]}'])  # fmt: skip
def test_what_is_no_check(value: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot read it: "):
        config_of(value)


def test_what_the_caller_leaves_open_is_the_images() -> None:
    image = Healthcheck(
        test=("CMD", "a"), interval_ns=1, timeout_ns=2, start_period_ns=3, start_interval_ns=4, retries=5
    )
    assert merged(None, image) == merged(Healthcheck(), image) == image
    assert merged(image, None) == image and merged(None, None) is None
    asked = Healthcheck(test=("CMD-SHELL", "b"), timeout_ns=9)
    assert merged(asked, image) == Healthcheck(
        test=("CMD-SHELL", "b"), interval_ns=1, timeout_ns=9, start_period_ns=3, start_interval_ns=4, retries=5
    )


@pytest.mark.parametrize(
    ("test", "shell", "words"),
    [
        (("CMD", "a", "b"), (), ("a", "b")), (("CMD-SHELL", "a b"), (), ("/bin/sh", "-c", "a b")),
        (("CMD-SHELL", "x"), ("ash", "-ec"), ("ash", "-ec", "x")),
        (("NONE",), (), ()), ((), (), ()), (("CMD",), (), ()), (("OTHER", "a"), (), ()),
    ],
)  # fmt: skip
def test_its_words(test: tuple[str, ...], shell: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert command_of(ImageConfig(healthcheck=Healthcheck(test=test), shell=shell)) == words


def test_limits() -> None:
    check(None)
    check(Healthcheck(interval_ns=MS))
    for field, name in (("interval_ns", "Interval"), ("timeout_ns", "Timeout"), ("start_period_ns", "StartPeriod")):
        for value in (MS - 1, -1):
            with pytest.raises(InvalidArgument, match=f"^{name} in Healthcheck cannot be less than 1ms"):
                check(replaced(Healthcheck(), **{field: value}))
    with pytest.raises(InvalidArgument, match="Retries in Healthcheck cannot be negative"):
        check(Healthcheck(retries=-1))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("HEALTHCHECK NONE", Healthcheck(test=("NONE",))),
        ("HEALTHCHECK CMD a | b", Healthcheck(test=("CMD-SHELL", "a | b"))),
        ('healthcheck --interval=1m --timeout=500ms --start-period=2s --start-interval=1s --retries=3  CMD  ["a", "b"]',
         Healthcheck(test=("CMD", "a", "b"), interval_ns=60_000 * MS, timeout_ns=500 * MS, start_period_ns=2000 * MS,
                     start_interval_ns=1000 * MS, retries=3)),
    ],
)  # fmt: skip
def test_the_instruction(line: str, found: Healthcheck) -> None:
    assert parse_changes([line]).healthcheck == found


@pytest.mark.parametrize(
    "line", ["HEALTHCHECK", "HEALTHCHECK CMD", "HEALTHCHECK --interval=1s", "HEALTHCHECK --interval=1us CMD a",
             "HEALTHCHECK --retries=-1 CMD a",
             "HEALTHCHECK --retry=1 CMD a", "HEALTHCHECK a", "HEALTHCHECK --interval=1s NONE"],
)  # fmt: skip
def test_what_is_no_instruction(line: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot apply --change"):
        parse_changes([line])
