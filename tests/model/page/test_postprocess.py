"""Lines found in the maps of a detector without fault."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from linewise.model.page.geometry import Quad, quad_size
from linewise.model.page.postprocess import find_lines
from linewise.model.page.results import FoundLine
from linewise.model.train.detection.db_targets import DbTargets, db_targets
from tests.model.page.conftest import rectangle


def intersection_over_union(a: Quad, b: Quad) -> float:
    common, _ = cv2.intersectConvexConvex(a, b)
    return float(common / (cv2.contourArea(a) + cv2.contourArea(b) - common))


def lines_in(maps: DbTargets) -> list[FoundLine]:
    """The lines that a detector without fault leads to."""
    return find_lines(np.asarray(maps.kernel / 255, np.float32))


LINES = [
    rectangle((200, 60), 300, 24),
    rectangle((200, 92), 300, 24),  # a third of a height below the one before
    rectangle((420, 60), 90, 24),
    rectangle((300, 200), 400, 60, 8),
    rectangle((600, 250), 300, 30, 90),
    rectangle((100, 300), 120, 12),
]


def test_lines_come_back_from_their_kernels() -> None:
    maps = db_targets(LINES, 400, 800)
    quads = [line.quad for line in lines_in(maps)]
    assert len(quads) == len(LINES)
    for line in LINES:
        assert max(intersection_over_union(line, quad) for quad in quads) > 0.88


def test_a_detected_line_begins_where_its_text_begins() -> None:
    lines = lines_in(db_targets(LINES[3:5], 400, 800))
    tilted = min(lines, key=lambda line: float(line.quad.mean(0)[0])).quad
    assert tilted[0] == pytest.approx(LINES[3][0], abs=4)
    across = tilted[1] - tilted[0]
    assert np.degrees(np.arctan2(across[1], across[0])) == pytest.approx(8, abs=1.5)


def test_faint_cells_and_specks_are_no_lines() -> None:
    cells = np.zeros((100, 200), np.float32)
    cells[20:24, 20:80] = 0.4  # over the limit of a cell, below that of a line
    cells[60, 100] = 0.0
    assert find_lines(cells) == []
    cells[20:24, 20:80] = 0.9
    assert len(find_lines(cells)) == 1


def test_a_single_narrow_digit_is_detected() -> None:
    digit = rectangle((100, 100), 5, 24)
    (line,) = lines_in(db_targets([digit], 200, 200))
    width, height = quad_size(line.quad)
    assert line.quad.mean(0) == pytest.approx([100, 100], abs=1)
    assert 12 < width < 22 and height == pytest.approx(24, abs=3)
