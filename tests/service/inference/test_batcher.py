"""The batching engine under a clock and a reader that do as they are told."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import pytest

from linewise.service.inference.batcher import Batcher
from linewise.service.inference.queue import BatchLimits, Pixels
from linewise.service.inference.results import (
    BatchedResult,
    BatcherFailed,
    BatcherHooks,
    BatchReport,
    Closed,
    Expired,
    Overloaded,
)

FAR = 1e9


class Clock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class GatedReader:
    """Reads an image as its first pixel; waits for ``gate``, takes ``seconds`` of the clock, fails where told."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.decodings: list[list[Any]] = []
        self.poison: set[int] = set()
        self.error: BaseException = ValueError("poison")
        self.most = 10**9
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
        if len(values) > self.most:
            raise MemoryError
        return values

    def width_bucket(self, height: int, width: int) -> int:
        return width


class Recorder(BatcherHooks):
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


Make = Callable[..., Batcher[int]]


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
    """Give running batchers with the limits asked for."""
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


def image(value: int, width: int = 64) -> Pixels:
    return np.full((32, width), value, np.uint8)


def submit(batcher: Batcher[int], value: int, deadline: float = FAR, width: int = 64) -> Future[BatchedResult[int]]:
    """Admit and queue one image; the ticket is given back when its answer is there."""
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


def speed_of(batcher: Batcher[int], reader: GatedReader, columns_per_second: float) -> None:
    """Let the batcher measure a speed with one image of 64 columns."""
    reader.seconds = 64 / columns_per_second
    reader.gate.set()
    submit(batcher, 1).result(20)
    reader.seconds = 0.0


def test_a_single_image_is_read_at_once(make: Make, reader: GatedReader) -> None:
    reader.gate.set()
    assert submit(make(), 7).result(20).reading == 7
    assert reader.batches == [[7]]


def test_what_arrives_while_the_model_is_busy_becomes_one_batch(make: Make, reader: GatedReader) -> None:
    batcher = make()
    first = occupy(batcher, reader)
    rest = [submit(batcher, value) for value in range(1, 6)]
    reader.gate.set()
    assert results([first, *rest]) == [0, 1, 2, 3, 4, 5]
    assert reader.batches == [[0], [1, 2, 3, 4, 5]]


def test_a_batch_holds_one_rung_only(make: Make, reader: GatedReader) -> None:
    batcher = make()
    occupy(batcher, reader)
    futures = [submit(batcher, value, width=width) for value, width in ((1, 64), (2, 128), (3, 64), (4, 128))]
    reader.gate.set()
    assert results(futures) == [1, 2, 3, 4]
    assert reader.batches[1:] == [[1, 3], [2, 4]]


def test_a_picture_goes_with_its_answer(make: Make, reader: GatedReader) -> None:
    batcher = make()
    reader.gate.set()
    gc.disable()  # what only a search for circles would free is kept for long
    try:
        pixels = image(3)
        gone = weakref.ref(pixels)
        ticket = batcher.admit(1, 10, FAR)
        future = ticket.submit(pixels)
        assert future.result(20).reading == 3
        ticket.release()
        del pixels, future, ticket
        submit(batcher, 4).result(20)  # the thread lets go of its last batch with the next
        assert gone() is None
    finally:
        gc.enable()


def test_a_small_batch_takes_in_jobs_of_neighbouring_rungs(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(fill=4))
    occupy(batcher, reader)
    widths = {1: 512, 2: 128, 3: 64, 4: 128, 5: 96, 6: 96}
    futures = [submit(batcher, key, deadline=FAR - (key == 2), width=w) for key, w in widths.items()]
    reader.gate.set()
    results(futures)
    assert reader.batches[1:] == [[2, 4, 5, 6], [1, 3]]  # of 128 columns both, then of 96, which are nearer than 64


def test_a_full_batch_takes_nothing_in(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(fill=2))
    occupy(batcher, reader)
    futures = [submit(batcher, key, width=128) for key in (1, 2, 3)] + [submit(batcher, 4, width=64)]
    reader.gate.set()
    results(futures)
    assert reader.batches[1:] == [[1, 2, 3], [4]]


