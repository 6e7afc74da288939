"""From a map to quadrangles and back, and a line's picture out of a page."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model.page.postprocess import FoundLine, Quad, find, kernel, picture, size, span
from linewise.model.train.db_targets import Targets, targets


def rectangle(centre: tuple[float, float], width: float, height: float, degrees: float = 0.0) -> Quad:
    angle = np.deg2rad(degrees)
    across, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return np.array([centre + x * width / 2 * across + y * height / 2 * down for x, y in corners], np.float32)


def share(one: Quad, other: Quad) -> float:
    common, _ = cv2.intersectConvexConvex(one, other)
    return float(common / (cv2.contourArea(one) + cv2.contourArea(other) - common))


def found_in(maps: Targets) -> list[FoundLine]:
    """The lines that a detector without fault would let us find."""
    return find(np.asarray(maps.kernel / 255, np.float32))


LINES = [
    rectangle((200, 60), 300, 24),
    rectangle((200, 92), 300, 24),  # a third of a height below the one before
    rectangle((420, 60), 90, 24),
    rectangle((300, 200), 400, 60, 8),
    rectangle((600, 250), 300, 30, 90),
    rectangle((100, 300), 120, 12),
]


def test_lines_come_back_from_their_kernels() -> None:
    wanted = targets(LINES, 400, 800)
    found = [one.quad for one in found_in(wanted)]
    assert len(found) == len(LINES)
    for line in LINES:
        assert max(share(line, quad) for quad in found) > 0.88


def test_what_was_found_begins_where_a_reader_begins() -> None:
    found = found_in(targets(LINES[3:5], 400, 800))
    tilted = min(found, key=lambda one: float(one.quad.mean(0)[0])).quad
    assert tilted[0] == pytest.approx(LINES[3][0], abs=4)
    across = tilted[1] - tilted[0]
    assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(8, abs=1.5)


def test_faint_cells_and_specks_are_no_lines() -> None:
    cells = np.zeros((100, 200), np.float32)
    cells[20:24, 20:80] = 0.4  # over the limit of a cell, below that of a line
    cells[60, 100] = 0.0
    assert find(cells) == []
    cells[20:24, 20:80] = 0.9
    assert len(find(cells)) == 1


def test_a_kernel_is_the_line_without_its_rim() -> None:
    width, height = size(kernel(rectangle((200, 100), 300, 40, 20)))
    assert (width, height) == pytest.approx((300 - 2 * 0.28 * 40, 40 * (1 - 2 * 0.28)), abs=0.01)


def test_a_figure_by_itself_is_found_though_it_is_narrow() -> None:
    figure = rectangle((100, 100), 5, 24)
    (found,) = found_in(targets([figure], 200, 200))
    width, height = size(found.quad)
    assert found.quad.mean(0) == pytest.approx([100, 100], abs=1)
    assert 12 < width < 22 and height == pytest.approx(24, abs=3)


def test_a_line_too_small_to_be_read_counts_neither_way() -> None:
    maps = targets([rectangle((100, 100), 80, 5)], 200, 200)
    assert maps.kernel.max() == 0
    assert maps.counts[25, 25] == 0 and maps.counts[0, 0] == 255


def test_the_threshold_is_highest_on_the_rim() -> None:
    maps = targets([rectangle((200, 100), 300, 40)], 200, 400)
    rim, far, middle = maps.border[20, 50], maps.border[5, 50], maps.border[25, 50]
    assert rim > 160 and far == 76 and middle < rim
    assert maps.near[20, 50] == 255 and maps.near[5, 50] == 0


def page_with_bar(degrees: float) -> tuple[NDArray[np.uint8], Quad]:
    """A white page with a black bar, and a white spot in the bar's left end."""
    page = np.full((300, 400), 255, np.uint8)
    quad = rectangle((200, 150), 200, 40, degrees)
    cv2.fillConvexPoly(page, np.asarray(quad, np.int32), 0)
    inner = quad[0] + (quad[1] - quad[0]) * 0.1 + (quad[3] - quad[0]) * 0.5
    cv2.circle(page, (round(float(inner[0])), round(float(inner[1]))), 8, 255, -1)
    return page, quad


@pytest.mark.parametrize("degrees", [0, 7, -20, 80])
def test_the_picture_of_a_line_is_upright_and_begins_at_its_left(degrees: float) -> None:
    page, quad = page_with_bar(degrees)
    cut = picture(page, quad)
    assert abs(cut.shape[0] - 52) <= 2 and abs(cut.shape[1] - 212) <= 2
    inside = cut[10:-10, 10:-10]
    assert inside[:, :40].max() > 200  # the white spot
    assert inside[:, 60:].max() < 60


def test_colours_stay_and_a_line_over_the_edge_is_cut_there() -> None:
    page = np.zeros((60, 100, 3), np.uint8)
    page[..., 0] = 200
    cut = picture(page, rectangle((90, 30), 60, 20))
    assert cut.ndim == 3 and (cut[..., 0] == 200).all() and not cut[..., 1:].any()
    assert cut.size


def test_a_character_lies_in_its_place_along_the_line() -> None:
    quad = rectangle((200, 100), 200, 40)
    picture_of_it = picture(np.zeros((200, 400), np.uint8), quad)
    margin = (picture_of_it.shape[1] - 200) / 2
    begin, end = margin + 50, margin + 100
    found = span(quad, begin, end)
    assert found[:, 0] == pytest.approx([150, 200, 200, 150], abs=2)
    assert found[:, 1] == pytest.approx([80, 80, 120, 120], abs=0.1)
    # Read after a quarter turn clockwise, a line runs from the bottom of the page to its top.
    standing = rectangle((100, 200), 40, 200)
    first = span(standing, 0, 50, 90)
    assert first[:, 1].max() == pytest.approx(300, abs=0.1) and first[:, 1].min() == pytest.approx(256, abs=1)
    assert span(standing, 0, 50, 270)[:, 1].min() == pytest.approx(100, abs=0.1)
