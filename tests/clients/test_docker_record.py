"""The archives that docker was asked about (tests/unit/record_docker.py), loaded here: what docker printed is what we print."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.unit.fake_engine import run
from tests.unit.record_docker import inputs
from tests.unit.test_docker_golden import DIFFERENT, GOLDEN, READING

pytestmark = [pytest.mark.clients, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

# docker had pushed one image; and it shows no layer that no step tells of
ELSEWHERE = (
    "images --digests",
    "{{.Digest}}",
    "--format raw --digests",
    "table {{.Repository}} --digests",
    "history tiny:v1",
)


def test_images_of_dockers_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    root = str(tmp_path / "data")
    loaded = [run(monkeypatch, "load", stdin=archive, data_root=root) for archive in inputs()]
    assert [ended.err for ended in loaded] == [""] * len(loaded)
    assert loaded[0].out == "".join(
        f"Loaded image: {name}\n" for name in ("app:1.0", "app:latest", "localhost:5000/team/app:1.0")
    )
    ids = {image["inspect"]["Id"] for image in GOLDEN["images"]}
    assert set(run(monkeypatch, "images", "-q", "--no-trunc", data_root=root).out.split()) == ids
    monkeypatch.setattr(time, "time", lambda: float(GOLDEN["now"]))
    compared = 0
    for case in READING:
        name = " ".join(case["argv"])
        if name in DIFFERENT or any(each in name for each in ELSEWHERE) or case["stdout"].startswith("["):
            continue
        ended = run(monkeypatch, *case["argv"], data_root=root)
        order = sorted if case["argv"][0] == "images" else list
        assert (ended.code, order(ended.out.splitlines())) == (case["code"], order(case["stdout"].splitlines())), name
        compared += 1
    assert compared > 100
