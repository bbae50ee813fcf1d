"""Work in a thread of its own: in order, bounded, and no failure is lost."""

import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from mem3r_plugin.stream.background import Background


def waiting_for(event: threading.Event) -> Callable[[], None]:
    def work() -> None:
        assert event.wait(30)

    return work


def failing() -> None:
    raise OSError("the disk is full")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


@pytest.mark.parametrize("depth", [1, 4])
def test_everything_is_done_in_order_by_another_thread(depth):
    done: list[int] = []
    threads = set()
    with Background(depth) as write:
        for step in range(50):

            def work(step=step) -> None:
                threads.add(threading.current_thread())
                done.append(step)

            write(work)
    assert done == list(range(50))
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux")
def test_the_thread_makes_way_for_this_one():
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    here, there = priority(), []
    with Background() as write:
        write(lambda: there.append(priority()))
    assert there == [19]
    assert priority() == here


def test_no_more_than_its_depth_may_wait():
    go = threading.Event()
    given: list[int] = []

    def give() -> None:
        for step in range(5):
            write(waiting_for(go))
            given.append(step)

    with Background(depth=3) as write:
        giver = threading.Thread(target=give)
        giver.start()
        assert eventually(lambda: len(given) == 3)
        time.sleep(0.1)
        assert given == [0, 1, 2]
        go.set()
        giver.join(30)
        assert given == [0, 1, 2, 3, 4]


def test_finishing_waits_for_what_was_given():
    done = []
    with Background() as write:
        write(lambda: time.sleep(0.05))
        write(lambda: done.append(1))
        write.finish()
        assert done == [1]
        write(lambda: done.append(2))
    assert done == [1, 2]


def test_a_failure_stops_what_is_behind_it_and_is_raised_on_leaving():
    go, done = threading.Event(), []
    with pytest.raises(OSError, match="the disk is full"), Background() as write:
        write(waiting_for(go))
        write(failing)
        write(lambda: done.append("behind the failure"))
        go.set()
    assert done == []


def test_a_failure_is_raised_by_the_next_call():
    failed, done = threading.Event(), []

    def fail() -> None:
        try:
            failing()
        finally:
            failed.set()

    with pytest.raises(OSError, match="the disk is full"), Background(depth=4) as write:
        write(fail)
        assert failed.wait(30)
        time.sleep(0.05)
        write(lambda: done.append("behind the failure"))
        done.append("reached")
    assert done == []


def test_a_failure_is_raised_by_finish():
    with Background() as write:
        write(failing)
        with pytest.raises(OSError, match="the disk is full"):
            write.finish()


def test_even_an_interrupt_comes_through():
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Background() as write:
        write(interrupt)


def test_left_by_an_exception_it_drops_what_has_not_begun():
    begun, go, done = threading.Event(), threading.Event(), []

    def first() -> None:
        begun.set()
        assert go.wait(30)
        done.append("first")

    threads = threading.active_count()
    with pytest.raises(ValueError, match="the network"), Background() as write:
        write(first)
        write(lambda: done.append("second"))
        assert begun.wait(30)
        threading.Timer(0.05, go.set).start()
        raise ValueError("the network has failed")
    assert done == ["first"]
    assert eventually(lambda: threading.active_count() == threads)
