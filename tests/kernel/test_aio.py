"""The asyncio face: the same results without a thread per container; cancelling kills."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from probes import runs

import pycontain
from pycontain import aio
from pycontain.errors import ContainerExited, InvalidArgument, ProgramNotFound, TimeoutExpired

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("roots")]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(main, 30))


def processes(word: str) -> list[int]:
    """Running processes with ``word`` among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes().split(b"\0") and runs(int(path.parent.name)):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


async def appears(word: str) -> None:
    end = time.monotonic() + 20
    while not processes(word):
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


def test_run() -> None:
    r = run(aio.run("host", ["sh", "-c", "cat; echo err >&2; exit 3"], input="in", text=True))
    assert (r.stdout, r.stderr, r.exit_code) == ("in", "err\n", 3)
    assert r.usage.wall_s > 0 and set(r.phases) == {"plan", "spawn", "run", "reap"}


def test_much_input_and_output() -> None:
    data = b"x" * 3_000_000
    assert run(aio.run("host", ["cat"], input=data)).stdout == data


def test_errors_are_the_same() -> None:
    with pytest.raises(ProgramNotFound, match="executable file not found"):
        run(aio.run("host", ["no-such"]))
    with pytest.raises(InvalidArgument):
        run(aio.run("host", ["true"], memory="x"))
    with pytest.raises(ContainerExited):
        run(aio.run("host", ["false"], check=True))


def test_a_timeout_kills() -> None:
    r = run(aio.run("host", ["sh", "-c", "echo partial; sleep 600"], timeout=0.2, text=True))
    assert (r.timed_out, r.exit_code, r.stdout) == (True, 137, "partial\n")
    with pytest.raises(TimeoutExpired) as e:
        run(aio.run("host", ["sh", "-c", "echo partial; sleep 600"], timeout=0.2, check=True))
    assert e.value.stdout == b"partial\n"


def test_cancelling_kills_and_removes(tmp_path: Path) -> None:
    word = f"6{time.monotonic_ns() % 10**8}"

    async def main() -> None:
        task = asyncio.create_task(aio.run("host", ["sleep", word], name="cancelled"))
        await appears(word)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert processes(word) == []
        assert (await aio.run("host", ["true"], name="cancelled")).exit_code == 0

    run(main())


@pytest.mark.parametrize("after", [0, 1, 2, 3, 5])
def test_cancelling_during_the_start_leaves_nothing(after: int) -> None:
    word = f"7{time.monotonic_ns() % 10**8}"

    async def main() -> None:
        task = asyncio.create_task(aio.run("host", ["sleep", word]))
        for _ in range(after):
            await asyncio.sleep(0.0005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert processes(word) == []


def test_a_cancelled_start_that_fails_is_still_cancelled() -> None:
    async def main(start: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(start)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(aio.run("host", ["no-such"])))
    run(main(aio.AsyncContainer("host", ["no-such"]).__aenter__()))


def test_cancelling_twice_during_the_start_leaves_nothing() -> None:
    word = f"5{time.monotonic_ns() % 10**8}"

    async def main(start: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(start)
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main(aio.run("host", ["sleep", word])))
    run(main(aio.AsyncContainer("host", ["sleep", word]).__aenter__()))
    assert processes(word) == []


def test_roots_that_are_refused_leave_no_pipe_open() -> None:
    """The census counts descriptors."""
    with pytest.raises(InvalidArgument, match="must be an absolute path"):
        run(aio.run("host", ["true"], data_root="relative"))


def test_wait_for_kills_too() -> None:
    word = f"8{time.monotonic_ns() % 10**8}"

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio.run("host", ["sleep", word]), 0.2)

    run(main())
    assert processes(word) == []


def test_thirty_at_once() -> None:
    async def main() -> list[pycontain.CompletedContainer]:
        return await asyncio.gather(
            *(aio.run("host", ["sh", "-c", "read x; echo $x"], input=f"{i}\n", text=True, pids=8) for i in range(30))
        )

    assert [r.stdout for r in run(main())] == [f"{i}\n" for i in range(30)]


def test_there_is_no_thread_per_container() -> None:
    async def main() -> int:
        tasks = [asyncio.create_task(aio.run("host", ["sleep", "600"])) for _ in range(30)]
        await asyncio.gather(*(asyncio.wait_for(asyncio.shield(asyncio.sleep(0)), 5) for _ in range(3)))
        while len(processes("600")) < 30:
            await asyncio.sleep(0.01)
        count = threading.active_count()
        for t in tasks:
            t.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return count

    before = threading.active_count()
    # the loop's default executor: at most CPUs + 4
    import os

    assert run(main()) - before <= min(32, (os.cpu_count() or 1) + 4)


def test_a_failure_in_a_group_ends_the_others() -> None:
    word = f"9{time.monotonic_ns() % 10**8}"

    async def fails() -> None:
        await appears(word)
        raise KeyError

    async def main() -> None:
        tasks = [asyncio.create_task(c) for c in (aio.run("host", ["sleep", word]), fails())]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        assert len(done) == len(pending) == 1
        for t in pending:
            t.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main())
    assert processes(word) == []


# --- AsyncContainer ---------------------------------------------------------------------------------------------------


def test_a_container_in_a_block() -> None:
    async def main() -> pycontain.Container:
        async with aio.AsyncContainer("host", ["cat"], stdin=-1, stdout=-1) as c:
            assert c.container.stdin is not None and c.container.stdout is not None
            c.container.stdin.write(b"hello\n")
            assert c.container.stdout.readline() == b"hello\n"
            with pytest.raises(TimeoutExpired):
                await c.wait(timeout=0.05)
            c.container.stdin.close()
            assert await c.wait(timeout=10) == 0
            return c.container

    assert run(main()).exit_code == 0


def test_leaving_the_block_stops_it() -> None:
    async def main() -> pycontain.Container:
        async with aio.AsyncContainer("host", ["cat"], stdin=-1) as c:
            return c.container

    assert run(main()).exit_code == 0  # its input ended


def test_an_exception_in_the_block_kills_at_once() -> None:
    async def main() -> None:
        async with aio.AsyncContainer("host", ["sleep", "600"]):
            raise KeyError

    begun = time.monotonic()
    with pytest.raises(KeyError):
        run(main())
    assert time.monotonic() - begun < 5


def test_cancelling_a_wait_only_stops_waiting() -> None:
    async def main() -> None:
        async with aio.AsyncContainer("host", ["sleep", "600"], init=True) as c:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(c.wait(), 0.1)
            assert c.container.poll() is None and runs(c.container.pid)

    run(main())


def test_outside_its_block_there_is_no_container() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        _ = aio.AsyncContainer("host", ["true"]).container


def test_an_unblocked_loop_while_a_container_stops() -> None:
    async def main() -> int:
        ticks = 0
        async with aio.AsyncContainer(
            "host", ["sh", "-c", "trap 'sleep 0.3; exit 0' TERM; echo; sleep 600 & wait"], stdout=-1
        ) as c:
            assert c.container.stdout is not None and c.container.stdout.readline() == b"\n"
            leaving = asyncio.create_task(c.__aexit__(None, None, None))
            while not leaving.done():
                await asyncio.sleep(0.01)
                ticks += 1
        return ticks

    assert run(main()) > 10
