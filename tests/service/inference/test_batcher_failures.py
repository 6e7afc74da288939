"""Failing images, readers and devices; cancelled and expired jobs."""

from __future__ import annotations

from concurrent.futures import wait

import pytest

from linewise.service.inference.queue import BatchLimits
from linewise.service.inference.results import (
    BatcherFailed,
    Expired,
)
from tests.service.inference.gated import (
    FAR,
    Clock,
    GatedReader,
    Make,
    Recorder,
    image,
    occupy,
    results,
    submit,
)


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
    reader.max_images = 2
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
