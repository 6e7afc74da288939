"""A thread pool that makes its most urgent call first and knows how long its calls run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, PriorityQueue
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(order=True)
class _Call:
    """A call that waits for a thread."""

    due: float
    number: int
    work: Callable[[], Any] = field(compare=False)
    allowance: float = field(compare=False)
    future: Future[Any] = field(compare=False, default_factory=Future)


class WatchedPool:
    """Threads for blocking calls of the event loop; a call that does not end is seen, though it cannot be ended."""

    def __init__(self, threads: int, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._clock = clock
        self._numbers = itertools.count()
        self._waiting: PriorityQueue[_Call] = PriorityQueue()
        self._due: dict[int, float] = {}  # running calls: when each should have ended at the latest

    async def run(self, work: Callable[[], T], due: float = 0.0, allowance: float = 0.0) -> T:
        """Call ``work`` in a thread, before the calls that are due later; cancelling drops it if it has not begun.

        It may take ``allowance`` seconds before it counts as late.
        """
        call = _Call(due, next(self._numbers), work, allowance)
        self._waiting.put(call)
        self._executor.submit(self._make_next_call)
        result: T = await asyncio.wrap_future(call.future)
        return result

    def _make_next_call(self) -> None:
        """Make the most urgent call that waits; there may be none, because others were cancelled."""
        with contextlib.suppress(Empty):
            call = self._waiting.get_nowait()
            while not call.future.set_running_or_notify_cancel():
                call = self._waiting.get_nowait()
            self._due[call.number] = self._clock() + call.allowance
            try:
                result = call.work()
            except BaseException as error:
                del self._due[call.number]
                call.future.set_exception(error)
            else:
                del self._due[call.number]
                call.future.set_result(result)
            finally:
                del call  # the traceback of an error refers to this frame: a cycle

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
        with contextlib.suppress(Empty):
            while True:
                self._waiting.get_nowait().future.cancel()
