"""What every picture stands on: grounds, their grey levels, ink put into a plane, and the crop around it."""

from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Plane = NDArray[np.float32]

SMALLEST_CONTRAST = 30  # grey levels between ink and ground, below which people do not read either


def paste(plane: Grey, mask: Grey, x: int, y: int) -> None:
    """Ink into the plane with its top-left corner at (x, y), cut at the plane's edges."""
    top, left = max(0, y), max(0, x)
    part = mask[top - y : plane.shape[0] - y, left - x : plane.shape[1] - x]
    if part.size and top < plane.shape[0] and left < plane.shape[1]:
        window = plane[top : top + part.shape[0], left : left + part.shape[1]]
        np.maximum(window, part, out=window)


def field(random: Random, noise: np.random.Generator, shape: tuple[int, int], cells: int) -> Plane:
    """A smooth random field in about [-1, 1] with `cells` bumps along the shorter side."""
    rows = max(2, cells)
    columns = max(2, min(64, round(cells * shape[1] / shape[0])))
    coarse = noise.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def levels(random: Random) -> tuple[float, float]:
    """Grey levels of ground and ink, either way round, often close to each other."""
    while True:
        ground, letters = random.uniform(0, 255), random.uniform(0, 255)
        if random.random() < 0.35:
            ground, letters = random.choice(((245, 20), (15, 235), (200, 40), (60, 220)))
        if abs(ground - letters) >= SMALLEST_CONTRAST + 70 * random.random() ** 2:
            return ground, letters


def crop(random: Random, image: Grey, corners: NDArray[np.float32], spread: float) -> Grey:
    """The upright box around the corners, now tighter, now looser."""
    low, high = corners.min(0), corners.max(0)
    height = float(high[1] - low[1])
    left, top = (float(low[i]) - height * random.gauss(spread / 2, spread) for i in (0, 1))
    right, bottom = (float(high[i]) + height * random.gauss(spread / 2, spread) for i in (0, 1))
    y0, y1 = max(0, round(top)), min(image.shape[0], round(bottom))
    x0, x1 = max(0, round(left)), min(image.shape[1], round(right))
    if y1 - y0 < 4 or x1 - x0 < 4:
        return image
    return np.ascontiguousarray(image[y0:y1, x0:x1])
