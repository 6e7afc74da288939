"""Conversion of the model's readings to pages of the document model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from linewise.service.documents.image import UprightImage
from linewise.service.documents.layout import Alternative, Character, Line, Mode, Page, Polygon, Word, probability

if TYPE_CHECKING:  # importing the model takes seconds
    from linewise import model


def page_from_line(
    image: UprightImage,
    turn: int,
    reading: model.Reading,
    *,
    min_confidence: float = 0.0,
    with_words: bool = True,
    with_characters: bool = True,
) -> Page:
    """Build the page of an image that was read as one line.

    ``turn`` is the clockwise rotation in degrees that was applied after decoding. A text whose confidence is below
    ``min_confidence`` is withheld.
    """
    withheld = reading.confidence < min_confidence
    right, bottom = map(float, _upright_size(image, turn))
    outline = (0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)
    line = _line(reading, outline, withheld=withheld)
    if with_words and not withheld:
        line = replace(line, words=_words(reading.words, image, turn))
    if with_characters and not withheld:
        corners = [
            ((c.start, c.top), (c.end, c.top), (c.end, c.bottom), (c.start, c.bottom)) for c in reading.characters
        ]
        line = replace(line, characters=_characters(reading, corners, image, turn))
    warnings = [] if reading.text else ["no_text"]
    if withheld:
        warnings.append("low_confidence")
    return _page(image, turn, "line", (line,), warnings)


def page_from_lines(
    image: UprightImage,
    turn: int,
    reading: model.PageReading,
    *,
    min_confidence: float = 0.0,
    with_words: bool = True,
    with_characters: bool = True,
) -> Page:
    """Build the page of an image whose lines were detected and read; parameters as in ``page_from_line``."""
    lines = []
    for page_line in reading.lines:
        line_reading = page_line.reading
        withheld = line_reading.confidence < min_confidence
        outline = _polygon(np.roll(page_line.quad, line_reading.turn // 90, 0).tolist(), image.scale)
        line = _line(line_reading, outline, withheld=withheld, row=page_line.row)
        if with_words and not withheld:
            line = replace(line, words=_words(page_line.words, image, turn))
        if with_characters and not withheld:
            corners = page_line.place_all(line_reading.characters).tolist()
            line = replace(line, characters=_characters(line_reading, corners, image, turn))
        lines.append(line)
    warnings = [] if lines else ["no_text"]
    if any(not line.text for line in lines):
        warnings.append("low_confidence")
    return _page(image, turn, "page", lines, warnings)


def _words(words: Iterable[model.Word], image: UprightImage, turn: int) -> tuple[Word, ...]:
    size = _upright_size(image, turn)
    return tuple(
        Word(word.text, probability(word.confidence), _within(_polygon(word.polygon, image.scale), size))
        for word in words
    )


def _characters(
    reading: model.Reading, corners: Iterable[Sequence[Sequence[float]]], image: UprightImage, turn: int
) -> tuple[Character, ...]:
    size = _upright_size(image, turn)
    return tuple(
        Character(character.text, probability(character.confidence), _within(_polygon(polygon, image.scale), size))
        for character, polygon in zip(reading.characters, corners, strict=True)
    )


def _line(reading: model.Reading, polygon: Polygon, *, withheld: bool, row: int = 0) -> Line:
    alternatives = () if withheld else reading.alternatives
    return Line(
        text="" if withheld else reading.text,
        confidence=probability(reading.confidence),
        confidence_min=probability(reading.confidence_min),
        polygon=polygon,
        row=row,
        turn=reading.turn,
        alternatives=tuple(Alternative(other.text, probability(other.confidence)) for other in alternatives),
    )


def _page(image: UprightImage, turn: int, mode: Mode, lines: Iterable[Line], warnings: Iterable[str]) -> Page:
    width, height = _upright_size(image, turn)
    return Page(
        width=width,
        height=height,
        format=image.format,
        orientation_applied=(image.orientation_applied + turn) % 360,
        turn=turn,
        mode=mode,
        lines=tuple(lines),
        warnings=tuple(warnings),
    )


def _upright_size(image: UprightImage, turn: int) -> tuple[int, int]:
    """Width and height in pixels after ``turn``."""
    return (image.width, image.height) if turn % 180 == 0 else (image.height, image.width)


def _polygon(corners: Sequence[Sequence[float]], scale: float) -> Polygon:
    """Four corners in pixels of the decoded image, as a polygon in pixels of the original."""
    a, b, c, d = [(round(x * scale, 1), round(y * scale, 1)) for x, y in corners]
    return a, b, c, d


def _within(polygon: Polygon, size: tuple[int, int]) -> Polygon:
    """The polygon with corners outside of a page of this width and height moved to its rim."""
    right, bottom = map(float, size)
    a, b, c, d = ((min(max(x, 0.0), right), min(max(y, 0.0), bottom)) for x, y in polygon)
    return a, b, c, d
