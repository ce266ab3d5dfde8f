"""What docker printed over the images of record_docker.py, and what we print over the same images.

The daemon was a 20.10, the client a 28, which makes the lists and the templates. Where a newer daemon or this program differ on
purpose, the command stands in DIFFERENT with the reason.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pycontain.image.details import HistoryEntry, ImageDetails
from tests.unit.fake_engine import Ended, FakeEngine, Run, command, details, fake, info, layer

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent / "golden/docker/client-28.2.2.json").read_text(encoding="utf-8")
)
CASES: list[dict[str, Any]] = GOLDEN["cases"]
_FIXTURES = (command, fake)

DIFFERENT = {
    "images -f until=2023-01-01": "a filter since 24",
    "images -f dangling=1": "a truth since 24",
    "image inspect -f {{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.Volumes}} tiny:v1": "no config is an empty one",
    "image inspect -f {{json .Config.Cmd}} tiny:v1": "no config is an empty one",
    "image inspect -f {{json .}} tiny:v1": "another GraphDriver",
    "inspect --type nosuch tiny:v1": "other words",
}
# names of columns and fields that came and went: not shown, or shown with other values
GONE = ("Container", "ContainerConfig", "GraphDriver")


def _details(recorded: dict[str, Any]) -> ImageDetails:
    inspect = recorded["inspect"]
    created = "" if inspect["Created"].startswith("0001") else inspect["Created"]
    config = inspect["Config"] or {}
    one = info(
        id=inspect["Id"], names=tuple(inspect["RepoTags"] or ()), digests=tuple(inspect["RepoDigests"] or ()), created=created,
        size=inspect["Size"], labels=tuple((config.get("Labels") or {}).items()),
    )  # fmt: skip
    steps = [
        HistoryEntry(
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(step["Created"])), created_by=step["CreatedBy"],
            comment=step["Comment"], layer=layer(at + 1, step["Size"]) if step["Size"] else None,
        )
        for at, step in enumerate(recorded["history"][::-1])
    ]  # fmt: skip
    layers = [layer(int(each.removeprefix("sha256:"), 16)) for each in inspect["RootFS"]["Layers"]]
    return details(
        one, document={"config": inspect["Config"], "docker_version": inspect["DockerVersion"]}, history=tuple(steps),
        layers=tuple(layers), architecture=inspect["Architecture"], os=inspect["Os"], variant=inspect.get("Variant", ""),
        author=inspect["Author"], comment=inspect["Comment"],
    )  # fmt: skip


@pytest.fixture
def recorded(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """An engine that has what docker had, at the time when docker was asked."""
    fake.images = [_details(each) for each in GOLDEN["images"]]
    monkeypatch.setattr(time, "time", lambda: float(GOLDEN["now"]))
    return fake


def _named(case: dict[str, Any]) -> str:
    return " ".join(case["argv"]) or "nothing"


READING = [
    case for case in CASES if case["argv"][:2] == ["image", "inspect"] or case["argv"][0] in ("images", "history")
]
# the later commands of the record see other images
READING = READING[: READING.index(next(c for c in READING if c["argv"] == ["images", "tiny"]))]


@pytest.mark.parametrize("case", READING, ids=map(_named, READING))
def test_lists_and_documents_are_dockers(case: dict[str, Any], recorded: FakeEngine, command: Run) -> None:
    ended = command(*case["argv"])
    if _named(case) in DIFFERENT:
        assert (ended.code, ended.out) != (case["code"], case["stdout"])
        return
    assert ended.code == case["code"], ended
    if case["stdout"].startswith("[{") or case["stdout"].startswith("[\n"):
        assert _documents(ended.out) == _expected(case["stdout"])
    else:
        # of one image, docker gives the repositories in no order
        order = sorted if case["argv"][0] == "images" else list
        assert order(ended.out.splitlines()) == order(case["stdout"].splitlines())
        assert ended.out.splitlines()[:1] == case["stdout"].splitlines()[:1]
    _compare_errors(ended, case["stderr"])


def _compare_errors(ended: Ended, expected: str) -> None:
    assert ended.err.count("\n") == (1 if expected.strip() else 0)
    if "template" in expected:
        assert expected.strip() in ended.err
    elif "nvalid filter" in expected:
        assert expected.lower().partition("invalid filter")[2].strip() in ended.err
    elif "No such image" in expected:
        assert "no such image: nosuch" in ended.err.lower()


def _documents(text: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(text)
    for each in documents:
        del each["GraphDriver"]
        each["Config"] = {key: value for key, value in each["Config"].items() if value}
    return documents


def _expected(text: str) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(text)
    for each in documents:
        for name in GONE:
            del each[name]
        each["Config"] = {key: value for key, value in (each["Config"] or {}).items() if value}
    return documents


def test_order_of_the_fields_is_dockers(recorded: FakeEngine, command: Run) -> None:
    ours = list(json.loads(command("image", "inspect", "team/arm:v7").out)[0])
    case = next(case for case in CASES if case["argv"] == ["image", "inspect", "team/arm:v7"])
    assert ours == [name for name in json.loads(case["stdout"])[0] if name not in GONE[:2]]


def test_indentation_is_dockers(recorded: FakeEngine, command: Run) -> None:
    lines = command("image", "inspect", "team/arm:v7").out.splitlines()
    case = next(case for case in CASES if case["argv"] == ["image", "inspect", "team/arm:v7"])
    assert lines[:4] == case["stdout"].splitlines()[:4]
    assert lines[-3:] == case["stdout"].splitlines()[-3:]


MISTAKES = [
    case for case in CASES
    if case["code"] and not case["stdout"] and ("requires" in case["stderr"] or "accepts no" in case["stderr"])
]  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES, ids=map(_named, MISTAKES))
def test_counts_of_words_are_dockers(case: dict[str, Any], recorded: FakeEngine, command: Run) -> None:
    ended = command(*case["argv"])
    assert ended.code == case["code"]
    sentence = case["stderr"].splitlines()[0].removeprefix("docker: ").replace("docker ", "pycontain ")
    if case["argv"][0] == "import":  # docker takes no notice of a third word
        sentence = sentence.removesuffix(" argument")
    assert sentence in ended.err
    assert ended.err.count("\n") == 1


def test_every_command_of_the_record_is_there(command: Run) -> None:
    for words in {
        tuple(case["argv"][:2]) if case["argv"][0] in ("image", "manifest") else (case["argv"][0],) for case in CASES
    }:
        if words not in (("image", "nosuch"), ("image",)):
            assert command(*words, "--help").code == 0, words
