"""Sizes and kernels of lines, their crops out of a page, and boxes of a crop on the page."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model.page.geometry import Quad, boxes_on_page, crop_line, kernel_quad, quad_size
from tests.model.page.conftest import rectangle


def test_a_kernel_is_the_line_without_its_rim() -> None:
    width, height = quad_size(kernel_quad(rectangle((200, 100), 300, 40, 20)))
    assert (width, height) == pytest.approx((300 - 2 * 0.28 * 40, 40 * (1 - 2 * 0.28)), abs=0.01)


def page_with_bar(degrees: float) -> tuple[NDArray[np.uint8], Quad]:
    """A white page with a black bar, and a white spot in the bar's left end."""
    page = np.full((300, 400), 255, np.uint8)
    quad = rectangle((200, 150), 200, 40, degrees)
    cv2.fillConvexPoly(page, np.asarray(quad, np.int32), 0)
    inner = quad[0] + (quad[1] - quad[0]) * 0.1 + (quad[3] - quad[0]) * 0.5
    cv2.circle(page, (round(float(inner[0])), round(float(inner[1]))), 8, 255, -1)
    return page, quad


@pytest.mark.parametrize("degrees", [0, 7, -20, 80])
def test_the_crop_of_a_line_is_upright_and_begins_at_its_left(degrees: float) -> None:
    page, quad = page_with_bar(degrees)
    crop = crop_line(page, quad)
    assert abs(crop.shape[0] - 52) <= 2 and abs(crop.shape[1] - 212) <= 2
    inside = crop[10:-10, 10:-10]
    assert inside[:, :40].max() > 200  # the white spot
    assert inside[:, 60:].max() < 60


def test_colours_stay_and_a_line_over_the_edge_is_cut_there() -> None:
    page = np.zeros((60, 100, 3), np.uint8)
    page[..., 0] = 200
    crop = crop_line(page, rectangle((90, 30), 60, 20))
    assert crop.ndim == 3 and (crop[..., 0] == 200).all() and not crop[..., 1:].any()
    assert crop.size


@pytest.mark.parametrize("turn", [0, 90, 270])
@pytest.mark.parametrize("degrees", [0, 0.3, 7, -20, 80])
def test_a_box_in_the_crop_of_a_line_is_placed_where_it_is_on_the_page(degrees: float, turn: int) -> None:
    page = np.full((300, 400), 255, np.uint8)
    size = (200.0, 40.0) if turn == 0 else (40.0, 200.0)
    line = rectangle((200, 150), *size, degrees)
    mark = rectangle((190, 140), 16, 10, degrees)
    cv2.fillConvexPoly(page, np.asarray(mark, np.int32), 0)
    crop = np.rot90(crop_line(page, line), -turn // 90)
    left, top, width, height = cv2.boundingRect(np.asarray(crop < 128, np.uint8))
    (quad,) = boxes_on_page(line, np.array([[left, top, left + width, top + height]], float), turn)
    assert np.roll(quad, -turn // 90, 0) == pytest.approx(mark, abs=2)


def test_no_boxes_have_no_places() -> None:
    for degrees in (0, 7):
        assert boxes_on_page(rectangle((200, 150), 200, 40, degrees), np.empty((0, 4))).shape == (0, 4, 2)
