"""Admitted work, its jobs and their queues: one per width bucket, ordered by when they are due.

Times are in seconds of the batcher's clock. The size of an image is its *columns*: the width of its bucket in pixels at
the model's height. Its work is the columns times the cost of its decoding.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from linewise.service.inference.results import BatchedResult, ReadingT

Pixels = npt.NDArray[np.uint8]

ReadingT_co = TypeVar("ReadingT_co", covariant=True)


class BatchReader(Protocol[ReadingT_co]):
    """The part of a recogniser that the batcher calls."""

    def read(self, images: Sequence[Pixels], decodings: Sequence[Any]) -> Sequence[ReadingT_co]:
        """Read each image with its decoding, in order; a result must not depend on the other images."""

    def width_bucket(self, height: int, width: int) -> int:
        """Return the width in pixels that an image of this size is padded to at the model's height."""


@dataclass(frozen=True)
class BatchLimits:
    """Limits on batches and on admitted work.

    ``threads`` is the number of batches read at the same time: one on an accelerator; on a CPU one per core, because
    two threads with a batch each have more throughput than one batch on two threads. A batch of fewer than ``fill``
    images takes images from the nearest other buckets as well; 1 disables that. ``linger`` is how many seconds an idle
    device waits for a batch to fill up. A batch that takes longer than ``hang_timeout`` seconds counts as stuck.

    ``target_wait`` is how many seconds of work may wait ahead of a request, in addition to as many as its own takes. A
    timeout below ``urgent_timeout`` seconds makes a request no more urgent than that timeout.
    """

    threads: int = 1
    max_items: int = 32
    fill: int = 1
    max_columns: int = 16_384
    max_in_flight: int = 512
    max_bytes: int = 256 * 2**20
    linger: float = 0.0
    hang_timeout: float = 60.0
    target_wait: float = math.inf
    urgent_timeout: float = 0.0


Kind = Literal["line", "page", "auto"]


@dataclass(frozen=True)
class Demand:
    """Work of one request, admitted as a whole or refused.

    ``items`` images of ``size`` bytes in total, each a line, a page with any number of lines, or either of them.
    ``weight`` is the cost of decoding, 1 for the default one.
    """

    items: int
    size: int
    deadline: float
    client: str = ""
    weight: float = 1.0
    kind: Kind = "line"

    @property
    def is_single(self) -> bool:
        """Whether this is one image that is not known to be a page."""
        return self.items == 1 and self.kind != "page"


@dataclass(eq=False)
class Reservation:
    """Admitted work.

    ``due`` is when its first image is due. ``expected`` is an estimate of the work that is not submitted yet,
    ``queued`` the work in the queue, ``begun`` the work that has left it. ``step`` is the work of one image. ``pages``
    are those of all its documents, as far as they are counted, ``read_pages`` those that are read. ``set_aside`` says
    that an image of it takes long to decode, and ``decoded`` counts the images whose decoding is requested.
    """

    demand: Demand
    deadline: float
    start: float
    due: float
    expected: float
    step: float
    unsubmitted: int
    pages: int = 0
    read_pages: int = 0
    queued: float = 0.0
    submitted: float = 0.0
    begun: float = 0.0
    released: bool = False
    set_aside: bool = False
    decoded: int = 0

    @property
    def waiting(self) -> float:
        """Work that the model has not begun."""
        return self.expected + self.queued

    @property
    def near(self) -> float:
        """Work in the queue or there soon, without that of pages and costly images that are still being prepared."""
        return self.queued if self.set_aside or self.pages else self.waiting

    @property
    def may_submit(self) -> bool:
        """Whether images can still be submitted."""
        return not self.released and (self.demand.kind != "line" or self.unsubmitted > 0)

    @property
    def is_single(self) -> bool:
        """Whether this is one image that has not turned out to be a page."""
        return self.demand.is_single and not self.pages

    def next_decode_due(self, seconds: float) -> float:
        """Return when the next image should be decoded, if each may take ``seconds``.

        So that a line does not wait for all large images of a request that came before it.
        """
        due = self.due + self.decoded * seconds
        self.decoded += 1
        return min(due, self.deadline)

    def ahead_of(self, demand: Demand) -> float:
        """Return the work that may come before a demand; lines overtake what is still being prepared, pages do not."""
        return self.waiting if demand.kind == "page" else self.near

    def due_by(self, due: float, pace: float, waiting: float) -> float:
        """Return the share of the ``waiting`` work that is due by then, at a pace in columns per second."""
        first = self.due + self.begun / pace
        return min(waiting, (due - first) * pace + self.step) if first <= due else 0.0


