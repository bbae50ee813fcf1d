"""Reading ahead in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from mem3r_plugin.stream.yielding import give_way

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The same items in the same order, up to `depth` of them read ahead.

    An exception of `items` is raised at the place where its item would have come. When the consumer
    stops early (`close()`, or an exception in its loop), the thread ends and `items` is closed.
    """
    iterator = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1, "mem3r-prefetch", initializer=give_way) as reader:
        pending = deque(reader.submit(next, iterator, end) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(reader.submit(next, iterator, end))
                yield item
        finally:
            for future in pending:
                future.cancel()
            # In the reader's thread, where the iterator is known to be at rest.
            if hasattr(iterator, "close"):
                reader.submit(iterator.close).result()
