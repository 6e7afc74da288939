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

from linewise.service.inference.queue import BatchLimits, Demand, Reservation
from linewise.service.inference.results import Overloaded

# Weight of the past in a measured mean after each batch or page: ten of them make up about two thirds of it.
THROUGHPUT_EMA_DECAY = 0.9

# The throughput of a thread before the first batch, which is often slow, is that of a slow core. A batch counts with at
# most so many times the seconds that it is expected to take: one that waits for the processor says little.
INITIAL_COLUMNS, INITIAL_SECONDS = 4_096, 0.4
MAX_SURPRISE = 4.0

CLIENT_SHARE = 1 / 3  # of the throughput, for one client while others have work

# A batch ends within this share of the target wait, because what comes next has to wait for it. A batch of work that
# gives way ends sooner while urgent work arrives.
BATCH_SHARE_OF_TARGET = 1 / 16
YIELDING_BATCH_SHARE_OF_TARGET = 1 / 64

INITIAL_PAGE_COLUMNS = 8_192  # until a page is measured: 32 lines of 256 columns


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
    _seconds_per_page: float = 0.0  # of preparing a page for the model
    _read_columns: float = float(INITIAL_COLUMNS)  # decayed sums; their ratio is the throughput of one thread
    _read_seconds: float = INITIAL_SECONDS

    # Admission --------------------------------------------------------------------------------------------------------

    def admit(self, demand: Demand, now: float, upstream_wait: float = 0.0) -> Reservation:
        """Reserve capacity; ``upstream_wait`` is the expected time until the images are submitted.

        Raises ``Overloaded``.
        """
        is_page = demand.kind == "page"
        work = (
            self._pages_work(demand, demand.items) if is_page else demand.items * demand.weight * self._columns_per_item
        )
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
        fair_due = start + work / self._pace
        fair = self._ahead(fair_due, demand)
        last_due = max(fair_due, demand.deadline)
        before = self._ahead(last_due, demand) if last_due > fair_due else fair
        wait = max(upstream_wait, self._wait(before, now))
        fair_wait = max(upstream_wait, fair / self.throughput)
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
            ahead = each.ahead_of(demand)
            if ahead <= 0.0 or each.deadline > demand.deadline:
                continue
            if demand.is_single and not each.is_single:
                held += each.due_by(due, self._pace, ahead)
            else:
                held += ahead
                earliest = max(earliest, each.due)
        return max(due + held / self._pace, earliest)

    def _first_due(self, start: float, deadline: float, work: float) -> float:
        """Return when the first image is due, so that the last one meets the deadline with the client's share."""
        return max(start, deadline - work / self._pace)

    def _ahead(self, due: float, demand: Demand) -> float:
        """Return the work that comes before a demand that is due then."""
        return sum(each.due_by(due, self._pace, each.ahead_of(demand)) for each in self.reservations)

    def _wait(self, queued: float, now: float) -> float:
        """Return the seconds until queued work is done, that of the running batches included."""
        if not queued and len(self.running) < self.limits.threads:
            return 0.0  # a thread is idle
        each = self.throughput / self.limits.threads
        running = sum(max(0.0, work - each * (now - started)) for work, started in self.running.values())
        return (queued + running) / self.throughput

    @property
    def may_submit(self) -> bool:
        """Whether images of any reservation can still be submitted."""
        return any(each.may_submit for each in self.reservations)

    def urgent_wait(self, now: float) -> float:
        """Return the seconds of queued work whose deadline is not after that of a request with the default timeout."""
        latest = now + self.limits.urgent_timeout
        return sum(each.near for each in self.reservations if each.deadline <= latest) / self.throughput

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
        reservation.queued += work
        reservation.submitted += work
        if reservation.demand.kind == "line":
            reservation.step = work
        past = self._columns_per_item or columns
        self._columns_per_item = THROUGHPUT_EMA_DECAY * past + (1.0 - THROUGHPUT_EMA_DECAY) * columns
        return work, due

    def begin(self, reservation: Reservation, work: float) -> None:
        """Account for an image that left the queue, to be read or not."""
        reservation.begun += work
        reservation.queued = max(0.0, reservation.queued - work)

    def add_pages(self, reservation: Reservation, pages: int, deadline: float) -> None:
        """Account for more pages of a document, and let it take until ``deadline``."""
        reservation.pages += pages
        reservation.expected += self._pages_work(reservation.demand, pages)
        reservation.deadline = max(reservation.deadline, deadline)
        reservation.due = self._first_due(
            reservation.start, reservation.deadline, reservation.expected + reservation.submitted
        )

    def finish_page(self, reservation: Reservation, seconds: float = 0.0) -> None:
        """Account for a page that is read, and estimate anew the work of those that follow.

        ``seconds`` is how long all threads together that decode pages and find lines were busy with it.
        """
        if not reservation.pages:  # a small image that counts as its lines come
            return
        decay = THROUGHPUT_EMA_DECAY
        self._seconds_per_page = decay * self._seconds_per_page + (1.0 - decay) * seconds
        reservation.read_pages += 1
        following = max(0, reservation.pages - reservation.read_pages)
        reservation.expected = self._pages_work(reservation.demand, following)

    def record(self, work: float, seconds: float) -> None:
        """Update the throughput with a batch that was read."""
        counted = min(seconds, MAX_SURPRISE * work * self._read_seconds / self._read_columns)
        self._read_columns = THROUGHPUT_EMA_DECAY * self._read_columns + work
        self._read_seconds = THROUGHPUT_EMA_DECAY * self._read_seconds + counted

    def release(self, reservation: Reservation) -> None:
        """Free the capacity that a reservation holds. Further calls have no effect."""
        if reservation.released:
            return
        reservation.released = True
        demand = reservation.demand
        self.items -= demand.items
        self.size -= demand.size
        reservation.expected = reservation.queued = 0.0
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
        """Columns per second of all threads together."""
        return self.limits.threads * self._read_columns / self._read_seconds

    def batch_limits(self, reservation: Reservation, due: float, now: float) -> tuple[float, int]:
        """Return the limits of a batch that begins with this image.

        The first is its most work in columns, the second a number of images that it may hold whatever their work. An
        image of a request with several gets a short batch if a line that arrived now would be due before it.
        """
        is_late = not reservation.is_single and due > now + self.limits.urgent_timeout
        gives_way = is_late and now - self._last_urgent < self.limits.target_wait
        share = YIELDING_BATCH_SHARE_OF_TARGET if gives_way else BATCH_SHARE_OF_TARGET
        longest = self.throughput / self.limits.threads * self.limits.target_wait * share
        return longest, 1 if gives_way else self.limits.fill

    def _pages_work(self, demand: Demand, pages: int) -> float:
        """Return the expected work of pages, in which the time before the model counts as columns."""
        return pages * (demand.weight * self._columns_per_page + self._seconds_per_page * self.throughput)

    @property
    def _pace(self) -> float:
        """Columns per second at which the images of one reservation are due."""
        return CLIENT_SHARE * self.throughput
