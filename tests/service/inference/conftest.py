"""Fixtures: batchers with a manual clock, a gated reader and recorded events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from linewise.service.inference.batcher import Batcher
from linewise.service.inference.queue import BatchLimits
from tests.service.inference.gated import Clock, GatedReader, Make, Recorder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(clock: Clock) -> GatedReader:
    return GatedReader(clock)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def make(clock: Clock, reader: GatedReader, recorder: Recorder) -> Iterator[Make]:
    """Factory of running batchers; all are closed at the end."""
    made: list[Batcher[int]] = []

    def start(limits: BatchLimits | None = None, **options: Any) -> Batcher[int]:
        batcher = Batcher[int](reader, limits or BatchLimits(), clock=clock, hooks=recorder, **options)
        batcher.start()
        made.append(batcher)
        return batcher

    yield start
    reader.gate.set()
    for batcher in made:
        batcher.close()
        assert batcher.join(20)
