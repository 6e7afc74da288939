"""What every picture stands on: grounds, their colours, ink put into a plane, and the crop around it."""

import colorsys
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Plane = NDArray[np.float32]
Colour = NDArray[np.float32]  # red, green and blue, in grey levels, `(3,)`

LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601

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


def paint(random: Random, level: float) -> Colour:
    """A colour as light as the grey `level`, from none at all to as strong as can be; 255 is the lightest."""
    level = min(level, 255.0)
    saturation = random.choice((0.0, random.uniform(0.0, 0.35), random.uniform(0.2, 0.8), random.uniform(0.6, 1.0)))
    pure = np.array(colorsys.hsv_to_rgb(random.random(), saturation, 1.0), np.float32)
    colour = pure * (level / float(pure @ LUMINANCE))
    beyond = float(colour.max())
    if beyond > 255:  # paler, so that it is no lighter than was asked
        colour = level + (colour - level) * ((255 - level) / (beyond - level))
    return np.asarray(colour, np.float32)


def colours(random: Random) -> tuple[Colour, Colour]:
    """Colours of ground and letters; mostly one is lighter, sometimes they differ by hue alone."""
    if random.random() < 0.85:
        ground, letters = levels(random)
        return paint(random, ground), paint(random, letters)
    while True:
        level = random.uniform(20, 235)
        pair = paint(random, level), paint(random, min(250.0, max(5.0, level + random.gauss(0, 25))))
        if float(np.linalg.norm(pair[0] - pair[1])) >= 2 * SMALLEST_CONTRAST:
            return pair


def tinted(random: Random, image: Grey) -> NDArray[np.uint8]:
    """A grey picture in the colours of its paper and its ink, RGB `(H, W, 3)`; both are faint as a rule."""
    dark, light = paint(random, random.uniform(2, 60)), paint(random, random.uniform(200, 250))
    strength = random.choice((0.1, 0.3, 1.0))
    dark, light = dark * strength, 255 + (light - 255) * strength
    steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = np.asarray(np.clip(dark + (light - dark) * steps, 0, 255), np.uint8)
    return table[image]


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