def test_what_is_taken_in_keeps_to_the_limits(make: Make, reader: GatedReader) -> None:
    for limits, expected in (
        (BatchLimits(fill=9, max_items=2), [[1, 2], [3]]),
        (BatchLimits(fill=9, max_columns=200), [[1, 2], [3]]),
        (BatchLimits(fill=9, max_columns=64), [[1], [2], [3]]),
    ):
        reader.gate.clear()
        reader.batches.clear()
        batcher = make(limits)
        occupy(batcher, reader)
        futures = [submit(batcher, key, width=width) for key, width in ((1, 128), (2, 64), (3, 64))]
        reader.gate.set()
        results(futures)
        assert reader.batches[1:] == expected


def test_the_rung_of_the_earliest_deadline_goes_first_and_the_earliest_in_it(make: Make, reader: GatedReader) -> None:
    batcher = make()
    occupy(batcher, reader)
    futures = [
        submit(batcher, 1, deadline=500, width=64),
        submit(batcher, 2, deadline=300, width=128),
        submit(batcher, 3, deadline=400, width=128),
        submit(batcher, 4, deadline=200, width=128),
    ]
    reader.gate.set()
    results(futures)
    assert reader.batches[1:] == [[4, 2, 3], [1]]


def test_equal_deadlines_are_served_in_order_of_arrival(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(max_items=2))
    occupy(batcher, reader)
    futures = [submit(batcher, value, deadline=500) for value in range(1, 6)]
    reader.gate.set()
    results(futures)
    assert reader.batches[1:] == [[1, 2], [3, 4], [5]]


def test_a_batch_is_bounded_in_columns_but_never_empty(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(max_columns=200))
    occupy(batcher, reader)
    futures = [submit(batcher, value, width=64) for value in range(1, 5)] + [submit(batcher, 9, width=999)]
    reader.gate.set()
    results(futures)
    assert reader.batches[1:] == [[1, 2, 3], [4], [9]]


def test_a_poisonous_image_fails_alone(make: Make, reader: GatedReader, recorder: Recorder) -> None:
    batcher = make()
    occupy(batcher, reader)
    reader.poison = {5}
    futures = [submit(batcher, value) for value in range(1, 9)]
    reader.gate.set()
    wait(futures, 20)
    assert [future.exception() is None for future in futures] == [True] * 4 + [False] + [True] * 3
    assert futures[4].exception() is reader.error
    assert recorder.failures == [8, 4, 2, 1]
    assert submit(batcher, 3).result(20).reading == 3


def test_a_poisonous_image_fails_alone_in_every_place_of_batches_of_every_size(make: Make, reader: GatedReader) -> None:
    most = BatchLimits().max_items
    batcher = make()
    for size in range(1, most + 1):
        for place in range(size):
            blocker = occupy(batcher, reader)
            reader.poison = {1 + place}
            futures = [submit(batcher, 1 + value) for value in range(size)]
            reader.batches.clear()
            reader.gate.set()
            wait([blocker, *futures], 20)
            assert len(reader.batches[0]) == size, "they were one batch"
            found = [None if future.exception() else future.result().reading for future in futures]
            assert found == [None if value == place else 1 + value for value in range(size)]
    assert (batcher.in_flight, batcher.queued) == (0, 0)


def test_two_poisonous_images_fail_alone_too(make: Make, reader: GatedReader) -> None:
    batcher = make()
    occupy(batcher, reader)
    reader.poison = {1, 8}
    futures = [submit(batcher, value) for value in range(1, 9)]
    reader.gate.set()
    wait(futures, 20)
    assert [future.exception() is None for future in futures] == [False] + [True] * 6 + [False]


def test_a_reader_that_loses_an_image_is_an_error_and_not_a_shift(make: Make, reader: GatedReader) -> None:
    batcher = make()
    reader.gate.set()
    reader.read = lambda images, decodings: []  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        submit(batcher, 1).result(20)


