"""Augmentation of real lines: their own ground around and between them, crop, view, blur and JPEG."""

import math
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.synth import camera
from linewise.model.synth.spacing import log_uniform

Grey = NDArray[np.uint8]
Runs = list[tuple[int, int]]


def ground_runs(image: Grey, least: int = 3) -> Runs:
    """Column ranges without ink, at least `least` pixels wide, their edges left out."""
    soft = cv2.GaussianBlur(image, (3, 3), 0).astype(np.int16)
    level = int(np.median(soft))
    reach = max(abs(int(np.percentile(soft, q)) - level) for q in (1, 99))
    free = np.abs(soft - level).max(axis=0) < max(6.0, 0.3 * reach)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], free.astype(np.int8), [0]])))
    runs = [(int(a) + 1, int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(a, b) for a, b in runs if b - a >= least]


def ground(random: Random, image: Grey, height: int, width: int) -> Grey:
    """Empty paper of `height` x `width` in the manner of the picture's own, from columns without ink."""
    if not (height and width):
        return np.zeros((height, width), np.uint8)
    runs = ground_runs(image)
    level = np.median(image)
    if not runs or random.random() < 0.15:
        spread = float(np.std(np.concatenate([image[:, a:b].ravel() for a, b in runs]))) if runs else 2.0
        noise = np.random.default_rng(random.getrandbits(32)).normal(0, min(spread, 12.0), (height, width))
        soft = cv2.GaussianBlur(noise, (0, 0), random.uniform(0.4, 1.2))
        return np.asarray(np.clip(level + soft * random.uniform(0.5, 2.0), 0, 255), np.uint8)
    pieces: list[Grey] = []
    total = 0
    while total < width:
        a, b = random.choice(runs)
        piece = image[:, a:b]
        if random.random() < 0.5:
            piece = piece[:, ::-1]
        if random.random() < 0.3:
            piece = piece[::-1]
        pieces.append(piece)
        total += b - a
    strip = np.concatenate(pieces, axis=1)[:, :width]
    if height != image.shape[0]:  # rows from the middle, mirrored as often as needed
        rows = np.abs(np.arange(height) + random.randrange(image.shape[0])) % (2 * image.shape[0])
        strip = strip[np.where(rows < image.shape[0], rows, 2 * image.shape[0] - 1 - rows)]
    return np.ascontiguousarray(strip)


def with_margins(random: Random, image: Grey, left: int, right: int, above: int, below: int) -> Grey:
    """The picture with so many pixels of its own ground added on each side."""
    height, width = image.shape
    if left or right:
        image = np.concatenate(
            [ground(random, image, height, left), image, ground(random, image, height, right)], axis=1
        )
    if above or below:
        width = image.shape[1]
        image = np.concatenate(
            [ground(random, image, above, width), image, ground(random, image, below, width)], axis=0
        )
    return image


def spliced(random: Random, first: Grey, second: Grey, gap: float) -> Grey:
    """Two lines in one, `gap` heights of the first one's ground between them."""
    height = first.shape[0]
    width = max(2, round(second.shape[1] * height / second.shape[0]))
    second = np.asarray(cv2.resize(second, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    shift = float(np.median(first)) - float(np.median(second))
    second = np.asarray(np.clip(second + shift, 0, 255), np.uint8)
    return np.concatenate([first, ground(random, first, height, round(gap * height)), second], axis=1)


def augmented(random: Random, noise: np.random.Generator, image: Grey) -> Grey:
    """A real line changed as another scan of it might be; what it says stays legible."""
    height = image.shape[0]
    if random.random() < 0.3:
        sides = random.choice(((1, 0), (0, 1), (1, 1)))
        left, right = (round(side * height * log_uniform(random, 0.2, 8)) for side in sides)
        image = with_margins(random, image, left, right, 0, 0)
    if random.random() < 0.2:
        above, below = (round(height * random.uniform(0.0, 0.45)) for _ in range(2))
        image = with_margins(random, image, 0, 0, above, below)
    else:  # crop a little tighter or looser, never into a line's own letters by more than a pixel or two
        cut = [random.randint(0, max(0, round(0.04 * height))) for _ in range(2)]
        image = image[cut[0] : image.shape[0] - cut[1]]
    if random.random() < 0.4:
        image = _rotated(random, image)
    image = _toned(random, image)
    if random.random() < 0.3:
        image = camera.blur(random, image, 0.05)
    rows = random.randint(12, 20) if random.random() < 0.2 else random.randint(22, 48)
    stretch = math.exp(random.gauss(0, 0.07))
    width = max(4, round(image.shape[1] * rows / image.shape[0] * stretch))
    method = random.choice((cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC))
    image = np.asarray(cv2.resize(image, (width, rows), interpolation=method), np.uint8)
    if random.random() < 0.25:
        image = np.asarray(camera.add_noise(random, noise, image, 14), np.uint8)
    if random.random() < 0.5:
        image = np.asarray(camera.compress_jpeg(image, random.randint(10, 90)), np.uint8)
    return np.ascontiguousarray(image)


def degraded(random: Random, image: camera.Image) -> camera.Image:
    """Now and then the picture pasted on a plain ground, at half its size, or after strong JPEG compression."""
    if random.random() < 0.05:
        height = image.shape[0]
        left, right = (round(height * log_uniform(random, 0.2, 8)) if random.random() < 0.6 else 0 for _ in range(2))
        top, bottom = (round(height * random.uniform(0.05, 0.45)) if random.random() < 0.4 else 0 for _ in range(2))
        rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        if random.random() < 0.5:
            colour = np.atleast_1d(np.median(rim, axis=0)).tolist()
            image = np.asarray(
                cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour), np.uint8
            )
        else:
            image = np.asarray(cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE), np.uint8)
    if random.random() < 0.06 and image.shape[0] > 20:
        image = np.asarray(camera.resample(random, image, random.randint(12, 18)), np.uint8)
    if random.random() < 0.06:
        image = np.asarray(camera.compress_jpeg(image, random.randint(8, 22)), np.uint8)
    return image


def _rotated(random: Random, image: Grey) -> Grey:
    """Rotated and slanted, by so little that the ends of a long line stay inside."""
    height, width = image.shape
    rise = random.gauss(0, 0.04) * height  # from one end to the other
    slant = random.gauss(0, 0.08)
    slope = rise / max(width, height)
    matrix = np.array([[1, slant, -slant * height / 2], [slope, 1, -slope * width / 2]], np.float32)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _toned(random: Random, image: Grey) -> Grey:
    """Another contrast, gamma and, seldom, light print on dark."""
    levels = np.arange(256, dtype=np.float32) / 255
    levels = levels ** math.exp(random.gauss(0, 0.25))
    low = random.uniform(0, 0.3)
    levels = low + levels * (random.uniform(0.55, 1.0) - low) if random.random() < 0.3 else levels
    if random.random() < 0.04:
        levels = 1 - levels
    return np.asarray(np.clip(levels * 255, 0, 255), np.uint8)[image]
