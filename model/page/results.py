"""Results of page reading: detected lines, read lines, and the whole page."""

from dataclasses import dataclass

from linewise.model.page.geometry import Quad, span_quad
from linewise.model.recognition.results import Character, Reading


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

    def place(self, character: Character) -> Quad:
        """Corners `(4, 2)` of one of the line's characters, in pixels as `quad`."""
        return span_quad(self.quad, character.start, character.end, self.reading.turn)


@dataclass(frozen=True)
class PageReading:
    """The lines of a page in reading order.

    `turn` is the clockwise rotation in degrees that made the page upright.
    """

    lines: tuple[PageLine, ...]
    turn: int = 0

    @property
    def text(self) -> str:
        """The texts of the lines in reading order, joined by line feeds."""
        return "\n".join(line.reading.text for line in self.lines)
