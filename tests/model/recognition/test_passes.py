"""Grouping of images into passes of one width."""

from __future__ import annotations

import numpy as np
import pytest

from linewise.model import Reader
from linewise.model.recognition.passes import PassLimits, Window, pass_sizes, plan_passes
from tests.model.conftest import BAR, bars


def test_a_batch_larger_than_one_pass_is_read_whole(bar_reader: Reader) -> None:
    bar_reader._limits = PassLimits(3 * 32 * 112, 3 * 32 * 112, powers_of_two=False)
    counts = [4, 5, 6, 4, 5, 6, 5]
    readings = bar_reader.read([bars(112, dict.fromkeys(range(8, 8 + 16 * n, 16), BAR)) for n in counts])
    assert [r.text for r in readings] == [BAR * count for count in counts]


def test_the_width_bucket_is_the_width_that_is_computed(talkative: Reader) -> None:
    assert talkative.width_bucket(64, 200) == 112
    assert talkative.width_bucket(32, 9001) == 9004
    assert talkative.width_bucket(200, 64) == 112


@pytest.mark.parametrize("largest", [0, 1, 5, 64, 10_000])
def test_passes_hold_every_image_once_in_few_sizes(largest: int) -> None:
    all_sizes: set[int] = set()
    for count in range(200):
        sizes = pass_sizes(count, largest, powers_of_two=True)
        assert sum(sizes) == count
        assert all(1 <= size <= max(1, largest) for size in sizes)
        assert len(sizes) <= count // max(1, largest) * 2 + max(1, largest).bit_length()
        all_sizes.update(sizes)
        as_few_as_possible = pass_sizes(count, largest, powers_of_two=False)
        assert sum(as_few_as_possible) == count and max(as_few_as_possible, default=0) <= max(1, largest)
        assert len(as_few_as_possible) == -(-count // max(1, largest))
    assert len(all_sizes) <= 10
    assert all(size.bit_count() == 1 for size in all_sizes)


def test_rounds_keep_to_their_limits_and_hold_every_window_once() -> None:
    widths = [64, 32, 64, 2048, 32, 64, 64, 32, 64]
    windows = [Window(i, 0, np.zeros((32, width, 2), np.uint8), width) for i, width in enumerate(widths)]
    limits = PassLimits(2 * 32 * 64, 4 * 32 * 64, powers_of_two=True)
    rounds = list(plan_passes(windows, limits))
    planned = [batch for passes in rounds for batch in passes]
    assert sorted(window.image for batch in planned for window in batch) == list(range(len(widths)))
    assert all(len({window.pixels.shape for window in batch}) == 1 for batch in planned)
    pixels = [
        [32 * window.pixels.shape[1] * len(batch) for batch in passes for window in batch[:1]] for passes in rounds
    ]
    assert all(sum(sizes) <= limits.round_pixels or len(sizes) == 1 for sizes in pixels)
    assert all(size <= limits.pass_pixels for sizes in pixels for size in sizes if size != 32 * 2048)
    assert [batch[0].pixels.shape[1] for batch in planned] == [32, 32, 64, 64, 64, 2048]
    assert not list(plan_passes([], limits))
