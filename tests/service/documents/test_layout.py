"""Document model: words of a line and their polygons."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from linewise.model import Character, PageLine, PageReading, Reading
from linewise.service.documents.assembly import page_from_lines
from linewise.service.documents.image import UprightImage
from linewise.service.documents.layout import Document
from tests.service.formats.samples import boxes_in_pdf, document_of, line_of, pdf_of, picture, texts_of_pdf


def test_words_reach_over_their_letters_and_not_over_their_neighbours() -> None:
    (page,) = document_of([line_of("ab cde  f")]).pages
    words = page.lines[0].words
    assert [word.text for word in words] == ["ab", "cde", "f"]
    for word, (first, last) in zip(words, [(0, 2), (3, 6), (8, 9)], strict=True):
        left, right = word.polygon[0][0], word.polygon[1][0]
        assert 20 + 12 * (first - 0.5) <= left <= 20 + 12 * (first + 0.1)
        assert 20 + 12 * (last - 0.1) <= right <= 20 + 12 * (last + 0.5)
    for before, after in pairwise(words):
        assert before.polygon[1][0] < after.polygon[0][0]
    assert [word.confidence for word in words] == pytest.approx([0.89, 0.85, 0.82])  # of the weakest letter


def test_a_lone_letter_has_a_place() -> None:
    (page,) = document_of([line_of("x")]).pages
    (left, top), (right, _), (_, bottom), _ = page.lines[0].words[0].polygon
    assert (left, top, right, bottom) == pytest.approx((20, 30, 32, 54))


def test_a_line_on_its_side_begins_where_its_text_does() -> None:
    quad = np.array([[10, 20], [30, 20], [30, 140], [10, 140]], np.float32)  # of a line that is read from below
    letters = tuple(Character(letter, 0.9, 20.0 * i + 12, 20.0 * i + 14) for i, letter in enumerate("rising"))
    reading = Reading("rising", 0.9, 0.9, letters, turn=90)
    upright = UprightImage(np.empty((0, 0), np.uint8), 400, 300, "PNG", 0, 1.0)
    page = page_from_lines(upright, 0, PageReading((PageLine(reading, quad, 0),)))
    assert page.lines[0].polygon == ((10, 140), (10, 20), (30, 20), (30, 140))
    pdf = pdf_of(Document((page,)), picture())
    assert texts_of_pdf(pdf) == ["rising"]
    middles = [(top + bottom) / 2 for _, _, top, _, bottom in boxes_in_pdf(pdf)]
    assert middles == pytest.approx([130 - 20 * i for i in range(6)], abs=6)
