"""Untrusted bytes to an upright picture of 8 bits.

Pillow decodes, and only the formats listed here; the header's size is judged before a single pixel is unpacked.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import DecompressionBombError, DecompressionBombWarning, Transpose

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
MIN_SIDE = 3  # px: no letter is thinner than a stroke with a gap on each side

# The recogniser scales a line to a few dozen pixels of height. A picture whose shorter side stays at 256 px has several
# times what it can use, and a 50-megapixel photo then waits for its turn as less than a megabyte.
ENOUGH_SIDE = 256

# Of a page, whose lines are many times smaller: its finder works at half of this, and the lines are cut from all of it.
PAGE_SIDE = 2304

# Spread of the brightness of visible pixels, 0..255, above which the picture is in its colours; below, the visible part
# is plain ink and the picture is in the alpha channel.
INK_SPREAD = 40.0

BAND = 64  # rows of a 16-bit picture that are scaled at once

_SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"BM",
    b"II\x2a\x00",
    b"MM\x00\x2a",
    b"II\x2b\x00",
    b"MM\x00\x2b",
)

# EXIF orientation -> what makes it upright, and the clockwise turn in it (mirrored ones turn after the mirror).
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
    """What one image may measure: pixels in all, the longer side in pixels, longer over shorter side.

    A document may have ``max_pages`` of such images.
    """

    max_pixels: int
    max_side: int
    max_aspect: float
    max_pages: int = 50


@dataclass(frozen=True)
class UprightImage:
    """A decoded picture, turned as its EXIF says.

    ``pixels`` is uint8, (H, W) grey or (H, W, 3) RGB, possibly smaller than the picture: ``width`` and ``height`` are
    those of the upright original, and ``scale`` is original over decoded size. ``orientation_applied`` is the
    clockwise turn in degrees that was made.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    orientation_applied: int
    scale: float

    def sized(self) -> UprightImage:
        """The same without its pixels, for answers that wait for others."""
        return replace(self, pixels=np.empty((0, 0), np.uint8))


