"""The order in which the lines of a page are read."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

from linewise.model.page.geometry import Quad
from linewise.model.page.reading_order import reading_order


def line(left: float, top: float, width: float, height: float = 20) -> Quad:
    right, bottom = left + width, top + height
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def turned(quads: list[Quad], degrees: float) -> list[Quad]:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32)
    return [np.asarray(quad @ turn.T, np.float32) for quad in quads]


def flat(quads: list[Quad]) -> list[int]:
    return list(itertools.chain.from_iterable(reading_order(quads)))


COLUMN = [line(50, 40 + 30 * i, 400) for i in range(8)]


def test_nothing_has_no_order() -> None:
    assert reading_order([]) == []


def test_lines_are_read_from_the_top_whatever_their_order_was() -> None:
    shuffled = list(range(8))
    Random(3).shuffle(shuffled)
    assert [shuffled[i] for i in flat([COLUMN[i] for i in shuffled])] == list(range(8))


@pytest.mark.parametrize("degrees", [-6, -2, 2, 6])
def test_cells_side_by_side_are_a_row_on_a_skewed_receipt_too(degrees: float) -> None:
    receipt = [q for i in range(6) for q in (line(20, 30 * i, 150), line(420, 30 * i + 3, 60), line(520, 30 * i, 70))]
    assert reading_order(turned(receipt, degrees)) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(6)]


def test_a_name_and_its_price_are_a_row_though_a_gap_runs_down_the_page() -> None:
    receipt = [line(20, 30 * i, 130 + 10 * (i % 3)) for i in range(8)] + [line(400, 30 * i, 60) for i in range(8)]
    assert reading_order(receipt) == [[i, i + 8] for i in range(8)]


@pytest.mark.parametrize("degrees", [0, 3])
def test_columns_of_prose_are_read_one_after_the_other(degrees: float) -> None:
    left = [line(20, 100 + 30 * i, 300) for i in range(10)]
    right = [line(360, 100 + 30 * i, 300) for i in range(10)]
    mixed = [quad for pair in zip(left, right, strict=True) for quad in pair]
    assert flat(turned(mixed, degrees)) == [*range(0, 20, 2), *range(1, 20, 2)]


def test_a_heading_over_columns_comes_first_and_one_between_them_parts_them() -> None:
    def columns(top: float) -> list[Quad]:
        return [line(x, top + 30 * i, 300) for x in (20, 360) for i in range(5)]

    quads = [line(100, 20, 500, 40), *columns(100), line(60, 280, 560, 30), *columns(340)]
    assert flat(quads) == list(range(22))


def test_a_first_line_that_is_indented_does_not_make_a_column() -> None:
    quads = [line(50 + 40 * (i % 4 == 0), 40 + 30 * i, 400 - 40 * (i % 4 == 0)) for i in range(12)]
    assert reading_order(quads) == [[i] for i in range(12)]
