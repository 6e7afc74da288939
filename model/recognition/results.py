"""Results of reading one image: text, confidences and character positions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING

from linewise.model.network.charset import STRAIGHT, Charset

if TYPE_CHECKING:  # a parent process handles readings and needs no torch
    from linewise.model.decoding.hypotheses import Hypotheses


Point = tuple[float, float]
Polygon = tuple[Point, Point, Point, Point]  # corners in pixels, clockwise from the top left one of the text


@dataclass(frozen=True)
class Character:
    """One character and its box in pixels of the input image.

    The box fits the ink: `start` and `end` lie along the width of the image, `top` and `bottom` along its height.
    """

    text: str
    confidence: float
    start: float
    end: float
    top: float = 0.0
    bottom: float = 0.0


@dataclass(frozen=True)
class Word:
    """Consecutive characters without white space; `confidence` is that of the least certain one.

    `polygon` are the corners of the box around its characters, in pixels, clockwise from the top left one of the text.
    """

    text: str
    confidence: float
    polygon: Polygon


@dataclass(frozen=True)
class Alternative:
    """Another possible text of the image, and the probability that the whole of it is right."""

    text: str
    confidence: float


class Stage(StrEnum):
    """Stage of the cascade that gave an answer: the fast network, the base network, or rescoring after it."""

    FAST = "fast"
    BASE = "base"
    RESCORED = "rescored"


@dataclass(frozen=True)
class Reading:
    """Text of one image with confidences and character positions.

    `confidence`, in [0, 1], is the probability that the whole string is right; `confidence_min` is that
    of the least certain character, or `confidence` without characters. `alternatives` are the
    next most probable texts, in descending order, at most as many as requested. `turn`, 0, 90 or 270,
    is the clockwise rotation in degrees in which the image was read; the spans of the characters
    run along the width of the rotated image. `look` names the augmented view that supports the text
    most, as in `model.recognition.augmented_views`; "" is the image itself. `stage` is the stage that answered.
    """

    text: str
    confidence: float
    confidence_min: float
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()
    turn: int = 0
    look: str = ""
    stage: Stage = Stage.BASE

    @property
    def words(self) -> tuple[Word, ...]:
        """The words from left to right; their polygons are in pixels of the rotated image, as the spans are."""
        words = []
        for is_space, group in groupby(self.characters, key=lambda character: character.text.isspace()):
            if not is_space:
                words.append(_join(list(group)))
        return tuple(words)


def _join(characters: list[Character]) -> Word:
    """The word of these characters."""
    left, right = min(c.start for c in characters), max(c.end for c in characters)
    top, bottom = min(c.top for c in characters), max(c.bottom for c in characters)
    polygon = (left, top), (right, top), (right, bottom), (left, bottom)
    return Word("".join(c.text for c in characters), min(c.confidence for c in characters), polygon)


@dataclass(frozen=True)
class TextFormat:
    """Conversion of class ids to text: typographic quotes become straight ones unless they are kept."""

    charset: Charset
    typographic_quotes: bool

    def text(self, ids: tuple[int, ...]) -> str:
        """Text of class ids, one character for each."""
        text = self.charset.decode(ids)
        return text if self.typographic_quotes else text.translate(STRAIGHT)


def build_reading(
    hypotheses: "Hypotheses", text_format: TextFormat, left_edge: Callable[[int], float], max_alternatives: int
) -> Reading:
    """Turn decoded hypotheses into a reading, without outer spaces.

    `left_edge` gives the left edge of a frame in pixels of the image.
    """
    best = hypotheses.best
    text = text_format.text(best.ids)
    characters = [
        Character(letter, confidence, left_edge(start), left_edge(end))
        for letter, confidence, (start, end) in zip(text, best.confidences, best.spans, strict=True)
    ]
    first = len(text) - len(text.lstrip(" "))
    text = text.strip(" ")
    kept = tuple(characters[first : first + len(text)])
    weakest = min((character.confidence for character in kept), default=best.confidence)
    others: dict[str, float] = {}
    for candidate in hypotheses.others:  # in descending order, so the most probable of equal texts stays
        others.setdefault(text_format.text(candidate.ids).strip(" "), candidate.confidence)
    others.pop(text, None)
    alternatives = tuple(Alternative(*other) for other in list(others.items())[:max_alternatives])
    return Reading(text, best.confidence, weakest, kept, alternatives)


def rescale_spans(reading: Reading, factor: float) -> Reading:
    """Convert the spans of a reading to an image that is `factor` times as wide."""
    if factor == 1:
        return reading
    characters = (replace(c, start=c.start * factor, end=c.end * factor) for c in reading.characters)
    return replace(reading, characters=tuple(characters))
