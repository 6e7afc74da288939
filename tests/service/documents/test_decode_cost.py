"""Small files that cost a decoder much more than their pixels are refused before they are decoded."""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linewise.service.documents.decode_cost import MIN_SCAN_LIMIT, count_scans, scan_limit
from linewise.service.documents.image import ImageLimits, decode
from linewise.service.documents.multipage import decode_page
from linewise.service.errors import ImageTooLarge, Undecodable

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768, max_aspect=500)


def jpeg(size: tuple[int, int], mode: str = "L", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 255).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_scans(data: bytes, more: int, between: bytes = b"") -> bytes:
    """Repeat the last scan of a progressive JPEG."""
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + (between + last) * more + data[-2:]


def tiff(tags: Sequence[tuple[int, int, int]], data: bytes) -> bytes:
    """A little-endian TIFF of one image: tags of a number, a type and one value, and data at offset 8."""
    entries = b"".join(struct.pack("<HHLL", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<L", 8 + len(data)) + data + directory


def refused_within(data: bytes, seconds: float, match: str, error: type[Exception] = ImageTooLarge) -> None:
    for read in (partial(decode, data, LIMITS), partial(decode_page, data, 0, LIMITS)):
        started = time.process_time()
        with pytest.raises(error, match=match):
            read()
        assert time.process_time() - started < seconds


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded() -> None:
    data = with_scans(jpeg((4000, 4000), progressive=True), 2000)
    assert len(data) < 500_000
    refused_within(data, 0.5, r"The JPEG has 2006 scans; the limit at 4000 x 4000 pixels is 75\.")


@pytest.mark.parametrize("between", [b"\xff\xff\xff", b"junk", b"\xff\x02\xff\xff", b"\xff\xd3", b"\xff\xfe\x00\x04ab"])
def test_scans_behind_odd_markers_are_counted(between: bytes) -> None:
    assert count_scans(with_scans(jpeg((64, 64), progressive=True), 300, between)) == 306


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [True, False])
def test_scans_of_ordinary_files_are_within_the_limit_at_any_size(mode: str, progressive: bool) -> None:
    data = jpeg((640, 480), mode, progressive=progressive)
    assert 1 <= count_scans(data) <= MIN_SCAN_LIMIT
    assert scan_limit(10**9) == MIN_SCAN_LIMIT
    assert decode(data, LIMITS).width == 640


def test_scans_of_previews_and_of_bytes_after_the_end_do_not_count() -> None:
    preview = with_scans(jpeg((32, 32), progressive=True), 300)
    data = jpeg((640, 480), comment=preview) + preview
    assert count_scans(data) == 1
    assert decode(data, LIMITS).width == 640


def test_a_jpeg_of_many_scans_in_a_tiff_is_refused() -> None:
    strip = with_scans(jpeg((2000, 2000), progressive=True), 80)
    shape = [(256, 4, 2000), (257, 4, 2000), (258, 3, 8), (259, 3, 7), (262, 3, 1), (277, 3, 1), (278, 4, 2000)]
    refused_within(tiff([*shape, (273, 4, 8), (279, 4, len(strip))], strip), 1.0, "corrupt", Undecodable)


def test_tiles_larger_than_the_limit_of_pixels_are_refused() -> None:
    tile = zlib.compress(bytes(10_000 * 10_000))
    shape = [(256, 4, 100), (257, 4, 100), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    tiles = [(322, 4, 10_000), (323, 4, 10_000), (324, 4, 8), (325, 4, len(tile))]
    refused_within(tiff(shape + tiles, tile), 0.3, "tiles of the TIFF have 10000 x 10000 pixels")


def bmp_of_runs(width: int, height: int) -> bytes:
    """A white BMP in 8-bit run-length encoding."""
    row = b"\xff\x01" * (width // 255) + bytes([width % 255, 1]) + b"\0\0"
    palette = bytes(4) + b"\xff\xff\xff\0"
    size = 14 + 40 + len(palette)
    header = struct.pack("<LLLHHLLLLLL", 40, width, height, 1, 8, 1, len(row) * height, 2835, 2835, 2, 2)
    return struct.pack("<2sLHHL", b"BM", size + len(row) * height, 0, 0, size) + header + palette + row * height


def test_run_length_encoded_bmp_is_limited_to_fewer_pixels() -> None:
    assert np.all(decode(bmp_of_runs(1000, 400), LIMITS).pixels == 255)
    refused_within(bmp_of_runs(7000, 7000), 0.3, "run-length encoded BMP has 7000 x 7000 pixels")
