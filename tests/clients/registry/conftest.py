"""Two faulty registries, and a clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.registry.cases import DATA, MANIFEST, TestClock
from tests.registry_faults import FaultyRegistry


@pytest.fixture
def time() -> TestClock:
    return TestClock()


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as registry:
        registry.add_manifest("v1", MANIFEST)
        registry.add_blob(DATA)
        yield registry


@pytest.fixture
def other() -> Iterator[FaultyRegistry]:
    """Another host: the same address, another port."""
    with FaultyRegistry() as registry:
        registry.add_blob(DATA)
        registry.add_manifest("v1", MANIFEST)
        yield registry
