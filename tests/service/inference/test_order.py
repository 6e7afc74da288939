"""What clients meet, by a simulated clock: documents beside lines, overload, greedy clients."""

from __future__ import annotations

import pytest

from linewise.service.inference.queue import BatchLimits
from tests.service.inference.simulation import SECONDS_PER_BATCH, SECONDS_PER_COLUMN, Simulation, percentile

LIMITS = BatchLimits(threads=2, fill=8, target_wait=1.0, urgent_timeout=10.0)  # defaults on two cores
CAPACITY = 190  # lines per second


LONGEST_PAGE_LINE_S = SECONDS_PER_BATCH + 480 * SECONDS_PER_COLUMN


@pytest.mark.parametrize("load", [0.25, 0.5])
def test_a_document_delays_single_lines_by_half_or_by_one_line_of_its_own(load: float) -> None:
    p99 = []
    for documents in (0, 1):
        service = Simulation(LIMITS)
        service.lines(load * CAPACITY, 40.0, seed=1)
        for _ in range(documents):
            service.at(service.clock.now + 2.0, lambda: service.document(pages=20, lines=90))  # noqa: B023
        service.run()
        assert not service.refused and len(service.documents) == documents
        p99.append(percentile(service.latencies["a"], 0.99))
    assert p99[1] < max(1.5 * p99[0], p99[0] + LONGEST_PAGE_LINE_S)  # a line that is being read is not interrupted


@pytest.mark.parametrize("times", [2, 5])
def test_in_overload_the_throughput_stays_and_answers_come_soon(times: int) -> None:
    service = Simulation(LIMITS)
    service.lines(times * CAPACITY, 10.0, seed=2)
    service.run()
    assert len(service.latencies["a"]) > 0.97 * CAPACITY * 10
    assert percentile(service.latencies["a"], 0.99) < 1.5


def test_a_greedy_client_delays_no_other_by_more_than_its_share() -> None:
    service = Simulation(LIMITS)
    service.lines(2 * CAPACITY, 20.0, seed=3, client="greedy")
    service.lines(0.25 * CAPACITY, 20.0, seed=4, client="modest")
    service.run()
    assert "modest" not in service.refused
    assert percentile(service.latencies["modest"], 0.99) < 0.5


def test_long_lines_with_alternatives_and_a_late_deadline_starve_nobody() -> None:
    service = Simulation(LIMITS)
    service.lines(10.0, 1.0, seed=5)
    service.run()
    # work of eleven seconds for both threads; one such line takes a third of a second
    service.batch(64, 5_000, client="hog", timeout=120.0, weight=1.5)
    service.lines(0.25 * CAPACITY, 10.0, seed=6)
    service.run()
    assert not service.refused
    assert percentile(service.latencies["a"], 0.99) < 0.75
