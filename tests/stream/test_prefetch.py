import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem3r_plugin.stream.prefetch import prefetch


class Counting:
    """Counts up; knows how far it was read, in which thread, and whether it was closed."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.read = 0
        self.closed = threading.Event()
        self.threads: set[str] = set()
        self._fails_at = fails_at

    def items(self) -> Iterator[int]:
        try:
            while True:
                self.threads.add(threading.current_thread().name)
                if self.read == self._fails_at:
                    raise OSError("the disk is gone")
                self.read += 1
                yield self.read - 1
        finally:
            self.closed.set()


@given(items=st.lists(st.integers()), depth=st.integers(1, 5))
def test_the_same_items_in_the_same_order(items: list[int], depth: int) -> None:
    assert list(prefetch(items, depth)) == items


def test_it_reads_ahead_but_no_further_than_its_depth() -> None:
    source = Counting()
    ahead = prefetch(source.items(), depth=3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while source.read < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert source.read == 4
    ahead.close()


def test_reading_happens_in_another_thread() -> None:
    source = Counting(fails_at=None)
    ahead = prefetch(source.items())
    next(ahead)
    ahead.close()
    assert all(name.startswith("mem3r-prefetch") for name in source.threads)


def test_an_exception_comes_in_its_place() -> None:
    source = Counting(fails_at=3)
    seen: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in prefetch(source.items(), depth=4):
            seen.append(item)  # noqa: PERF402 - what came before the error is to be seen
    assert seen == [0, 1, 2]
    assert source.closed.is_set()


def test_stopping_early_ends_the_thread_and_closes_the_source() -> None:
    source = Counting()
    before = threading.active_count()
    ahead = prefetch(source.items())
    assert next(ahead) == 0
    ahead.close()
    assert source.closed.is_set()
    assert threading.active_count() == before
