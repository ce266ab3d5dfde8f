"""The thread that follows: order, bound, and where its errors come out."""

from __future__ import annotations

import threading

import pytest

from pycontain.image.behind import Behind


def test_all_is_done_in_order_and_by_one_other_thread() -> None:
    seen: list[tuple[bytes, int]] = []
    with Behind(lambda thing: seen.append((thing, threading.get_ident())), depth=2) as behind:
        for n in range(100):
            behind.put(b"%d" % n)
        behind.finish()
    assert [thing for thing, _ in seen] == [b"%d" % n for n in range(100)]
    assert {ident for _, ident in seen}.isdisjoint({threading.get_ident()}) and len({i for _, i in seen}) == 1


def test_no_more_than_depth_wait() -> None:
    go, begun = threading.Event(), threading.Event()

    def work(thing: bytes) -> None:
        begun.set()
        assert go.wait(60)

    with Behind(work, depth=3) as behind:
        for _ in range(3):
            behind.put(b"x")
        assert begun.wait(60)
        fourth = threading.Thread(target=behind.put, args=(b"x",))
        fourth.start()
        assert fourth.is_alive()  # it cannot end before the first is done
        go.set()
        fourth.join(60)
        assert not fourth.is_alive()
        behind.finish()


@pytest.mark.parametrize("error", [ValueError("work"), KeyboardInterrupt()])
def test_an_error_of_the_work_comes_out_of_put(error: BaseException) -> None:
    done = []

    def work(thing: bytes) -> None:
        done.append(thing)
        raise error

    with pytest.raises(type(error)), Behind(work, depth=1) as behind:
        for _ in range(10):
            behind.put(b"x")
    assert len(done) == 1


def test_an_error_of_the_last_comes_out_of_finish() -> None:
    def work(thing: bytes) -> None:
        raise ValueError("last")

    with Behind(work, depth=8) as behind:
        behind.put(b"x")
        with pytest.raises(ValueError, match="last"):
            behind.finish()


def test_leaving_by_an_error_drops_what_waits_and_ends_the_thread() -> None:
    begun, go = threading.Event(), threading.Event()
    done = []

    def work(thing: bytes) -> None:
        begun.set()
        assert go.wait(60)
        done.append(thing)

    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="caller"), Behind(work, depth=8) as behind:
        for _ in range(5):
            behind.put(b"x")
        assert begun.wait(60)
        threading.Timer(0, go.set).start()
        raise RuntimeError("caller")
    assert 1 <= len(done) <= 5
    assert threading.active_count() <= threads + 1  # the timer's may be ending
