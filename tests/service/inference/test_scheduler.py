"""Admission and order of work by a clock that only the test moves."""

from __future__ import annotations

import pytest

from linewise.service.inference.queue import BatchLimits, Demand, Kind, Reservation
from linewise.service.inference.results import Overloaded
from linewise.service.inference.scheduler import Scheduler
from tests.service.inference.gated import MEASUREMENTS

NOW = 1000.0
LINE_COLUMNS = 100
COLUMNS_PER_SECOND = 1000.0  # ten lines a second


@pytest.fixture
def scheduler() -> Scheduler:
    """One thread that reads ten lines a second, with the default settings of the service."""
    measured = Scheduler(BatchLimits(target_wait=1.0, urgent_timeout=10.0, max_in_flight=10_000))
    for _ in range(MEASUREMENTS):
        measured.record(COLUMNS_PER_SECOND, 1.0)
    queue(measured)
    measured.begin(*measured_work(measured))
    for reservation in list(measured.reservations):
        measured.release(reservation)
    return measured


def measured_work(scheduler: Scheduler) -> tuple[Reservation, float]:
    return next(iter(scheduler.reservations)), LINE_COLUMNS


def admit(
    scheduler: Scheduler, items: int = 1, timeout: float = 10.0, client: str = "a", kind: Kind = "line"
) -> Reservation:
    return scheduler.admit(Demand(items, 0, NOW + timeout, client, kind=kind), NOW)


def queue(
    scheduler: Scheduler, items: int = 1, timeout: float = 10.0, client: str = "a", columns: int = LINE_COLUMNS
) -> Reservation:
    """Admit lines and submit them."""
    reservation = admit(scheduler, items, timeout, client)
    for _ in range(items):
        scheduler.submit(reservation, columns, NOW)
    return reservation


def queue_all(scheduler: Scheduler, client: str = "a", timeout: float = 10.0, most: int = 1000) -> int:
    """Queue single lines until one is refused; return their number."""
    for number in range(most):
        try:
            queue(scheduler, client=client, timeout=timeout)
        except Overloaded:
            return number
    return most


@pytest.mark.parametrize("timeout", [2.0, 10.0, 120.0])
def test_the_queue_is_as_long_as_the_target_whatever_the_deadline(scheduler: Scheduler, timeout: float) -> None:
    assert queue_all(scheduler, timeout=timeout) == pytest.approx(11, abs=1)
    assert scheduler.expected_wait(NOW) == pytest.approx(1.1, abs=0.11)


def test_a_refusal_names_the_wait(scheduler: Scheduler) -> None:
    queue_all(scheduler)
    with pytest.raises(Overloaded) as refused:
        scheduler.check(Demand(1, 0, NOW + 10, "a"), NOW)
    assert refused.value.retry_after == pytest.approx(1.1, abs=0.11)


def test_work_that_takes_longer_than_the_target_is_read_on_an_idle_service(scheduler: Scheduler) -> None:
    queue(scheduler, items=64)
    assert scheduler.expected_wait(NOW) == pytest.approx(6.4)


def test_work_may_wait_for_as_long_as_it_takes_itself_and_the_target(scheduler: Scheduler) -> None:
    queue(scheduler, items=64)
    queue(scheduler, items=64, timeout=60.0)
    with pytest.raises(Overloaded):
        queue(scheduler, items=64, timeout=60.0)


def test_only_work_that_comes_before_counts(scheduler: Scheduler) -> None:
    queue(scheduler, items=64, timeout=120.0, columns=10 * LINE_COLUMNS)
    assert scheduler.expected_wait(NOW) == pytest.approx(64.0)
    assert 10 <= queue_all(scheduler) <= 15


def test_decoding_counts_as_work(scheduler: Scheduler) -> None:
    for _ in range(5):
        scheduler.submit(scheduler.admit(Demand(1, 0, NOW + 10, weight=1.5), NOW), LINE_COLUMNS, NOW)
    assert scheduler.expected_wait(NOW) == pytest.approx(0.75)


def test_a_client_with_much_work_does_not_keep_another_out(scheduler: Scheduler) -> None:
    greedy = queue_all(scheduler, "greedy")
    modest = [queue(scheduler, client="modest") for _ in range(3)]
    last_of_greedy = max(each.due for each in scheduler.reservations if each.demand.client == "greedy")
    assert greedy == pytest.approx(11, abs=1)
    assert all(each.due < last_of_greedy for each in modest)


def test_clients_that_ask_for_more_than_there_is_get_equal_shares(scheduler: Scheduler) -> None:
    served = {"often": 0, "seldom": 0}
    now = NOW
    waiting: list[Reservation] = []
    for _ in range(2000):
        for client in ("often",) * 9 + ("seldom",) * 2:  # in the time that one line takes
            try:
                reservation = scheduler.admit(Demand(1, 0, now + 10, client), now)
            except Overloaded:
                continue
            scheduler.submit(reservation, LINE_COLUMNS, NOW)
            waiting.append(reservation)
        first = min(waiting, key=lambda each: each.due)
        waiting.remove(first)
        scheduler.begin(first, LINE_COLUMNS)
        scheduler.release(first)
        served[first.demand.client] += 1
        now += 0.1
    assert 0.4 < served["seldom"] / sum(served.values()) < 0.6


