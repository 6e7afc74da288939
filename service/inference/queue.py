"""Jobs and their queues: one queue per width bucket, ordered by deadline.

Times are in seconds of the batcher's clock. The cost of an image is its *columns*: the width of its bucket in pixels at
the model's height.
"""

from __future__ import annotations

from bisect import insort
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import numpy.typing as npt

from linewise.service.inference.results import BatchedResult, ReadingT

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BatchLimits:
    """Limits on batches and on admitted work.

    ``threads`` is the number of batches read at the same time: one on an accelerator; on a CPU one per core, because
    two threads with a batch each have more throughput than one batch on two threads. A batch of fewer than ``fill``
    images takes images from the nearest other buckets as well; 1 disables that. ``linger`` is how many seconds an idle
    device waits for a batch to fill up. A batch that takes longer than ``hang_timeout`` seconds counts as stuck.
    """

    threads: int = 1
    max_items: int = 32
    fill: int = 1
    max_columns: int = 16_384
    max_in_flight: int = 512
    max_bytes: int = 256 * 2**20
    linger: float = 0.0
    hang_timeout: float = 60.0


@dataclass(eq=False)
class Job(Generic[ReadingT]):
    """One queued image; jobs with an earlier deadline are read first."""

    pixels: Pixels
    decoding: object
    bucket: int
    deadline: float
    number: int
    submitted: float
    queued: bool = True
    future: Future[BatchedResult[ReadingT]] = field(default_factory=Future)

    @property
    def urgency(self) -> tuple[float, int]:
        """Sort key: the deadline, then the order of arrival."""
        return self.deadline, self.number


class Queues(Generic[ReadingT]):
    """Waiting jobs, in one queue per width bucket, most urgent first. Not thread-safe."""

    def __init__(self) -> None:
        self._by_bucket: dict[int, list[Job[ReadingT]]] = {}
        self.items = 0
        self.columns = 0

    def __bool__(self) -> bool:
        return bool(self._by_bucket)

    def add(self, job: Job[ReadingT]) -> None:
        """Insert a job into its bucket's queue."""
        insort(self._by_bucket.setdefault(job.bucket, []), job, key=lambda other: other.urgency)
        self.items += 1
        self.columns += job.bucket

    def remove(self, bucket: int, jobs: list[Job[ReadingT]]) -> None:
        """Remove jobs of one bucket."""
        for job in jobs:
            job.queued = False
        remaining = [job for job in self._by_bucket[bucket] if job.queued]
        if remaining:
            self._by_bucket[bucket] = remaining
        else:
            del self._by_bucket[bucket]
        self.items -= len(jobs)
        self.columns -= bucket * len(jobs)

    def withdraw(self, bucket: int, number: int) -> bool:
        """Remove the job with this number; return whether it was queued."""
        jobs = [job for job in self._by_bucket.get(bucket, ()) if job.number == number]
        if jobs:
            self.remove(bucket, jobs)
        return bool(jobs)

    def pop_expired(self, now: float) -> list[Job[ReadingT]]:
        """Remove and return all jobs whose deadline has passed."""
        expired = [job for queue in self._by_bucket.values() for job in queue if job.deadline <= now]
        for job in expired:
            self.remove(job.bucket, [job])
        return expired

    def pop_batch(self, items: int, columns: int, fill: int = 1) -> list[Job[ReadingT]]:
        """Remove and return a batch of the bucket that holds the most urgent job.

        The batch has at least one job, and otherwise at most ``items`` jobs and ``columns`` columns. If it has fewer
        than ``fill`` jobs, the most urgent ones of other buckets are added, nearest bucket first.
        """
        first = min(self._by_bucket, key=lambda bucket: self._by_bucket[bucket][0].urgency)
        batch = self._pop(first, max(1, min(items, columns // first)))
        columns_left = columns - first * len(batch)
        for bucket in sorted(self._by_bucket, key=lambda other: abs(other - first)):
            if len(batch) >= min(fill, items):
                break
            jobs = self._pop(bucket, max(0, min(min(fill, items) - len(batch), columns_left // bucket)))
            batch += jobs
            columns_left -= bucket * len(jobs)
        return batch

    def pop_all(self) -> list[Job[ReadingT]]:
        """Remove and return all jobs."""
        jobs = [job for queue in self._by_bucket.values() for job in queue]
        for job in jobs:
            self.remove(job.bucket, [job])
        return jobs

    def _pop(self, bucket: int, count: int) -> list[Job[ReadingT]]:
        """Remove and return the ``count`` most urgent jobs of a bucket."""
        jobs = self._by_bucket[bucket][:count]
        if jobs:
            self.remove(bucket, jobs)
        return jobs
