"""From single images to batches for one model thread, and back.

Admission is bounded and honest: whoever cannot be answered before the deadline is refused at once, with the time after
which it is worth another try. Admitted jobs wait in one queue per width rung, the earliest deadline first; batches grow
by themselves while the device is busy. An exception is pinned on the one image that causes it.

This module knows neither HTTP nor torch. Times are in seconds of the given clock; the cost of an image is its
*columns*, the width of its rung in pixels at the model's height.
"""

from __future__ import annotations

import threading
import time
from bisect import insort
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
ReadingT = TypeVar("ReadingT")
ReadingT_co = TypeVar("ReadingT_co", covariant=True)

# Share of the past in the measured speed after each batch: ten batches make up about two thirds of it.
MEMORY = 0.9


class BatchReader(Protocol[ReadingT_co]):
    """What reads the batches."""

    def read(self, images: Sequence[Pixels], decodings: Sequence[Any]) -> Sequence[ReadingT_co]:
        """One reading per image, in order, independent of the other images; each has a wish on how to decode it."""

    def width_bucket(self, height: int, width: int) -> int:
        """The rung, in columns, of an image of this size."""


class BatchingError(Exception):
    """A job that will not be read."""


class Overloaded(BatchingError):
    """There is no room, or no hope of an answer in time; ``retry_after`` is the expected wait in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"expected wait {retry_after:.1f} s")
        self.retry_after = retry_after


class Closed(BatchingError):
    """Nothing is admitted any more: the batcher is being drained."""


class Expired(BatchingError):
    """The deadline passed before the job's turn came."""


class Broken(BatchingError):
    """The model thread is gone."""


@dataclass(frozen=True)
class BatchLimits:
    """How much is read at once and how much may wait.

    ``linger`` is how long an idle device waits for company, ``hang_timeout`` the longest a healthy batch may take.
    """

    max_items: int = 32
    max_columns: int = 16_384
    max_in_flight: int = 512
    max_bytes: int = 256 * 2**20
    linger: float = 0.0
    hang_timeout: float = 60.0


@dataclass(frozen=True)
class BatchReport:
    """One batch that was read: items, columns, each item's wait and the duration in seconds."""

    items: int
    columns: int
    waits: tuple[float, ...]
    duration: float


class Observer:
    """Told what happens, from the threads where it happens; this one does not care."""

    def batch(self, report: BatchReport) -> None:
        """A batch was read."""

    def dropped(self, reason: str) -> None:
        """A job left the queue unread: ``expired`` or ``cancelled``."""

    def failed(self, items: int) -> None:
        """The reader raised on so many items at once."""


@dataclass(frozen=True)
class Served(Generic[ReadingT]):
    """A reading, how long it waited and how long its batch took."""

    reading: ReadingT
    queue_time: float
    inference_time: float


@dataclass(eq=False)
class _Job(Generic[ReadingT]):
    pixels: Pixels
    decoding: object
    rung: int
    deadline: float
    number: int
    submitted: float
    queued: bool = True
    future: Future[Served[ReadingT]] = field(default_factory=Future)

    @property
    def urgency(self) -> tuple[float, int]:
        return self.deadline, self.number


