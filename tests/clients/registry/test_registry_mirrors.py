"""Mirrors: asked first, never trusted, never told a password, never pushed to."""

from __future__ import annotations

import pytest

from pycontain.errors import ImageNotFound
from pycontain.image.registry.registries_conf import Mirror, Rule
from pycontain.image.registry.settings import RegistrySettings
from tests.clients.registry.cases import DATA, MANIFEST, OCI, SECRET, TestClock, blob, client
from tests.registry_faults import FaultyRegistry, Reply, digest_of

pytestmark = pytest.mark.clients


def _mirrored(registry: FaultyRegistry, *mirrors: FaultyRegistry, pull: str = "all") -> RegistrySettings:
    entries = tuple(Mirror(location=f"{each.host}/m", pull=pull) for each in mirrors)
    return RegistrySettings(rules=(Rule(prefix=registry.host, location=registry.host, source="test", mirrors=entries),))


def test_a_mirror_is_asked_first(faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock) -> None:
    registry = client(faulty, time, settings=_mirrored(faulty, other))
    registry.get_manifest("v1")
    with registry.open_blob(blob()) as reader:
        assert reader.read() == DATA
    assert faulty.requests == [] and other.seen("GET", "^/v2/m/team/app/")


def test_a_mirror_without_it(faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock) -> None:
    other.manifests.clear()
    other.blobs.clear()
    registry = client(faulty, time, settings=_mirrored(faulty, other))
    assert registry.get_manifest("v1")[0] == MANIFEST
    with registry.open_blob(blob()) as reader:
        assert reader.read() == DATA
    with pytest.raises(
        ImageNotFound, match=rf"tried {other.host}/m/team/app:v9: 404 .*; {faulty.host}/team/app:v9: 404"
    ):
        registry.get_manifest("v9")


def test_a_dead_mirror_is_asked_once_and_named_in_the_end(faulty: FaultyRegistry, time: TestClock) -> None:
    with FaultyRegistry() as dead:
        pass
    registry = client(faulty, time, settings=_mirrored(faulty, dead))
    with pytest.raises(
        ImageNotFound, match=rf"{dead.host}/m/team/app:v9: no connection.*; {faulty.host}/team/app:v9: 404"
    ):
        registry.get_manifest("v9")
    slept = len(time.slept)
    assert registry.get_manifest("v1")[0] == MANIFEST and len(time.slept) == slept


def test_a_mirror_that_dies_in_the_middle(faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock) -> None:
    other.fault("GET", "/blobs/", Reply(body=DATA, cut=1000))
    other.fault("GET", "/blobs/", Reply(500), times=100)
    with client(faulty, time, settings=_mirrored(faulty, other)).open_blob(blob()) as reader:
        assert reader.read() == DATA
    assert faulty.seen("GET", "/blobs/")[0].headers["range"] == "bytes=1000-"


def test_a_mirror_that_lies(faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock) -> None:
    other.manifests[digest_of(MANIFEST)] = (b"{}", OCI)
    registry = client(faulty, time, settings=_mirrored(faulty, other))
    assert registry.get_manifest(digest_of(MANIFEST))[0] == MANIFEST


def test_a_mirror_gets_neither_the_password_nor_a_push(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock
) -> None:
    faulty.user = other.user = ("ann", SECRET)
    settings = _mirrored(faulty, other)
    client(faulty, time, login=f"ann:{SECRET}", settings=settings).get_manifest("v1")
    assert other.requests and not any("authorization" in each.headers for each in other.requests)
    before = len(other.requests)
    client(faulty, time, login=f"ann:{SECRET}", settings=settings, push=True).put_manifest("v2", MANIFEST, OCI)
    assert len(other.requests) == before


@pytest.mark.parametrize(("pull", "tag", "digest"), [("digest-only", False, True), ("tag-only", True, False)])
def test_mirrors_for_some_references(
    faulty: FaultyRegistry, other: FaultyRegistry, time: TestClock, pull: str, tag: bool, digest: bool
) -> None:
    registry = client(faulty, time, settings=_mirrored(faulty, other, pull=pull))
    registry.get_manifest("v1")
    assert bool(other.seen("GET", "/manifests/v1")) is tag
    registry.get_manifest(digest_of(MANIFEST))
    assert bool(other.seen("GET", "/manifests/sha256")) is digest
