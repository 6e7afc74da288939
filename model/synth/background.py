"""Backgrounds: colours, textures, smooth noise, and the crop of a line."""

import colorsys
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Plane = NDArray[np.float32]
Colour = NDArray[np.float32]  # red, green and blue in grey levels, `(3,)`

LUMINANCE_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601

MIN_CONTRAST_LEVELS = 30  # grey levels between ink and background: people cannot read text of less contrast


def paste(plane: Grey, mask: Grey, x: int, y: int) -> None:
    """Add ink to the plane in place, clipped to it, with its top-left corner at (x, y)."""
    top, left = max(0, y), max(0, x)
    part = mask[top - y : plane.shape[0] - y, left - x : plane.shape[1] - x]
    if part.size and top < plane.shape[0] and left < plane.shape[1]:
        window = plane[top : top + part.shape[0], left : left + part.shape[1]]
        np.maximum(window, part, out=window)


def smooth_noise(noise: np.random.Generator, shape: tuple[int, int], cells: int) -> Plane:
    """Generate smooth noise in about [-1, 1], float32 of `shape`, with `cells` cells along the height."""
    rows = max(2, cells)
    columns = max(2, min(64, round(cells * shape[1] / shape[0])))
    coarse = noise.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def random_grey_levels(random: Random) -> tuple[float, float]:
    """Choose the grey levels of background and ink; either may be lighter, often by little."""
    while True:
        base, letters = random.uniform(0, 255), random.uniform(0, 255)
        if random.random() < 0.35:
            base, letters = random.choice(((245, 20), (15, 235), (200, 40), (60, 220)))
        if abs(base - letters) >= MIN_CONTRAST_LEVELS + 70 * random.random() ** 2:
            return base, letters


def random_colour(random: Random, level: float) -> Colour:
    """Choose a colour of any saturation with the luminance of the grey `level`, at most 255."""
    level = min(level, 255.0)
    saturation = random.choice((0.0, random.uniform(0.0, 0.35), random.uniform(0.2, 0.8), random.uniform(0.6, 1.0)))
    pure = np.array(colorsys.hsv_to_rgb(random.random(), saturation, 1.0), np.float32)
    colour = pure * (level / float(pure @ LUMINANCE_WEIGHTS))
    peak = float(colour.max())
    if peak > 255:  # reduce the saturation, so that the luminance stays and no channel overflows
        colour = level + (colour - level) * ((255 - level) / (peak - level))
    return np.asarray(colour, np.float32)


def random_colour_pair(random: Random) -> tuple[Colour, Colour]:
    """Choose the colours of background and letters.

    They differ in luminance or, sometimes, in hue alone.
    """
    if random.random() < 0.85:
        base, letters = random_grey_levels(random)
        return random_colour(random, base), random_colour(random, letters)
    while True:
        level = random.uniform(20, 235)
        pair = random_colour(random, level), random_colour(random, min(250.0, max(5.0, level + random.gauss(0, 25))))
        if float(np.linalg.norm(pair[0] - pair[1])) >= 2 * MIN_CONTRAST_LEVELS:
            return pair


def tint(random: Random, image: Grey) -> NDArray[np.uint8]:
    """Tint a grey image with colours of paper and ink, mostly faint ones: uint8 RGB `(H, W, 3)`."""
    dark, light = random_colour(random, random.uniform(2, 60)), random_colour(random, random.uniform(200, 250))
    strength = random.choice((0.1, 0.3, 1.0))
    dark, light = dark * strength, 255 + (light - 255) * strength
    steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = np.asarray(np.clip(dark + (light - dark) * steps, 0, 255), np.uint8)
    return table[image]