def test_running_out_of_memory_halves_the_batches_for_good(make: Make, reader: GatedReader) -> None:
    batcher = make()
    occupy(batcher, reader)
    reader.most = 2
    futures = [submit(batcher, value) for value in range(1, 9)]
    reader.gate.set()
    assert results(futures) == list(range(1, 9))
    reader.batches.clear()
    blocker = occupy(batcher, reader)
    futures = [submit(batcher, value) for value in range(1, 9)]
    reader.gate.set()
    results([blocker, *futures])
    assert [len(batch) for batch in reader.batches] == [1, 2, 2, 2, 2]


def test_a_cancelled_job_is_never_read(make: Make, reader: GatedReader, recorder: Recorder) -> None:
    batcher = make()
    first = occupy(batcher, reader)
    gone, kept = submit(batcher, 1), submit(batcher, 2)
    assert gone.cancel()
    assert batcher.queued == 1
    reader.gate.set()
    assert results([first, kept]) == [0, 2]
    assert reader.batches == [[0], [2]]
    assert recorder.drops == ["cancelled"]


def test_leaving_the_ticket_takes_its_jobs_out_of_the_queue(make: Make, reader: GatedReader) -> None:
    batcher = make()
    first = occupy(batcher, reader)
    with batcher.admit(3, 10, FAR) as ticket:
        ticket.submit(image(1))
        ticket.submit(image(2))
        assert (batcher.queued, batcher.in_flight) == (2, 4)
    assert (batcher.queued, batcher.in_flight) == (0, 1)
    reader.gate.set()
    first.result(20)


def test_an_expired_job_is_dropped_and_told(make: Make, reader: GatedReader, clock: Clock, recorder: Recorder) -> None:
    batcher = make()
    occupy(batcher, reader)
    late, kept = submit(batcher, 1, deadline=clock.now + 5), submit(batcher, 2, deadline=clock.now + 50)
    clock.now += 6
    reader.gate.set()
    with pytest.raises(Expired):
        late.result(20)
    assert kept.result(20).reading == 2
    assert [1] not in reader.batches
    assert recorder.drops == ["expired"]


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
    speed_of(batcher, reader, columns_per_second=64)
    occupy(batcher, reader)
    for value in range(9):
        submit(batcher, value)
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
    speed_of(batcher, reader, columns_per_second=64)
    with batcher.admit(5, 0, FAR):
        assert batcher.expected_wait == pytest.approx(5.0)
    assert batcher.expected_wait == 0.0


def test_a_longer_wait_upstream_decides(make: Make, clock: Clock) -> None:
    with pytest.raises(Overloaded) as refused:
        make().admit(1, 0, clock.now + 2, upstream_wait=3.0)
    assert refused.value.retry_after == 3.0


def test_the_speed_follows_the_recent_batches(make: Make, reader: GatedReader) -> None:
    batcher = make()
    speed_of(batcher, reader, columns_per_second=64)
    for _ in range(60):
        speed_of(batcher, reader, columns_per_second=640)
    with batcher.admit(10, 0, FAR):
        assert batcher.expected_wait == pytest.approx(1.0, rel=0.05)


def test_a_stuck_batch_turns_it_dead_and_its_end_alive_again(make: Make, reader: GatedReader, clock: Clock) -> None:
    batcher = make(BatchLimits(hang_timeout=5))
    first = occupy(batcher, reader)
    clock.now += 5
    assert batcher.alive
    clock.now += 1
    assert not batcher.alive
    reader.gate.set()
    first.result(20)
    assert submit(batcher, 1).result(20).reading == 1
    assert batcher.alive


