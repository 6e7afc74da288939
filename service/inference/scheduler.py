"""Admission and order of work, without threads: reservations, due times, expected waits, measured throughput.

Work is measured in columns: the width of an image's bucket in pixels at the model's height, times the weight of its
decoding. Times are in seconds of the caller's clock. Nothing here is thread-safe.

Work is ordered by its *due time*. That is the deadline, with two corrections. Work behind other work of the same client
is due later, so that a client with much work does not delay those with little; and a timeout shorter than the default
brings no precedence. The images of one reservation are due one after the other, at ``CLIENT_SHARE`` of the throughput:
that much of it is left to them under any load, and no more is taken from others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from linewise.service.inference.queue import BatchLimits
from linewise.service.inference.results import Overloaded

# Weight of the past in the measured throughput after each batch: ten batches make up about two thirds of it.
THROUGHPUT_EMA_DECAY = 0.9

CLIENT_SHARE = 1 / 3  # of the throughput, for one client while others have work

# A batch ends within this share of the target wait, because what comes next has to wait for it. A batch of work that
# gives way ends sooner while urgent work arrives.
BATCH_SHARE_OF_TARGET = 1 / 16
YIELDING_BATCH_SHARE_OF_TARGET = 1 / 64

Kind = Literal["line", "page", "auto"]

INITIAL_PAGE_COLUMNS = 8_192  # until a page is measured: 32 lines of 256 columns


@dataclass(frozen=True)
class Demand:
    """Work that asks for admission, all or none.

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
    ``waiting`` that and the work in the queue, ``begun`` the work that has left the queue. ``step`` is the work of one
    image. ``pages`` are those of all its documents, as far as they are counted, ``read_pages`` those that are read.
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
    waiting: float = 0.0
    submitted: float = 0.0
    begun: float = 0.0
    released: bool = False

    @property
    def may_submit(self) -> bool:
        """Whether images can still be submitted."""
        return not self.released and (self.demand.kind != "line" or self.unsubmitted > 0)

    @property
    def is_single(self) -> bool:
        """Whether this is one image that has not turned out to be a page."""
        return self.demand.is_single and not self.pages

    def due_by(self, due: float, pace: float) -> float:
        """Return the waiting work that is due by then, at a pace in columns per second."""
        first = self.due + self.begun / pace
        if math.isinf(pace):
            return self.waiting if first <= due else 0.0
        return min(self.waiting, (due - first) * pace + self.step) if first <= due else 0.0


