"""Decoding of untrusted image files to upright 8-bit images.

Pillow decodes the formats listed here and no others. The size in the header, and what else multiplies the work, is
checked before any pixel is decoded.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError, DecompressionBombWarning, Transpose

from linewise.service.documents.decode_cost import check_decode_cost
from linewise.service.errors import (
    Animated,
    EmptyFile,
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    Undecodable,
    UnsupportedImage,
)

Pixels = npt.NDArray[np.uint8]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MIN_SIDE_PX = 3  # a stroke with a gap on each side

# Shorter side down to which an image of a line is reduced. The recogniser scales a line to a few dozen pixels of
# height, so 256 loses nothing, and a queued 50-megapixel photo takes less than a megabyte.
LINE_IMAGE_SIDE_PX = 256

# The same for a page: lines are detected at half of this size, and cut from the full size.
PAGE_IMAGE_SIDE_PX = 2304

# Standard deviation of the brightness of visible pixels, 0 to 255. Above it, an image with alpha carries its content in
# the colours; below it, the visible part is uniform ink and the content is in the alpha channel.
UNIFORM_INK_MAX_DEVIATION = 40.0

BAND_ROWS = 64  # rows of a 16-bit image that are scaled at once

_SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"BM",
    b"II\x2a\x00",
    b"MM\x00\x2a",
    b"II\x2b\x00",
    b"MM\x00\x2b",
)

# EXIF orientation -> transposition that makes the image upright, and the clockwise rotation in it in degrees (after the
# reflection, if there is one).
_UPRIGHT = {
    2: (Transpose.FLIP_LEFT_RIGHT, 0),
    3: (Transpose.ROTATE_180, 180),
    4: (Transpose.FLIP_TOP_BOTTOM, 180),
    5: (Transpose.TRANSPOSE, 270),
    6: (Transpose.ROTATE_270, 90),
    7: (Transpose.TRANSVERSE, 90),
    8: (Transpose.ROTATE_90, 270),
}


@dataclass(frozen=True)
class ImageLimits:
    """Limits on one image: total pixels, longer side in pixels, ratio of longer to shorter side.

    ``max_pages`` limits the pages of a document, each of which is such an image.
    """

    max_pixels: int
    max_side: int
    max_aspect: float
    max_pages: int = 50


@dataclass(frozen=True)
class UprightImage:
    """A decoded image, upright according to its EXIF orientation.

    ``pixels`` is uint8, ``(H, W)`` grey or ``(H, W, 3)`` RGB, possibly reduced in size. ``width`` and ``height`` are
    those of the upright original; ``scale`` is the ratio of original to decoded size. ``orientation_applied`` is the
    clockwise rotation in degrees that was applied.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    orientation_applied: int
    scale: float


def decode(data: bytes, limits: ImageLimits, side: int = LINE_IMAGE_SIDE_PX, frame: int | None = None) -> UprightImage:
    """Decode an untrusted image file; an image whose shorter side is at least twice ``side`` pixels is reduced.

    ``frame`` selects a frame of a TIFF, from 0; without it, several frames are an error. Raises a subclass of
    ``ImageError`` for anything but one readable image, and ``EmptyFile`` for no bytes.
    """
    if not data:
        raise EmptyFile("The image has no bytes.")
    if data.startswith(b"%PDF-"):
        raise UnsupportedImage("A PDF is read with mode=page or mode=auto.")
    if not has_image_signature(data):
        raise UnsupportedImage(f"The bytes are not those of a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits)
            if frame is None or image.format != "TIFF":
                _check_frames(image)
            elif frame:
                image.seek(frame)
                _check_size(image.size, limits)
            check_decode_cost(image, data, limits.max_pixels)
            return _decode_open(image, side)
    except ImageError:
        raise
    except (DecompressionBombError, DecompressionBombWarning):
        raise ImageTooLarge(f"The image has more than {limits.max_pixels} pixels.") from None
    except UnidentifiedImageError:
        raise Undecodable("The header of the image is corrupt.") from None
    except Exception as error:  # on malformed bytes, Pillow's plugins raise almost any type
        raise Undecodable("The image is corrupt or cut short.") from error


def rotated(pixels: Pixels, turn: int) -> Pixels:
    """Rotate an image clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90)) if turn else pixels


def measure(data: bytes) -> int:
    """Return the number of pixels in an image's header; 0 if it is unreadable, which ``decode`` reports."""
    if not has_image_signature(data):
        return 0
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # as in decode
        return 0


def has_image_signature(data: bytes) -> bool:
    """Return whether the first bytes are the signature of a supported format."""
    return data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def is_plain_jpeg(data: bytes) -> bool:
    """Return whether a file that ``decode`` accepts is a grey or RGB JPEG without orientation and colour profile."""
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        plain = image.format == "JPEG" and image.mode in ("L", "RGB") and "icc_profile" not in image.info
        return plain and _orientation(image) == 1


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    shorter, longer = min(size), max(size)
    if shorter < MIN_SIDE_PX:
        raise ImageTooSmall(f"The image is {width} x {height} pixels; each side needs at least {MIN_SIDE_PX}.")
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"The image has {width} x {height} pixels; the limit is {limits.max_pixels} in all.")
    if longer > limits.max_side:
        raise ImageTooLarge(f"The image is {width} x {height} pixels; the longest side allowed is {limits.max_side}.")
    if longer > limits.max_aspect * shorter:
        raise ImageTooLarge(
            f"The image is {width} x {height} pixels; the longer side may be {limits.max_aspect:g} times the shorter."
        )


