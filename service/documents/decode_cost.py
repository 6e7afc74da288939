"""Limits on the work of decoding one image, and an estimate of it, before any pixel is decoded.

The number of pixels bounds the work for PNG, WebP and uncompressed files. The other formats have constructs that
multiply it: scans of a JPEG, tiles of a TIFF that are larger than its image, runs of a BMP, which Pillow decodes in
Python.
"""

from __future__ import annotations

import math
import os
import re

from PIL import Image
from PIL.ImageFile import ImageFile

from linewise.service.errors import ImageTooLarge

# Each scan of a progressive JPEG visits every coefficient of the image. Encoders write 6 to 18 scans. A large image may
# have MIN_SCAN_LIMIT of them, a small one as many as visit MAX_SCANNED_PIXELS, up to MAX_SCAN_LIMIT.
MAX_SCANNED_PIXELS = 1_200_000_000
MIN_SCAN_LIMIT = 24
MAX_SCAN_LIMIT = 256

MAX_RLE_BMP_PIXELS = 10_000_000  # about a second in Pillow's decoder, which holds the interpreter's lock

# Upper bounds of the measured CPU time (AMD EPYC, Zen 3) for photographs and for noise in every format.
_PIXEL_NS, _BYTE_NS = 40, 20
_JPEG_PIXEL_NS, _JPEG_SCAN_NS = 10, 1.5
_RLE_PIXEL_NS = 100

_SOS = b"\xff\xda"
_EOI, _SOI = 0xD9, 0xD8

# Markers at which libjpeg's entropy decoder stops. Others are fill bytes, restart markers or invalid; they have no
# length.
_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xef\xfe])")

# libtiff decodes a JPEG in each strip, with a limit of 100 scans by default.
os.environ.setdefault("LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER", str(MIN_SCAN_LIMIT))

_TILE_WIDTH_TAG, _TILE_LENGTH_TAG = 322, 323


class CostlyImage(Exception):
    """Decoding takes longer than the caller allows."""


def check_decode_cost(image: Image.Image, data: bytes, max_pixels: int, max_seconds: float) -> None:
    """Raise ``ImageTooLarge`` if decoding ``image``, which was opened from ``data``, costs more than its pixels.

    Raises ``CostlyImage`` if it takes more than ``max_seconds`` of CPU time by the estimate.
    """
    if image.format in ("JPEG", "MPO"):
        _check_scans(image, data)
    elif image.format == "TIFF":
        _check_tiles(image, max_pixels)
    elif image.format == "BMP":
        _check_runs(image)
    if max_seconds < math.inf and estimate_seconds(image, data) > max_seconds:
        raise CostlyImage


def estimate_seconds(image: Image.Image, data: bytes) -> float:
    """Estimate the CPU time of decoding an opened image in full size, in seconds; most images take less."""
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO"):
        scans = count_scans(data) if "progression" in image.info else 0
        nanoseconds = (_JPEG_PIXEL_NS + _JPEG_SCAN_NS * scans) * pixels
    elif "bmp_rle" in _codecs(image):
        nanoseconds = _RLE_PIXEL_NS * pixels
    else:
        nanoseconds = _PIXEL_NS * pixels
    return (nanoseconds + _BYTE_NS * len(data)) / 1e9


def scan_limit(pixels: int) -> int:
    """Return the number of scans that a JPEG of so many pixels may have."""
    return min(max(MAX_SCANNED_PIXELS // max(pixels, 1), MIN_SCAN_LIMIT), MAX_SCAN_LIMIT)


def count_scans(data: bytes) -> int:
    """Count the scans of a JPEG up to its end marker, skipping previews in its metadata."""
    count = position = 0
    while (match := _MARKER.search(data, position)) is not None:
        marker, position = match[1][0], match.end()
        if marker == _EOI:
            break
        count += marker == _SOS[1]
        if marker != _SOI:
            position += int.from_bytes(data[position : position + 2], "big")
    return count


def _check_scans(image: Image.Image, data: bytes) -> None:
    width, height = image.size
    limit = scan_limit(width * height)
    if data.count(_SOS) <= limit:  # the bytes of the marker occur at least once for each scan
        return
    scans = count_scans(data)
    if scans > limit:
        raise ImageTooLarge(
            f"The JPEG has {scans} scans; the limit at {width} x {height} pixels is {limit}."
            " Save it as a baseline JPEG."
        )


def _check_tiles(image: Image.Image, max_pixels: int) -> None:
    width, height = (image.tag_v2.get(tag, 0) for tag in (_TILE_WIDTH_TAG, _TILE_LENGTH_TAG))  # type: ignore[attr-defined]
    if width * height > max_pixels:
        raise ImageTooLarge(f"The tiles of the TIFF have {width} x {height} pixels; the limit is {max_pixels} in all.")


def _check_runs(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_RLE_BMP_PIXELS and "bmp_rle" in _codecs(image):
        raise ImageTooLarge(
            f"The run-length encoded BMP has {width} x {height} pixels; the limit is {MAX_RLE_BMP_PIXELS} in all."
            " Save it as a PNG."
        )


def _codecs(image: Image.Image) -> list[str]:
    return [tile.codec_name for tile in image.tile] if isinstance(image, ImageFile) else []