def decode(data: bytes, limits: ImageLimits, side: int = ENOUGH_SIDE, frame: int | None = None) -> UprightImage:
    """Decode one image that nobody vouches for; a shorter side of twice ``side`` pixels or more is made smaller.

    With ``frame``, from 0, that one of several is meant; without, there may be one only.

    Raises a subclass of ``ImageError`` for anything but one readable picture, and ``EmptyFile`` for no bytes.
    """
    if not data:
        raise EmptyFile("The image has no bytes.")
    if data.startswith(b"%PDF-"):
        raise UnsupportedImage("A PDF is read with mode=page or mode=auto.")
    if not is_picture(data):
        raise UnsupportedImage(f"The bytes are not those of a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image.size, limits)
            if frame is None or image.format != "TIFF":
                _check_frames(image)
            elif frame:
                image.seek(frame)
                _check_size(image.size, limits)
            return _decode_open(image, side)
    except ImageError:
        raise
    except (DecompressionBombError, DecompressionBombWarning):
        raise ImageTooLarge(f"The image has more than {limits.max_pixels} pixels.") from None
    except UnidentifiedImageError:
        raise Undecodable("The header of the image is corrupt.") from None
    except Exception as error:  # Pillow's plugins raise nearly every type there is on hostile bytes
        raise Undecodable("The image is corrupt or cut short.") from error


def measure(data: bytes) -> int:
    """Pixels that the header of an image claims; 0 when it cannot be read, which ``decode`` will print_error about."""
    if not is_picture(data):
        return 0
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.width * image.height
    except Exception:  # as in decode
        return 0


def is_picture(data: bytes) -> bool:
    """Whether the first bytes are those of a format that is read."""
    return data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def plain_jpeg(data: bytes) -> bool:
    """Whether the bytes, which ``decode`` has taken, are a JPEG in grey or RGB that is shown by its pixels alone.

    One with an orientation or a colour profile, which is untrusted as well, is none.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        plain = image.format == "JPEG" and image.mode in ("L", "RGB") and "icc_profile" not in image.info
        return plain and _orientation(image) == 1


def _check_size(size: tuple[int, int], limits: ImageLimits) -> None:
    width, height = size
    shorter, longer = min(size), max(size)
    if shorter < MIN_SIDE:
        raise ImageTooSmall(f"The image is {width} x {height} pixels; each side needs at least {MIN_SIDE}.")
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"The image has {width} x {height} pixels; the limit is {limits.max_pixels} in all.")
    if longer > limits.max_side:
        raise ImageTooLarge(f"The image is {width} x {height} pixels; the longest side allowed is {limits.max_side}.")
    if longer > limits.max_aspect * shorter:
        raise ImageTooLarge(
            f"The image is {width} x {height} pixels; the longer side may be {limits.max_aspect:g} times the shorter."
        )


def _check_frames(image: Image.Image) -> None:
    # Phones append previews and depth maps to a JPEG ("MPO"): its first picture is the photo, so that is no animation.
    if image.format == "MPO":
        return
    try:
        image.seek(1)  # one step, where n_frames would walk through a TIFF's whole chain of pages
    except EOFError:
        image.seek(0)
        return
    raise Animated("The image has several frames or pages; send one picture, or a TIFF with mode=page.")


def _decode_open(image: Image.Image, side: int) -> UprightImage:
    width, height = image.size
    file_format = "JPEG" if image.format == "MPO" else str(image.format)
    turned = _UPRIGHT.get(_orientation(image), (None, 0))[1]
    divisor = max(1, min(width, height) // side)
    if divisor > 1:
        # libjpeg leaves out detail while decoding; other formats ignore this
        image.draft(None, (math.ceil(width / divisor), math.ceil(height / divisor)))
    image.load()
    picture = _eight_bit(image)
    if (divisor := min(picture.size) // side) > 1:
        picture = picture.reduce(divisor)
    pixels = np.asarray(picture)
    if picture.mode == "RGBA":
        pixels = _composite(pixels)
    # Pillow turns a TIFF by itself while loading it, size included, and then reports no orientation any more.
    remaining = _orientation(image)
    if remaining in _UPRIGHT:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_UPRIGHT[remaining][0]))
    if remaining >= 5:
        width, height = height, width
    return UprightImage(np.ascontiguousarray(pixels), width, height, file_format, turned, width / pixels.shape[1])


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; 1 for missing, unknown and broken metadata."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # garbage metadata must not cost the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """Any Pillow mode to L, RGB or RGBA."""
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_stretch(np.asarray(image)))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _stretch(values: npt.NDArray[np.generic]) -> Pixels:
    """Grey of 12, 16 or 32 bits or floating point to 8 bits by the range that it uses."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    grey = np.full(values.shape, 255, np.uint8)
    if high > low:
        for band in range(0, len(values), BAND):  # a float copy of the whole would be four times the picture
            rows = values[band : band + BAND].astype(np.float64)
            grey[band : band + BAND] = np.rint((rows - low) * (255.0 / (high - low)))
    return grey


def _composite(rgba: Pixels) -> Pixels:
    """Lay a picture with alpha on the ground, black or white, that keeps it readable.

    Plain ink goes on the opposite of its own brightness; a picture with light and dark in it, such as a label with
    round corners, goes on the ground that is nearest to it, so that its edge does not turn into a stroke.
    """
    colour = rgba[..., :3].astype(np.float32)
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    weight = alpha[..., 0]
    visible = float(weight.sum())
    if visible == 0.0:
        return np.full((*rgba.shape[:2], 3), 255, np.uint8)
    light = colour @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
    mean = float((light * weight).sum()) / visible
    spread = math.sqrt(float((np.square(light - mean) * weight).sum()) / visible)
    bright = mean >= 127.5
    ground = 255.0 if bright == (spread > INK_SPREAD) else 0.0
    composed: Pixels = np.rint(colour * alpha + ground * (1.0 - alpha)).astype(np.uint8)
    return composed
