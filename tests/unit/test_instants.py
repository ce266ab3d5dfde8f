"""Instants of documents."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.image.instants import parse_instant


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2024-05-06T07:08:09Z", "2024-05-06T07:08:09+00:00"),
        ("2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09.123456+00:00"),
        ("2024-05-06T07:08:09.1+02:00", "2024-05-06T07:08:09.100000+02:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_read(text: str, iso: str) -> None:
    found = parse_instant(text)
    assert found is not None and found.isoformat() == iso


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2024-05-06T07:08:09", "2024-05-06T07:08:09.Z", "2024-13-06T07:08:09Z"]
)
def test_none(text: str) -> None:
    assert parse_instant(text) is None


@given(st.text(max_size=40))
def test_never_an_error(text: str) -> None:
    parse_instant(text)
