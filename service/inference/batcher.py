"""Dynamic batching of single images for the model threads.

Admission control rejects work that would wait for too long, with a retry estimate. Admitted jobs wait in one queue per
width bucket, in the order of the scheduler. Batches grow while the device is busy. A failing batch is split until the
exception belongs to a single image.

This module depends on neither HTTP nor torch. Times are in seconds of the given clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Generic

from linewise.service.inference.queue import BatchLimits, BatchReader, Demand, Job, Kind, Pixels, Queues, Reservation
from linewise.service.inference.results import (
    BatchedResult,
    BatcherFailed,
    BatcherHooks,
    BatchReport,
    Closed,
    Expired,
    ReadingT,
)
from linewise.service.inference.scheduler import Scheduler


class Ticket(Generic[ReadingT]):
    """Capacity reserved for some items, from admission to the end of the ``with`` block."""

    def __init__(self, batcher: Batcher[ReadingT], reservation: Reservation) -> None:
        self._batcher = batcher
        self._reservation = reservation
        self._futures: list[Future[BatchedResult[ReadingT]]] = []

    @property
    def deadline(self) -> float:
        """When an image is dropped that is not read yet."""
        return self._reservation.deadline

    def submit(self, pixels: Pixels, decoding: object = None) -> Future[BatchedResult[ReadingT]]:
        """Queue one image, uint8 ``(H, W)`` or ``(H, W, 3)``; cancelling the future removes it from the queue.

        ``decoding`` is passed to the reader with the image. Raises ``BatcherFailed``, and ``ValueError`` if all items
        of the ticket are submitted. A ticket that may be for pages takes any number of images until it is released.
        """
        future = self._batcher._submit(self._reservation, pixels, decoding)
        self._futures.append(future)
        return future

    def add_pages(self, pages: int, deadline: float) -> None:
        """Announce more pages of a document, and allow time for them until ``deadline``."""
        with self._batcher.account() as scheduler:
            scheduler.add_pages(self._reservation, pages, deadline)

    def finish_page(self, seconds: float = 0.0) -> None:
        """Announce that a page is read; ``seconds`` as in ``Scheduler.finish_page``."""
        self._futures = [future for future in self._futures if not future.done()]
        with self._batcher.account() as scheduler:
            scheduler.finish_page(self._reservation, seconds)

    def next_decode_due(self, seconds: float) -> float:
        """Return when the next image should be decoded, if each may take ``seconds``; on the batcher's clock."""
        with self._batcher.account():
            return self._reservation.next_decode_due(seconds)

    def set_aside(self) -> None:
        """Announce that an image takes long to decode; others do not wait for it any more."""
        with self._batcher.account():
            self._reservation.set_aside = True

    def release(self) -> None:
        """Return the capacity and cancel what is still queued. Idempotent."""
        for future in self._futures:
            future.cancel()  # no effect on finished ones
        self._batcher._release(self._reservation)

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
        self._scheduler = Scheduler(limits)
        self._max_columns = float(limits.max_columns)
        self._batches: dict[str, list[Job[ReadingT]]] = {}  # by thread
        self._closed = False
        self._broken = False
        names = [f"model-{number}" for number in range(limits.threads)]
        self._threads = [threading.Thread(target=self._run, name=name, args=(name,), daemon=True) for name in names]

    def start(self) -> None:
        """Start the model threads."""
        for thread in self._threads:
            thread.start()

    # Admission and state ----------------------------------------------------------------------------------------------

    def admit(
        self,
        items: int,
        size: int,
        deadline: float,
        upstream_wait: float = 0.0,
        *,
        client: str = "",
        weight: float = 1.0,
        kind: Kind = "line",
    ) -> Ticket[ReadingT]:
        """Admit ``items`` images of ``size`` bytes in total, all or none.

        ``upstream_wait`` is the expected time in seconds until they are submitted; the rest is as in ``Demand``. Raises
        ``Overloaded``, ``Closed``, ``BatcherFailed``.
        """
        demand = Demand(items, size, deadline, client, weight, kind)
        with self._changed:
            self._check_open()
            return Ticket(self, self._scheduler.admit(demand, self._clock(), upstream_wait))

    def check(self, deadline: float, client: str = "") -> None:
        """Raise what ``admit`` would raise now for one small image, without admitting anything."""
        with self._changed:
            self._check_open()
            self._scheduler.check(Demand(1, 0, deadline, client), self._clock())

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
        """Expected seconds until an image submitted now is read, if all that is admitted comes before it."""
        with self._changed:
            return self._scheduler.expected_wait(self._clock())

    @property
    def urgent_wait(self) -> float:
        """Expected seconds of queued work that is as urgent as a new request with the default timeout."""
        with self._changed:
            return self._scheduler.urgent_wait(self._clock())

    @property
    def in_flight(self) -> int:
        """Number of items admitted and not released."""
        return self._scheduler.items

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
        return all(now - started <= self._limits.hang_timeout for _, started in list(self._scheduler.running.values()))

    # Accounting -------------------------------------------------------------------------------------------------------

    @contextmanager
    def account(self) -> Iterator[Scheduler]:
        """Hold the lock on the account of admitted work."""
        with self._changed:
            yield self._scheduler

    def _check_open(self) -> None:
        if self._broken:
            raise BatcherFailed("the model thread has ended")
        if self._closed:
            raise Closed("draining")

    def _submit(self, reservation: Reservation, pixels: Pixels, decoding: object) -> Future[BatchedResult[ReadingT]]:
        bucket = self._reader.width_bucket(pixels.shape[0], pixels.shape[1])
        with self._changed:
            if self._broken:
                raise BatcherFailed("the model thread has ended")
            work, due = self._scheduler.submit(reservation, bucket, self._clock())
            self._next_number += 1
            job = Job[ReadingT](
                pixels, decoding, bucket, work, due, reservation.deadline, self._next_number, self._clock(), reservation
            )
            self._queues.add(job)
            self._changed.notify()
        # The callback refers to the job by number: a reference to the job would be a cycle through its future, which
        # keeps the pixels in memory until the next garbage collection.
        number = job.number
        job.future.add_done_callback(lambda _: self._withdraw(bucket, number))
        return job.future

    def _release(self, reservation: Reservation) -> None:
        with self._changed:
            self._scheduler.release(reservation)
            self._changed.notify_all()  # after close, the threads wait for the last reservation

    def _withdraw(self, bucket: int, number: int) -> None:
        """Remove a job that was cancelled while queued."""
        with self._changed:
            job = self._queues.withdraw(bucket, number)
            if job is not None:
                self._scheduler.begin(job.reservation, job.work)
        if job is not None:
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
                if self._broken or (self._closed and not self._scheduler.may_submit):
                    return None
                self._changed.wait()
            if idle and self._limits.linger > 0.0:
                self._changed.wait_for(lambda: self._queues.items >= self._limits.max_items, self._limits.linger)
            expired = self._queues.pop_expired(self._clock())
            batch = self._pop_batch() if self._queues else []
            for job in expired + batch:
                self._scheduler.begin(job.reservation, job.work)
            batch = [job for job in batch if job.future.set_running_or_notify_cancel()]
            self._batches[name] = batch
        for job in expired:
            if job.future.set_running_or_notify_cancel():
                self._hooks.dropped("expired")
                job.future.set_exception(Expired("the deadline passed in the queue"))
        return batch

    def _pop_batch(self) -> list[Job[ReadingT]]:
        """Remove and return the most urgent batch; requires the lock."""
        limits, head = self._limits, self._queues.head
        longest, at_least = self._scheduler.batch_limits(head.reservation, head.due, self._clock())
        items = limits.max_items
        if longest < items * head.work:
            items = min(items, max(at_least, int(longest / head.work)))
        fill = min(limits.fill, items)
        return self._queues.pop_batch(items, self._max_columns, fill, limits.target_wait)

    def _read(self, batch: list[Job[ReadingT]], name: str) -> None:
        """Read a batch; if that fails, read its halves, down to the image that causes the failure."""
        if not batch:
            return
        work = sum(job.work for job in batch)
        started = self._clock()
        with self._changed:
            self._scheduler.running[name] = (work, started)
        try:
            readings = self._reader.read([job.pixels for job in batch], [job.decoding for job in batch])
            if len(readings) != len(batch):
                raise RuntimeError(f"the reader returned {len(readings)} readings for {len(batch)} images")
        except Exception as error:
            self._mark_idle(name)
            self._recover(batch, error, name)
            return
        duration = self._clock() - started
        self._mark_idle(name)
        self._record(batch, work, started, duration)
        for job, reading in zip(batch, readings, strict=True):
            job.future.set_result(BatchedResult(reading, started - job.submitted, duration))

    def _mark_idle(self, name: str) -> None:
        with self._changed:
            del self._scheduler.running[name]

    def _recover(self, batch: list[Job[ReadingT]], error: Exception, name: str) -> None:
        """Read the halves of a failed batch, or fail its only job. Raises a fatal ``error``."""
        self._hooks.failed(len(batch))
        if self._is_fatal(error):
            raise error
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        if self._is_out_of_memory(error):
            self._max_columns = max(batch[0].work, sum(job.work for job in batch) / 2)
        middle = len(batch) // 2
        self._read(batch[:middle], name)
        self._read(batch[middle:], name)

    def _record(self, batch: list[Job[ReadingT]], work: float, started: float, duration: float) -> None:
        """Update the throughput and report the batch."""
        with self._changed:
            self._scheduler.record(work, duration)
        waits = tuple(started - job.submitted for job in batch)
        self._hooks.batch(BatchReport(len(batch), sum(job.bucket for job in batch), waits, duration))

    def _break(self, name: str) -> None:
        """Fail all queued jobs and those of this thread; other threads finish their batches."""
        with self._changed:
            self._broken = True
            stranded = [job for job in self._queues.pop_all() if job.future.set_running_or_notify_cancel()]
            self._changed.notify_all()
        for job in stranded + self._batches.get(name, []):
            if not job.future.done():
                job.future.set_exception(BatcherFailed("the model thread has ended"))
