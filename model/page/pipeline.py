"""Steps of page reading: line detection, orientation, crops to recognise, reading order.

Independent of the networks, which may run in another process.
"""

from collections.abc import Callable, Generator, Sequence

import cv2
import numpy as np

from linewise.model.page.geometry import Quad, crop_line, quad_size
from linewise.model.page.reading_order import reading_order
from linewise.model.page.results import FoundLine, PageLine, PageReading
from linewise.model.recognition.preprocess import Image, grey
from linewise.model.recognition.results import Reading
from linewise.model.recognition.rotation import rotated

# Larger pages are shrunk to this shorter side before detection: a sheet of A4 at 200 dpi becomes one at
# 140 dpi, at which small print is still 10 pixels high.
DETECTION_SHORT_SIDE_PX = 1152

# Lines with a lower median height in the shrunk page merge into each other: they are detected again at the
# fine size.
SMALL_LINE_HEIGHT_PX = 12
FINE_DETECTION_SHORT_SIDE_PX = 2 * DETECTION_SHORT_SIDE_PX

# Longest lines of which the readings show whether a page is upside down, their legibility from which it is upright
# without a second reading, and the gain in legibility that turns it.
ORIENTATION_MAX_LINES = 8
UPRIGHT_MIN_LEGIBILITY = 0.9
TURNED_MIN_GAIN = 0.03

# Yields crops of lines, any number of times, and is sent their readings; returns the page's reading.
PageSteps = Generator[list[Image], Sequence[Reading], PageReading]


class Pages:
    """Detection and ordering of a page's lines, with the networks given by the caller."""

    def __init__(self, detect: Callable[[Image], list[FoundLine]]) -> None:
        """`detect` returns the lines of a uint8 grey page `(H, W)`, in its pixels, in no order."""
        self._detect = detect

    def find(self, page: Image) -> list[FoundLine]:
        """Detect the lines of a uint8 page, `(H, W)` grey or `(H, W, 3)` RGB, in its pixels, in no order.

        Raises:
            ValueError: an array of another type or shape, or an empty one.
        """
        plain = grey(page)
        scale = min(1.0, DETECTION_SHORT_SIDE_PX / min(plain.shape))
        lines = self._detect_at(plain, scale)
        if scale < 1 and lines:
            line_height = float(np.median([min(quad_size(line.quad)) for line in lines]))
            if line_height * scale < SMALL_LINE_HEIGHT_PX:
                return self._detect_at(plain, min(1.0, FINE_DETECTION_SHORT_SIDE_PX / min(plain.shape)))
        return lines

    def _detect_at(self, plain: Image, scale: float) -> list[FoundLine]:
        """Detect the lines of a grey page in a copy of `scale` times its size; corners in the page's pixels."""
        if scale < 1:
            plain = np.asarray(cv2.resize(plain, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        return [
            FoundLine(np.asarray((line.quad + 0.5) / scale - 0.5, np.float32), line.score)
            for line in self._detect(plain)
        ]

    def steps(self, page: Image, found: Sequence[FoundLine] | None = None, finds_orientation: bool = True) -> PageSteps:
        """Read a page whose lines are recognised by the caller.

        The generator yields crops of lines and is sent their readings. `found` are the lines of the page
        where `find` has already run. With `finds_orientation`, a page on its side or upside down is turned.
        """
        quads = [line.quad for line in (self.find(page) if found is None else found)]
        turn = 0
        if finds_orientation and _is_on_side(quads):  # detected again: the detector is better at horizontal lines
            page, turn = rotated(page, 90), 90
            quads = [line.quad for line in self.find(page)]
        readings = yield [crop_line(page, quad) for quad in quads]
        longest = sorted(range(len(quads)), key=lambda i: -quad_size(quads[i])[0])[:ORIENTATION_MAX_LINES]
        upright = _legibility([readings[i] for i in longest])
        if finds_orientation and longest and upright < UPRIGHT_MIN_LEGIBILITY:
            inverted = yield [rotated(crop_line(page, quads[i]), 180) for i in longest]
            if _legibility(inverted) > upright + TURNED_MIN_GAIN:
                last_pixel = np.array(page.shape[1::-1], np.float32) - 1
                quads = [np.roll(last_pixel - quad, 2, 0) for quad in quads]
                page, turn = rotated(page, 180), turn + 180
                readings = yield [crop_line(page, quad) for quad in quads]
        return PageReading(_ordered_lines(quads, readings), turn)


def _ordered_lines(quads: Sequence[Quad], readings: Sequence[Reading]) -> tuple[PageLine, ...]:
    """The lines that have text, in reading order."""
    lines = [(reading, quad) for quad, reading in zip(quads, readings, strict=True) if reading.text]
    rows = reading_order([quad for _, quad in lines])
    return tuple(PageLine(*lines[index], number) for number, row in enumerate(rows) for index in row)


def _legibility(readings: Sequence[Reading]) -> float:
    """Mean confidence of all characters of some lines.

    Wide gaps, curved lines and scraps lower the confidence in whole lines, but hardly that in their characters.
    """
    confidences = [character.confidence for reading in readings for character in reading.characters]
    return sum(confidences) / max(1, len(confidences))


def _is_on_side(quads: Sequence[Quad]) -> bool:
    """Whether most of the text runs up or down, by the lengths of the lines."""
    sizes = [quad_size(quad) for quad in quads]
    horizontal = sum(width for width, height in sizes if width >= 2 * height)
    return sum(height for width, height in sizes if height >= 2 * width) > horizontal
