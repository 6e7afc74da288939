"""Camera effects in the order of a capture: view, blur, resampling, noise, JPEG."""

from dataclasses import dataclass
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # `(H, W)` grey or `(H, W, 3)` RGB
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class RenderContext:
    """Random generators and difficulty of one sample.

    `random` makes choices and `noise` fills arrays. `difficulty` in [0, 1] scales the degradations.
    """

    random: Random
    noise: np.random.Generator
    difficulty: float


def warp_view(random: Random, image: Image, box: Box, strength: float) -> tuple[Image, NDArray[np.float32]]:
    """Rotate, shear and tilt the scene by up to `strength` (1 = a casual photo).

    Returns the warped image and the corners of `box` in it, float32 `(4, 2)`, clockwise from the top left.
    """
    angle = np.deg2rad(random.gauss(0, 7) * strength)
    slant = random.gauss(0, 0.16) * strength
    across, down = random.gauss(0, 0.16) * strength, random.gauss(0, 0.1) * strength
    left, top, right, bottom = box
    cx, cy, span = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)
    linear = np.array([[np.cos(angle), -np.sin(angle) + slant], [np.sin(angle), np.cos(angle)]])
    stretch = np.exp(random.gauss(0, 0.12 * min(1.0, strength + 0.3)))
    linear = linear @ np.diag([stretch, 1 / stretch])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[2, :2] = (across / span, down / span)
    to_origin = np.array([[1, 0, -cx], [0, 1, -cy], [0, 0, 1]])
    matrix = matrix @ to_origin
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    moved = cv2.perspectiveTransform(corners[None], matrix)[0]
    low, high = moved.min(0), moved.max(0)
    margin = 0.35 * (high[1] - low[1])
    shift = np.eye(3)
    shift[:2, 2] = margin - low
    matrix = shift @ matrix
    size = (int(high[0] - low[0] + 2 * margin) + 1, int(high[1] - low[1] + 2 * margin) + 1)
    size = (min(size[0], 4096), min(size[1], 1024))
    border = cv2.BORDER_REPLICATE if random.random() < 0.5 else cv2.BORDER_REFLECT
    warped = cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
    placed = cv2.perspectiveTransform(corners[None], matrix)[0]
    return np.asarray(warped, np.uint8), np.asarray(placed, np.float32)


def blur(random: Random, image: Image, strength: float) -> Image:
    """Apply defocus or motion blur; `strength` is the largest radius relative to the height."""
    radius = strength * image.shape[0] * random.random() ** 2
    if radius < 0.3:
        return image
    if random.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), radius), np.uint8)
    length = max(2, round(radius * 3))
    kernel = np.zeros((length, length), np.float32)
    if random.random() < 0.7:
        kernel[length // 2, :] = 1
    else:
        end = random.randint(0, length - 1)
        cv2.line(kernel, (0, end), (length - 1, length - 1 - end), 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def resample(random: Random, image: Image, height: int) -> Image:
    """Scale the image to `height` rows with a random interpolation filter."""
    width = max(2, round(image.shape[1] * height / image.shape[0]))
    method = random.choice((cv2.INTER_AREA, cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC))
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def add_noise(random: Random, generator: np.random.Generator, image: Image, strength: float) -> Image:
    """Add sensor noise, fine or in blotches; `strength` is the largest standard deviation in grey levels."""
    # At most a third of the standard deviation of the image, so that letters stay legible.
    sigma = min(strength * random.random() ** 2, 0.35 * float(image.std()))
    if sigma < 1:
        return image
    if random.random() < 0.4:
        height, width, *channels = image.shape
        coarse = generator.standard_normal((height // 2 + 1, width // 2 + 1, *channels), dtype=np.float32)
        field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    else:
        field = generator.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(image + sigma * field, 0, 255), np.uint8)


def compress_jpeg(image: Image, quality: int) -> Image:
    """Compress the image as JPEG at `quality` (1 to 100) and decode it.

    Raises:
        RuntimeError: OpenCV fails to encode the image.
    """
    has_colour = image.ndim == 3
    source = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if has_colour else image
    ok, data = cv2.imencode(".jpg", source, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError("OpenCV failed to encode a JPEG")
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8) if has_colour else decoded


def to_grey(image: Image) -> Image:
    """Convert the image to grey `(H, W)`."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8) if image.ndim == 3 else image


def sharpen(image: Image, amount: float) -> Image:
    """Apply unsharp masking, which leaves halos as phones and scanners do."""
    blurred = cv2.GaussianBlur(image, (0, 0), 1.2)
    return np.asarray(cv2.addWeighted(image, 1 + amount, blurred, -amount, 0), np.uint8)


def binarise(random: Random, image: Image) -> Image:
    """Threshold the image to black and white, globally or locally, as scanners do."""
    image = to_grey(image)
    if random.random() < 0.7:
        low, high = np.percentile(image, (2, 98))
        threshold = low + (high - low) * random.uniform(0.4, 0.68)
        return np.asarray((image > threshold) * np.uint8(255), np.uint8)
    block = max(9, image.shape[0] // 2 * 2 + 1)
    return np.asarray(
        cv2.adaptiveThreshold(
            image, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, block, random.uniform(8, 20)
        ),
        np.uint8,
    )