@dataclass(eq=False)
class Job(Generic[ReadingT]):
    """One queued image; jobs that are due earlier are read first, and after their deadline they are not read."""

    pixels: Pixels
    decoding: object
    bucket: int
    work: float
    due: float
    deadline: float
    number: int
    submitted: float
    reservation: Reservation
    queued: bool = True
    future: Future[BatchedResult[ReadingT]] = field(default_factory=Future)

    @property
    def urgency(self) -> tuple[float, int]:
        """Sort key: when the job is due, then the order of arrival."""
        return self.due, self.number


class Queues(Generic[ReadingT]):
    """Waiting jobs, in one queue per width bucket, most urgent first. Not thread-safe."""

    def __init__(self) -> None:
        self._by_bucket: dict[int, list[Job[ReadingT]]] = {}
        self.items = 0
        self.columns = 0

    def __bool__(self) -> bool:
        return bool(self._by_bucket)

    @property
    def head(self) -> Job[ReadingT]:
        """The most urgent job; there must be one."""
        return min((queue[0] for queue in self._by_bucket.values()), key=lambda job: job.urgency)

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

    def withdraw(self, bucket: int, number: int) -> Job[ReadingT] | None:
        """Remove and return the job with this number; None if it is not queued."""
        job = next((job for job in self._by_bucket.get(bucket, ()) if job.number == number), None)
        if job is not None:
            self.remove(bucket, [job])
        return job

    def pop_expired(self, now: float) -> list[Job[ReadingT]]:
        """Remove and return all jobs whose deadline has passed."""
        expired = [job for queue in self._by_bucket.values() for job in queue if job.deadline <= now]
        for job in expired:
            self.remove(job.bucket, [job])
        return expired

    def pop_batch(self, items: int, work: float, fill: int = 1, within: float = math.inf) -> list[Job[ReadingT]]:
        """Remove and return a batch of the bucket that holds the most urgent job.

        The batch has at least one job, and otherwise at most ``items`` jobs of ``work`` together, none due more than
        ``within`` seconds after the first one. If it has fewer than ``fill`` jobs, the most urgent ones of other
        buckets are added, nearest bucket first.
        """
        head = self.head
        first, last_due = head.bucket, head.due + within
        batch = self._pop(first, items, work, last_due, at_least=1)
        for bucket in sorted(self._by_bucket, key=lambda other: abs(other - first)):
            if len(batch) >= min(fill, items):
                break
            left = work - sum(job.work for job in batch)
            batch += self._pop(bucket, min(fill, items) - len(batch), left, last_due)
        return batch

    def pop_all(self) -> list[Job[ReadingT]]:
        """Remove and return all jobs."""
        jobs = [job for queue in self._by_bucket.values() for job in queue]
        for job in jobs:
            self.remove(job.bucket, [job])
        return jobs

    def _pop(self, bucket: int, items: int, work: float, last_due: float, at_least: int = 0) -> list[Job[ReadingT]]:
        """Remove and return the most urgent jobs of a bucket, within the limits but for the first ``at_least``."""
        jobs: list[Job[ReadingT]] = []
        for job in self._by_bucket[bucket][:items]:
            work -= job.work
            if len(jobs) >= at_least and (work < 0 or job.due > last_due):
                break
            jobs.append(job)
        if jobs:
            self.remove(bucket, jobs)
        return jobs
