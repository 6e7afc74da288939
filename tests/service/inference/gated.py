"""Test doubles for the batcher: a manual clock, a gated reader, a recorder of events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from linewise.service.inference.batcher import Batcher
from linewise.service.inference.queue import Pixels
from linewise.service.inference.results import BatchedResult, BatcherHooks, BatchReport

FAR = 1e9
MEASUREMENTS = 300

Make = Callable[..., Batcher[int]]


class Clock:
    """A clock that stands still until a test sets it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class GatedReader:
    """A reader that returns the first pixel of each image, after ``gate`` opens and ``seconds`` of the clock pass.

    It raises ``error`` for an image in ``poison``, and ``MemoryError`` for more than ``max_images`` images.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.decodings: list[list[Any]] = []
        self.poison: set[int] = set()
        self.error: BaseException = ValueError("poison")
        self.max_images = 10**9
        self.seconds = 0.0

    def read(self, images: Sequence[Pixels], decodings: Sequence[Any]) -> list[int]:
        self.decodings.append(list(decodings))
        values = [int(image[0, 0]) for image in images]
        self.batches.append(values)
        self.entered.release()
        assert self.gate.wait(20)
        self.clock.now += self.seconds
        if self.poison & set(values):
            raise self.error
        if len(values) > self.max_images:
            raise MemoryError
        return values

    def width_bucket(self, height: int, width: int) -> int:
        return width


class Recorder(BatcherHooks):
    """Hooks that record their calls."""

    def __init__(self) -> None:
        self.batches: list[BatchReport] = []
        self.drops: list[str] = []
        self.failures: list[int] = []

    def batch(self, report: BatchReport) -> None:
        self.batches.append(report)

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)

    def failed(self, items: int) -> None:
        self.failures.append(items)


def image(value: int, width: int = 64) -> Pixels:
    return np.full((32, width), value, np.uint8)


def submit(batcher: Batcher[int], value: int, deadline: float = FAR, width: int = 64) -> Future[BatchedResult[int]]:
    """Admit and queue one image; the ticket is released with its result."""
    ticket = batcher.admit(1, 10, deadline)
    future = ticket.submit(image(value, width))
    future.add_done_callback(lambda _: ticket.release())
    return future


def occupy(batcher: Batcher[int], reader: GatedReader) -> Future[BatchedResult[int]]:
    """Keep the model busy with an image of value 0 until the gate opens."""
    reader.gate.clear()
    while reader.entered.acquire(blocking=False):
        pass
    first = submit(batcher, 0)
    assert reader.entered.acquire(timeout=20)
    return first


def results(futures: Sequence[Future[BatchedResult[int]]]) -> list[int]:
    return [future.result(20).reading for future in futures]


def measure_throughput(batcher: Batcher[int], reader: GatedReader, columns_per_second: float) -> None:
    """Let the batcher measure this throughput with images of 64 columns, until it has forgotten any other."""
    reader.gate.set()
    submit(batcher, 1).result(20)
    with batcher.account() as scheduler:
        for _ in range(MEASUREMENTS):
            scheduler.record(64, 64 / columns_per_second)
