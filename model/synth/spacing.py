"""Empty paper: wide margins around a line, wide gaps inside it, and faint dust on both."""

import math
from collections.abc import Callable
from random import Random

import numpy as np

from linewise.model.synth import glyphs
from linewise.model.synth.background import Grey
from linewise.model.synth.camera import Box
from linewise.model.synth.sources import corpus, fields

WIDE_MARGIN_SHARE = 0.13  # of the pictures
TALL_MARGIN_SHARE = 0.08
MAX_MARGIN_HEIGHTS = 8.0
DUST_SHARE = 0.2  # of the documents
GAP_SHARE = 0.12  # of the lines of documents
MAX_WIDTH_HEIGHTS = 44.0  # of a picture with margins, so that it fits the network's longest input


def log_uniform(random: Random, low: float, high: float) -> float:
    """A number between `low` and `high`, every factor equally likely."""
    return math.exp(random.uniform(math.log(low), math.log(high)))


def add_margins(random: Random, plane: Grey, box: Box) -> tuple[Grey, Box]:
    """Ink on a larger plane and a crop box with empty paper beside, above or below the line.

    A side stays as it is where other ink stands next to the box.
    """
    left, top, right, bottom = box
    height, width = bottom - top, right - left
    if random.random() < TALL_MARGIN_SHARE:
        rise = [round(height * random.uniform(0.1, 0.5)) for _ in range(2)]
        sides = random.choice(((1, 0), (0, 1), (1, 1)))
        above, below = (
            side * min(r, room) for side, r, room in zip(sides, rise, (top, plane.shape[0] - bottom), strict=True)
        )
        if not plane[max(0, top - above) : top].any():
            top -= above
        if not plane[bottom : bottom + below].any():
            bottom += below
    if random.random() >= WIDE_MARGIN_SHARE:
        return plane, (left, top, right, bottom)
    most = min(MAX_MARGIN_HEIGHTS, MAX_WIDTH_HEIGHTS - width / height)
    if most <= 0.3:
        return plane, (left, top, right, bottom)
    sides = random.choice(((1, 0), (0, 1), (0, 1), (1, 1)))
    before, after = (side * round(height * log_uniform(random, 0.25, most / sum(sides))) for side in sides)
    if plane[top:bottom, : max(0, left)].any():
        before = 0
    if plane[top:bottom, right:].any():
        after = 0
    plane = np.pad(plane, ((0, 0), (before, after)))
    return plane, (left, top, right + before + after, bottom)


def add_dust(random: Random, noise: np.random.Generator, plane: Grey, size: float) -> Grey:
    """The plane with specks of dirt, much fainter than its letters; `size` is the font size in pixels."""
    dirty = glyphs.add_specks(random, noise, np.zeros_like(plane), size)
    faint = np.asarray(dirty * random.uniform(0.08, 0.6), np.uint8)
    return np.maximum(plane, faint)


def gap_line(random: Random, write: Callable[[], str], kind: str) -> str:
    """A line of a table of contents or a price list: its gaps are runs of spaces or dot leaders.

    Between single spaces the text reads as it stands; a run of spaces counts as one.
    """
    words = corpus.collapse_spaces(write()).split() or ["1"]
    head = " ".join(words[: random.randint(1, 5)])[:36]
    if random.random() < 0.25:
        head = f"{random.randint(1, 400)}. {head}"
    numbers: tuple[Callable[[Random], str], ...] = (
        fields.number, fields.small_number, fields.ordinal, fields.date, fields.code, lambda r: str(r.randint(1, 999)),
        lambda r: f"{r.randint(0, 999)}{r.choice('.,')}{r.randint(0, 99):02}",
    )  # fmt: skip
    parts = [head, random.choice(numbers)(random)]
    if random.random() < 0.25:
        parts.append(random.choice(numbers)(random))
    if random.random() < 0.12:
        parts = parts[1:] + parts[:1]
    line = parts[0]
    for part in parts[1:]:
        line += _gap(random, typewritten=kind == "typescript") + part
    return line


def _gap(random: Random, typewritten: bool) -> str:
    """About 2 to 20 line heights of spaces, or of dots that lead over the gap."""
    spaces = round(log_uniform(random, 4, 36) if typewritten else log_uniform(random, 7, 75))
    choice = random.random()
    if choice < 0.75:
        return " " * spaces
    if choice < 0.9:
        dots = "." * min(spaces, random.randint(3, 30))
        return random.choice((" ", "")) + dots + " "
    return " ." * random.randint(3, 14) + " "
