"""Target maps of the line detector: kernels, thresholds around them, and ignored cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.page.geometry import KERNEL_SHRINK_RATIO, Quad, kernel_quad, quad_size
from linewise.model.page.postprocess import MAP_STRIDE_PX

Plane = NDArray[np.uint8]

MIN_LINE_HEIGHT_PX = 6.0  # lower lines are neither text nor background, and are left out of the loss
# A figure 1 by itself is a few pixels wide, and its kernel would be less than a cell: narrower lines are
# learnt at this width.
MIN_LINE_WIDTH_HEIGHTS = 0.7
FRACTION_BITS = 4  # of corner coordinates given to OpenCV


@dataclass(frozen=True)
class DbTargets:
    """Maps `(h, w)` of a page at the detector's stride, uint8, 255 = 1.

    `kernel` is the target probability, `border` the target threshold from 0.3 far from any border to 0.7 on it,
    `near` marks the cells where the threshold counts, `counts` those where the kernel does.
    """

    kernel: Plane
    border: Plane
    near: Plane
    counts: Plane


def db_targets(quads: Sequence[Quad], height: int, width: int) -> DbTargets:
    """The maps of a page of `height` x `width` pixels whose lines have these corners."""
    shape = (height // MAP_STRIDE_PX, width // MAP_STRIDE_PX)
    # Painted in pixels and averaged over cells: OpenCV fills every cell that an outline touches, and of
    # pixels only half a one too many.
    painted, counts = np.zeros((height, width), np.uint8), np.full(shape, 255, np.uint8)
    closeness = np.zeros(shape, np.float32)
    for quad in map(_widened, quads):
        shorter = min(quad_size(quad))
        if quad_size(quad)[1] < MIN_LINE_HEIGHT_PX:
            cv2.fillConvexPoly(counts, _fixed_point(_to_cells(quad)), 0, shift=FRACTION_BITS)
            continue
        cv2.fillConvexPoly(painted, _fixed_point(kernel_quad(quad, 0.5)), 255, cv2.LINE_8, FRACTION_BITS)
        _raise_near_border(closeness, _to_cells(quad), max(1.0, KERNEL_SHRINK_RATIO * shorter / MAP_STRIDE_PX))
    kernels = np.asarray(cv2.resize(painted, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    near = np.asarray((closeness > 0) * np.uint8(255), np.uint8)
    return DbTargets(kernels, np.asarray(255 * (0.3 + 0.4 * closeness), np.uint8), near, counts)


def _widened(quad: Quad) -> Quad:
    """The corners of a line at least `MIN_LINE_WIDTH_HEIGHTS` wide, about its own middle."""
    width, height = quad_size(quad)
    if width >= MIN_LINE_WIDTH_HEIGHTS * height:
        return quad
    across = (quad[1] - quad[0]) / max(width, 1e-3) * (MIN_LINE_WIDTH_HEIGHTS * height - width) / 2
    return np.asarray(quad + np.stack([-across, across, across, -across]), np.float32)


def _to_cells(quad: Quad) -> Quad:
    """Corners in pixels as corners in cells, both counted from the middle of the first."""
    return np.asarray((quad + 0.5) / MAP_STRIDE_PX - 0.5, np.float32)


def _fixed_point(cells: Quad) -> NDArray[np.int32]:
    return np.asarray(np.round(cells * 2**FRACTION_BITS), np.int32)


def _raise_near_border(closeness: NDArray[np.float32], cells: Quad, reach: float) -> None:
    """Raise the map to 1 on a line's border, falling to 0 at `reach` cells from it."""
    low = np.floor(cells.min(0) - reach).astype(int)
    high = np.ceil(cells.max(0) + reach).astype(int) + 1
    left, top = (max(0, int(v)) for v in low)
    right, bottom = min(closeness.shape[1], int(high[0])), min(closeness.shape[0], int(high[1]))
    if right - left < 1 or bottom - top < 1:
        return
    border = np.full((bottom - top, right - left), 255, np.uint8)
    cv2.polylines(
        border, [_fixed_point(cells - np.array([left, top], np.float32))], True, 0, 1, cv2.LINE_8, FRACTION_BITS
    )
    distance = cv2.distanceTransform(border, cv2.DIST_L2, 3)
    window = closeness[top:bottom, left:right]
    np.maximum(window, np.clip(1 - distance / reach, 0, 1), out=window)
