"""Choice between two readings of one image: as a single line, and as a page of lines."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.page.geometry import Quad, padded_quad
from linewise.model.page.results import PageReading
from linewise.model.recognition.preprocess import MIN_CONTRAST, Image, grey
from linewise.model.recognition.results import Reading
from linewise.model.recognition.rotation import rotated

# Confidence from which the reading of an image as one line counts without a search for further lines.
LINE_MIN_CONFIDENCE = 0.7

# Characters from which a line counts in an image of any size. In a large image, fewer may be a stroke of a drawing.
LINE_MIN_CHARACTERS, LARGE_IMAGE_SIDE_PX = 3, 96

# An image without a found line has no text if its reading as one line is less confident; scraps are at most this long.
NO_TEXT_MAX_CONFIDENCE, SCRAP_MAX_CHARACTERS = 0.1, 2

# Size to which an image is reduced before the profile of its rows is computed.
PROFILE_HEIGHT_PX, PROFILE_MAX_WIDTH_PX = 48, 256

# A row between two stacks of ink parts two lines if it has less than this share of the ink of either's fullest row.
GAP_MAX_INK_RATIO = 0.4

# Share of an image's ink from which a stack of rows is a line of its own; dots and accents have less.
STACK_MIN_INK_SHARE = 0.12

# Longer side to which an image is reduced before its ink is measured. Ink are pixels with this share of the contrast
# of the image's sharpest edges.
INK_MAX_SIDE_PX = 640
INK_PERCENTILE = 99.0
INK_MIN_CONTRAST_RATIO = 0.35

# Confidence below which a line within this distance of the image's upper or lower edge is the scrap of a line.
CUT_LINE_MIN_CONFIDENCE = 0.5
EDGE_PX = 2.0


def is_sure_line(image: Image, line: Reading) -> bool:
    """Whether the reading of an image as one line is right without a search for further lines.

    `image` is uint8 `(H, W)` or `(H, W, 3)`. The reading is confident, it is no single stroke of a large image, and
    the ink lies in one stack of rows: of two lines, the recogniser may read one with full confidence.
    """
    if line.confidence < LINE_MIN_CONFIDENCE or not line.text:
        return False
    if len(line.text) < LINE_MIN_CHARACTERS and min(image.shape[:2]) > LARGE_IMAGE_SIDE_PX:
        return False
    return not _has_stacked_lines(rotated(image, line.turn))


def likelier(image: Image, line: Reading, page: PageReading) -> Reading | PageReading:
    """The likelier of two readings of an image: as one line, and as a page.

    Each counts by its confidence times the share of the image's ink that it explains. The single line explains all ink
    but that of the page's rows beside the one with most ink. Of a page with one row, scraps of lines that the
    image's edge cuts off are left out. Where both readings are hardly more than noise, the page has no lines.
    """
    if _is_noise(line, page):
        return replace(page, lines=())
    upright = rotated(image, page.turn)
    page = _without_cut_lines(upright, page)
    shares = _ink_shares(upright, [page_line.quad for page_line in page.lines])
    ink: dict[int, float] = defaultdict(float)
    confidence: dict[int, float] = defaultdict(lambda: 1.0)
    rows = [0] * len(page.lines) if _is_one_row(page) else [page_line.row for page_line in page.lines]
    for row, page_line, share in zip(rows, page.lines, shares, strict=True):
        ink[row] += share
        confidence[row] *= page_line.reading.confidence  # that of a line is that of its whole text, too
    whole = min(1.0, sum(shares))  # a page that explains half of the ink misses half of the text
    explained = [whole * confidence[row] * ink[row] for row in ink]
    page_score = sum(explained)
    certainty = line.confidence if line.text else 0.0  # a page is often read as an empty line, with full confidence
    line_score = certainty * (1.0 - (page_score - max(explained, default=0.0)))
    return page if page_score > line_score else line


def _is_noise(line: Reading, page: PageReading) -> bool:
    """Whether an image seems to have no text: no confident reading, and no more than scraps of lines."""
    readings = [line, *(page_line.reading for page_line in page.lines)]
    return max(
        (reading.confidence for reading in readings if reading.text), default=0.0
    ) < NO_TEXT_MAX_CONFIDENCE and all(len(page_line.reading.text) <= SCRAP_MAX_CHARACTERS for page_line in page.lines)


def _without_cut_lines(image: Image, page: PageReading) -> PageReading:
    """The page without doubtful lines at the image's upper and lower edge, if all others are in one row."""
    height = image.shape[0]
    kept = [
        page_line
        for page_line in page.lines
        if page_line.reading.confidence >= CUT_LINE_MIN_CONFIDENCE
        or (page_line.quad[:, 1].min() > EDGE_PX and page_line.quad[:, 1].max() < height - 1 - EDGE_PX)
    ]
    if len({page_line.row for page_line in kept}) != 1:
        return page
    return replace(page, lines=tuple(replace(page_line, row=0) for page_line in kept))