@pytest.mark.parametrize("fatal_by", ["type", "verdict"])
def test_a_lost_device_fails_everyone_at_once_and_stays_dead(make: Make, reader: GatedReader, fatal_by: str) -> None:
    told: list[BaseException] = []
    reader.error = SystemExit() if fatal_by == "type" else RuntimeError("device lost")
    batcher = make(is_fatal=lambda error: isinstance(error, RuntimeError), on_broken=told.append)
    occupied = occupy(batcher, reader)
    reader.poison = {1}
    futures = [submit(batcher, value) for value in (1, 2, 3)] + [submit(batcher, 4, width=128)]
    reader.gate.set()
    assert occupied.result(20).reading == 0
    for future in futures:
        with pytest.raises(BatcherFailed):
            future.result(20)
    assert batcher.join(20)
    assert told == [reader.error]
    assert not batcher.alive
    with pytest.raises(BatcherFailed):
        batcher.admit(1, 0, FAR)


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


def test_an_idle_device_waits_for_company_only_when_told_to(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(linger=20.0, max_items=3))
    reader.gate.set()
    assert results([submit(batcher, value) for value in (1, 2, 3)]) == [1, 2, 3]
    assert reader.batches == [[1, 2, 3]]


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


def test_batches_are_reported(make: Make, reader: GatedReader, recorder: Recorder, clock: Clock) -> None:
    batcher = make()
    first = occupy(batcher, reader)
    rest = [submit(batcher, 1), submit(batcher, 2)]
    clock.now += 3
    reader.gate.set()
    results([first, *rest])
    batcher.close()
    assert batcher.join(20)
    assert [(report.items, report.columns) for report in recorder.batches] == [(1, 64), (2, 128)]
    assert recorder.batches[1].waits == (3.0, 3.0)
    assert recorder.batches[0].duration == 3.0


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
    assert (batcher.in_flight, batcher.queued, batcher._queues.columns, batcher._bytes) == (0, 0, 0, 0)


def test_as_many_batches_are_read_at_once_as_there_are_threads(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(threads=2))
    first, second = occupy(batcher, reader), submit(batcher, 1)
    assert reader.entered.acquire(timeout=20), "the second thread does not wait for the first"
    rest = [submit(batcher, value) for value in (2, 3)]
    assert batcher.queued == 2
    reader.gate.set()
    assert results([first, second, *rest]) == [0, 1, 2, 3]
    assert sorted(map(sorted, reader.batches[:2])) == [[0], [1]]


def test_nobody_waits_while_a_thread_is_idle(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(threads=2))
    speed_of(batcher, reader, columns_per_second=64)
    occupy(batcher, reader)
    assert batcher.expected_wait == 0.0
    submit(batcher, 1)
    assert reader.entered.acquire(timeout=20)
    assert batcher.expected_wait == pytest.approx(1.0)  # two seconds of work for two threads
    submit(batcher, 2)
    assert batcher.expected_wait == pytest.approx(1.5)


def test_one_stuck_thread_of_several_is_told(make: Make, reader: GatedReader, clock: Clock) -> None:
    batcher = make(BatchLimits(threads=3, hang_timeout=5))
    occupy(batcher, reader)
    assert batcher.alive
    clock.now += 6
    assert not batcher.alive


def test_a_lost_device_ends_every_thread(make: Make, reader: GatedReader) -> None:
    reader.error, reader.poison = SystemExit(), {1}
    told: list[BaseException] = []
    batcher = make(BatchLimits(threads=3), on_broken=told.append)
    fine = occupy(batcher, reader)
    bad = submit(batcher, 1)
    assert reader.entered.acquire(timeout=20)
    reader.gate.set()
    with pytest.raises(BatcherFailed):
        bad.result(20)
    assert fine.result(20).reading == 0, "another thread's batch is not harmed"
    assert batcher.join(20)
    assert told == [reader.error]


def test_each_image_takes_its_wish_on_decoding_along(make: Make, reader: GatedReader) -> None:
    batcher = make()
    first = submit(batcher, 0)
    assert reader.entered.acquire(timeout=20)
    with batcher.admit(3, 10, FAR) as ticket:
        futures = [ticket.submit(image(value), wish) for value, wish in ((1, "a"), (2, None), (3, "c"))]
        reader.gate.set()
        assert [future.result(20).reading for future in futures] == [1, 2, 3]
    assert first.result(20).reading == 0
    assert reader.decodings == [[None], ["a", None, "c"]]
