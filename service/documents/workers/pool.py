"""A thread pool that knows how long its calls run."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class WatchedPool:
    """Threads for blocking calls of the event loop; a call that does not end is seen, though it cannot be ended."""

    def __init__(self, threads: int, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._clock = clock
        self._numbers = itertools.count()
        self._due: dict[int, float] = {}  # running calls: when each should have ended at the latest

    async def run(self, work: Callable[[], T], allowance: float = 0.0) -> T:
        """Call ``work`` in a thread; it may take ``allowance`` seconds before it counts as late."""

        def watched() -> T:
            number = next(self._numbers)
            self._due[number] = self._clock() + allowance
            try:
                return work()
            finally:
                del self._due[number]

        return await asyncio.get_running_loop().run_in_executor(self._executor, watched)

    @property
    def lateness(self) -> float:
        """Seconds since the call that is latest should have ended; 0 if none is late."""
        now = self._clock()
        return max([0.0, *(now - due for due in list(self._due.values()))])

    def stalled(self, seconds: float) -> bool:
        """Return whether every thread runs a call that is late by more than ``seconds``."""
        now = self._clock()
        late = sum(now - due > seconds for due in list(self._due.values()))
        return late >= self.threads

    @property
    def running(self) -> int:
        """Number of calls that run."""
        return len(self._due)

    def shutdown(self) -> None:
        """Refuse new calls and drop those that have not begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)
