"""Conversion of decoded Pillow images to 8-bit arrays, a few rows at a time.

An array is uint8, ``(H, W)`` grey or ``(H, W, 3)`` RGB. Beside Pillow's image and the array, the conversion needs
memory for ``BAND_PIXELS`` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Convert = Callable[[Image.Image], Image.Image]

BAND_PIXELS = 250_000  # pixels that are converted at once

# Standard deviation of the brightness of visible pixels, 0 to 255. Above it, an image with alpha carries its content in
# the colours; below it, the visible part is uniform ink and the content is in the alpha channel.
UNIFORM_INK_MAX_DEVIATION = 40.0

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# EXIF orientation -> view of the pixels that is upright
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def to_pixels(image: Image.Image, divisor: int) -> Pixels:
    """Convert an image of any Pillow mode, reduced in size by ``divisor``.

    Grey of more than 8 bits is scaled by its range. Transparent images are composited onto black or white.
    """
    size = math.ceil(image.height / divisor), math.ceil(image.width / divisor)
    if image.mode.startswith("I") or image.mode == "F":
        low, high = _value_range(image)
        return _collect(_bands(image, divisor, lambda band: _scale_to_eight_bits(band, low, high)), size)
    if not image.has_transparency_data:
        mode = "L" if image.mode in ("1", "L") else "RGB"
        bands = _bands(image, divisor, lambda band: band.convert(mode))
        return _collect(bands, size if mode == "L" else (*size, 3))
    background = _choose_background(_bands(image, divisor, _to_rgba))
    bands = _bands(image, divisor, _to_rgba)
    return _collect((_composite(band, background) for band in bands), (*size, 3))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation, 1 to 8; return contiguous pixels."""
    return np.ascontiguousarray(_UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels)


def _bands(image: Image.Image, divisor: int, convert: Convert) -> Iterator[Pixels]:
    """Yield the pixels of an image from top to bottom, converted and reduced."""
    for crop in _crops(image, divisor):
        band = convert(crop)
        yield np.asarray(band.reduce(divisor) if divisor > 1 else band)


def _crops(image: Image.Image, divisor: int) -> Iterator[Image.Image]:
    """Cut an image into bands of a multiple of ``divisor`` rows."""
    rows = divisor * max(1, BAND_PIXELS // (image.width * divisor))
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _collect(bands: Iterator[Pixels], shape: tuple[int, ...]) -> Pixels:
    pixels = np.empty(shape, np.uint8)
    top = 0
    for band in bands:
        pixels[top : top + len(band)] = band
        top += len(band)
    return pixels


def _to_rgba(image: Image.Image) -> Image.Image:
    return image.convert("RGBA")


def _finite(image: Image.Image) -> npt.NDArray[np.generic]:
    values = np.asarray(image)
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) if values.dtype.kind == "f" else values


def _value_range(image: Image.Image) -> tuple[float, float]:
    """Lowest and highest finite value of a grey image."""
    low, high = math.inf, -math.inf
    for band in _crops(image, 1):
        values = _finite(band)
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _scale_to_eight_bits(image: Image.Image, low: float, high: float) -> Image.Image:
    """Scale grey values of 12, 16 or 32 bits or floating point from ``low`` to ``high`` to 0 to 255."""
    if high <= low:
        return Image.new("L", image.size, 255)
    values = _finite(image).astype(np.float64)
    return Image.fromarray(np.rint((values - low) * (255.0 / (high - low))).astype(np.uint8))


def _choose_background(bands: Iterator[Pixels]) -> float | None:
    """Choose black (0) or white (255) as the background that keeps RGBA pixels readable; None if none is visible.

    Uniform ink gets the background opposite to its brightness. An image with light and dark parts, such as a label with
    rounded corners, gets the background closest to it, so that its edge does not become a stroke.
    """
    visible = total = total_square = 0.0
    for band in bands:
        luma = (band[..., :3] @ _LUMA).astype(np.float64)
        weight = band[..., 3] / 255.0
        visible += float(weight.sum())
        total += float((luma * weight).sum())
        total_square += float((np.square(luma) * weight).sum())
    if visible == 0.0:
        return None
    mean = total / visible
    deviation = math.sqrt(max(0.0, total_square / visible - mean * mean))
    is_bright = mean >= 127.5
    return 255.0 if is_bright == (deviation > UNIFORM_INK_MAX_DEVIATION) else 0.0


def _composite(rgba: Pixels, background: float | None) -> Pixels:
    """Composite RGBA pixels ``(H, W, 4)`` onto a background; white without one."""
    if background is None:
        return np.full((*rgba.shape[:2], 3), 255, np.uint8)
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    composed: Pixels = np.rint(rgba[..., :3] * alpha + background * (1.0 - alpha)).astype(np.uint8)
    return composed