class Ticket(Generic[ReadingT]):
    """Room for some items, from admission until it is given back at the end of the ``with`` block."""

    def __init__(self, batcher: Batcher[ReadingT], items: int, size: int, deadline: float) -> None:
        self._batcher = batcher
        self.items = items
        self.size = size
        self.deadline = deadline
        self.unsubmitted = items
        self.released = False
        self._futures: list[Future[Served[ReadingT]]] = []

    def submit(self, pixels: Pixels, decoding: object = None) -> Future[Served[ReadingT]]:
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
    """The queue, its model thread and the account of both."""

    def __init__(
        self,
        reader: BatchReader[ReadingT],
        limits: BatchLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer | None = None,
        is_out_of_memory: Callable[[Exception], bool] = lambda error: isinstance(error, MemoryError),
        is_fatal: Callable[[Exception], bool] = lambda error: False,
        on_broken: Callable[[BaseException], None] = lambda error: None,
    ) -> None:
        self._reader = reader
        self._limits = limits
        self._clock = clock
        self._observer = observer or Observer()
        self._is_out_of_memory = is_out_of_memory
        self._is_fatal = is_fatal
        self._on_broken = on_broken

        self._changed = threading.Condition(threading.Lock())
        self._queues: dict[int, list[_Job[ReadingT]]] = {}
        self._number = 0
        self._queued_columns = 0
        self._queued_items = 0
        self._in_flight = 0
        self._bytes = 0
        self._unsubmitted = 0  # admitted, still being decoded
        self._columns_per_item = 0.0
        self._read_columns = 0.0  # decayed sums; their ratio is the measured speed
        self._read_seconds = 0.0
        self._budget = limits.max_columns
        self._taken: list[_Job[ReadingT]] = []
        self._running: tuple[int, float] | None = None  # columns, start
        self._closed = False
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Start the model thread."""
        self._thread.start()

    # What the callers see ---------------------------------------------------------------------------------------------

    def admit(self, items: int, size: int, deadline: float, upstream_wait: float = 0.0) -> Ticket[ReadingT]:
        """Take in ``items`` images of ``size`` bytes together, all or none.

        ``upstream_wait`` is the expected time until they could be submitted. Raises ``Overloaded``, ``Closed``,
        ``Broken``.
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
        """Wait, after ``close``, until all is read and the thread has ended; whether it has."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

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
        return self._queued_items

    @property
    def alive(self) -> bool:
        """Whether the model thread runs and is not stuck in a batch."""
        running = self._running
        if self._broken or not self._thread.is_alive():
            return False
        return running is None or self._clock() - running[1] <= self._limits.hang_timeout

    # The account, with the lock held ----------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._broken:
            raise Broken("the model thread has ended")
        if self._closed:
            raise Closed("draining")

    def _expected_wait(self) -> float:
        if self._read_seconds <= 0.0:
            return 0.0  # nothing measured yet; the bounds on items and bytes hold all the same
        speed = self._read_columns / self._read_seconds
        ahead = self._queued_columns + self._unsubmitted * self._columns_per_item
        wait = ahead / speed
        if self._running is not None:
            columns, started = self._running
            wait += max(0.0, columns / speed - (self._clock() - started))
        return wait

    def _submit(self, ticket: Ticket[ReadingT], pixels: Pixels, decoding: object) -> Future[Served[ReadingT]]:
        rung = self._reader.width_bucket(pixels.shape[0], pixels.shape[1])
        with self._changed:
            if self._broken:
                raise Broken("the model thread has ended")
            if ticket.unsubmitted == 0:
                raise ValueError(f"the ticket was for {ticket.items} items and is used up")
            ticket.unsubmitted -= 1
            self._unsubmitted -= 1
            self._number += 1
            job = _Job[ReadingT](pixels, decoding, rung, ticket.deadline, self._number, self._clock())
            insort(self._queues.setdefault(rung, []), job, key=lambda other: other.urgency)
            self._queued_columns += rung
            self._queued_items += 1
            past = self._columns_per_item or rung
            self._columns_per_item = MEMORY * past + (1.0 - MEMORY) * rung
            self._changed.notify_all()
        job.future.add_done_callback(lambda _: self._withdraw(job))
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

    def _withdraw(self, job: _Job[ReadingT]) -> None:
        """Forget a job that was cancelled in the queue; one that was taken out before needs nothing."""
        with self._changed:
            if not job.queued:
                return
            self._remove(job.rung, [job])
        self._observer.dropped("cancelled")

    def _remove(self, rung: int, jobs: list[_Job[ReadingT]]) -> None:
        for job in jobs:
            job.queued = False
        rest = [job for job in self._queues[rung] if job.queued]
        if rest:
            self._queues[rung] = rest
        else:
            del self._queues[rung]
        self._queued_columns -= rung * len(jobs)
        self._queued_items -= len(jobs)

    # The model thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                self._read(batch)
        except BaseException as error:  # told, not raised: a thread has nobody to raise it to
            self._break()
            self._on_broken(error)

    def _next_batch(self) -> list[_Job[ReadingT]] | None:
        """Wait for work and take the most urgent batch; it is empty when its jobs were gone. None after the last."""
        with self._changed:
            idle = not self._queues
            while not self._queues:
                if self._closed and self._unsubmitted == 0:
                    return None
                self._changed.wait()
            if idle and self._limits.linger > 0.0:
                self._changed.wait_for(lambda: self._queued_items >= self._limits.max_items, self._limits.linger)
            expired = self._take_expired()
            batch = self._take_most_urgent() if self._queues else []
            self._taken = batch
        for job in expired:
            if job.future.set_running_or_notify_cancel():
                self._observer.dropped("expired")
                job.future.set_exception(Expired("the deadline passed in the queue"))
        return batch

    def _take_expired(self) -> list[_Job[ReadingT]]:
        now = self._clock()
        expired = [job for queue in self._queues.values() for job in queue if job.deadline <= now]
        for job in expired:
            self._remove(job.rung, [job])
        return expired

    def _take_most_urgent(self) -> list[_Job[ReadingT]]:
        rung, queue = min(self._queues.items(), key=lambda item: item[1][0].urgency)
        batch = queue[: max(1, min(self._limits.max_items, self._budget // rung))]
        self._remove(rung, batch)
        return [job for job in batch if job.future.set_running_or_notify_cancel()]

    def _read(self, batch: list[_Job[ReadingT]]) -> None:
        """Read a batch; when that raises, read its halves, down to the image that is to blame."""
        if not batch:
            return
        columns = sum(job.rung for job in batch)
        started = self._clock()
        self._running = (columns, started)
        try:
            readings = self._reader.read([job.pixels for job in batch], [job.decoding for job in batch])
            if len(readings) != len(batch):
                raise RuntimeError(f"{len(readings)} readings of {len(batch)} images")
        except Exception as error:
            self._running = None
            self._recover(batch, columns, error)
            return
        duration = self._clock() - started
        self._running = None
        self._account(batch, columns, started, duration)
        for job, reading in zip(batch, readings, strict=True):
            job.future.set_result(Served(reading, started - job.submitted, duration))

    def _recover(self, batch: list[_Job[ReadingT]], columns: int, error: Exception) -> None:
        self._observer.failed(len(batch))
        if self._is_fatal(error):
            raise error
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        if self._is_out_of_memory(error):
            self._budget = max(batch[0].rung, columns // 2)
        middle = len(batch) // 2
        self._read(batch[:middle])
        self._read(batch[middle:])

    def _account(self, batch: list[_Job[ReadingT]], columns: int, started: float, duration: float) -> None:
        with self._changed:
            self._read_columns = MEMORY * self._read_columns + columns
            self._read_seconds = MEMORY * self._read_seconds + duration
        waits = tuple(started - job.submitted for job in batch)
        self._observer.batch(BatchReport(len(batch), columns, waits, duration))

    def _break(self) -> None:
        """Leave nobody waiting for a thread that will never come."""
        with self._changed:
            self._broken = True
            stranded = [job for queue in self._queues.values() for job in queue]
            for job in stranded:
                self._remove(job.rung, [job])
            stranded = [job for job in stranded if job.future.set_running_or_notify_cancel()]
        for job in stranded + self._taken:
            if not job.future.done():
                job.future.set_exception(Broken("the model thread has ended"))
