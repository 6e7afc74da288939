"""Document model: words of a line and their polygons."""

from __future__ import annotations

import numpy as np
import pytest

from linewise.model import Character, PageLine, PageReading, Reading
from linewise.service.documents.assembly import page_from_line, page_from_lines
from linewise.service.documents.image import UprightImage
from linewise.service.documents.layout import Document
from tests.service.formats.samples import boxes_in_pdf, pdf_of, picture, texts_of_pdf


def letters(text: str) -> tuple[Character, ...]:
    """Monospaced letters, each 8 pixels wide and 14 high, which begin 12 pixels apart."""
    return tuple(Character(c, 0.9 - 0.01 * i, 12.0 * i, 12.0 * i + 8, 3, 17) for i, c in enumerate(text))


def upright(scale: float = 1.0) -> UprightImage:
    return UprightImage(np.empty((0, 0), np.uint8), 400, 300, "PNG", 0, scale)


def test_words_lie_around_their_letters_in_pixels_of_the_original() -> None:
    page = page_from_line(
        upright(scale=2), 0, Reading("ab cde  f", 0.8, 0.7, letters("ab cde  f")), with_characters=False
    )
    words = page.lines[0].words
    assert [word.text for word in words] == ["ab", "cde", "f"]
    assert [(word.polygon[0][0], word.polygon[1][0]) for word in words] == [(0, 40), (72, 136), (192, 208)]
    assert {(word.polygon[0][1], word.polygon[2][1]) for word in words} == {(6, 34)}
    assert [word.confidence for word in words] == pytest.approx([0.89, 0.85, 0.82])  # of the weakest letter
    assert page.lines[0].characters == ()
    placed = page_from_line(upright(), 0, Reading("ab", 0.8, 0.7, letters("ab")))
    assert placed.lines[0].characters[1].polygon == ((12, 3), (20, 3), (20, 17), (12, 17))


def test_what_is_withheld_has_neither_words_nor_characters() -> None:
    reading = Reading("ab", 0.4, 0.4, letters("ab"))
    quad = np.array([[10, 20], [90, 20], [90, 40], [10, 40]], np.float32)
    line_page = page_from_line(upright(), 0, reading, min_confidence=0.5)
    lines_page = page_from_lines(upright(), 0, PageReading((PageLine(reading, quad, 0),)), min_confidence=0.5)
    for page in (line_page, lines_page):
        assert not page.lines[0].words and not page.lines[0].characters and page.text == ""


def test_a_line_on_its_side_begins_where_its_text_does() -> None:
    quad = np.array([[10, 20], [30, 20], [30, 140], [10, 140]], np.float32)  # of a line that is read from below
    # The crop has a margin of 3 pixels, so that the line begins there.
    characters = tuple(Character(letter, 0.9, 20.0 * i + 6, 20.0 * i + 20, 5, 20) for i, letter in enumerate("rising"))
    reading = Reading("rising", 0.9, 0.9, characters, turn=90)
    page = page_from_lines(upright(), 0, PageReading((PageLine(reading, quad, 0),)))
    assert page.lines[0].polygon == ((10, 140), (10, 20), (30, 20), (30, 140))
    pdf = pdf_of(Document((page,)), picture())
    assert texts_of_pdf(pdf) == ["rising"]
    middles = [(top + bottom) / 2 for _, _, top, _, bottom in boxes_in_pdf(pdf)]
    assert middles == pytest.approx([130 - 20 * i for i in range(6)], abs=6)
