"""Sizes, kernels and spans of lines, and their crops out of a page."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model.page.geometry import Quad, crop_line, kernel_quad, quad_size, span_quad
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


def test_a_character_lies_in_its_place_along_the_line() -> None:
    quad = rectangle((200, 100), 200, 40)
    crop = crop_line(np.zeros((200, 400), np.uint8), quad)
    margin = (crop.shape[1] - 200) / 2
    begin, end = margin + 50, margin + 100
    span = span_quad(quad, begin, end)
    assert span[:, 0] == pytest.approx([150, 200, 200, 150], abs=2)
    assert span[:, 1] == pytest.approx([80, 80, 120, 120], abs=0.1)
    # Read after a quarter turn clockwise, a line runs from the bottom of the page to its top.
    standing = rectangle((100, 200), 40, 200)
    first = span_quad(standing, 0, 50, 90)
    assert first[:, 1].max() == pytest.approx(300, abs=0.1) and first[:, 1].min() == pytest.approx(256, abs=1)
    assert span_quad(standing, 0, 50, 270)[:, 1].min() == pytest.approx(100, abs=0.1)
