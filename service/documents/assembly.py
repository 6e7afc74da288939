"""Conversion of the model's readings to pages of the document model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from linewise.service.documents.image import UprightImage
from linewise.service.documents.layout import Alternative, Character, Line, Mode, Page, Polygon, probability

if TYPE_CHECKING:  # importing the model takes seconds
    from linewise import model


def page_from_line(
    image: UprightImage,
    turn: int,
    reading: model.Reading,
    *,
    min_confidence: float = 0.0,
    with_characters: bool = True,
) -> Page:
    """Build the page of an image that was read as one line.

    ``turn`` is the clockwise rotation in degrees that was applied after decoding. A text whose confidence is below
    ``min_confidence`` is withheld.
    """
    withheld = reading.confidence < min_confidence
    right, bottom = map(float, _upright_size(image, turn))
    characters: list[Character] = []
    if with_characters and not withheld:
        for character in reading.characters:  # the model knows the horizontal span; the line gives the height
            start = round(min(max(0.0, character.start * image.scale), right), 1)
            end = round(min(max(start, character.end * image.scale), right), 1)
            polygon = (start, 0.0), (end, 0.0), (end, bottom), (start, bottom)
            characters.append(Character(character.text, probability(character.confidence), polygon))
    outline = (0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom)
    line = _line(reading, outline, characters, withheld=withheld)
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
    with_characters: bool = True,
) -> Page:
    """Build the page of an image whose lines were detected and read; parameters as in ``page_from_line``."""
    lines = []
    for page_line in reading.lines:
        line_reading = page_line.reading
        withheld = line_reading.confidence < min_confidence
        characters: list[Character] = []
        if with_characters and not withheld:
            characters = [
                Character(
                    character.text, probability(character.confidence), _polygon(page_line.place(character), image.scale)
                )
                for character in line_reading.characters
            ]
        outline = _polygon(np.roll(page_line.quad, line_reading.turn // 90, 0), image.scale)
        lines.append(_line(line_reading, outline, characters, withheld=withheld, row=page_line.row))
    warnings = [] if lines else ["no_text"]
    if any(not line.text for line in lines):
        warnings.append("low_confidence")
    return _page(image, turn, "page", lines, warnings)


def _line(
    reading: model.Reading, polygon: Polygon, characters: Iterable[Character], *, withheld: bool, row: int = 0
) -> Line:
    alternatives = () if withheld else reading.alternatives
    return Line(
        text="" if withheld else reading.text,
        confidence=probability(reading.confidence),
        confidence_min=probability(reading.confidence_min),
        polygon=polygon,
        row=row,
        turn=reading.turn,
        characters=tuple(characters),
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


def _polygon(quad: npt.NDArray[np.float32], scale: float) -> Polygon:
    """Corners of shape ``(4, 2)`` in pixels of the decoded image, as a polygon in pixels of the original."""
    a, b, c, d = [(round(x * scale, 1), round(y * scale, 1)) for x, y in quad.tolist()]
    return a, b, c, d
