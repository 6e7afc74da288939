"""What a page says, and the steps to it: where lines are looked for, which pictures are read, how they are ordered.

Nothing here needs the networks themselves: they may be in another process.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from linewise.model.page.postprocess import FoundLine, Quad, picture, size, span
from linewise.model.page.reading_order import reading_order
from linewise.model.recognition.preprocess import Image, grey
from linewise.model.recognition.results import Character, Reading
from linewise.model.recognition.rotation import rotated

# The shorter side of a page, in pixels, above which it is made smaller before its lines are looked
# for: 200 dpi of a sheet of A4 become 140, at which small print is still 10 pixels high.
SHORTER = 1152

# Median height of the lines found, in pixels of the smaller page, below which they were too small to be
# told apart, and the shorter side at which they are looked for once more.
SMALL, FINER = 12, 2 * SHORTER

# Lines whose readings tell whether a page stands on its head, and the mean confidence above which
# nobody needs to ask.
ASKED, UPRIGHT = 8, 0.5


@dataclass(frozen=True)
class PageLine:
    """A line of a page: what was read, where, and in which row of the page.

    `quad` are its corners `(4, 2)` in pixels of the upright page, clockwise from where its text begins
    on top. Lines of one `row` stand side by side, as the cells of a table do.
    """

    reading: Reading
    quad: Quad
    row: int

    def place(self, character: Character) -> Quad:
        """The corners `(4, 2)` of one of its characters, in pixels as `quad`."""
        return span(self.quad, character.start, character.end, self.reading.turn)


@dataclass(frozen=True)
class PageReading:
    """What a page says, in reading order. `turn` is the clockwise turn in degrees that made the page upright."""

    lines: tuple[PageLine, ...]
    turn: int = 0

    @property
    def text(self) -> str:
        """The lines in reading order, each on a line of its own."""
        return "\n".join(line.reading.text for line in self.lines)


# Asks for the readings of pictures of lines, any number of times, and ends with the page's.
PageSteps = Generator[list[Image], Sequence[Reading], PageReading]


class Pages:
    """Finds the lines of pages and orders them; who finds and who reads is the caller's affair."""

    def __init__(self, detect: Callable[[Image], list[FoundLine]]) -> None:
        """`detect` finds the lines of a uint8 grey page `(H, W)`, in its pixels, in no order."""
        self._detect = detect

    def find(self, page: Image) -> list[FoundLine]:
        """The lines of a uint8 page, `(H, W)` grey or `(H, W, 3)` RGB, in pixels of it, in no order.

        Raises:
            ValueError: an array of another type or shape, or an empty one.
        """
        plain = grey(page)
        scale = min(1.0, SHORTER / min(plain.shape))
        found = self._find(plain, scale)
        if scale < 1 and found and float(np.median([min(size(f.quad)) for f in found])) * scale < SMALL:
            found = self._find(plain, min(1.0, FINER / min(plain.shape)))
        return found

    def _find(self, plain: Image, scale: float) -> list[FoundLine]:
        """The lines of a grey page, in its pixels, looked for in a copy `scale` times its size."""
        if scale < 1:
            plain = np.asarray(cv2.resize(plain, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        found = self._detect(plain)
        return [FoundLine(np.asarray((f.quad + 0.5) / scale - 0.5, np.float32), f.score) for f in found]

    def steps(self, page: Image, found: Sequence[FoundLine] | None = None) -> PageSteps:
        """As `read`, for callers who have lines read elsewhere: yields pictures of lines, and is sent their readings.

        `found` are the lines where the caller has looked for them already.
        """
        quads = [one.quad for one in (self.find(page) if found is None else found)]
        turn = 0
        if _on_side(quads):  # and looked at again: the detector knows lines that lie best
            page, turn = rotated(page, 90), 90
            quads = [one.quad for one in self.find(page)]
        readings = yield [picture(page, quad) for quad in quads]
        longest = sorted(range(len(quads)), key=lambda i: -size(quads[i])[0])[:ASKED]
        sure = sum(readings[i].confidence for i in longest)
        if sure < UPRIGHT * len(longest):
            inverted = yield [rotated(picture(page, quads[i]), 180) for i in longest]
            if sum(reading.confidence for reading in inverted) > sure:
                last = np.array(page.shape[1::-1], np.float32) - 1
                quads = [np.roll(last - quad, 2, 0) for quad in quads]
                page, turn = rotated(page, 180), turn + 180
                readings = yield [picture(page, quad) for quad in quads]
        rows = reading_order([quad for quad, reading in zip(quads, readings, strict=True) if reading.text])
        kept = [i for i, reading in enumerate(readings) if reading.text]
        lines = [
            PageLine(readings[kept[index]], quads[kept[index]], number)
            for number, row in enumerate(rows)
            for index in row
        ]
        return PageReading(tuple(lines), turn)


def _on_side(quads: Sequence[Quad]) -> bool:
    """Whether most of the text runs up or down."""
    sizes = [size(quad) for quad in quads]
    upright = sum(width for width, height in sizes if width >= 2 * height)
    return sum(height for width, height in sizes if height >= 2 * width) > upright
