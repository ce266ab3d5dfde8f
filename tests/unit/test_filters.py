"""--filter: what Docker's daemon takes, and what it says to the rest."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli import filters
from pycontain.cli.path_match import path_match
from pycontain.errors import InvalidArgument


def test_parsed_as_docker_parses() -> None:
    given = ["label=a=b", "Label = c ", "label=a=b", "", "label!=x", "dangling=true"]
    assert filters.parse_filters(given) == {"label": ["a=b", "c"], "label!": ["x"], "dangling": ["true"]}
    assert filters.parse_filters(None) == {}


def test_without_an_equals_sign() -> None:
    with pytest.raises(
        InvalidArgument, match=r"invalid argument 'foo' for --filter: bad format of filter \(expected name=value\)"
    ):
        filters.parse_filters(["foo"])


@pytest.mark.parametrize(
    ("name", "message"),
    [("lable", "invalid filter 'lable': did you mean label?"), ("x", "invalid filter 'x': the filters are label, until")],
)  # fmt: skip
def test_unknown(name: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        filters.check({name: ["1"]}, ("label", "until"))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "expected"), [([], None), (["1"], True), (["true", "1"], True), (["0"], False), (["false"], False)]
)
def test_truth(values: list[str], expected: bool | None) -> None:
    assert filters.truth({"dangling": values}, "dangling") is expected


@pytest.mark.parametrize("values", [["x"], ["true", "false"], ["True"], [""]])
def test_no_truth(values: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="invalid filter 'dangling="):
        filters.truth({"dangling": values}, "dangling")


def test_labels() -> None:
    labels = (("a", "1"), ("b", ""))
    assert filters.labels_match(["a", "a=1", "b", "b="], labels)
    assert not any(filters.labels_match([each], labels) for each in ("a=2", "c", "a=", "b=1"))
    assert filters.labels_match([], labels)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("debian", "debian:12"), ("debian:12", "debian:12"), ("deb*", "debian:12"), ("*", "debian:12"), ("*:1?", "debian:12"),
        ("team/*", "team/app:1"), ("*/*", "team/app:1"), ("localhost:5000/app", "localhost:5000/app:1"), ("app", "app@sha256:0"),
        ("localhost:5000/app", "localhost:5000/app@sha256:0"), ("[a-c]pp", "app:1"), ("docker.io/library/debian", "debian:12"),
        ("docker.io/*/debian:12", "debian:12"), ("docker.io/team/app", "team/app:1"),
    ],
)  # fmt: skip
def test_reference_matches(pattern: str, name: str) -> None:
    assert filters.reference_matches([pattern], name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("debian", "debian2:12"), ("*", "team/app:1"), ("app", "team/app:1"), ("debian:1", "debian:12"), ("5000", "localhost:5000/app:1")],
)  # fmt: skip
def test_reference_does_not_match(pattern: str, name: str) -> None:
    assert not filters.reference_matches([pattern], name)


# --- patterns: compared with Go's path.Match on 200,000 random pairs; these are its corners -----------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a*b", "axxb", True), ("a*b", "ax/b", False), ("a**b", "ab", True), ("?", "/", False), ("[^a]", "/", True), ("[a-]", "a", None),
        ("[]a]", "a", None), ("[^", "x", None), ("a[", "b", None), ("a[", "a", None), ("\\", "a", None), ("\\*", "*", True),
        ("[\\]]", "]", True), ("*x*y", "axbyy", True), ("a*/b", "axx/b", True), ("", "", True), ("*", "", True), ("[a-c]*", "b:1", True),
    ],
)  # fmt: skip
def test_path_match(pattern: str, name: str, matches: bool | None) -> None:
    if matches is None:
        with pytest.raises(InvalidArgument, match="syntax error in pattern"):
            path_match(pattern, name)
    else:
        assert path_match(pattern, name) is matches


@given(st.text("ab/*?[]^-\\", max_size=30), st.text("ab/", max_size=30))
def test_any_pattern_matches_or_is_refused(pattern: str, name: str) -> None:
    try:
        assert path_match(pattern, name) in (True, False)
    except InvalidArgument:
        pass


# --- until --------------------------------------------------------------------------------------------------------------

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10m", NOW - 600), ("1h30m", NOW - 5400), ("1.5h", NOW - 5400), ("-1h", NOW + 3600), ("500ms", NOW - 0.5), ("24h", NOW - 86400),
        ("1600000000", 1_600_000_000.0), ("1600000000.5", 1_600_000_000.5), ("2023", 2023.0), ("2024-03-10T12:00:00Z", 1_710_072_000.0),
        ("2024-03-10T12:00:00+02:00", 1_710_064_800.0), ("2024-03-10T12:00Z", 1_710_072_000.0), ("2024-03-10T12Z", 1_710_072_000.0),
        ("2024-03-10Z", 1_710_028_800.0), ("2024-03-10T12:00:00", 1_710_068_400.0), ("2024-03-10", 1_710_025_200.0),
        ("2024-07-10T12:00", 1_720_605_600.0),
    ],
)  # fmt: skip
def test_until(text: str, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert filters.until(text, NOW) == expected
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "x", "10", "2024-13-01", "1d", "h", "1h x", "2024-03-10T25", "10.m.", "-", "\u0661h", "1" * 200]
)
def test_no_until(text: str) -> None:
    if text == "10":
        assert filters.until(text, NOW) == 10.0  # a Unix time
        return
    with pytest.raises(InvalidArgument, match="it is no time and no duration"):
        filters.until(text, NOW)
