"""`pycontain.aio.Engine`: the same by the loop. What is waited for costs no thread; cancelling kills no container."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from staying import monitor_pid
from test_aio import appears, processes
from test_commit import BASE

import pycontain
from pycontain import aio
from pycontain.errors import Conflict, ContainerNotFound, InvalidArgument, ProgramNotFound, TimeoutExpired
from pycontain.runtime import detached
from pycontain.runtime.roots import Roots

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("staying")]

T = TypeVar("T")
LOOP = "while :; do sleep 0.05; done"
SLEEPER = ["sh", "-c", f"trap 'exit 7' TERM; echo up; {LOOP}"]


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, 60))


async def started(eng: aio.Engine, **options: Any) -> aio.EngineContainer:
    """One that has said that it is up."""
    made = await eng.containers.run("host", SLEEPER, detach=True, **options)
    async for line in made.logs(text=True, follow=True):
        assert line == "up\n"
        break
    return made


# --- a life -----------------------------------------------------------------------------------------------------------


def test_a_life() -> None:
    async def main() -> None:
        eng = aio.Engine()
        async with await eng.containers.create("host", SLEEPER, name="web") as made:
            assert made.container.status == "created"
            await made.start()
            await made.pause()
            assert (await made.info()).state == "paused"
            await made.unpause()
            await made.restart()
            await made.rename("other")
            assert await eng.containers.get("other") == made and await eng.containers.list() == [made]
            assert (await made.exec(["sh", "-c", "cat; id -u"], input="in\n", text=True)).stdout == "in\n0\n"
            assert (await made.stats()).pids and "trap" in str((await made.top()).processes)
            assert (await made.inspect())["Id"] == made.id and await made.diff() is not None
            await made.kill("TERM")
            assert await made.wait(timeout=20) == 7
            with pytest.raises(Conflict, match="not running"):
                await made.exec(["true"])
            assert [line async for line in made.logs(tail=1)] == [b"up\n"]
            assert await eng.containers.prune() == [made.id]
        with pytest.raises(ContainerNotFound):
            await made.start()

    run(main())


def test_errors_and_the_other_kind_are_the_same() -> None:
    async def main() -> None:
        eng = aio.Engine()
        assert (await eng.containers.run("host", ["echo", "hi"], text=True)).stdout == "hi\n"
        with pytest.raises(ProgramNotFound):
            await eng.containers.run("host", ["no-such"], detach=True)
        with pytest.raises(InvalidArgument, match="restart is for a container that stays"):
            await eng.containers.run("host", ["true"], restart="always")  # type: ignore[call-overload]
        with pytest.raises(InvalidArgument, match="timeout: nobody waits"):
            await eng.containers.create("host", ["true"], timeout=1)  # type: ignore[call-arg]
        assert await eng.containers.list(all=True) == [] == await eng.images.list()
        with pytest.raises(pycontain.ImageNotFound):
            await eng.images.get("no-such")

    run(main())


def test_fifty_at_once() -> None:
    """Named, followed to their end, waited for, removed."""

    async def live(eng: aio.Engine, number: int) -> tuple[int, list[str], int]:
        script = f"echo {number}; sleep 0.2; echo end; exit {number}"
        async with await eng.containers.run("host", ["sh", "-c", script], detach=True, name=f"n{number}") as made:
            waiting = asyncio.create_task(made.wait())
            said = [line async for line in made.logs(text=True, follow=True)]
            return number, said, await waiting

    async def main() -> list[tuple[int, list[str], int]]:
        eng = aio.Engine()
        found = await asyncio.gather(*(live(eng, number) for number in range(50)))
        assert await eng.containers.list(all=True) == []
        return found

    assert run(main()) == [(number, [f"{number}\n", "end\n"], number) for number in range(50)]


def test_there_is_no_thread_per_container() -> None:
    async def main() -> int:
        eng = aio.Engine()
        made = await asyncio.gather(*(started(eng) for _ in range(20)))
        tasks = [asyncio.create_task(each.wait()) for each in made]

        async def follow(each: aio.EngineContainer) -> list[bytes]:
            return [line async for line in each.logs(follow=True)]

        tasks += [asyncio.create_task(each.exec(["sleep", "600"])) for each in made]  # type: ignore[arg-type]
        tasks += [asyncio.create_task(follow(each)) for each in made]  # type: ignore[arg-type]
        while len(processes("600")) < 20:
            await asyncio.sleep(0.01)
        count = threading.active_count()
        await asyncio.gather(*(each.remove(force=True) for each in made))
        await asyncio.gather(*tasks, return_exceptions=True)
        return count

    before = threading.active_count()
    assert run(main()) - before <= min(32, (os.cpu_count() or 1) + 4)  # the loop's default executor


def test_many_wait_and_one_stops() -> None:
    async def main() -> list[int]:
        made = await started(aio.Engine())
        waiting = [asyncio.create_task(made.wait()) for _ in range(40)]
        await made.exec(["true"])
        await made.stop()
        return await asyncio.gather(*waiting)

    assert run(main()) == [7] * 40


def test_the_loop_goes_on_while_one_stops() -> None:
    async def main() -> int:
        ticks = 0
        script = f"trap 'sleep 0.3; exit 0' TERM; echo up; {LOOP}"
        async with await aio.Engine().containers.run("host", ["sh", "-c", script], detach=True) as made:
            async for _ in made.logs(follow=True):
                break
            stopping = asyncio.create_task(made.stop())
            while not stopping.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert made.container.exit_code == 0
        return ticks

    assert run(main()) > 10


def test_one_that_removes_itself() -> None:
    async def main() -> None:
        eng = aio.Engine()
        made = await started(eng, remove=True)
        waiting = asyncio.create_task(made.wait())
        await made.stop()
        assert await waiting == 7 and await eng.containers.list(all=True) == []

    run(main())


def test_a_killed_monitor(roots: Roots) -> None:
    async def main() -> None:
        made = await started(aio.Engine())
        waiting = [asyncio.create_task(made.wait()) for _ in range(6)]

        async def follow() -> list[bytes]:
            return [line async for line in made.logs(follow=True)]

        following = asyncio.create_task(follow())
        await asyncio.sleep(0.1)
        os.kill(monitor_pid(roots, made.id), signal.SIGKILL)
        assert await asyncio.gather(*waiting) == [255] * 6 and await following == [b"up\n"]
        assert "monitor was killed" in (await made.info()).error

    run(main())


# --- output -----------------------------------------------------------------------------------------------------------


def test_no_line_of_chatty_ones_is_lost() -> None:
    """Three at once, whose logs are rotated meanwhile; and others have their turn."""
    script = "i=0; while [ $i -lt 8000 ]; do echo $i; i=$((i+1)); done"

    async def lines(eng: aio.Engine) -> list[int]:
        made = await eng.containers.run(
            "host", ["sh", "-c", script], detach=True, log_opts={"max-size": "100k", "max-file": 100}
        )
        return [int(line) async for line in made.logs(text=True, follow=True)]

    async def main() -> int:
        eng, turns = aio.Engine(), 0
        reading = asyncio.gather(*(lines(eng) for _ in range(3)))
        while not reading.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert await reading == [list(range(8000))] * 3
        return turns

    assert run(main()) > 3


def test_measured_until_its_end() -> None:
    async def main() -> None:
        made = await started(aio.Engine())
        seen = 0
        async for usage in made.stats_stream(interval=0.02):
            assert usage.memory_bytes is None or usage.memory_bytes > 0
            seen += 1
            if seen == 3:
                await made.stop()
        assert 3 <= seen <= 4

    run(main())


# --- cancelled --------------------------------------------------------------------------------------------------------


def test_a_cancelled_wait_only_stops_waiting() -> None:
    async def main() -> None:
        before = set(os.listdir("/proc/self/fd"))
        made = await started(aio.Engine())
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(made.wait(), 0.1)
        with pytest.raises(TimeoutExpired, match="still runs after"):
            await made.wait(timeout=0.05)
        tasks = [
            asyncio.create_task(each) for each in (made.wait(), made.stop(timeout=-1, signal="CONT"), follow(made))
        ]
        await asyncio.sleep(0.2)
        for each in tasks:
            each.cancel()
        assert all(
            isinstance(each, asyncio.CancelledError) for each in await asyncio.gather(*tasks, return_exceptions=True)
        )
        assert made.container.status == "running"
        assert set(os.listdir("/proc/self/fd")) == before

    async def follow(made: aio.EngineContainer) -> None:
        async for _ in made.logs(follow=True):
            pass

    run(main())


def test_cancelled_at_once_it_keeps_no_descriptor() -> None:
    """Before what a thread has opened for it has been taken."""

    async def main() -> None:
        made = await started(aio.Engine())
        await made.exec(["true"])
        before = set(os.listdir("/proc/self/fd"))
        for turns in range(30):
            tasks = [
                asyncio.create_task(made.wait()),
                asyncio.create_task(anext_of(made)),
                asyncio.create_task(made.exec(["true"])),
            ]
            for _ in range(turns % 4):
                await asyncio.sleep(0.001)
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert set(os.listdir("/proc/self/fd")) == before

    async def anext_of(made: aio.EngineContainer) -> bytes:
        async for line in made.logs(follow=True, tail=0):
            return line
        return b""

    run(main())


def test_a_cancelled_exec_kills_its_program_and_nothing_else() -> None:
    async def main() -> None:
        made = await started(aio.Engine())
        task = asyncio.create_task(made.exec(["sleep", "654.25"]))
        await appears("654.25")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert processes("654.25") == [] and made.container.status == "running"
        assert (await made.exec(["echo", "hi"])).stdout == b"hi\n"

    run(main())


@pytest.mark.parametrize("after_s", [0, 0.002, 0.005, 0.01, 0.02, 0.05])
def test_a_cancelled_run_leaves_nothing(after_s: float, roots: Roots) -> None:
    async def main() -> None:
        eng = aio.Engine()
        makes: list[Coroutine[Any, Any, aio.EngineContainer]] = [
            eng.containers.run("host", SLEEPER, detach=True, name="it"), eng.containers.create("host", name="it"),
        ]  # fmt: skip
        for make in makes:
            task = asyncio.create_task(make)
            await asyncio.sleep(after_s)
            task.cancel()
            try:
                await task
                await (await eng.containers.get(task.result().id)).remove(force=True)  # it was quicker
            except asyncio.CancelledError:
                pass
            assert await eng.containers.list(all=True) == []
        assert detached.ids(roots) == []

    run(main())


def test_a_cancelled_verb_is_done_whole() -> None:
    async def main() -> None:
        eng = aio.Engine()
        for _ in range(3):
            made = await started(eng)
            task = asyncio.create_task(made.remove(force=True))
            await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await eng.containers.list(all=True) == []

    run(main())


def test_two_remove_it_at_once(roots: Roots) -> None:
    async def main() -> None:
        made = await started(aio.Engine())
        answers = await asyncio.gather(*(made.remove(force=True) for _ in range(4)), return_exceptions=True)
        assert None in answers and all(each is None or isinstance(each, ContainerNotFound) for each in answers)
        assert not Path(detached.directory_of(roots, made.id)).exists()

    run(main())


def test_images(tmp_path: Path) -> None:
    async def main() -> None:
        eng = aio.Engine(str(tmp_path / "data"), str(tmp_path / "run"))
        box = pycontain.Image.import_tar(io.BytesIO(BASE), "box:1", data_root=eng.data_root)
        async with await eng.containers.run(box, ["sleep", "600"], detach=True) as made:
            assert (await made.commit("box:2", message="why")).names == ("box:2",)
            await made.export(tmp_path / "root.tar")
            assert (tmp_path / "root.tar").stat().st_size > 1000
            with pytest.raises(Conflict):
                await eng.images.remove("box:1")  # it is in use
        await eng.images.save(["box:1", "box:2"], tmp_path / "both.tar")
        assert (await eng.images.tag("box:2", "box:3")).names == ("box:2", "box:3")
        for name in ("box:1", "box:2", "box:3"):
            await eng.images.remove(name)
        assert await eng.images.list() == []
        loaded = await eng.images.load(tmp_path / "both.tar")
        assert sorted(name for each in loaded for name in each.names) == ["box:1", "box:2"]
        assert await eng.images.get("box:1") == box and (await eng.images.prune(all=True))[1] > 0

    run(main())
