"""Admission control: limits, expected wait, tickets, closing."""

from __future__ import annotations

import threading

import pytest

from linewise.service.inference.queue import BatchLimits
from linewise.service.inference.results import (
    Closed,
    Overloaded,
)
from tests.service.inference.gated import (
    FAR,
    Clock,
    GatedReader,
    Make,
    image,
    measure_throughput,
    occupy,
    results,
    submit,
)


def test_items_in_flight_are_bounded(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(max_in_flight=3))
    occupy(batcher, reader)
    with batcher.admit(2, 0, FAR):
        with pytest.raises(Overloaded):
            batcher.admit(1, 0, FAR)
        with pytest.raises(Overloaded):
            batcher.check(FAR)
    batcher.check(FAR)
    with pytest.raises(Overloaded):
        batcher.admit(3, 0, FAR)
    with batcher.admit(2, 0, FAR):
        pass


def test_bytes_in_flight_are_bounded(make: Make) -> None:
    batcher = make(BatchLimits(max_bytes=100))
    with batcher.admit(1, 60, FAR):
        with pytest.raises(Overloaded):
            batcher.admit(1, 41, FAR)
        with batcher.admit(1, 40, FAR):
            pass
    with batcher.admit(1, 100, FAR):
        pass


def test_who_cannot_be_answered_in_time_is_refused_with_the_expected_wait(
    make: Make, reader: GatedReader, clock: Clock
) -> None:
    batcher = make()
    measure_throughput(batcher, reader, columns_per_second=64)
    occupy(batcher, reader)
    for value in range(9):
        submit(batcher, value, deadline=clock.now + 11)
    # the one being read should have been done by now, and nine of a second each are waiting
    clock.now += 4
    assert batcher.expected_wait == pytest.approx(9.0)
    with pytest.raises(Overloaded) as refused:
        batcher.admit(1, 0, clock.now + 8)
    assert refused.value.retry_after == pytest.approx(9.0)
    with batcher.admit(1, 0, clock.now + 10):
        pass


def test_images_still_being_decoded_count_into_the_wait(make: Make, reader: GatedReader) -> None:
    batcher = make()
    measure_throughput(batcher, reader, columns_per_second=64)
    with batcher.admit(5, 0, FAR):
        assert batcher.expected_wait == pytest.approx(5.0)
    assert batcher.expected_wait == 0.0


def test_a_longer_wait_upstream_decides(make: Make, clock: Clock) -> None:
    with pytest.raises(Overloaded) as refused:
        make().admit(1, 0, clock.now + 2, upstream_wait=3.0)
    assert refused.value.retry_after == 3.0


def test_the_speed_follows_the_recent_batches(make: Make, reader: GatedReader) -> None:
    batcher = make()
    measure_throughput(batcher, reader, columns_per_second=64)
    measure_throughput(batcher, reader, columns_per_second=640)
    with batcher.admit(10, 0, FAR):
        assert batcher.expected_wait == pytest.approx(1.0, rel=0.05)


def test_closing_finishes_what_was_admitted_and_takes_nothing_new(make: Make, reader: GatedReader) -> None:
    batcher = make()
    first = occupy(batcher, reader)
    second = submit(batcher, 1)
    with batcher.admit(1, 0, FAR) as decoding:
        batcher.close()
        with pytest.raises(Closed):
            batcher.admit(1, 0, FAR)
        with pytest.raises(Closed):
            batcher.check(FAR)
        reader.gate.set()
        assert results([first, second]) == [0, 1]
        assert not batcher.join(0.01), "an admitted image is still being decoded"
        assert decoding.submit(image(2)).result(20).reading == 2
    assert batcher.join(20)


def test_closing_does_not_wait_for_an_admitted_request_that_is_given_back(make: Make) -> None:
    batcher = make()
    with batcher.admit(3, 0, FAR):
        batcher.close()
    assert batcher.join(20)


def test_a_ticket_cannot_be_overdrawn(make: Make, reader: GatedReader) -> None:
    reader.gate.set()
    with make().admit(1, 0, FAR) as ticket:
        ticket.submit(image(1))
        with pytest.raises(ValueError, match="used up"):
            ticket.submit(image(2))


def test_a_ticket_given_back_twice_counts_once_and_is_good_for_nothing(make: Make) -> None:
    batcher = make()
    with batcher.admit(2, 10, FAR), batcher.admit(3, 10, FAR) as ticket:
        ticket.release()
        ticket.release()
        assert batcher.in_flight == 2
        with pytest.raises(ValueError, match="used up"):
            ticket.submit(image(1))
    assert batcher.in_flight == 0


def test_many_threads_get_their_own_answers_and_the_account_returns_to_zero(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(max_items=7))
    reader.gate.set()
    reader.poison = {13}
    wrong: list[int] = []

    def client(value: int) -> None:
        for round_ in range(30):
            future = submit(batcher, value, width=64 * (1 + round_ % 3))
            if round_ % 5 == 4:
                future.cancel()
            elif (value == 13) != (future.exception(20) is not None) or (
                value != 13 and future.result().reading != value
            ):
                wrong.append(value)

    threads = [threading.Thread(target=client, args=(value,)) for value in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    batcher.close()
    assert batcher.join(20)
    assert wrong == []
    assert (batcher.in_flight, batcher.queued, batcher._queues.columns, batcher._scheduler.size) == (0, 0, 0, 0)


def test_nobody_waits_while_a_thread_is_idle(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(threads=2))
    measure_throughput(batcher, reader, columns_per_second=64)
    occupy(batcher, reader)
    assert batcher.expected_wait == 0.0
    submit(batcher, 1)
    assert reader.entered.acquire(timeout=20)
    assert batcher.expected_wait == pytest.approx(1.0)  # two seconds of work for two threads
    submit(batcher, 2)
    assert batcher.expected_wait == pytest.approx(1.5)
