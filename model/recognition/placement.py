"""Placement of characters in the input image: frames to pixels, and boxes that fit the ink."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.network.config import FRAME_WIDTH_PX, ModelConfig
from linewise.model.recognition.preprocess import Image, grey, inner_width, scaled_width
from linewise.model.recognition.results import Character

# Higher images are shrunk to so many rows before their ink is looked for, which bounds the time.
MAX_INK_HEIGHT_PX = 64

# Share of the step from paper to ink from which a pixel counts as ink: the soft edge of a stroke is part of it.
INK_LEVEL = 0.35

# Distance from the centre of a character's span to the centre of its ink, in image heights.
PEAK_LAG_RATIO = 0.06

PITCH_RANGE = (0.25, 0.5)  # distance between the first two characters, in image heights

CLEAR_SKEWNESS = 0.5  # of the grey levels around their local mean; below, the rim of the image is paper

MIN_INK_STEP = 12  # grey levels between paper and ink; below, boxes have the full height

# Cost of a boundary at the centre of a character instead of in the middle between neighbours, in image heights of ink.
OFF_CENTRE_COST = 0.5

# Gap within a word, in image heights, beyond which ink no longer belongs to its first or last character.
MAX_INK_GAP_RATIO = 0.15

# Ink at the upper or lower rim of the image, up to so many of its rows, belongs to a neighbouring line.
MAX_INTRUSION_RATIO = 0.2

# Width of an uninterrupted row of ink, in image heights, from which it is a rule, and not text.
RULE_MIN_RATIO = 1.5

Mask = NDArray[np.uint8]


class FramePlacement:
    """Maps frames of the logits to pixels along the width of an image of `height` x `width` pixels."""

    def __init__(self, config: ModelConfig, height: int, width: int) -> None:
        self._width = width
        self._inner = inner_width(config, height, width)
        self._left = (scaled_width(config, height, width) - self._inner) // 2  # border columns before the image

    def left_edge(self, frame: int) -> float:
        """Left edge of a frame in pixels, within [0, width]; the right edge of frame t is the left edge of t + 1."""
        share = (frame * FRAME_WIDTH_PX - self._left) / self._inner
        return self._width * min(max(share, 0.0), 1.0)


def fit_to_ink(characters: Sequence[Character], image: Image) -> tuple[Character, ...]:
    """Characters with boxes that fit their ink in the image `(H, W)` or `(H, W, 3)` in which they were read.

    `characters` have the spans of the frames that support them, which cover a part of a letter. Neighbours meet where
    there is least ink near the middle between them. A space lies between the ink of its neighbours.
    """
    if not characters:
        return ()
    height, width = image.shape[:2]
    mask = _ink_mask(image)
    x_scale, y_scale = width / mask.shape[1], height / mask.shape[0]
    profile = cv2.reduce(mask, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0].tolist()
    peaks = [(c.start + c.end) / 2 / x_scale for c in characters]
    is_space = [c.text.isspace() for c in characters]
    columns = _ink_columns(profile, _centres(profile, peaks, mask.shape[0]), is_space, mask.shape[0])
    rows = _ink_rows(mask, columns)
    fitted = []
    for character, (left, right), (top, bottom) in zip(characters, columns, rows, strict=True):
        start, end = (min(column * x_scale, float(width)) for column in (left, right))
        above, below = (min(row * y_scale, float(height)) for row in (top, bottom))
        fitted.append(Character(character.text, character.confidence, start, end, above, below))
    return tuple(fitted)


def _ink_mask(image: Image) -> Mask:
    """Ink of an image, 1, and its paper, 0, at most `MAX_INK_HEIGHT_PX` high; all paper without contrast.

    The level of the paper may change along the image, as under a shadow.
    """
    plain = grey(image)
    if plain.shape[0] > MAX_INK_HEIGHT_PX:
        size = (max(1, round(plain.shape[1] * MAX_INK_HEIGHT_PX / plain.shape[0])), MAX_INK_HEIGHT_PX)
        plain = np.asarray(cv2.resize(plain, size, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = plain.shape
    if _is_light_ink(plain):
        plain = 255 - plain
    reach = max(3, height // 2) | 1
    paper = cv2.dilate(cv2.blur(plain, (3, 3)), np.ones((reach, reach), np.uint8))
    depth = cv2.subtract(paper, plain)
    _, mask = cv2.threshold(depth, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    ink_depth = cv2.mean(depth, mask)[0]
    if ink_depth < MIN_INK_STEP:
        return np.zeros(plain.shape, np.uint8)
    _, mask = cv2.threshold(depth, int(INK_LEVEL * ink_depth), 1, cv2.THRESH_BINARY)
    rule = np.ones((1, round(RULE_MIN_RATIO * height)), np.uint8)
    if rule.size < width:
        mask -= cv2.morphologyEx(mask, cv2.MORPH_OPEN, rule)
    return np.asarray(mask, np.uint8)


def _is_light_ink(plain: Image) -> bool:
    """Whether the ink of a grey image is lighter than its paper: ink is the rarer side of the local mean."""
    height = plain.shape[0] | 1
    offsets = cv2.subtract(plain, cv2.blur(plain, (height, height)), dtype=cv2.CV_32F)
    squares = cv2.multiply(offsets, offsets)
    skew = float(cv2.mean(cv2.multiply(squares, offsets))[0])
    if abs(skew) >= CLEAR_SKEWNESS * float(cv2.mean(squares)[0]) ** 1.5:
        return skew > 0
    return float(np.concatenate([plain[0], plain[-1], plain[:, 0], plain[:, -1]]).mean()) < float(plain.mean())


def _centres(profile: list[int], peaks: list[float], height: int) -> list[float]:
    """Columns of the centres of characters, estimated from the centres of their spans.

    The network reports the first character at the left rim of the image, wherever it stands.
    """
    last = len(profile) - 1
    centres = [min(peak + PEAK_LAG_RATIO * height, last) for peak in peaks]
    if len(peaks) == 1:
        total = sum(profile)
        centres[0] = sum(column * ink for column, ink in enumerate(profile)) / total if total else last / 2
    else:
        low, high = (ratio * height for ratio in PITCH_RANGE)
        pitch = median(b - a for a, b in pairwise(centres[1:])) if len(peaks) > 2 else high
        centres[0] = max(0.0, centres[1] - min(max(pitch, low), high))
    return centres


def _ink_columns(profile: list[int], centres: list[float], is_space: list[bool], height: int) -> list[tuple[int, int]]:
    """First column of each character and the one after its last, by the ink in each column."""
    columns = [(0, 0)] * len(centres)
    visible = [index for index, space in enumerate(is_space) if not space]
    left_edge = 0
    for number, index in enumerate(visible):
        is_last = number + 1 == len(visible)
        right_edge = len(profile)
        if not is_last:
            right_edge = max(left_edge, _boundary(profile, centres[index], centres[visible[number + 1]], height))
        left, right = left_edge, right_edge
        centre = min(max(int(centres[index]), left), max(left, right - 1))
        if number == 0 or visible[number - 1] < index - 1:
            left = _ink_end(profile, centre, left - 1, height) + 1
        if is_last or visible[number + 1] > index + 1:
            right = _ink_end(profile, centre, right, height)
        while left < right and not profile[left]:
            left += 1
        while left < right and not profile[right - 1]:
            right -= 1
        columns[index] = (left, right) if left < right else (left_edge, right_edge)
        left_edge = right_edge
    for index, space in enumerate(is_space):
        if space:  # spaces share the gap between the ink of their neighbours
            start = columns[index - 1][1] if index else 0
            following = next((other for other in visible if other > index), len(is_space))
            stop = columns[following][0] if following < len(is_space) else len(profile)
            columns[index] = start, start + (stop - start) // (following - index)
    return columns


def _boundary(profile: list[int], left: float, right: float, height: int) -> int:
    """Column between two characters with these centres: little ink, near the middle."""
    middle, reach = int((left + right) / 2), max(right - left, 1.0) / 2
    best, best_cost = middle, profile[middle] / height
    for distance in range(1, int(reach) + 1):
        off_centre = OFF_CENTRE_COST * (distance / reach) ** 2
        if off_centre >= best_cost:
            break
        for column in (middle - distance, min(middle + distance, len(profile) - 1)):
            cost = profile[column] / height + off_centre
            if cost < best_cost:
                best, best_cost = column, cost
    return best


def _ink_end(profile: list[int], centre: int, end: int, height: int) -> int:
    """Column at which the ink of a character ends, on the way from its centre to the column `end`.

    Beyond a wide gap, ink is dust, a rule, or of a neighbour.
    """
    step = 1 if end > centre else -1
    has_begun, gap = False, 0
    for column in range(centre, end, step):
        if profile[column]:
            has_begun, gap = True, 0
        elif has_begun:
            gap += 1
            if gap > MAX_INK_GAP_RATIO * height:
                return column
    return end


def _ink_rows(mask: Mask, columns: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """First row with ink in each range of columns and the one after the last; all rows where there is none."""
    height, width = mask.shape
    limit = int(MAX_INTRUSION_RATIO * height)
    bounds = [bound for left, right in columns for bound in (min(left, width - 1), right)]
    padded = cv2.copyMakeBorder(mask, 0, 0, 0, 1, cv2.BORDER_CONSTANT)
    inks = np.maximum.reduceat(np.asarray(padded), bounds, 1)[:, ::2].T
    rows = []
    for column in inks:
        ink = _without_intrusion(_without_intrusion(bytes(column), limit)[::-1], limit)[::-1]
        top = ink.find(1)
        rows.append((0, height) if top < 0 else (top, ink.rfind(1) + 1))
    return rows


def _without_intrusion(ink: bytes, limit: int) -> bytes:
    """Rows without the ink at their beginning that is of a neighbouring line: the character's own lies apart."""
    end = ink.find(0)
    return bytes(end) + ink[end:] if 0 < end <= limit and ink.find(1, end) >= 0 else ink
