"""Postprocessing of the detector: from a map of kernel probabilities to lines."""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from linewise.model.page.geometry import KERNEL_SHRINK_RATIO, order_corners
from linewise.model.page.results import FoundLine

ProbabilityMap = NDArray[np.float32]

MAP_STRIDE_PX = 4  # page pixels for each cell of the map

CELL_MIN_PROBABILITY = 0.4  # from which a cell belongs to a kernel
KERNEL_MIN_MEAN_PROBABILITY = 0.55  # below which a kernel is discarded
UPSAMPLING_FACTOR = 2  # of the map before contours are traced, for corners within a cell
CONTOUR_RIM_CELLS = 2  # upsampled cells around a contour over which a kernel fades
KERNEL_MIN_HEIGHT_CELLS = 0.6  # below which a kernel is discarded


def find_lines(probabilities: ProbabilityMap) -> list[FoundLine]:
    """Lines of a map of kernel probabilities `(h, w)` in [0, 1]; corners in page pixels, in no order."""
    upsampled = cv2.resize(
        probabilities, None, fx=UPSAMPLING_FACTOR, fy=UPSAMPLING_FACTOR, interpolation=cv2.INTER_LINEAR
    )
    mask = np.asarray(upsampled > CELL_MIN_PROBABILITY, np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    lines = (_line(contour, upsampled) for contour in contours)
    return [line for line in lines if line is not None]


def _line(contour: MatLike, upsampled: MatLike) -> FoundLine | None:
    """The line around a kernel, or None for a faint or too flat kernel."""
    left, top, width, height = cv2.boundingRect(contour)
    first_row, first_column = max(0, top - CONTOUR_RIM_CELLS), max(0, left - CONTOUR_RIM_CELLS)
    part = upsampled[
        first_row : top + height + CONTOUR_RIM_CELLS,
        first_column : left + width + CONTOUR_RIM_CELLS,
    ]
    inside = np.zeros(part.shape, np.uint8)
    cv2.drawContours(inside, [contour - (first_column, first_row)], -1, 1, -1)
    score = float(cv2.mean(part, inside)[0])
    if score < KERNEL_MIN_MEAN_PROBABILITY:
        return None
    # A contour runs through the centres of its outermost cells: the full length is one cell more.
    # A kernel is only a few cells high, so that its height is computed from the sum of its probabilities:
    # the probability of a cell that it covers in part is the share that it covers.
    centre, sides, angle = cv2.minAreaRect(contour)
    longer = max(sides) + 1
    rim = np.ones((2 * CONTOUR_RIM_CELLS + 1, 2 * CONTOUR_RIM_CELLS + 1), np.uint8)
    shorter = float(part[cv2.dilate(inside, rim) > 0].sum()) / longer
    if shorter < UPSAMPLING_FACTOR * KERNEL_MIN_HEIGHT_CELLS:
        return None
    growth = 2 * shorter * KERNEL_SHRINK_RATIO / (1 - 2 * KERNEL_SHRINK_RATIO)
    size = [longer + growth, min(shorter, longer) + growth]
    corners = cv2.boxPoints((centre, size if sides[0] >= sides[1] else size[::-1], angle))
    return FoundLine(order_corners((corners + 0.5) * (MAP_STRIDE_PX / UPSAMPLING_FACTOR) - 0.5), score)
