"""Wide margins and gaps of drawn lines."""

from random import Random

import numpy as np

from linewise.model.network.charset import Charset
from linewise.model.synth import spacing
from linewise.model.synth.camera import Box
from linewise.model.synth.sources import corpus


def _plane() -> tuple[np.ndarray, Box]:
    plane = np.zeros((60, 160), np.uint8)
    plane[20:40, 30:130] = 255
    return plane, (30, 20, 130, 40)


def test_margins_add_paper_and_keep_the_ink_inside_the_box() -> None:
    widths, heights = set(), set()
    for seed in range(400):
        plane, box = _plane()
        wide, (left, top, right, bottom) = spacing.add_margins(Random(seed), plane, box)
        assert wide.shape[0] == plane.shape[0]
        assert int((wide > 0).sum()) == 20 * 100
        assert int((wide[max(0, top) : bottom, max(0, left) : right] > 0).sum()) == 20 * 100
        assert (right - left) / 20 <= spacing.MAX_WIDTH_HEIGHTS + 1
        widths.add(right - left)
        heights.add(bottom - top)
    assert len(widths) > 20 and max(widths) > 100 + 4 * 20
    assert len(heights) > 5 and max(heights) <= 40


def test_no_margin_is_added_where_other_ink_stands() -> None:
    for seed in range(200):
        plane, box = _plane()
        plane[:, 140:] = 255
        plane[:15] = 255
        wide, (_, top, right, _) = spacing.add_margins(Random(seed), plane, box)
        assert wide.shape[1] - right == 30 and top >= 15


def test_lines_with_gaps_read_with_single_spaces() -> None:
    charset = Charset()
    gaps = 0
    for seed in range(300):
        random = Random(seed)
        line = spacing.gap_line(random, lambda: "some words of a line", random.choice(("book", "typescript")))
        text = corpus.collapse_spaces(line)
        assert "  " not in text and text == text.strip() and not charset.unsupported(text)
        assert text.replace(" ", "") == line.replace(" ", "")
        gaps += "    " in line
    assert gaps > 150


def test_dust_is_fainter_than_letters() -> None:
    plane, _ = _plane()
    dusty = spacing.add_dust(Random(2), np.random.default_rng(2), plane, 20)
    assert (dusty >= plane).all() and (dusty[plane == 0] > 0).any()
    assert int(dusty[plane == 0].max()) < 160
