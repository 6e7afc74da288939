"""A service without threads or time: requests arrive by a schedule, model threads take the time of their batches."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

import numpy as np

from linewise.service.inference.batcher import Batcher, Ticket
from linewise.service.inference.queue import BatchLimits, Job
from linewise.service.inference.results import BatchedResult, Overloaded
from tests.service.inference.gated import Clock

SECONDS_PER_COLUMN = 0.01 / 217  # of one thread: a receipt line takes 10 ms
SECONDS_PER_BATCH = 0.002
CHUNK = 64  # lines of a page in the queue at the same time


class _Widths:
    """A reader that is never called: its batches take the time that the simulation gives them."""

    def read(self, images: Sequence[Any], decodings: Sequence[Any]) -> list[int]:
        raise NotImplementedError

    def width_bucket(self, height: int, width: int) -> int:
        return width


@dataclass
class Simulation:
    """Model threads, a clock and events; ``latencies`` are those of single lines by client, in seconds."""

    limits: BatchLimits
    clock: Clock = field(default_factory=Clock)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    documents: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batcher = Batcher[int](_Widths(), self.limits, clock=self.clock)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._idle = [f"model-{number}" for number in range(self.limits.threads)]

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Let something happen at a time of the clock."""
        self._number += 1
        heappush(self._events, (time, self._number, event))

    def run(self) -> None:
        """Let everything happen, in the order of time."""
        while self._events:
            self.clock.now, _, event = heappop(self._events)
            event()
            while self._idle and self.batcher.queued:
                self._begin(self._idle.pop(0))

    def line(self, columns: int, client: str = "a", timeout: float = 10.0, weight: float = 1.0) -> None:
        """Send a line now."""
        arrived = self.clock.now
        try:
            ticket = self.batcher.admit(1, 0, arrived + timeout, client=client, weight=weight)
        except Overloaded:
            self.refused[client] = self.refused.get(client, 0) + 1
            return

        def answer(_: object) -> None:
            ticket.release()
            self.latencies.setdefault(client, []).append(self.clock.now - arrived)

        ticket.submit(_image(columns)).add_done_callback(answer)

    def lines(self, rate: float, seconds: float, seed: int, **options: Any) -> None:
        """Send lines of random widths at random times from now on."""
        chance, time = random.Random(seed), self.clock.now
        while (time := time + chance.expovariate(rate)) < self.clock.now + seconds:
            columns = 32 * chance.randint(3, 11)
            self.at(time, lambda columns=columns: self.line(columns, **options))  # type: ignore[misc]

    def batch(self, lines: int, columns: int, client: str, timeout: float, weight: float = 1.0) -> None:
        """Send a batch of equal lines now."""
        ticket = self.batcher.admit(lines, 0, self.clock.now + timeout, client=client, weight=weight)
        for _ in range(lines):
            ticket.submit(_image(columns))

    def document(self, pages: int, lines: int, client: str = "a", timeout: float = 10.0, latest: float = 120.0) -> None:
        """Send a document now, whose pages follow each other at once."""
        arrived = self.clock.now
        ticket = self.batcher.admit(1, 0, arrived + timeout, client=client, kind="page")
        ticket.add_pages(pages - 1, arrived + min(latest, pages * timeout))
        self._read_page(ticket, pages, lines, arrived)

    def _read_page(self, ticket: Ticket[int], pages: int, lines: int, arrived: float) -> None:
        if pages == 0:
            ticket.release()
            self.documents.append(self.clock.now - arrived)
            return
        chunks = [min(CHUNK, lines - first) for first in range(0, lines, CHUNK)]

        def next_chunk() -> None:
            if not chunks:
                ticket.finish_page()
                self._read_page(ticket, pages - 1, lines, arrived)
                return
            left = [chunks.pop(0)]

            def count(_: object) -> None:
                left[0] -= 1
                if left[0] == 0:
                    self.at(self.clock.now, next_chunk)

            for number in range(left[0]):
                ticket.submit(_image(32 * (6 + number % 10))).add_done_callback(count)

        next_chunk()

    def _begin(self, name: str) -> None:
        batch = self.batcher._next_batch(name) or []
        work = sum(job.work for job in batch)
        seconds = SECONDS_PER_BATCH + SECONDS_PER_COLUMN * work
        started = self.clock.now
        self.batcher._scheduler.running[name] = (work, started)
        self.at(started + seconds, lambda: self._end(name, batch, work, started))

    def _end(self, name: str, batch: list[Job[int]], work: float, started: float) -> None:
        self.batcher._mark_idle(name)
        self.batcher._record(batch, work, started, self.clock.now - started)
        self._idle.append(name)
        for job in batch:
            job.future.set_result(BatchedResult(0, started - job.submitted, self.clock.now - started))


def _image(columns: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.empty((32, columns), np.uint8)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
