"""Dynamic batching of single images for the model threads.

Admission control rejects work that cannot meet its deadline, with a retry estimate. Admitted jobs wait in one queue per
width bucket, earliest deadline first. Batches grow while the device is busy. A failing batch is split until the
exception belongs to a single image.

This module depends on neither HTTP nor torch. Times are in seconds of the given clock. The cost of an image is its
*columns*: the width of its bucket in pixels at the model's height.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from linewise.service.inference.queue import BatchLimits, Job, Pixels, Queues
from linewise.service.inference.results import (
    BatchedResult,
    BatcherFailed,
    BatcherHooks,
    BatchReport,
    Closed,
    Expired,
    Overloaded,
    ReadingT,
)

# Weight of the past in the measured throughput after each batch: ten batches make up about two thirds of it.
THROUGHPUT_EMA_DECAY = 0.9

ReadingT_co = TypeVar("ReadingT_co", covariant=True)


class BatchReader(Protocol[ReadingT_co]):
    """The part of a recogniser that the batcher calls."""

    def read(self, images: Sequence[Pixels], decodings: Sequence[Any]) -> Sequence[ReadingT_co]:
        """Read each image with its decoding, in order; a result must not depend on the other images."""

    def width_bucket(self, height: int, width: int) -> int:
        """Return the width in pixels that an image of this size is padded to at the model's height."""


