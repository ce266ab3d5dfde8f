"""Names of images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument
from pycontain.image.names import name_record_path, parse_image_name, parse_reference, stored_names

# distribution/reference, written as its documentation has it
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
HOST = rf"{LABEL}(?:\.{LABEL})*(?::[0-9]+)?"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
NAME = re.compile(rf"(?:{HOST}/)?{COMPONENT}(?:/{COMPONENT})*(?::{TAG})?\Z")


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("debian", "debian:latest"),
        ("debian:12", "debian:12"),
        ("docker.io/library/debian", "debian:latest"),
        ("library/debian", "debian:latest"),
        ("docker.io/me/app:v1.0-rc_1", "me/app:v1.0-rc_1"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("quay.io/a/b__c/d--e.f:X", "quay.io/a/b__c/d--e.f:X"),
        ("localhost/x", "localhost/x:latest"),
    ],
)
def test_familiar_form(text: str, short: str) -> None:
    assert str(parse_image_name(text)) == short


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Debian", "must be lowercase"),
        ("", "empty"),
        ("a//b", "empty"),
        ("a..b", "separated"),
        ("a___b", "separated"),
        ("-a", "separated"),
        ("a:", "tag"),
        ("a:-x", "tag"),
        ("a:" + "x" * 129, "tag"),
        ("a@sha256:" + "0" * 64, "digest"),
        ("a" * 256, "limit is 255"),
        ("f" * 64, "image id"),
        ("docker://debian", "invalid reference format"),
        ("a\n", "separated"),
        ("á", "separated"),
        ("ho_st.io/a", "not a registry"),
        ("a%b", "separated"),
    ],
)
def test_refused(text: str, phrase: str) -> None:
    with pytest.raises(InvalidArgument, match=phrase) as caught:
        parse_image_name(text)
    assert "\n" not in str(caught.value)


PIECES = st.sampled_from(
    ["a", "z9", "A", "0", ".", "_", "__", "-", "/", ":", "@", "localhost", "docker.io/", "library/"]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@given(TEXTS)
def test_agrees_with_the_published_grammar(text: str) -> None:
    try:
        name = parse_image_name(text)
    except InvalidArgument as error:
        # What looks like a registry is held to a registry's grammar, and is no part of the path.
        assert not NAME.match(text) or re.search("lowercase|not a registry|empty|separated", str(error))
        return
    assert NAME.match(text)
    assert parse_image_name(str(name)) == name or name.repository.startswith("library/")


@pytest.mark.parametrize("text", ["docker.io/docker.io/a", "docker.io/localhost/a"])
def test_a_path_that_looks_like_a_registry_keeps_its_own(text: str) -> None:
    assert str(parse_image_name(text)) == f"{text}:latest"
    assert parse_image_name(str(parse_image_name(text))) == parse_image_name(text)


@given(TEXTS)
def test_record_is_one_file_in_names(text: str) -> None:
    try:
        path = name_record_path("/data", parse_image_name(text))
    except InvalidArgument:
        return
    directory, _, file = path.rpartition("/")
    assert directory == "/data/names" and len(file) <= 250 and not file.startswith(".")


def test_stored_names_are_read_back(tmp_path: Path) -> None:
    assert stored_names(str(tmp_path)) == []
    (tmp_path / "names").mkdir()
    for name in ("b:1", "quay.io/a/c"):
        Path(name_record_path(str(tmp_path), parse_image_name(name))).touch()
    assert stored_names(str(tmp_path)) == ["b:1", "quay.io/a/c:latest"]


DIGEST = "sha256:" + "5" * 64


@pytest.mark.parametrize(
    ("text", "short", "canonical"),
    [
        ("debian", "debian:latest", "docker.io/library/debian:latest"),
        ("me/app:1", "me/app:1", "docker.io/me/app:1"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        (f"debian@{DIGEST}", f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}"),
        (f"quay.io/x/y:9@{DIGEST}", f"quay.io/x/y@{DIGEST}", f"quay.io/x/y@{DIGEST}"),
        ("docker.io/docker.io/a", "docker.io/docker.io/a:latest", "docker.io/docker.io/a:latest"),
    ],
)
def test_reference(text: str, short: str, canonical: str) -> None:
    name = parse_reference(text)
    assert (str(name), name.canonical) == (short, canonical)
    assert parse_reference(name.canonical) == name
    assert name.reference in (DIGEST, canonical.rpartition(":")[2])


@pytest.mark.parametrize(
    "text", ["@" + DIGEST, f"a@{DIGEST}@{DIGEST}", "a@sha256:12", "a@sha256:" + "A" * 64, "a:b:c@" + DIGEST]
)
def test_reference_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_reference(text)
