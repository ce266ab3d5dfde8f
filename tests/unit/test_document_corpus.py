"""The corpus of config.json documents, and what machines make of them: whatever comes in, a record or one line comes out."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument
from pycontain.spec.document import parse_config
from pycontain.spec.runtime import RuntimeSpec
from tests.unit.documents import CORPUS, document, joined, leaves

VALID = sorted(CORPUS.glob("valid-*.json"))
REFUSED = sorted(CORPUS.glob("refused-*.json"))
# what is said about each, one line a document
MESSAGES = dict(line.split("\t", 1) for line in (CORPUS / "refused.txt").read_text(encoding="ascii").splitlines())


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_valid(file: Path) -> None:
    assert parse_config(file.read_bytes()) == parse_config(file.read_bytes().decode())


@pytest.mark.parametrize("file", REFUSED, ids=lambda file: file.stem)
def test_refused(file: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_config(file.read_bytes())
    assert str(caught.value) == MESSAGES[file.stem.removeprefix("refused-")]


def test_every_message_has_its_document() -> None:
    assert sorted(MESSAGES) == sorted(file.stem.removeprefix("refused-") for file in REFUSED)


def read_or_refuse(source: bytes | str) -> RuntimeSpec | None:
    """Anything but a record or a line that begins with the document's name leaves as the exception it is."""
    try:
        spec = parse_config(source, bundle="/bundle")
    except InvalidArgument as error:
        message = str(error)
        assert message.startswith("config.json: ") and message.isprintable() and len(message) < 2000
        return None
    hash(spec)  # records all the way down: a list or a dict would be left-over JSON
    return spec


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FULL = document("valid-full-1.3")
LEAVES = list(leaves(FULL))


def replaced(path: list[str | int], value: Any) -> Any:
    made = json.loads(json.dumps(FULL))
    at = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return made


def test_the_full_document_has_leaves_to_replace() -> None:
    assert len(LEAVES) > 200


@given(JSON)
@settings(max_examples=80)
def test_arbitrary_json(value: Any) -> None:
    read_or_refuse(json.dumps(value))


@given(st.sampled_from(LEAVES), st.integers(0, 6), JSON)
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_arbitrary_json_somewhere_in_a_valid_document(path: list[str | int], up: int, value: Any) -> None:
    # deep enough to get past the first look
    read_or_refuse(json.dumps(replaced(path[: max(1, len(path) - up)], value)))


@given(st.binary() | st.text())
@settings(max_examples=100)
def test_arbitrary_bytes(source: bytes | str) -> None:
    assert read_or_refuse(source) is None


WRONG: dict[type, tuple[Any, ...]] = {
    str: (0, True, ["a"], {"a": 1}),
    int: ("1", 1.0, True, [1]),
    bool: ("true", 0, [True], {}),
}


def complaint_about(source: Any) -> str:
    try:
        parse_config(json.dumps(source))
    except InvalidArgument as error:
        return str(error)
    return "accepted"


def test_a_leaf_of_a_wrong_type_is_named() -> None:
    unnamed = []
    for path in LEAVES:
        at: Any = FULL
        for step in path:
            at = at[step]
        said = [complaint_about(replaced(path, wrong)) for wrong in WRONG[type(at)]]
        unnamed += [each for each in said if not each.startswith(f"config.json: {joined(path)}: expected ")]
    assert unnamed == []


SNIPPETS = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"-1", b"1e999", b"4294967295", b"99999999999999999999",
    b"\\u0000", b"\\ud800", b"\xff", b"\xc0\x80", b"..", b"/proc", b"/", b"\n", b" ", b"NaN", b'"a":1,"a":2', b"bind",
)  # fmt: skip


def mutated(source: bytes, chance: random.Random) -> bytes:
    made = bytearray(source)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(5):
            case 0:
                del made[at : at + chance.choice((1, 2, 20))]
            case 1:
                made[at:at] = chance.choice(SNIPPETS)
            case 2:
                made[at : at + 1] = bytes((chance.choice((*b"09az/.-", chance.randrange(256))),))
            case 3:
                start = chance.randrange(len(made) + 1)
                made[at:at] = made[start : start + chance.randrange(40)]
            case _:
                snippet = chance.choice(SNIPPETS)
                made[at : at + len(snippet)] = snippet
    return bytes(made)


def test_damaged_documents() -> None:
    chance = random.Random(20240635)
    sources = [file.read_bytes() for file in (*VALID * 4, *REFUSED)]
    read = sum(read_or_refuse(mutated(chance.choice(sources), chance)) is not None for _ in range(5000))
    # some survive (a changed letter in a name), most do not; if all did one thing this would test nothing
    assert 250 < read < 4750
