"""Results of page reading: detected lines, read lines, and the whole page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from linewise.model.page.geometry import Quad, boxes_on_page
from linewise.model.recognition.results import Character, Reading, Word


@dataclass(frozen=True)
class FoundLine:
    """A detected line: corners `(4, 2)` in pixels, clockwise from the top left, and a score in [0, 1].

    `score` is the mean probability of the line's kernel.
    """

    quad: Quad
    score: float


@dataclass(frozen=True)
class PageLine:
    """A line of a page: its reading, its corners and its row.

    `quad` are the corners `(4, 2)` in pixels of the upright page, clockwise from the top left corner of the
    text. Lines of the same `row` stand side by side, as the cells of a table do.
    """

    reading: Reading
    quad: Quad
    row: int

    @property
    def words(self) -> tuple[Word, ...]:
        """The words from the start of the line to its end; their polygons are in pixels as `quad`."""
        words = self.reading.words
        boxes = [(*word.polygon[0], *word.polygon[2]) for word in words]
        quads = boxes_on_page(self.quad, np.array(boxes).reshape(-1, 4), self.reading.turn)
        return tuple(
            replace(word, polygon=(tuple(a), tuple(b), tuple(c), tuple(d)))
            for word, (a, b, c, d) in zip(words, quads.tolist(), strict=True)
        )

    def place(self, character: Character) -> Quad:
        """Corners `(4, 2)` of one of the line's characters, in pixels as `quad`."""
        quad: Quad = self.place_all([character])[0]
        return quad

    def place_all(self, characters: Sequence[Character]) -> NDArray[np.float32]:
        """Corners `(n, 4, 2)` of some of the line's characters, in pixels as `quad`."""
        boxes = np.array([(c.start, c.top, c.end, c.bottom) for c in characters], np.float64).reshape(-1, 4)
        return boxes_on_page(self.quad, boxes, self.reading.turn)


@dataclass(frozen=True)
class PageReading:
    """The lines of a page in reading order.

    `turn` is the clockwise rotation in degrees that made the page upright.
    """

    lines: tuple[PageLine, ...]
    turn: int = 0

    @property
    def text(self) -> str:
        """The texts of the rows in reading order, joined by line feeds; those of the lines of a row by tabs."""
        return "\n".join(self.row_texts)

    @property
    def row_texts(self) -> tuple[str, ...]:
        """The text of each row in reading order, its lines from left to right, joined by tabs."""
        rows = groupby(self.lines, key=lambda line: line.row)
        return tuple("\t".join(line.reading.text for line in row) for _, row in rows)
