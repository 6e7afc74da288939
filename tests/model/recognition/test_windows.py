"""Over-long lines: their windows, and the seams of the logits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from linewise.model import Reader
from linewise.model.network.config import ModelConfig
from linewise.model.recognition.passes import WINDOW_OVERLAP_PX, PassLimits, cut_windows, stitch_logits
from tests.model.conftest import row_of

CONFIG = ModelConfig(stretch=1.0)


def test_windows_cover_a_long_line_and_overlap() -> None:
    width = 5000
    image = np.tile(np.arange(width) % 251, (32, 1)).astype(np.uint8)
    windows = cut_windows(CONFIG, 7, image)
    longest = CONFIG.widths[-1]
    assert windows[0].start == 0 and windows[-1].start == width - longest
    for window, following in itertools.pairwise(windows):
        assert following.start - window.start <= longest - WINDOW_OVERLAP_PX
        assert np.array_equal(window.pixels, image[:, window.start : window.start + longest])
    assert all(window.pixels.shape == (32, longest) and window.start % 4 == 0 for window in windows)
    assert all(window.image == 7 and not window.holds_whole_line for window in windows)
    assert [window.ends_line for window in windows] == [False] * (len(windows) - 1) + [True]


def test_a_line_within_the_ladder_is_one_window() -> None:
    image = np.zeros((32, CONFIG.widths[-1]), np.uint8)
    (window,) = cut_windows(CONFIG, 0, image)
    assert window.start == 0 and window.holds_whole_line and window.ends_line


@pytest.mark.parametrize("count", [150, 300, 900])
@pytest.mark.parametrize("limit", [1, 32 * 2048 * 3, 32 * 2048 * 50])
def test_every_character_of_a_long_line_is_read_once(bar_reader: Reader, count: int, limit: int) -> None:
    bar_reader._limits = PassLimits(limit, limit)
    readings = bar_reader.read([row_of(count), row_of(3), row_of(count + 1)])
    assert [len(r.text) for r in readings] == [count, 3, count + 1]


def test_characters_of_a_long_line_lie_where_they_are(bar_reader: Reader) -> None:
    image = row_of(300)
    (reading,) = bar_reader.read([image])
    starts = np.array([c.start for c in reading.characters])
    assert np.abs(starts - (8 + 16 * np.arange(300))).max() <= 4


def test_parts_are_joined_in_the_middle_of_their_overlap() -> None:
    parts = [(start, np.full((10, 1), float(start), np.float32)) for start in (0, 6, 12, 13)]
    assert stitch_logits(parts)[:, 0].tolist() == [0.0] * 8 + [6.0] * 6 + [12.0] * 3 + [13.0] * 6


def test_one_part_is_the_whole() -> None:
    logits = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    assert np.array_equal(stitch_logits([(0, logits)]), logits)
