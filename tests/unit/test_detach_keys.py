"""The keys that leave a container: their syntax, and how they are found in what is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli.detach_keys import DetachKeys, detach_keys
from pycontain.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-x,a", b"\x18a"),
        ("a", b"a"),
        ("Z,~", b"Z~"),
        ("ctrl-a,ctrl-z", b"\x01\x1a"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
    ],
)
def test_what_keys_send(text: str, sent: bytes) -> None:
    assert detach_keys(text) == sent


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ctrl-", "there is no key 'ctrl-'"),
        ("ctrl-P", "there is no key 'ctrl-P'"),
        ("ctrl-p,ctrl-1", "there is no key 'ctrl-1'"),
        ("ctrl-pq", "there is no key 'ctrl-pq'"),
        ("ab", "there is no key 'ab'"),
        ("ä", "there is no key 'ä'"),
        ("a,,b", "a key is missing"),
        (",", "a key is missing"),
        ("a,", "a key is missing"),
    ],
)
def test_what_is_no_sequence(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        detach_keys(text)
    assert why in str(error.value) and "ctrl-a to ctrl-z" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def typed(keys: bytes, *pieces: bytes) -> tuple[bytes, bool]:
    """What is passed on of all pieces, up to the sequence."""
    matcher, passed = DetachKeys(keys), b""
    for piece in pieces:
        out, detached = matcher.feed(piece)
        passed += out
        if detached:
            return passed, True
    return passed, False


@pytest.mark.parametrize(
    ("pieces", "passed", "detached"),
    [
        ((b"abc",), b"abc", False),
        ((b"abc\x10\x11",), b"abc", True),
        ((b"abc\x10", b"\x11def"), b"abc", True),
        ((b"\x10", b"", b"\x11"), b"", True),
        ((b"\x10",), b"", False),  # held back until it is known
        ((b"\x10", b"x"), b"\x10x", False),
        ((b"a\x10x\x10\x11",), b"a\x10x", True),
        ((b"\x11\x10", b"\x11"), b"\x11", True),
        ((b"\x10\x10",), b"\x10\x10", False),  # as docker's: the second does not begin it anew
        ((b"\x10\x10", b"\x11"), b"\x10\x10\x11", False),
        ((b"\x10", b"\x10", b"\x10", b"\x11"), b"\x10\x10", True),
    ],
)
def test_a_sequence_is_found_and_nothing_else_is_lost(pieces: tuple[bytes, ...], passed: bytes, detached: bool) -> None:
    assert typed(b"\x10\x11", *pieces) == (passed, detached)


def test_one_key_and_three() -> None:
    assert typed(b"q", b"abq", b"c") == (b"ab", True)
    assert typed(b"aab", b"a", b"a", b"b") == (b"", True)
    assert typed(b"aab", b"a", b"a", b"c", b"aab") == (b"aac", True)


@given(st.lists(st.binary(max_size=6)), st.binary(min_size=1, max_size=3))
def test_reads_may_be_cut_anywhere(pieces: list[bytes], keys: bytes) -> None:
    assert typed(keys, *pieces) == typed(keys, b"".join(pieces))


@given(st.lists(st.sampled_from([b"a", b"b", b"c"])))
def test_all_but_the_held_end_is_passed_on(pieces: list[bytes]) -> None:
    passed, detached = typed(b"ab", *pieces)
    everything = b"".join(pieces)
    assert everything.startswith(passed)
    assert detached or everything[len(passed) :] in (b"", b"a")
