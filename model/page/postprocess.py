"""From the detector's map to the lines of a page as quadrangles, and from a quadrangle to an upright picture."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.recognition.preprocess import Image

STRIDE = 4  # pixels of the page for one cell of the detector's map

Map = NDArray[np.float32]
Quad = NDArray[np.float32]

# Of the shorter side of a line, taken off on all four sides to make its kernel. More keeps crowded
# lines farther apart, but leaves less than one cell of the map of a line 12 pixels high.
SHRINK = 0.28

CERTAIN = 0.4  # probability above which a cell belongs to a kernel
SURE = 0.55  # mean probability of a kernel below which it is nothing
FINER = 2  # times, by which the map is enlarged before outlines are taken, to place them within a cell
RIM = 2  # enlarged cells around an outline in which a kernel fades
LEAST = 0.6  # cells: the height of a kernel below which it is no line's

# Around a line in its picture, in heights: what the recogniser is used to.
MARGIN = 0.15


@dataclass(frozen=True)
class FoundLine:
    """A line's corners `(4, 2)` in pixels, clockwise from the top left, and how sure its kernel is, in [0, 1]."""

    quad: Quad
    score: float


def kernel(quad: Quad, further: float = 0.0) -> Quad:
    """The corners of a line's kernel: the line without a rim of `SHRINK` times its shorter side and `further` px."""
    across, down = quad[1] - quad[0], quad[3] - quad[0]
    width, height = max(float(np.linalg.norm(across)), 1e-3), max(float(np.linalg.norm(down)), 1e-3)
    rim = SHRINK * min(width, height) + further
    x, y = across / width * rim, down / height * rim
    return np.asarray(quad + np.stack([x + y, y - x, -x - y, x - y]), np.float32)


def find(probability: Map) -> list[FoundLine]:
    """The lines of a map of kernel probabilities `(h, w)`, in pixels of the page, in no order."""
    fine = cv2.resize(probability, None, fx=FINER, fy=FINER, interpolation=cv2.INTER_LINEAR)
    mask = np.asarray(fine > CERTAIN, np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for outline in outlines:
        left, top, width, height = cv2.boundingRect(outline)
        rows = slice(max(0, top - RIM), top + height + RIM)
        columns = slice(max(0, left - RIM), left + width + RIM)
        part = fine[rows, columns]
        inside = np.zeros(part.shape, np.uint8)
        cv2.drawContours(inside, [outline - (columns.start, rows.start)], -1, 1, -1)
        score = float(cv2.mean(part, inside)[0])
        if score < SURE:
            continue
        # An outline runs through the middles of its outermost cells: one cell more is the whole length.
        # A kernel is only a few cells high, so that its height is taken from their sum: in cells that it
        # covers in part, the probability is that part.
        centre, sides, angle = cv2.minAreaRect(outline)
        longer = max(sides) + 1
        shorter = float(part[cv2.dilate(inside, np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)) > 0].sum()) / longer
        if shorter < FINER * LEAST:
            continue
        grown = 2 * shorter * SHRINK / (1 - 2 * SHRINK)
        whole = [longer + grown, min(shorter, longer) + grown]
        corners = cv2.boxPoints((centre, whole if sides[0] >= sides[1] else whole[::-1], angle))
        found.append(FoundLine(_clockwise((corners + 0.5) * (STRIDE / FINER) - 0.5), score))
    return found


def _clockwise(corners: NDArray[np.float32]) -> Quad:
    """The corners of a rectangle from its top left one on, its top being the side that is closest to level."""
    middle = corners.mean(0)
    angles = np.arctan2(corners[:, 1] - middle[1], corners[:, 0] - middle[0])
    ordered = corners[np.argsort(angles)]  # clockwise on a picture, whose y points down
    sides = np.roll(ordered, -1, 0) - ordered
    # A side that runs to the right and is the most level of the four is the top.
    levels = sides[:, 0] / np.maximum(np.linalg.norm(sides, axis=1), 1e-6)
    return np.asarray(np.roll(ordered, -int(np.argmax(levels)), 0), np.float32)


def size(quad: Quad) -> tuple[float, float]:
    """Width and height of a line in pixels, along its own sides."""
    width = (np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2
    height = (np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])) / 2
    return float(width), float(height)


def span(quad: Quad, start: float, end: float, turn: int = 0) -> Quad:
    """The corners of a piece of a line, from `start` to `end` in pixels along its `picture`.

    `turn` is the clockwise turn in degrees of the picture in which these count.
    """
    along = np.roll(quad, turn // 90, 0)
    width = max(size(along)[0], 1e-3)
    margin = MARGIN * min(size(quad))
    low, high = (min(max((place - margin) / width, 0.0), 1.0) for place in (start, end))
    top, bottom = along[1] - along[0], along[2] - along[3]
    corners = (along[0] + low * top, along[0] + high * top, along[3] + high * bottom, along[3] + low * bottom)
    return np.asarray(np.stack(corners), np.float32)


def picture(page: Image, quad: Quad) -> Image:
    """The line inside `quad`, made upright, with a small margin; uint8, grey or colour as the page is."""
    width, height = size(quad)
    margin = MARGIN * min(width, height)
    x, y = (quad[1] - quad[0]) / max(width, 1e-3) * margin, (quad[3] - quad[0]) / max(height, 1e-3) * margin
    wider = np.asarray(quad + np.stack([-x - y, x - y, x + y, y - x]), np.float32)
    low, high = wider.min(0), wider.max(0)
    if float(np.abs(wider - [low, (high[0], low[1]), high, (low[0], high[1])]).max()) < 0.02 * height + 0.5:
        left, top = (max(0, round(float(v))) for v in low)
        right, bottom = (max(round(float(v)), 1) for v in high)
        part = page[top : max(bottom, top + 1), left : max(right, left + 1)]
        if part.size:
            return np.ascontiguousarray(part)
    out_width, out_height = max(1, round(width + 2 * margin)), max(1, round(height + 2 * margin))
    target = np.array([[0, 0], [out_width, 0], [out_width, out_height], [0, out_height]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(wider, target)
    return np.asarray(
        cv2.warpPerspective(page, matrix, (out_width, out_height), flags=cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_REPLICATE), np.uint8,
    )  # fmt: skip
