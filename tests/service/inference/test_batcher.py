"""Batches: composition, order and threads."""

from __future__ import annotations

import gc
import weakref

from linewise.service.inference.queue import BatchLimits
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


def test_a_batch_holds_one_bucket_only(make: Make, reader: GatedReader) -> None:
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


def test_a_small_batch_takes_in_jobs_of_neighbouring_buckets(make: Make, reader: GatedReader) -> None:
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


def test_the_bucket_of_the_earliest_deadline_goes_first_and_the_earliest_in_it(make: Make, reader: GatedReader) -> None:
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


def test_an_idle_device_waits_for_company_only_when_told_to(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(linger=20.0, max_items=3))
    reader.gate.set()
    assert results([submit(batcher, value) for value in (1, 2, 3)]) == [1, 2, 3]
    assert reader.batches == [[1, 2, 3]]


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


def test_as_many_batches_are_read_at_once_as_there_are_threads(make: Make, reader: GatedReader) -> None:
    batcher = make(BatchLimits(threads=2))
    first, second = occupy(batcher, reader), submit(batcher, 1)
    assert reader.entered.acquire(timeout=20), "the second thread does not wait for the first"
    rest = [submit(batcher, value) for value in (2, 3)]
    assert batcher.queued == 2
    reader.gate.set()
    assert results([first, second, *rest]) == [0, 1, 2, 3]
    assert sorted(map(sorted, reader.batches[:2])) == [[0], [1]]


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
