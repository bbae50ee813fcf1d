"""Work done in order by a thread of its own, a few steps behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from mem3r_plugin.stream.yielding import give_way


class Background:
    """Runs what it is given, one after the other, in one thread.

    What fails stops everything behind it, and its exception is raised by the next call or on leaving. Left
    by an exception, it drops what has not begun.

    Args:
        depth: How many steps may wait; giving it one more waits for the first of them.
    """

    def __init__(self, depth: int = 4) -> None:
        self._depth = depth
        self._pending: deque[Future[None]] = deque()
        self._failed = False
        self._thread = ThreadPoolExecutor(1, "mem3r-write", initializer=give_way)

    def __enter__(self) -> Background:
        return self

    def __call__(self, work: Callable[[], None]) -> None:
        """Have `work` done once everything before it is done.

        Raises:
            Exception: whatever an earlier step raised.
        """
        while self._pending and (len(self._pending) >= self._depth or self._pending[0].done()):
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(self._do, work))

    def finish(self) -> None:
        """Wait until everything is done.

        Raises:
            Exception: whatever a step raised.
        """
        while self._pending:
            self._pending.popleft().result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._failed |= kind is not None
        try:
            if kind is None:
                self.finish()
        finally:
            self._thread.shutdown(wait=True)

    def _do(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except BaseException:
            self._failed = True
            raise
