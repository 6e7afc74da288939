"""Geometry of line quadrangles: size, kernel, crops out of a page, and boxes of a crop on the page."""

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


def crop_line(page: Image, quad: Quad) -> Image:
    """Crop a line, rectified, with a margin of `CROP_MARGIN_RATIO`; uint8, with the page's channels."""
    padded, is_sliced = _crop_quad(quad)
    if is_sliced:
        left, top, right, bottom = _slice_box(padded)
        part = page[top:bottom, left:right]
        if part.size:
            return np.ascontiguousarray(part)
    return _warp(page, padded, *_warped_size(padded))


def boxes_on_page(quad: Quad, boxes: NDArray[np.float64], turn: int = 0) -> NDArray[np.float32]:
    """Corners `(n, 4, 2)` on the page of boxes `(n, 4)` in the crop of a line.

    A box is left, top, right and bottom, in pixels of the crop after its clockwise rotation by `turn` degrees. The
    corners of each run clockwise from the top left one of the rotated crop.
    """
    padded, is_sliced = _crop_quad(quad)
    left, top, right, bottom = _slice_box(padded)
    width, height = (right - left, bottom - top) if is_sliced else _warped_size(padded)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    if turn == 90:
        corners = np.stack([corners[..., 1], height - corners[..., 0]], -1)
    elif turn == 270:
        corners = np.stack([width - corners[..., 1], corners[..., 0]], -1)
    if is_sliced:
        return np.asarray(corners + np.array([left, top]), np.float32)
    # Corners are edges of pixels, a warp counts from their centres.
    matrix = cv2.getPerspectiveTransform(_edges(width, height), np.asarray(padded + 0.5, np.float32))
    placed = cv2.perspectiveTransform(corners.reshape(1, -1, 2), matrix) if len(boxes) else corners
    return np.asarray(placed, np.float32).reshape(-1, 4, 2)


def padded_quad(quad: Quad) -> Quad:
    """A line with a margin of `CROP_MARGIN_RATIO` on all sides."""
    width, height = quad_size(quad)
    margin = CROP_MARGIN_RATIO * min(width, height)
    x = (quad[1] - quad[0]) / max(width, MIN_SIDE_PX) * margin
    y = (quad[3] - quad[0]) / max(height, MIN_SIDE_PX) * margin
    return np.asarray(quad + np.stack([-x - y, x - y, x + y, y - x]), np.float32)


def _crop_quad(quad: Quad) -> tuple[Quad, bool]:
    """The line with its margin, and whether its crop is a slice of the page."""
    padded = padded_quad(quad)
    return padded, _is_axis_aligned(padded, 0.02 * quad_size(quad)[1] + 0.5)


def _warped_size(padded: Quad) -> tuple[int, int]:
    """Width and height in pixels of the crop of a line with its margin that is no slice of the page."""
    width, height = quad_size(padded)
    return max(1, round(width)), max(1, round(height))


def _edges(width: int, height: int) -> Quad:
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def _is_axis_aligned(quad: Quad, tolerance_px: float) -> bool:
    low, high = quad.min(0), quad.max(0)
    return float(np.abs(quad - [low, (high[0], low[1]), high, (low[0], high[1])]).max()) < tolerance_px


def _slice_box(quad: Quad) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the slice that holds the bounding box; at least one pixel on either side."""
    left, top = (max(0, round(float(v))) for v in quad.min(0))
    right, bottom = (max(round(float(v)), 1) for v in quad.max(0))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _warp(page: Image, quad: Quad, width: int, height: int) -> Image:
    matrix = cv2.getPerspectiveTransform(quad, np.asarray(_edges(width, height) - 0.5, np.float32))
    size = (width, height)
    warped = cv2.warpPerspective(page, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, np.uint8)
