"""Document model of recognised text: pages, lines, words and characters with their polygons.

Coordinates are pixels of the upright page, rounded to 0.1. Confidences are in [0, 1], rounded to 4 decimals. A polygon
is four corners, clockwise, starting at the top left corner of the text itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

Point = tuple[float, float]
Polygon = tuple[Point, Point, Point, Point]
Mode = Literal["line", "page"]

# Distance between baseline and lower edge, as a share of the line's height: room for descenders.
DESCENDER_RATIO = 0.2


@dataclass(frozen=True)
class Character:
    """One character of a line; its polygon fits the ink."""

    text: str
    confidence: float
    polygon: Polygon


@dataclass(frozen=True)
class Alternative:
    """Another candidate for the text of a whole line."""

    text: str
    confidence: float


@dataclass(frozen=True)
class Word:
    """Consecutive characters without whitespace; ``confidence`` is that of the weakest one."""

    text: str
    confidence: float
    polygon: Polygon


@dataclass(frozen=True)
class Line:
    """One line of text.

    ``row`` counts the rows of a page from 0; lines of one row stand side by side. ``turn`` is the clockwise rotation
    in degrees under which the line was read. ``words`` run from the start of the line to its end; they and
    ``characters`` are empty unless requested. Where the confidence is below the requested minimum, ``text`` is empty
    and there is nothing else.
    """

    text: str
    confidence: float
    confidence_min: float
    polygon: Polygon
    row: int = 0
    turn: int = 0
    words: tuple[Word, ...] = ()
    characters: tuple[Character, ...] = ()
    alternatives: tuple[Alternative, ...] = ()

    @property
    def baseline(self) -> tuple[Point, Point]:
        """Start and end of the line's baseline."""
        start, end, below_end, below_start = self.polygon
        return _interpolate(below_start, start, DESCENDER_RATIO), _interpolate(below_end, end, DESCENDER_RATIO)

    @property
    def page_polygon(self) -> Polygon:
        """The polygon, starting at the corner that is the top left one on the page."""
        first = self.turn // 90
        a, b, c, d = self.polygon[first:] + self.polygon[:first]
        return a, b, c, d


@dataclass(frozen=True)
class Page:
    """One page of a document, or one image of a line.

    ``width`` and ``height`` are pixels of the upright page. ``orientation_applied`` is the total clockwise rotation in
    degrees that made it upright, ``turn`` the part of it that follows from the text and not from the file's metadata.
    In mode ``line``, there is exactly one line, which covers the whole page.
    """

    width: int
    height: int
    format: str
    orientation_applied: int
    turn: int
    mode: Mode
    lines: tuple[Line, ...]
    warnings: tuple[str, ...] = ()

    @property
    def rows(self) -> list[list[Line]]:
        """Lines that have text, row by row in reading order, each row from left to right."""
        return [list(row) for _, row in groupby((line for line in self.lines if line.text), key=lambda line: line.row)]

    @property
    def text(self) -> str:
        """Text of the rows, in reading order, joined by newlines; the cells of a row are joined by tabs."""
        return "\n".join("\t".join(line.text for line in row) for row in self.rows)

    @property
    def confidence(self) -> float:
        """Mean confidence of the lines; 0 without lines."""
        return _mean_confidence(self.lines)

    @property
    def confidence_min(self) -> float:
        """Confidence of the weakest character; 0 without lines."""
        return min((line.confidence_min for line in self.lines), default=0.0)

    @property
    def unturned_size(self) -> tuple[int, int]:
        """Width and height in pixels before ``turn``."""
        return (self.width, self.height) if self.turn % 180 == 0 else (self.height, self.width)

    @property
    def printed_lines(self) -> list[Line]:
        """Lines that contain at least one word; requires words."""
        return [line for line in self.lines if line.words]


@dataclass(frozen=True)
class Document:
    """The pages of one file, in order; there is at least one."""

    pages: tuple[Page, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """Lines of all pages."""
        return tuple(line for page in self.pages for line in page.lines)

    @property
    def text(self) -> str:
        """Text of the pages, joined by newlines."""
        return "\n".join(page.text for page in self.pages if page.text)

    @property
    def confidence(self) -> float:
        """Mean confidence of all lines; 0 without lines."""
        return _mean_confidence(self.lines)

    @property
    def confidence_min(self) -> float:
        """Confidence of the weakest character; 0 without lines."""
        return min((line.confidence_min for line in self.lines), default=0.0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the document as a whole."""
        if len(self.pages) == 1:
            return self.pages[0].warnings
        if not self.lines:
            return ("no_text",)
        return tuple(sorted({warning for page in self.pages for warning in page.warnings} - {"no_text"}))


def bounding_box(polygon: Sequence[Point], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the axis-aligned box around ``polygon``, in whole pixels within the page."""
    xs, ys = zip(*polygon, strict=True)
    left, right = (min(max(0, round(x)), width) for x in (min(xs), max(xs)))
    top, bottom = (min(max(0, round(y)), height) for y in (min(ys), max(ys)))
    return left, top, right, bottom


def probability(value: float) -> float:
    """Clip a probability to [0, 1] and round it to 4 decimals."""
    return round(min(1.0, max(0.0, value)), 4)


def _mean_confidence(lines: Sequence[Line]) -> float:
    return probability(sum(line.confidence for line in lines) / max(1, len(lines)))


def _interpolate(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