def test_a_short_timeout_brings_no_precedence(scheduler: Scheduler) -> None:
    honest = queue(scheduler, client="honest", timeout=10.0)
    pushy = queue(scheduler, client="pushy", timeout=1.0)
    assert pushy.due >= honest.due


def test_long_work_gets_its_share_before_its_deadline(scheduler: Scheduler) -> None:
    batch = queue(scheduler, items=100, timeout=60.0, client="batch")  # ten seconds
    # its last line is due at the deadline, and the others so that a third of the throughput suffices
    assert batch.due == pytest.approx(NOW + 60 - 30)
    single = queue(scheduler, client="single")
    assert single.due == pytest.approx(NOW + 10)


def test_work_that_cannot_be_done_before_its_deadline_beside_others_is_refused(scheduler: Scheduler) -> None:
    queue(scheduler, items=100, timeout=30.0, client="a")
    with pytest.raises(Overloaded):  # of the ten seconds, five come before
        admit(scheduler, items=50, timeout=9.0, client="b")
    admit(scheduler, items=50, timeout=11.0, client="b")


def test_a_page_counts_with_the_lines_of_earlier_pages(scheduler: Scheduler) -> None:
    for _ in range(60):
        page = admit(scheduler, kind="page")
        for _ in range(20):
            scheduler.begin(page, scheduler.submit(page, LINE_COLUMNS, NOW)[0])
        scheduler.finish_page(page)
        scheduler.release(page)
    admit(scheduler, kind="page")
    assert scheduler.expected_wait(NOW) == pytest.approx(2.0, rel=0.05)


def test_pages_of_a_document_count_when_they_are_known_and_until_they_are_read(scheduler: Scheduler) -> None:
    document = admit(scheduler, kind="page")
    one = scheduler.expected_wait(NOW)
    scheduler.add_pages(document, 19, NOW + 120)
    assert scheduler.expected_wait(NOW) == pytest.approx(20 * one)
    assert document.deadline == NOW + 120
    for _ in range(3):  # a page of 3 lines, then an empty one
        scheduler.begin(document, scheduler.submit(document, LINE_COLUMNS, NOW)[0])
    scheduler.finish_page(document)
    assert scheduler.expected_wait(NOW) == pytest.approx(19 * one)
    scheduler.finish_page(document)
    assert scheduler.expected_wait(NOW) == pytest.approx(18 * one)
    scheduler.release(document)
    assert scheduler.expected_wait(NOW) == 0.0


@pytest.mark.parametrize("kind", ["line", "auto"])
def test_a_line_is_admitted_while_pages_and_costly_images_are_prepared(scheduler: Scheduler, kind: Kind) -> None:
    admit(scheduler, kind="page")
    for _ in range(4):
        admit(scheduler, items=64).set_aside = True
    assert scheduler.expected_wait(NOW) > 30.0
    for thread in ("idle", "busy"):
        admit(scheduler, kind=kind)
        assert scheduler.urgent_wait(NOW) < 0.9, "readiness agrees"
        scheduler.running[thread] = (LINE_COLUMNS, NOW)


def test_one_slow_batch_changes_little(scheduler: Scheduler) -> None:
    scheduler.record(LINE_COLUMNS, 60.0)
    assert scheduler.throughput == pytest.approx(COLUMNS_PER_SECOND, rel=0.1)
    fresh = Scheduler(BatchLimits(threads=2, target_wait=1.0, urgent_timeout=10.0))
    fresh.record(LINE_COLUMNS, 60.0)
    for _ in range(8):
        queue(fresh)


def test_preparing_pages_counts_as_work(scheduler: Scheduler) -> None:
    admit(scheduler, kind="page")
    one = scheduler.expected_wait(NOW)
    for _ in range(60):
        scheduler.finish_page(page := admit(scheduler, timeout=1e6, kind="page"), seconds=2.0)
        scheduler.reservations.pop(page)
    assert scheduler.expected_wait(NOW) == pytest.approx(one)
    admit(scheduler, timeout=1e6, kind="page")
    assert scheduler.expected_wait(NOW) == pytest.approx(2 * one + 2.0, rel=0.05)


def test_nothing_is_left_of_what_is_released(scheduler: Scheduler) -> None:
    admitted: tuple[tuple[str, Kind], ...] = (("a", "line"), ("b", "line"), ("a", "auto"), ("b", "auto"), ("a", "page"))
    reservations = [admit(scheduler, client=client, kind=kind) for client, kind in admitted]
    for each in reservations:
        scheduler.submit(each, LINE_COLUMNS, NOW)
        scheduler.release(each)
        scheduler.release(each)
        scheduler.begin(each, LINE_COLUMNS)  # cancelled afterwards
    assert (scheduler.items, scheduler.size, scheduler.expected_wait(NOW)) == (0, 0, 0.0)
    assert not scheduler.reservations and not scheduler._by_client