@dataclass
class Scheduler:
    """Account of admitted work, and the decisions on admission."""

    limits: BatchLimits
    items: int = 0
    size: int = 0
    running: dict[str, tuple[float, float]] = field(default_factory=dict)  # by thread: work, start
    reservations: dict[Reservation, None] = field(default_factory=dict)
    _by_client: dict[str, dict[Reservation, None]] = field(default_factory=dict)
    _last_urgent: float = -math.inf  # time of the last submission with the default timeout
    _columns_per_item: float = 0.0
    _columns_per_page: float = float(INITIAL_PAGE_COLUMNS)
    _read_columns: float = 0.0  # decayed sums; their ratio is the throughput of one thread
    _read_seconds: float = 0.0

    # Admission --------------------------------------------------------------------------------------------------------

    def admit(self, demand: Demand, now: float, upstream_wait: float = 0.0) -> Reservation:
        """Reserve capacity; ``upstream_wait`` is the expected time until the images are submitted.

        Raises ``Overloaded``.
        """
        is_page = demand.kind == "page"
        work = demand.items * demand.weight * (self._columns_per_page if is_page else self._columns_per_item)
        full = self.items + demand.items > self.limits.max_in_flight or self.size + demand.size > self.limits.max_bytes
        start = self._check(demand, work, now, upstream_wait, full=full)
        reservation = Reservation(
            demand,
            demand.deadline,
            start,
            self._first_due(start, demand.deadline, work),
            expected=work,
            step=demand.weight * self._columns_per_item,
            unsubmitted=demand.items,
            pages=demand.items if is_page else 0,
            waiting=work,
        )
        self.items += demand.items
        self.size += demand.size
        self.reservations[reservation] = None
        self._by_client.setdefault(demand.client, {})[reservation] = None
        return reservation

    def check(self, demand: Demand, now: float) -> None:
        """Raise what ``admit`` would raise for one small image, without admitting anything."""
        self._check(demand, 0.0, now, 0.0, full=self.items >= self.limits.max_in_flight)

    def expected_wait(self, now: float) -> float:
        """Return the expected seconds until an image is read that is due after all others."""
        return self._wait(sum(each.waiting for each in self.reservations), now)

    def _check(self, demand: Demand, work: float, now: float, upstream_wait: float, *, full: bool) -> float:
        """Raise ``Overloaded``, or return when the work is due if its client's deadline does not allow more."""
        start = self._start(demand, now)
        wait = fair_wait = upstream_wait
        own = 0.0
        if self.throughput:
            fair_due = start + work / self._pace
            last_due = max(fair_due, demand.deadline)
            before = fair = self._queued_before(fair_due)
            if last_due > fair_due:
                before = self._queued_before(last_due)
            wait = max(wait, self._wait(before, now))
            fair_wait = max(fair_wait, fair / self.throughput)
            own = work / self.throughput
        late = now + wait + (own if wait > 0.0 else 0.0) > demand.deadline
        if full or late or fair_wait > self.limits.target_wait + own:
            raise Overloaded(max(wait, fair_wait))
        return start

    def _start(self, demand: Demand, now: float) -> float:
        """Return when a client's next work is due, behind its earlier work of the same deadline or before.

        A single image does not wait for all lines of the client's pages, but only for those that are due by then.
        """
        held, earliest = 0.0, -math.inf
        due = now + self.limits.urgent_timeout
        for each in self._by_client.get(demand.client, ()):
            if each.waiting <= 0.0 or each.deadline > demand.deadline:
                continue
            if demand.is_single and not each.is_single:
                held += each.due_by(due, self._pace)
            else:
                held += each.waiting
                earliest = max(earliest, each.due)
        return max(due + held / self._pace, earliest)

    def _first_due(self, start: float, deadline: float, work: float) -> float:
        """Return when the first image is due, so that the last one meets the deadline with the client's share."""
        return max(start, deadline - work / self._pace)

    def _queued_before(self, due: float) -> float:
        pace = self._pace
        return sum(each.due_by(due, pace) for each in self.reservations)

    def _wait(self, queued: float, now: float) -> float:
        """Return the seconds until queued work is done, that of the running batches included."""
        if not self.throughput or (not queued and len(self.running) < self.limits.threads):
            return 0.0  # not measured yet, or a thread is idle
        each = self.throughput / self.limits.threads
        running = sum(max(0.0, work - each * (now - started)) for work, started in self.running.values())
        return (queued + running) / self.throughput

    @property
    def may_submit(self) -> bool:
        """Whether images of any reservation can still be submitted."""
        return any(each.may_submit for each in self.reservations)

    def urgent_wait(self, now: float) -> float:
        """Return the seconds of queued work whose deadline is not after that of a request with the default timeout."""
        if not self.throughput:
            return 0.0
        latest = now + self.limits.urgent_timeout
        return sum(each.waiting for each in self.reservations if each.deadline <= latest) / self.throughput

    # Progress ---------------------------------------------------------------------------------------------------------

    def submit(self, reservation: Reservation, columns: int, now: float) -> tuple[float, float]:
        """Account for an image that enters the queue; return its work and when it is due.

        Raises ``ValueError`` if all items are submitted.
        """
        if not reservation.may_submit:
            raise ValueError(f"the ticket is used up: all {reservation.demand.items} items are submitted")
        work = columns * reservation.demand.weight
        if reservation.demand.kind != "line":
            estimate = min(work, reservation.expected)
        else:
            estimate = reservation.expected / reservation.unsubmitted
            reservation.unsubmitted -= 1
        due = reservation.due + reservation.submitted / self._pace
        if not reservation.submitted and reservation.deadline <= now + self.limits.urgent_timeout:
            self._last_urgent = now
        reservation.expected -= estimate
        reservation.waiting += work - estimate
        reservation.submitted += work
        if reservation.demand.kind == "line":
            reservation.step = work
        past = self._columns_per_item or columns
        self._columns_per_item = THROUGHPUT_EMA_DECAY * past + (1.0 - THROUGHPUT_EMA_DECAY) * columns
        return work, due

    def begin(self, reservation: Reservation, work: float) -> None:
        """Account for an image that left the queue, to be read or not."""
        reservation.begun += work
        reservation.waiting = max(0.0, reservation.waiting - work)

    def add_pages(self, reservation: Reservation, pages: int, deadline: float) -> None:
        """Account for more pages of a document, and let it take until ``deadline``."""
        work = pages * reservation.demand.weight * self._columns_per_page
        reservation.pages += pages
        reservation.expected += work
        reservation.waiting += work
        reservation.deadline = max(reservation.deadline, deadline)
        reservation.due = self._first_due(
            reservation.start, reservation.deadline, reservation.expected + reservation.submitted
        )

    def finish_page(self, reservation: Reservation) -> None:
        """Account for a page that is read, and estimate anew the work of those that follow."""
        reservation.read_pages += 1
        following = max(0, reservation.pages - reservation.read_pages)
        expected = following * reservation.demand.weight * self._columns_per_page
        reservation.waiting = max(0.0, reservation.waiting + expected - reservation.expected)
        reservation.expected = expected

    def record(self, work: float, seconds: float) -> None:
        """Update the throughput with a batch that was read."""
        self._read_columns = THROUGHPUT_EMA_DECAY * self._read_columns + work
        self._read_seconds = THROUGHPUT_EMA_DECAY * self._read_seconds + seconds

    def release(self, reservation: Reservation) -> None:
        """Return the capacity of a reservation. Idempotent."""
        if reservation.released:
            return
        reservation.released = True
        demand = reservation.demand
        self.items -= demand.items
        self.size -= demand.size
        reservation.waiting = 0.0
        del self.reservations[reservation]
        del self._by_client[demand.client][reservation]
        if not self._by_client[demand.client]:
            del self._by_client[demand.client]
        if 0 < reservation.pages == reservation.read_pages:
            measured = reservation.submitted / (reservation.pages * demand.weight)
            self._columns_per_page += (1.0 - THROUGHPUT_EMA_DECAY) * (measured - self._columns_per_page)

    # Throughput -------------------------------------------------------------------------------------------------------

    @property
    def throughput(self) -> float:
        """Columns per second of all threads together; 0 before the first batch."""
        return self.limits.threads * self._read_columns / self._read_seconds if self._read_seconds > 0.0 else 0.0

    def batch_limits(self, reservation: Reservation, due: float, now: float) -> tuple[float, int]:
        """Return the work of the longest batch that begins with this image, and the images that it may have anyway.

        An image of many gives way if a line that arrived now would be due before it.
        """
        is_late = not reservation.is_single and due > now + self.limits.urgent_timeout
        gives_way = is_late and now - self._last_urgent < self.limits.target_wait
        share = YIELDING_BATCH_SHARE_OF_TARGET if gives_way else BATCH_SHARE_OF_TARGET
        longest = self.throughput / self.limits.threads * self.limits.target_wait * share
        return longest or math.inf, 1 if gives_way else self.limits.fill

    @property
    def _pace(self) -> float:
        """Columns per second at which the images of one reservation are due; infinite before the first batch."""
        return CLIENT_SHARE * self.throughput or math.inf