def crop(random: Random, image: Grey, corners: NDArray[np.float32], spread: float) -> Grey:
    """Crop the axis-aligned box of `corners`, tighter or looser by about `spread` of its height."""
    low, high = corners.min(0), corners.max(0)
    height = float(high[1] - low[1])
    left, top = (float(low[i]) - height * random.gauss(spread / 2, spread) for i in (0, 1))
    right, bottom = (float(high[i]) + height * random.gauss(spread / 2, spread) for i in (0, 1))
    y0, y1 = max(0, round(top)), min(image.shape[0], round(bottom))
    x0, x1 = max(0, round(left)), min(image.shape[1], round(right))
    if y1 - y0 < 4 or x1 - x0 < 4:
        return image
    return np.ascontiguousarray(image[y0:y1, x0:x1])


def rough_noise(random: Random, noise: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Generate rough texture of standard deviation 1, float32 of `shape`.

    Grains are one to four pixels wide.
    """
    size = random.uniform(1, 4)
    coarse = noise.standard_normal((round(shape[0] / size) + 1, round(shape[1] / size) + 1), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def lamp_reflection(random: Random, shape: tuple[int, int]) -> Plane:
    """Generate a lamp's reflection in grey levels, float32 of `shape`: a Gaussian spot at a random place."""
    rows, columns = np.arange(shape[0], dtype=np.float32)[:, None], np.arange(shape[1], dtype=np.float32)[None]
    across, down = (shape[0] * random.uniform(0.3, 1.5) for _ in range(2))
    distance = ((columns - random.uniform(0, shape[1])) / across) ** 2 + (
        (rows - random.uniform(0, shape[0])) / down
    ) ** 2
    return np.asarray(random.uniform(80, 350) * np.exp(-distance), np.float32)


def add_courses(random: Random, canvas: Plane, contrast: float) -> None:
    """Add stripes, planks, shutters or bricks to the canvas in place."""
    height, width = canvas.shape[:2]
    period = random.uniform(6, 40)
    strength = contrast * random.uniform(0.1, 0.35)
    if random.random() < 0.5:
        axis = np.arange(height if random.random() < 0.7 else width, dtype=np.float32)
        wave = np.sign(np.sin(axis * 2 * np.pi / period)) * strength
        canvas += wave[:, None, None] if axis.size == height else wave[None, :, None]
        return
    joint = random.choice((-1, 1)) * strength * 2
    thickness = max(1, round(period * 0.12))
    for row, y in enumerate(np.arange(random.uniform(0, period), height, period)):
        canvas[int(y) : int(y) + thickness] += joint
        for x in np.arange((row % 2) * period + random.uniform(0, 2), width, 2 * period):
            canvas[int(y) : int(y + period), int(x) : int(x) + thickness] += joint


def add_panels(random: Random, canvas: Plane, base: Colour, letters: Colour) -> None:
    """Add edges that are no letters: a second background colour, a frame, or bars."""
    height, width = canvas.shape[:2]
    # Panel colours lie on the background's side of the letters, so that the word stays legible on every panel.
    share = random.uniform(-1.0, -0.2) if random.random() < 0.4 else random.uniform(0.15, 0.5)
    level = (base + (letters - base) * share).tolist()
    kind = random.random()
    if kind < 0.4:  # a vertical edge
        x, lean = random.randrange(width), random.gauss(0, 0.5) * height
        corners = np.array([[x, 0], [width, 0], [width, height], [x + lean, height]], np.int32)
        cv2.fillPoly(canvas, [corners], level)
    elif kind < 0.65:  # a horizontal edge
        y = random.randrange(height)
        lean = random.gauss(0, 0.06) * width
        cv2.fillPoly(canvas, [np.array([[0, y], [width, y + lean], [width, height], [0, height]], np.int32)], level)
    elif kind < 0.85:  # a frame or a plate around the word
        inset = round(height * random.uniform(0.12, 0.3))
        cv2.rectangle(canvas, (inset, inset), (width - inset, height - inset), level, random.choice((1, 2, 3, 5, -1)))
    else:  # bars, posts and cables
        for _ in range(random.randint(1, 3)):
            start = (random.randrange(width), 0) if random.random() < 0.6 else (0, random.randrange(height))
            end = (random.randrange(width), height) if start[1] == 0 else (width, random.randrange(height))
            cv2.line(canvas, start, end, level, random.randint(1, max(2, height // 12)))
