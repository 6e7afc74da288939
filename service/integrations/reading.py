"""Interface between the integrations and recognition, which runs in this process or in a service.

Imports are few, since the tesseract command starts once for each image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from linewise.service.documents.layout import Document, Page, Polygon


class ReadingError(Exception):
    """An image that cannot be read, or a service that does not answer; the message is one line."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file.

    ``charset`` are the only characters allowed, ``charset_exclude`` characters that are not, ``lexicon`` the only
    words. ``pages`` are numbers of pages that the file has, from 0; None is all pages.
    ``with_characters`` adds the characters of each line to its words.
    """

    mode: Literal["line", "page", "auto"] = "auto"
    charset: str | None = None
    charset_exclude: str = ""
    lexicon: tuple[str, ...] | None = None
    pages: Sequence[int] | None = None
    with_characters: bool = False


@dataclass(frozen=True)
class Orientation:
    """How a page lies; all is 0 for a page without text.

    ``turn`` is the clockwise rotation in degrees that makes it upright, ``confidence`` the mean one of its text in
    [0, 1], ``skew`` the angle in degrees by which the upright lines fall to the right.
    """

    turn: int
    confidence: float
    skew: float = 0.0


class DocumentReader(Protocol):
    """Interface of recognition for the integrations; usable from several threads."""

    def read(self, data: bytes, options: ReadOptions) -> Document:
        """Read the bytes of an image, TIFF or PDF; the document has words. Raises ``ReadingError``."""

    def orientation(self, data: bytes) -> Orientation:
        """Find out how the first page of a file lies, from its text. Raises ``ReadingError``."""

    def check(self) -> None:
        """Raise ``ReadingError`` if the service is away."""


def orientation_of(page: Page) -> Orientation:
    """Return how a page lies, by its lines; the skew is the median, weighted by the lengths of the lines."""
    if not page.lines:
        return Orientation(0, 0.0)
    slopes = []
    for line in page.lines:
        (x, y), (end_x, end_y) = line.baseline
        slopes.append((math.degrees(math.atan2(end_y - y, end_x - x)), math.hypot(end_x - x, end_y - y)))
    slopes.sort()
    left = sum(length for _, length in slopes) / 2
    skew = 0.0
    for angle, length in slopes:
        skew, left = angle, left - length
        if left <= 0:
            break
    return Orientation(page.orientation_applied, page.confidence, skew)


def as_stored(page: Page) -> Page:
    """Return a page with its places in pixels of the image as the file stores it, before it was made upright."""
    turn = page.orientation_applied % 360
    if turn == 0:
        return page
    width, height = (page.width, page.height) if turn == 180 else (page.height, page.width)

    def place(polygon: Polygon) -> Polygon:
        if turn == 180:
            a, b, c, d = ((width - x, height - y) for x, y in polygon)
        elif turn == 90:
            a, b, c, d = ((y, height - x) for x, y in polygon)
        else:
            a, b, c, d = ((width - y, x) for x, y in polygon)
        return a, b, c, d

    lines = [
        replace(
            line,
            polygon=place(line.polygon),
            words=tuple(replace(word, polygon=place(word.polygon)) for word in line.words),
            characters=tuple(replace(character, polygon=place(character.polygon)) for character in line.characters),
        )
        for line in page.lines
    ]
    return replace(page, width=width, height=height, orientation_applied=0, turn=0, lines=tuple(lines))
