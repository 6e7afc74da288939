"""What was read as sheets of lines of words, each word in its place: what hOCR, ALTO and PDF are written from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from linewise.service.api.schemas import CharacterInfo, PageInfo, TextAnswer

Point = tuple[float, float]
Corners = tuple[Point, Point, Point, Point]

# Share of a line's height between its baseline and its lower edge: what the tails of g and y need.
DESCENT = 0.2

# Of the distance between two letters, how far beyond the middle of its first and last a word reaches: half of it, and
# some for letters wider than most.
REACH = 0.6


@dataclass(frozen=True)
class Word:
    """Characters without a space between.

    ``confidence``, in [0, 1], is that of its weakest character, which is the largest calibrated posterior that the
    recogniser gave it. ``corners`` are in pixels of the upright page, clockwise from where the word begins on top.
    """

    text: str
    confidence: float
    corners: Corners


@dataclass(frozen=True)
class Line:
    """A line with its words, of which there is at least one; ``corners`` are as those of a word."""

    corners: Corners
    words: tuple[Word, ...]

    @property
    def baseline(self) -> tuple[Point, Point]:
        """Where its text stands, from its begin to its end, in pixels of the upright page."""
        start, end, below_end, below_start = self.corners
        return _between(below_start, start, DESCENT), _between(below_end, end, DESCENT)


@dataclass(frozen=True)
class Page:
    """One page, or one picture of a line.

    ``width`` and ``height`` are in pixels, after the clockwise ``turn`` in degrees that made it upright;
    ``confidence``, in [0, 1], is that of the line, or the mean of those of a page's lines.
    """

    width: int
    height: int
    turn: int
    confidence: float
    lines: tuple[Line, ...]


def sheets(answer: TextAnswer) -> list[Page]:
    """The pages of an answer that was given with ``detail=chars``; lines without text are left out."""
    parts: Sequence[TextAnswer | PageInfo] = answer.pages or [answer]
    return [
        Page(image.width, image.height, image.orientation_applied, part.confidence, tuple(_lines(part)))
        for part, image in ((part, part.image) for part in parts)
    ]


def box(corners: Corners, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the smallest upright box of whole pixels around them, within the page."""
    across, down = zip(*corners, strict=True)
    left, right = (min(max(0, round(side)), width) for side in (min(across), max(across)))
    top, bottom = (min(max(0, round(side)), height) for side in (min(down), max(down)))
    return left, top, right, bottom


def _lines(part: TextAnswer | PageInfo) -> Iterator[Line]:
    if isinstance(part, TextAnswer) and part.lines is None:
        width, height = float(part.image.width), float(part.image.height)
        found = [(_corners([(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]), part.chars or [])]
    else:
        found = [(_corners(line.polygon), line.chars or []) for line in part.lines or []]
    for corners, characters in found:
        if words := tuple(_words(corners, characters)):
            yield Line(corners, words)


def _words(line: Corners, characters: Sequence[CharacterInfo]) -> Iterator[Word]:
    """The words of a line from its left to its right.

    The network says where it is surest of a character, which is somewhere in its middle, and not where its ink ends:
    a word reaches some way beyond the middles of its first and last, but not beyond the middle of a space.
    """
    middles = [_along(line, character) for character in characters]
    blank = [character.text.isspace() for character in characters]
    steps = [middles[i] - middles[i - 1] for i in range(1, len(middles)) if not blank[i] and not blank[i - 1]]
    reach = REACH * median(steps) if steps else 1.0
    first = 0
    for end in range(1, len(characters) + 1):
        if end < len(characters) and blank[end] == blank[first]:
            continue
        if not blank[first]:
            left = max(middles[first] - reach, middles[first - 1] if first else 0.0)
            right = min(middles[end - 1] + reach, middles[end] if end < len(characters) else 1.0)
            yield Word(
                "".join(character.text for character in characters[first:end]),
                min(character.confidence for character in characters[first:end]),
                _piece(line, left, max(left, right)),
            )
        first = end


def _along(line: Corners, character: CharacterInfo) -> float:
    """Where the middle of a character is, as a share of the line's length, in [0, 1]."""
    (x, y), (end_x, end_y) = line[:2]
    across, down = end_x - x, end_y - y
    (left, top), (right, right_top) = character.polygon[:2]
    length = across * across + down * down
    share = (((left + right) / 2 - x) * across + ((top + right_top) / 2 - y) * down) / length if length else 0.0
    return min(max(share, 0.0), 1.0)


def _piece(line: Corners, left: float, right: float) -> Corners:
    start, end, below_end, below_start = line
    return (
        _between(start, end, left),
        _between(start, end, right),
        _between(below_start, below_end, right),
        _between(below_start, below_end, left),
    )


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def _corners(polygon: Sequence[Point]) -> Corners:
    first, second, third, fourth = polygon
    return first, second, third, fourth
