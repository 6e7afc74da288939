"""What the detector is to say of a page: kernels, the thresholds around them, and what does not count."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.page.geometry import KERNEL_SHRINK_RATIO, Quad, kernel_quad, quad_size
from linewise.model.page.postprocess import MAP_STRIDE_PX

Plane = NDArray[np.uint8]

SMALLEST = 6.0  # pixels: lower lines are neither text nor none, and are left out of the loss
# A figure 1 by itself is a few pixels wide, and its kernel would be less than a cell: widths below this
# many heights are learnt as this many.
NARROWEST = 0.7
FRACTION = 4  # bits after the point in which OpenCV takes corners


@dataclass(frozen=True)
class Targets:
    """Maps `(h, w)` of a page at the detector's stride, uint8, 255 = 1.

    `kernel` is the wanted probability, `border` the wanted threshold from 0.3 far from any rim to
    0.7 on it, `near` where the threshold counts, `counts` where the kernel does.
    """

    kernel: Plane
    border: Plane
    near: Plane
    counts: Plane


def targets(quads: Sequence[Quad], height: int, width: int) -> Targets:
    """The maps of a page of `height` x `width` pixels whose lines have these corners."""
    shape = (height // MAP_STRIDE_PX, width // MAP_STRIDE_PX)
    # Painted in pixels and averaged over cells, for OpenCV fills whatever an outline touches; of pixels,
    # it fills half a one too much.
    painted, counts = np.zeros((height, width), np.uint8), np.full(shape, 255, np.uint8)
    closeness = np.zeros(shape, np.float32)
    for quad in map(_widened, quads):
        shorter = min(quad_size(quad))
        if quad_size(quad)[1] < SMALLEST:
            cv2.fillConvexPoly(counts, _fixed(_cells(quad)), 0, shift=FRACTION)
            continue
        cv2.fillConvexPoly(painted, _fixed(kernel_quad(quad, 0.5)), 255, cv2.LINE_8, FRACTION)
        _raise(closeness, _cells(quad), max(1.0, KERNEL_SHRINK_RATIO * shorter / MAP_STRIDE_PX))
    kernels = np.asarray(cv2.resize(painted, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    near = np.asarray((closeness > 0) * np.uint8(255), np.uint8)
    return Targets(kernels, np.asarray(255 * (0.3 + 0.4 * closeness), np.uint8), near, counts)


def _widened(quad: Quad) -> Quad:
    """The corners of a line at least `NARROWEST` times as wide as high, on its own middle."""
    width, height = quad_size(quad)
    if width >= NARROWEST * height:
        return quad
    across = (quad[1] - quad[0]) / max(width, 1e-3) * (NARROWEST * height - width) / 2
    return np.asarray(quad + np.stack([-across, across, across, -across]), np.float32)


def _cells(quad: Quad) -> Quad:
    """Corners in pixels as corners in cells, both counted from the middle of the first."""
    return np.asarray((quad + 0.5) / MAP_STRIDE_PX - 0.5, np.float32)


def _fixed(cells: Quad) -> NDArray[np.int32]:
    return np.asarray(np.round(cells * 2**FRACTION), np.int32)


def _raise(closeness: NDArray[np.float32], cells: Quad, reach: float) -> None:
    """Lifts the map around the rim of a line to 1 on it, falling to 0 at `reach` cells from it."""
    low = np.floor(cells.min(0) - reach).astype(int)
    high = np.ceil(cells.max(0) + reach).astype(int) + 1
    left, top = (max(0, int(v)) for v in low)
    right, bottom = min(closeness.shape[1], int(high[0])), min(closeness.shape[0], int(high[1]))
    if right - left < 1 or bottom - top < 1:
        return
    rim = np.full((bottom - top, right - left), 255, np.uint8)
    cv2.polylines(rim, [_fixed(cells - np.array([left, top], np.float32))], True, 0, 1, cv2.LINE_8, FRACTION)
    distance = cv2.distanceTransform(rim, cv2.DIST_L2, 3)
    window = closeness[top:bottom, left:right]
    np.maximum(window, np.clip(1 - distance / reach, 0, 1), out=window)
