"""What comes out: a text, how sure it is, and where its characters lie."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Character:
    """One character; `start` and `end` are pixels along the width of the input image."""

    text: str
    confidence: float
    start: float
    end: float


@dataclass(frozen=True)
class Alternative:
    """Another text that the picture may hold, and the probability that the whole of it is right."""

    text: str
    confidence: float


@dataclass(frozen=True)
class Reading:
    """The text of one image.

    `confidence`, in [0, 1], is the probability that the whole string is right; `confidence_min` that
    of the weakest character, or `confidence` where there is no character. `alternatives` are the
    next best texts, the likeliest first, as many as were asked for and found. `turn`, 0, 90 or 270,
    is the clockwise turn in degrees in which a line on its side was read; its characters' spans
    are along the width of the turned image. `look` names the second look that supports it
    most, as `model.recognition.augmented_views` does; "" is the first one.
    """

    text: str
    confidence: float
    confidence_min: float
    characters: tuple[Character, ...]
    alternatives: tuple[Alternative, ...] = ()
    turn: int = 0
    look: str = ""
