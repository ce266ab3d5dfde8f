"""Volumes and events by ``pycontain.Engine`` and its asyncio twin."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

import pycontain
from pycontain import aio
from pycontain.errors import Conflict, InvalidArgument, VolumeNotFound
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]


def test_volumes(staying: Roots) -> None:
    engine = pycontain.Engine(staying.data_root, staying.run_root)
    begun = time.time()
    made = engine.volumes.create("data", labels={"tier": "db"})
    assert (made.name, dict(made.labels)) == ("data", {"tier": "db"}) and made == engine.volumes.get("data")
    mounts = [pycontain.volume("data", "/mnt"), pycontain.volume(None, "/srv")]
    with engine.containers.run("host", ["sh", "-c", "echo kept >/mnt/file"], detach=True, mounts=mounts) as writer:
        assert writer.wait() == 0
        names = [each.name for each in engine.volumes.list()]
        assert len(names) == 2 and "data" in names
        with pytest.raises(Conflict, match="volume is in use"):
            engine.volumes.remove("data")
        writer.remove(volumes=True)
    assert [each.name for each in engine.volumes.list()] == ["data"]  # the anonymous one went with the container
    assert Path(made.mountpoint, "file").read_text() == "kept\n"
    assert engine.volumes.prune() == ([], 0) and engine.volumes.prune(all=True) == (["data"], 5)
    with pytest.raises(VolumeNotFound):
        engine.volumes.get("data")
    with engine.events(since=begun, until=time.time(), filters={"type": "volume"}) as seen:
        told = [(each.action, each.id) for each in seen]
    anonymous = next(name for name in names if name != "data")
    assert sorted(told) == sorted((action, name) for action in ("create", "destroy") for name in ("data", anonymous))


def test_events_are_followed(staying: Roots) -> None:
    engine = pycontain.Engine(staying.data_root, staying.run_root)
    with engine.events(filters={"event": ["start", "die"], "container": "it"}) as watched:
        engine.containers.run("host", ["sh", "-c", "exit 3"], detach=True, name="it").wait()
        engine.containers.get("it").remove()
        events = iter(watched)
        first, second = next(events), next(events)
    assert (first.action, second.action, dict(second.attributes)["exitCode"]) == ("start", "die", "3")
    with pytest.raises(InvalidArgument, match="no zone"):
        import datetime

        engine.events(since=datetime.datetime(2026, 1, 1))


def test_by_asyncio(staying: Roots) -> None:
    async def life() -> list[str]:
        engine = aio.Engine(staying.data_root, staying.run_root)
        await engine.volumes.create("data")
        seen: list[str] = []

        async def watch() -> None:
            async for event in engine.events(since=time.time() - 60, filters={"volume": "data"}):
                seen.append(event.action)
                if event.action == "destroy":
                    return

        watching = asyncio.create_task(watch())
        assert [each.name for each in await engine.volumes.list()] == ["data"]
        await engine.volumes.remove("data")
        await asyncio.wait_for(watching, 20)
        idle = asyncio.create_task(watch())
        await asyncio.sleep(0)
        idle.cancel()
        with pytest.raises(asyncio.CancelledError):
            await idle
        return seen

    assert asyncio.run(life())[:2] == ["create", "destroy"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"test": "true", "every": 1}, "healthcheck: there is no 'every': the keys are test, interval"),
        ({"test": "true", "interval": -1}, "healthcheck"),
        ({"test": "true", "interval": 0.0001}, "cannot be less than 1ms"),
    ],
)
def test_what_is_no_health_check(staying: Roots, given: dict[str, object], wrong: str) -> None:
    engine = pycontain.Engine(staying.data_root, staying.run_root)
    with pytest.raises(InvalidArgument, match=wrong):
        engine.containers.create("host", ["true"], healthcheck=given)
    assert engine.containers.list(all=True) == []
