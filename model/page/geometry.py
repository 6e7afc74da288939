"""Geometry of line quadrangles: size, kernel, spans along a line, and crops out of a page."""

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.recognition.preprocess import Image

# Corners `(4, 2)` in pixels `(x, y)`, clockwise from the top left one of an upright line.
Quad = NDArray[np.float32]

# Rim between a line and its kernel, in shorter sides of the line. A larger rim separates crowded lines better,
# but leaves less than one map cell of a line 12 pixels high.
KERNEL_SHRINK_RATIO = 0.28

# Margin around a line in its crop, in line heights: the recogniser is trained on such margins.
CROP_MARGIN_RATIO = 0.15

MIN_SIDE_PX = 1e-3  # avoids divisions by zero


def quad_size(quad: Quad) -> tuple[float, float]:
    """Width and height of a line in pixels, along its own sides."""
    width = (np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2
    height = (np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])) / 2
    return float(width), float(height)


def kernel_quad(quad: Quad, extra_rim_px: float = 0.0) -> Quad:
    """Shrink a line to its kernel.

    The rim taken off on all sides is `KERNEL_SHRINK_RATIO` times the shorter side, plus `extra_rim_px`.
    """
    across, down = quad[1] - quad[0], quad[3] - quad[0]
    width, height = (max(float(np.linalg.norm(side)), MIN_SIDE_PX) for side in (across, down))
    rim = KERNEL_SHRINK_RATIO * min(width, height) + extra_rim_px
    x, y = across / width * rim, down / height * rim
    return np.asarray(quad + np.stack([x + y, y - x, -x - y, x - y]), np.float32)


def order_corners(corners: NDArray[np.float32]) -> Quad:
    """Order the corners of a rectangle clockwise from the top left; the most level side is the top."""
    centre = corners.mean(0)
    angles = np.arctan2(corners[:, 1] - centre[1], corners[:, 0] - centre[0])
    ordered = corners[np.argsort(angles)]  # clockwise in an image, whose y axis points down
    sides = np.roll(ordered, -1, 0) - ordered
    # The cosine is largest for the most level side that runs to the right.
    cosines = sides[:, 0] / np.maximum(np.linalg.norm(sides, axis=1), 1e-6)
    return np.asarray(np.roll(ordered, -int(np.argmax(cosines)), 0), np.float32)


def span_quad(quad: Quad, start: float, end: float, turn: int = 0) -> Quad:
    """Corners `(4, 2)` of a line's part between `start` and `end`, in pixels along its crop.

    `turn` is the clockwise rotation in degrees that was applied to the crop before the pixels were counted.
    """
    along = np.roll(quad, turn // 90, 0)
    width = max(quad_size(along)[0], MIN_SIDE_PX)
    margin = CROP_MARGIN_RATIO * min(quad_size(quad))
    low, high = (min(max((x - margin) / width, 0.0), 1.0) for x in (start, end))
    top, bottom = along[1] - along[0], along[2] - along[3]
    corners = (along[0] + low * top, along[0] + high * top, along[3] + high * bottom, along[3] + low * bottom)
    return np.asarray(np.stack(corners), np.float32)


def padded_quad(quad: Quad) -> Quad:
    """A line with a margin of `CROP_MARGIN_RATIO` on all sides."""
    width, height = quad_size(quad)
    margin = CROP_MARGIN_RATIO * min(width, height)
    x = (quad[1] - quad[0]) / max(width, MIN_SIDE_PX) * margin
    y = (quad[3] - quad[0]) / max(height, MIN_SIDE_PX) * margin
    return np.asarray(quad + np.stack([-x - y, x - y, x + y, y - x]), np.float32)


def crop_line(page: Image, quad: Quad) -> Image:
    """Crop a line, rectified, with a margin of `CROP_MARGIN_RATIO`; uint8, with the page's channels."""
    width, height = quad_size(quad)
    margin = CROP_MARGIN_RATIO * min(width, height)
    padded = padded_quad(quad)
    if _is_axis_aligned(padded, 0.02 * height + 0.5):
        part = _slice(page, padded)
        if part.size:
            return np.ascontiguousarray(part)
    return _warp(page, padded, max(1, round(width + 2 * margin)), max(1, round(height + 2 * margin)))


def _is_axis_aligned(quad: Quad, tolerance_px: float) -> bool:
    low, high = quad.min(0), quad.max(0)
    return float(np.abs(quad - [low, (high[0], low[1]), high, (low[0], high[1])]).max()) < tolerance_px


def _slice(page: Image, quad: Quad) -> Image:
    """The part of the page inside the bounding box; empty where the box lies outside of the page."""
    left, top = (max(0, round(float(v))) for v in quad.min(0))
    right, bottom = (max(round(float(v)), 1) for v in quad.max(0))
    return page[top : max(bottom, top + 1), left : max(right, left + 1)]


def _warp(page: Image, quad: Quad, width: int, height: int) -> Image:
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(quad, target)
    size = (width, height)
    warped = cv2.warpPerspective(page, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)