def _is_one_row(page: PageReading) -> bool:
    """Whether a horizontal line runs through all lines of a page, such as the parts of one line."""
    tops = [float(page_line.quad[:, 1].min()) for page_line in page.lines]
    bottoms = [float(page_line.quad[:, 1].max()) for page_line in page.lines]
    return max(tops, default=0.0) < min(bottoms, default=0.0)


def _ink_shares(image: Image, quads: Sequence[Quad]) -> list[float]:
    """Share of an image's ink, in [0, 1], inside each quadrangle and the margin around it."""
    plain = grey(image)
    scale = min(1.0, INK_MAX_SIDE_PX / max(plain.shape))
    if scale < 1:
        plain = np.asarray(cv2.resize(plain, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    contrast = cv2.morphologyEx(plain, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    noise = max(MIN_CONTRAST, INK_MIN_CONTRAST_RATIO * float(np.percentile(contrast, INK_PERCENTILE)))
    ink = np.where(contrast > noise, contrast, 0).astype(np.float32)
    total = max(float(ink.sum()), 1.0)
    shares = []
    for quad in quads:
        inside = np.zeros(plain.shape, np.uint8)
        cv2.fillConvexPoly(inside, np.rint(padded_quad(quad) * scale).astype(np.int32), 1)
        shares.append(float(ink[inside > 0].sum()) / total)
    return shares


def _has_stacked_lines(image: Image) -> bool:
    """Whether the ink of an image lies in at least two stacks of rows with a gap between them."""
    small = _reduced(image)
    rows = np.convolve(_edges(small).mean(1), (0.25, 0.5, 0.25), mode="same")
    if rows.max() < 1.0:  # no letter has only horizontal edges: either nothing, or bars
        return bool(small.std() >= MIN_CONTRAST)
    above, below = np.maximum.accumulate(rows), np.maximum.accumulate(rows[::-1])[::-1]
    ink = np.cumsum(rows)
    is_between = np.minimum(ink, ink[-1] - ink) > STACK_MIN_INK_SHARE * ink[-1]
    return bool((is_between & (rows < GAP_MAX_INK_RATIO * np.minimum(above, below))).any())


def _reduced(image: Image) -> Image:
    """Grey copy of an image at the profile's size; reduced before its colours are reduced, which takes longer."""
    height, width = image.shape[:2]
    step = max(1, height // (4 * PROFILE_HEIGHT_PX))
    size = (min(max(8, round(width * PROFILE_HEIGHT_PX / height)), PROFILE_MAX_WIDTH_PX), PROFILE_HEIGHT_PX)
    small = cv2.resize(image[::step, ::step], size, interpolation=cv2.INTER_AREA)
    return grey(np.asarray(small, np.uint8))


def _edges(plain: Image) -> NDArray[np.float32]:
    """Contrast of each pixel of a grey image with its right neighbour."""
    return np.abs(np.diff(plain.astype(np.float32), axis=1))
