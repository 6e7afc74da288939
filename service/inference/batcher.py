"""From single images to batches for the model threads, and back.

Admission is bounded and honest: whoever cannot be answered before the deadline is refused at once, with the time after
which it is worth another try. Admitted jobs wait in one queue per width rung, the earliest deadline first; batches grow
by themselves while the device is busy, and small ones take in jobs of neighbouring rungs. An exception is pinned on the
one image that causes it.

This module knows neither HTTP nor torch. Times are in seconds of the given clock; the cost of an image is its
*columns*, the width of its rung in pixels at the model's height.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from linewise.service.inference.queue import (
    BatchedResult,
    BatcherFailed,
    BatcherHooks,
    BatchLimits,
    BatchReport,
    Closed,
    Expired,
    Job,
    Overloaded,
    Pixels,
    Queues,
    ReadingT,
)

# Share of the past in the measured speed after each batch: ten batches make up about two thirds of it.
MEMORY = 0.9

ReadingT_co = TypeVar("ReadingT_co", covariant=True)


class BatchReader(Protocol[ReadingT_co]):
    """What reads the batches."""

    def read(self, images: Sequence[Pixels], decodings: Sequence[Any]) -> Sequence[ReadingT_co]:
        """One reading per image, in order, independent of the other images; each has a wish on how to decode it."""

    def width_bucket(self, height: int, width: int) -> int:
        """The rung, in columns, of an image of this size."""


class Ticket(Generic[ReadingT]):
    """Room for some items, from admission until it is given back at the end of the ``with`` block."""

    def __init__(self, batcher: Batcher[ReadingT], items: int, size: int, deadline: float) -> None:
        self._batcher = batcher
        self.items = items
        self.size = size
        self.deadline = deadline
        self.unsubmitted = items
        self.released = False
        self._futures: list[Future[BatchedResult[ReadingT]]] = []

    def submit(self, pixels: Pixels, decoding: object = None) -> Future[BatchedResult[ReadingT]]:
        """Queue one image, uint8 (H, W) or (H, W, 3); cancelling the future takes it out of the queue.

        ``decoding`` is handed to the reader beside the image.
        """
        future = self._batcher._submit(self, pixels, decoding)
        self._futures.append(future)
        return future

    def release(self) -> None:
        """Give the room back and take what is still queued out of the queue; a second time does nothing."""
        for future in self._futures:
            future.cancel()  # does nothing to what is finished
        self._batcher._release(self)

    def __enter__(self) -> Ticket[ReadingT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Batcher(Generic[ReadingT]):
    """The queue, its model threads and the account of both."""

    def __init__(
        self,
        reader: BatchReader[ReadingT],
        limits: BatchLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        observer: BatcherHooks | None = None,
        is_out_of_memory: Callable[[Exception], bool] = lambda error: isinstance(error, MemoryError),
        is_fatal: Callable[[Exception], bool] = lambda error: False,
        on_broken: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._clock = clock
        self._observer = observer or BatcherHooks()
        self._is_out_of_memory = is_out_of_memory
        self._is_fatal = is_fatal
        self._on_broken = on_broken

        self._changed = threading.Condition(threading.Lock())
        self._queues = Queues[ReadingT]()
        self._number = 0
        self._in_flight = 0
        self._bytes = 0
        self._unsubmitted = 0  # admitted, still being decoded
        self._columns_per_item = 0.0
        self._read_columns = 0.0  # decayed sums; their ratio is the measured speed of one thread
        self._read_seconds = 0.0
        self._budget = limits.max_columns
        self._taken: dict[str, list[Job[ReadingT]]] = {}  # by thread
        self._running: dict[str, tuple[int, float]] = {}  # by thread: columns, start
        self._closed = False
        self._broken = False
        names = [f"model-{number}" for number in range(limits.threads)]
        self._threads = [threading.Thread(target=self._run, name=name, args=(name,), daemon=True) for name in names]

    def start(self) -> None:
        """Start the model threads."""
        for thread in self._threads:
            thread.start()

    # What the callers see ---------------------------------------------------------------------------------------------

    def admit(self, items: int, size: int, deadline: float, upstream_wait: float = 0.0) -> Ticket[ReadingT]:
        """Take in ``items`` images of ``size`` bytes together, all or none.

        ``upstream_wait`` is the expected time until they could be submitted. Raises ``Overloaded``, ``Closed``,
        ``BatcherFailed``.
        """
        with self._changed:
            self._check_open()
            wait = max(upstream_wait, self._expected_wait())
            full = self._in_flight + items > self._limits.max_in_flight or self._bytes + size > self._limits.max_bytes
            if full or self._clock() + wait > deadline:
                raise Overloaded(wait)
            self._in_flight += items
            self._bytes += size
            self._unsubmitted += items
        return Ticket(self, items, size, deadline)

    def check(self, deadline: float) -> None:
        """Raise what ``admit`` would raise now for one small image; costs nothing and admits nothing."""
        with self._changed:
            self._check_open()
            wait = self._expected_wait()
            if self._in_flight >= self._limits.max_in_flight or self._clock() + wait > deadline:
                raise Overloaded(wait)

    def close(self) -> None:
        """Admit nothing any more; what was admitted is still read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait, after ``close``, until all is read and the threads have ended; whether they have."""
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def expected_wait(self) -> float:
        """Seconds until an image that is submitted now would be read, as far as the past can tell."""
        with self._changed:
            return self._expected_wait()

    @property
    def in_flight(self) -> int:
        """Items admitted and not given back."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Items waiting for the model."""
        return self._queues.items

    @property
    def alive(self) -> bool:
        """Whether the model threads run and none is stuck in a batch."""
        if self._broken or not all(thread.is_alive() for thread in self._threads):
            return False
        now = self._clock()
        return all(now - started <= self._limits.hang_timeout for _, started in list(self._running.values()))

    # The account, with the lock held ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._broken:
            raise BatcherFailed("the model thread has ended")
        if self._closed:
            raise Closed("draining")

    def _expected_wait(self) -> float:
        if self._read_seconds <= 0.0:
            return 0.0  # nothing measured yet; the bounds on items and bytes hold all the same
        waiting = self._queues.columns + self._unsubmitted * self._columns_per_item
        if not waiting and len(self._running) < len(self._threads):
            return 0.0  # a thread is idle
        speed = self._read_columns / self._read_seconds
        now = self._clock()
        rest = sum(max(0.0, columns - speed * (now - started)) for columns, started in self._running.values())
        return (waiting + rest) / (speed * len(self._threads))

    def _submit(self, ticket: Ticket[ReadingT], pixels: Pixels, decoding: object) -> Future[BatchedResult[ReadingT]]:
        rung = self._reader.width_bucket(pixels.shape[0], pixels.shape[1])
        with self._changed:
            if self._broken:
                raise BatcherFailed("the model thread has ended")
            if ticket.unsubmitted == 0:
                raise ValueError(f"the ticket was for {ticket.items} items and is used up")
            ticket.unsubmitted -= 1
            self._unsubmitted -= 1
            self._number += 1
            job = Job[ReadingT](pixels, decoding, rung, ticket.deadline, self._number, self._clock())
            self._queues.add(job)
            past = self._columns_per_item or rung
            self._columns_per_item = MEMORY * past + (1.0 - MEMORY) * rung
            self._changed.notify()
        # By its number: a callback that held the job would be held by it, through its future, and the picture with them
        # until Python next looks for such circles.
        rung, number = job.rung, job.number
        job.future.add_done_callback(lambda _: self._withdraw(rung, number))
        return job.future

    def _release(self, ticket: Ticket[ReadingT]) -> None:
        with self._changed:
            if ticket.released:
                return
            ticket.released = True
            self._in_flight -= ticket.items
            self._bytes -= ticket.size
            self._unsubmitted -= ticket.unsubmitted
            ticket.unsubmitted = 0
            self._changed.notify_all()  # after close, the thread waits for the last of these

    def _withdraw(self, rung: int, number: int) -> None:
        """Forget a job that was cancelled in the queue; one that was taken out before needs nothing."""
        with self._changed:
            waited = self._queues.withdraw(rung, number)
        if waited:
            self._observer.dropped("cancelled")

    # The model threads ------------------------------------------------------------------------------------------------

    def _run(self, name: str) -> None:
        try:
            while (batch := self._next_batch(name)) is not None:
                self._read(batch, name)
        except BaseException as error:  # told, not raised: a thread has nobody to raise it to
            self._break(name)
            self._on_broken(error)

    def _next_batch(self, name: str) -> list[Job[ReadingT]] | None:
        """Wait for work and take the most urgent batch; it is empty when its jobs were gone. None after the last."""
        with self._changed:
            idle = not self._queues
            while not self._queues:
                if self._broken or (self._closed and self._unsubmitted == 0):
                    return None
                self._changed.wait()
            if idle and self._limits.linger > 0.0:
                self._changed.wait_for(lambda: self._queues.items >= self._limits.max_items, self._limits.linger)
            expired = self._queues.take_expired(self._clock())
            batch: list[Job[ReadingT]] = []
            if self._queues:
                batch = self._queues.take_most_urgent(self._limits.max_items, self._budget, self._limits.fill)
            batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
            self._taken[name] = batch
        for job in expired:
            if job.future.set_running_or_notify_cancel():
                self._observer.dropped("expired")
                job.future.set_exception(Expired("the deadline passed in the queue"))
        return batch

    def _read(self, batch: list[Job[ReadingT]], name: str) -> None:
        """Read a batch; when that raises, read its halves, down to the image that is to blame."""
        if not batch:
            return
        columns = sum(job.rung for job in batch)
        started = self._clock()
        with self._changed:
            self._running[name] = (columns, started)
        try:
            readings = self._reader.read([job.pixels for job in batch], [job.decoding for job in batch])
            if len(readings) != len(batch):
                raise RuntimeError(f"{len(readings)} readings of {len(batch)} images")
        except Exception as error:
            self._rest(name)
            self._recover(batch, columns, error, name)
            return
        duration = self._clock() - started
        self._rest(name)
        self._account(batch, columns, started, duration)
        for job, reading in zip(batch, readings, strict=True):
            job.future.set_result(BatchedResult(reading, started - job.submitted, duration))

    def _rest(self, name: str) -> None:
        with self._changed:
            del self._running[name]

    def _recover(self, batch: list[Job[ReadingT]], columns: int, error: Exception, name: str) -> None:
        self._observer.failed(len(batch))
        if self._is_fatal(error):
            raise error
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        if self._is_out_of_memory(error):
            self._budget = max(batch[0].rung, columns // 2)
        middle = len(batch) // 2
        self._read(batch[:middle], name)
        self._read(batch[middle:], name)

    def _account(self, batch: list[Job[ReadingT]], columns: int, started: float, duration: float) -> None:
        with self._changed:
            self._read_columns = MEMORY * self._read_columns + columns
            self._read_seconds = MEMORY * self._read_seconds + duration
        waits = tuple(started - job.submitted for job in batch)
        self._observer.batch(BatchReport(len(batch), columns, waits, duration))

    def _break(self, name: str) -> None:
        """Leave nobody waiting for a thread that will never come; the other threads finish what they read."""
        with self._changed:
            self._broken = True
            stranded = [job for job in self._queues.take_all() if job.future.set_running_or_notify_cancel()]
            self._changed.notify_all()
        for job in stranded + self._taken.get(name, []):
            if not job.future.done():
                job.future.set_exception(BatcherFailed("the model thread has ended"))
