"""Decoding of untrusted image files to upright 8-bit images.

Pillow decodes the formats listed here and no others. The size in the header, and what else multiplies the work, is
checked before any pixel is decoded.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from linewise.service.documents.conversion import Pixels, to_pixels, upright
from linewise.service.documents.decode_cost import CostlyImage, check_decode_cost
from linewise.service.documents.tiff import page_directories
from linewise.service.errors import (
    Animated,
    EmptyFile,
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    Undecodable,
    UnsupportedImage,
)

Image.MAX_IMAGE_PIXELS = None  # ImageLimits replaces Pillow's limit of 89 megapixels, which ignores the settings

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MIN_SIDE_PX = 3  # a stroke with a gap on each side

# Shorter side down to which an image of a line is reduced. The recogniser scales a line to a few dozen pixels of
# height, so 256 loses nothing, and a queued 50-megapixel photo takes less than a megabyte.
LINE_IMAGE_SIDE_PX = 256

# The same for a page: lines are detected at half of this size, and cut from the full size.
PAGE_IMAGE_SIDE_PX = 2304

# Memory that ``decode`` needs at most for each pixel of the original, all formats; tested in a process of its own.
DECODE_BYTES_PER_PIXEL = 16

SEVERAL_FRAMES = (
    "The image has several frames or pages, and one is the limit for animations and with mode=line; send one picture,"
    " or a TIFF or PDF with mode=page or mode=auto."
)

_SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"BM",
    b"II\x2a\x00",
    b"MM\x00\x2a",
    b"II\x2b\x00",
    b"MM\x00\x2b",
)

# EXIF orientation -> clockwise rotation in degrees that makes the image upright, after the reflection if there is one
_ROTATION = {3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}


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


def decode(
    data: bytes,
    limits: ImageLimits,
    side: int = LINE_IMAGE_SIDE_PX,
    frame: int | None = None,
    max_seconds: float = math.inf,
) -> UprightImage:
    """Decode an untrusted image file; an image whose shorter side is at least twice ``side`` pixels is reduced.

    ``frame`` selects a page of a TIFF, from 0; without it, several frames or pages are an error. Raises a subclass of
    ``ImageError`` for anything but one readable image, ``EmptyFile`` for no bytes, and ``CostlyImage`` for an image
    that would take more than about ``max_seconds`` of CPU time.
    """
    if not data:
        raise EmptyFile("The image has no bytes.")
    if data.startswith(b"%PDF-"):
        raise UnsupportedImage("A PDF is not read with mode=line; leave mode out, or send mode=page or mode=auto.")
    if not has_image_signature(data):
        raise UnsupportedImage(f"The bytes are not those of a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.format == "TIFF":
                _select_page(image, data, frame, limits)
            _check_size(image.size, limits)
            if image.format != "TIFF":
                _check_frames(image)
            check_decode_cost(image, data, limits.max_pixels, max_seconds)
            return _decode_open(image, side)
    except (ImageError, CostlyImage):
        raise
    except MemoryError:
        raise ImageTooLarge("Decoding the image takes too much memory.") from None
    except UnidentifiedImageError:
        raise Undecodable("The header of the image is corrupt.") from None
    except Exception as error:  # on malformed bytes, Pillow's plugins raise almost any type
        raise Undecodable("The image is corrupt or cut short.") from error


def rotated(pixels: Pixels, turn: int) -> Pixels:
    """Rotate an image clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90)) if turn else pixels


def measure(data: bytes, limits: ImageLimits) -> int:
    """Return the number of pixels in an image's header; 0 if ``decode`` refuses the image before decoding a pixel."""
    if not has_image_signature(data):
        return 0
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits)
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


def _select_page(image: Image.Image, data: bytes, page: int | None, limits: ImageLimits) -> None:
    directories = page_directories(data, limits.max_pages if page is not None else 1)
    if page is None and len(directories) > 1:
        raise Animated(SEVERAL_FRAMES)
    image.seek(directories[page or 0])


def _check_frames(image: Image.Image) -> None:
    # MPO is a JPEG with appended previews or depth maps, as phones write it; the first frame is the photo.
    if image.format == "MPO":
        return
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
        return
    raise Animated(SEVERAL_FRAMES)


def _decode_open(image: Image.Image, side: int) -> UprightImage:
    width, height = image.size
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    rotation = _ROTATION.get(_orientation(image), 0)
    divisor = max(1, min(width, height) // side)
    if divisor > 1:
        # libjpeg reduces while decoding; other formats ignore this
        image.draft(None, (math.ceil(width / divisor), math.ceil(height / divisor)))
    image.load()
    # Pillow transposes a TIFF while loading it, including its size, and then reports no orientation.
    remaining = _orientation(image)
    pixels = upright(to_pixels(image, max(1, min(image.size) // side)), remaining)
    if remaining >= 5:
        width, height = height, width
    return UprightImage(pixels, width, height, file_format, rotation, width / pixels.shape[1])


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 for missing, unknown or malformed metadata."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # malformed metadata must not fail the image
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