def _check_frames(image: Image.Image) -> None:
    # MPO is a JPEG with appended previews or depth maps, as phones write it; the first frame is the photo.
    if image.format == "MPO":
        return
    try:
        image.seek(1)  # n_frames would walk through all pages of a TIFF
    except EOFError:
        image.seek(0)
        return
    raise Animated("The image has several frames or pages; send one picture, or a TIFF with mode=page.")


def _decode_open(image: Image.Image, side: int) -> UprightImage:
    width, height = image.size
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    rotation = _UPRIGHT.get(_orientation(image), (None, 0))[1]
    divisor = max(1, min(width, height) // side)
    if divisor > 1:
        # libjpeg reduces while decoding; other formats ignore this
        image.draft(None, (math.ceil(width / divisor), math.ceil(height / divisor)))
    image.load()
    converted = _to_eight_bits(image)
    if (divisor := min(converted.size) // side) > 1:
        converted = converted.reduce(divisor)
    pixels = np.asarray(converted)
    if converted.mode == "RGBA":
        pixels = _composite(pixels)
    # Pillow transposes a TIFF while loading it, including its size, and then reports no orientation.
    remaining = _orientation(image)
    if remaining in _UPRIGHT:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[remaining][0]))
    if remaining >= 5:
        width, height = height, width
    return UprightImage(np.ascontiguousarray(pixels), width, height, file_format, rotation, width / pixels.shape[1])


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 for missing, unknown or malformed metadata."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed metadata must not fail the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to L, RGB or RGBA."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scale_to_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _scale_to_eight_bits(values: npt.NDArray[np.generic]) -> Pixels:
    """Scale grey values of 12, 16 or 32 bits or floating point to 8 bits by their range."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    grey = np.full(values.shape, 255, np.uint8)
    if high > low:
        for band in range(0, len(values), BAND_ROWS):  # a float copy of the whole takes four times the memory
            rows = values[band : band + BAND_ROWS].astype(np.float64)
            grey[band : band + BAND_ROWS] = np.rint((rows - low) * (255.0 / (high - low)))
    return grey


def _composite(rgba: Pixels) -> Pixels:
    """Composite an RGBA image ``(H, W, 4)`` onto black or white, whichever keeps it readable.

    Uniform ink gets the background opposite to its brightness. An image with light and dark parts, such as a label with
    rounded corners, gets the background closest to it, so that its edge does not become a stroke.
    """
    colour = rgba[..., :3].astype(np.float32)
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    weight = alpha[..., 0]
    visible = float(weight.sum())
    if visible == 0.0:
        return np.full((*rgba.shape[:2], 3), 255, np.uint8)
    luma = colour @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
    mean = float((luma * weight).sum()) / visible
    deviation = math.sqrt(float((np.square(luma - mean) * weight).sum()) / visible)
    is_bright = mean >= 127.5
    background = 255.0 if is_bright == (deviation > UNIFORM_INK_MAX_DEVIATION) else 0.0
    composed: Pixels = np.rint(colour * alpha + background * (1.0 - alpha)).astype(np.uint8)
    return composed
