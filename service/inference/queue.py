"""What waits to be read: jobs, their queues, and the words about them that the batcher and its users share.

Times are in seconds of the batcher's clock; the cost of an image is its *columns*, the width of its rung in pixels at
the model's height.
"""

from __future__ import annotations

from bisect import insort
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
ReadingT = TypeVar("ReadingT")


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


class BatcherFailed(BatchingError):
    """The model thread is gone."""


class ModelLost(Exception):
    """Raised by a reader that will never read again."""


@dataclass(frozen=True)
class BatchLimits:
    """How much is read at once and how much may wait.

    ``threads`` is how many batches are read at the same time: one on an accelerator, on a CPU one for each core, since
    two threads with a batch each get more done than one batch on two threads. A batch of fewer than ``fill`` images is
    filled up from the rungs next to its own, for a reader to which several widths are dear only one by one; 1 keeps to
    one rung. ``linger`` is how long an idle device
    waits for company, ``hang_timeout`` the longest a healthy batch may take.
    """

    threads: int = 1
    max_items: int = 32
    fill: int = 1
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


class BatcherHooks:
    """Told what happens, from the threads where it happens; this one does not care."""

    def batch(self, report: BatchReport) -> None:
        """A batch was read."""

    def dropped(self, reason: str) -> None:
        """A job left the queue unread: ``expired`` or ``cancelled``."""

    def failed(self, items: int) -> None:
        """The reader raised on so many items at once."""


@dataclass(frozen=True)
class BatchedResult(Generic[ReadingT]):
    """A reading, how long it waited and how long its batch took."""

    reading: ReadingT
    queue_time: float
    inference_time: float


@dataclass(eq=False)
class Job(Generic[ReadingT]):
    """One image on its way; it is read before others whose deadline is later."""

    pixels: Pixels
    decoding: object
    rung: int
    deadline: float
    number: int
    submitted: float
    queued: bool = True
    future: Future[BatchedResult[ReadingT]] = field(default_factory=Future)

    @property
    def urgency(self) -> tuple[float, int]:
        """What jobs are ordered by: the deadline, then the order of arrival."""
        return self.deadline, self.number


class Queues(Generic[ReadingT]):
    """What waits: a queue for each rung, the most urgent first. Not locked by itself."""

    def __init__(self) -> None:
        self._by_rung: dict[int, list[Job[ReadingT]]] = {}
        self.items = 0
        self.columns = 0

    def __bool__(self) -> bool:
        return bool(self._by_rung)

    def add(self, job: Job[ReadingT]) -> None:
        """Take in a job."""
        insort(self._by_rung.setdefault(job.rung, []), job, key=lambda other: other.urgency)
        self.items += 1
        self.columns += job.rung

    def remove(self, rung: int, jobs: list[Job[ReadingT]]) -> None:
        """Let some jobs of one rung go."""
        for job in jobs:
            job.queued = False
        rest = [job for job in self._by_rung[rung] if job.queued]
        if rest:
            self._by_rung[rung] = rest
        else:
            del self._by_rung[rung]
        self.items -= len(jobs)
        self.columns -= rung * len(jobs)

    def withdraw(self, rung: int, number: int) -> bool:
        """Let the job of this number go, if it still waits; whether it did."""
        found = [job for job in self._by_rung.get(rung, ()) if job.number == number]
        if found:
            self.remove(rung, found)
        return bool(found)

    def take_expired(self, now: float) -> list[Job[ReadingT]]:
        """All jobs whose deadline has passed."""
        expired = [job for queue in self._by_rung.values() for job in queue if job.deadline <= now]
        for job in expired:
            self.remove(job.rung, [job])
        return expired

    def take_most_urgent(self, items: int, columns: int, fill: int = 1) -> list[Job[ReadingT]]:
        """A batch of the rung whose first job is the most urgent of all: at least one job, at most so much.

        Fewer than ``fill`` are joined by the most urgent jobs of other rungs, the nearest rung first.
        """
        first = min(self._by_rung, key=lambda rung: self._by_rung[rung][0].urgency)
        batch = self._take(first, max(1, min(items, columns // first)))
        left = columns - first * len(batch)
        for rung in sorted(self._by_rung, key=lambda other: abs(other - first)):
            if len(batch) >= min(fill, items):
                break
            room = min(min(fill, items) - len(batch), left // rung)
            taken = self._take(rung, max(0, room))
            batch += taken
            left -= rung * len(taken)
        return batch

    def _take(self, rung: int, count: int) -> list[Job[ReadingT]]:
        """The most urgent jobs of a rung."""
        taken = self._by_rung[rung][:count]
        if taken:
            self.remove(rung, taken)
        return taken

    def take_all(self) -> list[Job[ReadingT]]:
        """Everything."""
        jobs = [job for queue in self._by_rung.values() for job in queue]
        for job in jobs:
            self.remove(job.rung, [job])
        return jobs
