"""Image documents and records of any content: a value, or one error in one line; never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidArgument, PycontainError, Unsupported
from pycontain.image import records
from pycontain.image.digest import parse_digest
from pycontain.image.documents import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_LAYER,
    Descriptor,
    Manifest,
    parse_config,
    parse_index,
    parse_json,
    parse_manifest,
)
from pycontain.image.publish import check_image

DIGEST = "sha256:" + "0" * 64
TEXTS = st.text(max_size=6) | st.sampled_from(
    (DIGEST, "sha512:" + "1" * 128, "layers", "linux", "\ud800", "\udcff", "a=b", "\0")
)
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("Entrypoint", "Cmd", "Env", "WorkingDir", "User", "Labels", "StopSignal", "Volumes", "ExposedPorts")
NEAR: st.SearchStrategy[Any] = (
    st.none() | TEXTS | st.lists(TEXTS, max_size=3) | st.dictionaries(TEXTS, TEXTS | st.just({}), max_size=3) | JUNK
)
DESCRIPTOR = JUNK | st.fixed_dictionaries(
    {
        "mediaType": st.just(OCI_CONFIG) | st.just(OCI_LAYER) | NEAR,
        "digest": st.just(DIGEST) | NEAR,
        "size": st.just(1) | NEAR,
    },
    optional={"annotations": NEAR, "platform": NEAR},
)


def settled(function: Any) -> Any:
    return settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))(function)


def check_error(error: PycontainError) -> None:
    assert isinstance(error, (InvalidArgument, Unsupported))
    str(error).encode()
    assert "\n" not in str(error)


@settled
@given(
    st.fixed_dictionaries(
        {"rootfs": st.just({"type": "layers", "diff_ids": [DIGEST]}) | NEAR},
        optional={
            "config": st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, NEAR)) | NEAR,
            **dict.fromkeys(("os", "architecture", "history", "created"), NEAR),
        },
    )
)
def test_any_configuration(document: dict[str, Any]) -> None:
    try:
        found = parse_config(json.dumps(document).encode(), "it")
    except PycontainError as error:
        check_error(error)
        return
    config = found.config
    for text in (
        *config.entrypoint, *config.cmd, *config.env, config.working_dir, config.user, config.stop_signal,
        *config.volumes, *config.exposed_ports, *(each for pair in config.labels for each in pair), found.os,
    ):  # fmt: skip
        text.encode()  # to a file name, a terminal, an environment


@settled
@given(
    st.dictionaries(
        st.sampled_from(("schemaVersion", "mediaType", "config", "layers", "manifests")),
        st.just(2) | DESCRIPTOR | st.lists(DESCRIPTOR),
    )
)
def test_any_manifest_and_index(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    for parse, kind in ((parse_manifest, MANIFEST_TYPES[0]), (parse_index, INDEX_TYPES[0])):
        try:
            parse(data, kind, "it")
        except PycontainError as error:
            check_error(error)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'{"a": NaN}', "NaN is no JSON"),
        (b'{"a": -Infinity}', "no JSON"),
        (b'{"a": 1, "a": 2}', "given twice"),
        (b"[" * 100_000, "recursion|nest"),
        (b'{"a":' * 100_000, "recursion|nest"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "digits"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": "\xed\xa0\x80"}', "utf-8"),
        ('{"a": "\\ud800"}'.encode("utf-16-le"), "Expecting"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        (b"", "Expecting value"),
        (b"[1]", "JSON object"),
    ],
)
def test_what_is_no_object_of_json(data: bytes, why: str) -> None:
    with pytest.raises(InvalidArgument, match=f"(?i)cannot read it: .*({why})"):
        parse_json(data, "it")


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse_json(b'{"a": "\\ud83d\\ude00"}', "it") == {"a": "\U0001f600"}


def test_an_image_id_is_a_sha256() -> None:
    """By a configuration's sha512, records and names would have been written that no command could read or remove."""
    descriptor = Descriptor(media_type=OCI_CONFIG, digest=parse_digest("sha512:" + "1" * 128), size=1)
    document = parse_config(json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode(), "it")
    with pytest.raises(Unsupported, match="configuration is named by sha512; image ids are sha256"):
        check_image(Manifest(config=descriptor, layers=()), document, "it")


@settled
@given(
    JUNK
    | st.fixed_dictionaries(
        {
            "manifest": DESCRIPTOR, "config": DESCRIPTOR, "layers": st.just([]) | st.lists(DESCRIPTOR, max_size=2),
            "created": NEAR, "labels": NEAR, "parent": NEAR, "tagged": st.just(0.0) | NEAR, "unpacked": st.just(1) | NEAR,
        }
    )
)  # fmt: skip
def test_any_record(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    """It is named, with its path, or it can be listed and sorted."""
    root = Path(_root(tmp_path_factory))
    (root / "images" / ("a" * 64)).write_text(json.dumps(document))
    for look in (_whole, _listed):
        try:
            look(str(root))
        except PycontainError as error:
            assert f"images/{'a' * 64}: it is damaged" in str(error)
            check_error(error)


def _whole(root: str) -> None:
    found = records.read_record(root, "sha256:" + "a" * 64)
    assert found.size >= 0 and f"{found.parent}{found.tagged:f}" and all(len(pair) == 2 for pair in found.labels)


def _listed(root: str) -> None:
    for info in records.list_images(root):
        assert info.created + "" <= "\U0010ffff" and info.size + 1 > 0
        assert all(name + value is not None for name, value in info.labels)


_made: list[str] = []


def _root(factory: pytest.TempPathFactory) -> str:
    if not _made:
        _made.append(str(factory.mktemp("records")))
        os.mkdir(f"{_made[0]}/images")
    return _made[0]