class Ticket(Generic[ReadingT]):
    """Capacity reserved for some items, from admission to the end of the ``with`` block."""

    def __init__(self, batcher: Batcher[ReadingT], items: int, size: int, deadline: float) -> None:
        self._batcher = batcher
        self.items = items
        self.size = size
        self.deadline = deadline
        self.unsubmitted = items
        self.released = False
        self._futures: list[Future[BatchedResult[ReadingT]]] = []

    def submit(self, pixels: Pixels, decoding: object = None) -> Future[BatchedResult[ReadingT]]:
        """Queue one image, uint8 ``(H, W)`` or ``(H, W, 3)``; cancelling the future removes it from the queue.

        ``decoding`` is passed to the reader with the image. Raises ``BatcherFailed``, and ``ValueError`` if all items
        of the ticket are submitted.
        """
        future = self._batcher._submit(self, pixels, decoding)
        self._futures.append(future)
        return future

    def release(self) -> None:
        """Return the capacity and cancel what is still queued. Idempotent."""
        for future in self._futures:
            future.cancel()  # no effect on finished ones
        self._batcher._release(self)

    def __enter__(self) -> Ticket[ReadingT]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Batcher(Generic[ReadingT]):
    """Queues, model threads and admission control."""

    def __init__(
        self,
        reader: BatchReader[ReadingT],
        limits: BatchLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        hooks: BatcherHooks | None = None,
        is_out_of_memory: Callable[[Exception], bool] = lambda error: isinstance(error, MemoryError),
        is_fatal: Callable[[Exception], bool] = lambda error: False,
        on_broken: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._clock = clock
        self._hooks = hooks or BatcherHooks()
        self._is_out_of_memory = is_out_of_memory
        self._is_fatal = is_fatal
        self._on_broken = on_broken

        self._changed = threading.Condition(threading.Lock())
        self._queues = Queues[ReadingT]()
        self._next_number = 0
        self._in_flight = 0
        self._bytes = 0
        self._unsubmitted = 0  # admitted items that are still being decoded
        self._columns_per_item = 0.0
        self._read_columns = 0.0  # decayed sums; their ratio is the throughput of one thread
        self._read_seconds = 0.0
        self._max_columns = limits.max_columns
        self._batches: dict[str, list[Job[ReadingT]]] = {}  # by thread
        self._running: dict[str, tuple[int, float]] = {}  # by thread: columns, start
        self._closed = False
        self._broken = False
        names = [f"model-{number}" for number in range(limits.threads)]
        self._threads = [threading.Thread(target=self._run, name=name, args=(name,), daemon=True) for name in names]

    def start(self) -> None:
        """Start the model threads."""
        for thread in self._threads:
            thread.start()

    # Admission and state ----------------------------------------------------------------------------------------------

    def admit(self, items: int, size: int, deadline: float, upstream_wait: float = 0.0) -> Ticket[ReadingT]:
        """Admit ``items`` images of ``size`` bytes in total, all or none.

        ``upstream_wait`` is the expected time in seconds until they are submitted. Raises ``Overloaded``, ``Closed``,
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
        """Raise what ``admit`` would raise now for one small image, without admitting anything."""
        with self._changed:
            self._check_open()
            wait = self._expected_wait()
            if self._in_flight >= self._limits.max_in_flight or self._clock() + wait > deadline:
                raise Overloaded(wait)

    def close(self) -> None:
        """Stop admission; admitted items are still read."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the threads to end after ``close``; return whether they have."""
        end = None if timeout is None else time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def expected_wait(self) -> float:
        """Expected seconds until an image submitted now is read."""
        with self._changed:
            return self._expected_wait()

    @property
    def in_flight(self) -> int:
        """Number of items admitted and not released."""
        return self._in_flight

    @property
    def queued(self) -> int:
        """Number of items waiting for the model."""
        return self._queues.items

    @property
    def alive(self) -> bool:
        """Whether all model threads run and no batch exceeds the hang timeout."""
        if self._broken or not all(thread.is_alive() for thread in self._threads):
            return False
        now = self._clock()
        return all(now - started <= self._limits.hang_timeout for _, started in list(self._running.values()))

    # Accounting -------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._broken:
            raise BatcherFailed("the model thread has ended")
        if self._closed:
            raise Closed("draining")

    def _expected_wait(self) -> float:
        """Expected wait in seconds; requires the lock."""
        if self._read_seconds <= 0.0:
            return 0.0  # no measurement yet; the limits on items and bytes still hold
        waiting = self._queues.columns + self._unsubmitted * self._columns_per_item
        if not waiting and len(self._running) < len(self._threads):
            return 0.0  # a thread is idle
        throughput = self._read_columns / self._read_seconds
        now = self._clock()
        running = sum(max(0.0, columns - throughput * (now - started)) for columns, started in self._running.values())
        return (waiting + running) / (throughput * len(self._threads))

    def _submit(self, ticket: Ticket[ReadingT], pixels: Pixels, decoding: object) -> Future[BatchedResult[ReadingT]]:
        bucket = self._reader.width_bucket(pixels.shape[0], pixels.shape[1])
        with self._changed:
            if self._broken:
                raise BatcherFailed("the model thread has ended")
            if ticket.unsubmitted == 0:
                raise ValueError(f"the ticket is used up: all {ticket.items} items are submitted")
            ticket.unsubmitted -= 1
            self._unsubmitted -= 1
            self._next_number += 1
            job = Job[ReadingT](pixels, decoding, bucket, ticket.deadline, self._next_number, self._clock())
            self._queues.add(job)
            past = self._columns_per_item or bucket
            self._columns_per_item = THROUGHPUT_EMA_DECAY * past + (1.0 - THROUGHPUT_EMA_DECAY) * bucket
            self._changed.notify()
        # The callback refers to the job by number: a reference to the job would be a cycle through its future, which
        # keeps the pixels in memory until the next garbage collection.
        number = job.number
        job.future.add_done_callback(lambda _: self._withdraw(bucket, number))
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
            self._changed.notify_all()  # after close, the threads wait for the last unsubmitted item

    def _withdraw(self, bucket: int, number: int) -> None:
        """Remove a job that was cancelled while queued."""
        with self._changed:
            was_queued = self._queues.withdraw(bucket, number)
        if was_queued:
            self._hooks.dropped("cancelled")

    # Model threads ----------------------------------------------------------------------------------------------------

    def _run(self, name: str) -> None:
        try:
            while (batch := self._next_batch(name)) is not None:
                self._read(batch, name)
        except BaseException as error:  # nothing above a thread handles it
            self._break(name)
            self._on_broken(error)

    def _next_batch(self, name: str) -> list[Job[ReadingT]] | None:
        """Wait for jobs and return the most urgent batch, empty if all its jobs are gone; None after the last one."""
        with self._changed:
            idle = not self._queues
            while not self._queues:
                if self._broken or (self._closed and self._unsubmitted == 0):
                    return None
                self._changed.wait()
            if idle and self._limits.linger > 0.0:
                self._changed.wait_for(lambda: self._queues.items >= self._limits.max_items, self._limits.linger)
            expired = self._queues.pop_expired(self._clock())
            batch: list[Job[ReadingT]] = []
            if self._queues:
                batch = self._queues.pop_batch(self._limits.max_items, self._max_columns, self._limits.fill)
            batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
            self._batches[name] = batch
        for job in expired:
            if job.future.set_running_or_notify_cancel():
                self._hooks.dropped("expired")
                job.future.set_exception(Expired("the deadline passed in the queue"))
        return batch

    def _read(self, batch: list[Job[ReadingT]], name: str) -> None:
        """Read a batch; if that fails, read its halves, down to the image that causes the failure."""
        if not batch:
            return
        columns = sum(job.bucket for job in batch)
        started = self._clock()
        with self._changed:
            self._running[name] = (columns, started)
        try:
            readings = self._reader.read([job.pixels for job in batch], [job.decoding for job in batch])
            if len(readings) != len(batch):
                raise RuntimeError(f"the reader returned {len(readings)} readings for {len(batch)} images")
        except Exception as error:
            self._mark_idle(name)
            self._recover(batch, columns, error, name)
            return
        duration = self._clock() - started
        self._mark_idle(name)
        self._record(batch, columns, started, duration)
        for job, reading in zip(batch, readings, strict=True):
            job.future.set_result(BatchedResult(reading, started - job.submitted, duration))

    def _mark_idle(self, name: str) -> None:
        with self._changed:
            del self._running[name]

    def _recover(self, batch: list[Job[ReadingT]], columns: int, error: Exception, name: str) -> None:
        """Read the halves of a failed batch, or fail its only job. Raises a fatal ``error``."""
        self._hooks.failed(len(batch))
        if self._is_fatal(error):
            raise error
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        if self._is_out_of_memory(error):
            self._max_columns = max(batch[0].bucket, columns // 2)
        middle = len(batch) // 2
        self._read(batch[:middle], name)
        self._read(batch[middle:], name)

    def _record(self, batch: list[Job[ReadingT]], columns: int, started: float, duration: float) -> None:
        """Update the throughput and report the batch."""
        with self._changed:
            self._read_columns = THROUGHPUT_EMA_DECAY * self._read_columns + columns
            self._read_seconds = THROUGHPUT_EMA_DECAY * self._read_seconds + duration
        waits = tuple(started - job.submitted for job in batch)
        self._hooks.batch(BatchReport(len(batch), columns, waits, duration))

    def _break(self, name: str) -> None:
        """Fail all queued jobs and those of this thread; other threads finish their batches."""
        with self._changed:
            self._broken = True
            stranded = [job for job in self._queues.pop_all() if job.future.set_running_or_notify_cancel()]
            self._changed.notify_all()
        for job in stranded + self._batches.get(name, []):
            if not job.future.done():
                job.future.set_exception(BatcherFailed("the model thread has ended"))
