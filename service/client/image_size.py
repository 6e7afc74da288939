"""Sizes of images from their headers, without an image library."""

from __future__ import annotations

import struct

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def count_pixels(data: bytes) -> int:
    """Return the pixels of a PNG, JPEG, WebP, BMP or TIFF (its first page); 0 if the header is not understood."""
    try:
        width, height = _size_of(data)
    except (struct.error, IndexError):
        return 0
    return abs(width * height)


def _size_of(data: bytes) -> tuple[int, int]:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _unpack(">II", data, 16)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data.startswith(b"BM"):
        return _unpack("<HH" if struct.unpack_from("<I", data, 14) == (12,) else "<ii", data, 18)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tiff_size(data)
    return 0, 0


def _unpack(form: str, data: bytes, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, data, offset)
    return first, second


def _jpeg_size(data: bytes) -> tuple[int, int]:
    offset = 2
    while data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker in _JPEG_FRAMES:
            return _unpack(">HH", data, offset + 5)
        if marker == 0xFF:  # fill byte
            offset += 1
        elif marker in _JPEG_STANDALONE:
            offset += 2
        else:
            offset += 2 + int(struct.unpack_from(">H", data, offset + 2)[0])
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int(struct.unpack_from("<I", data, 21)[0])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = _unpack("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff_size(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    offset = int(struct.unpack_from(order + "I", data, 4)[0])
    sizes = {}
    for entry in range(int(struct.unpack_from(order + "H", data, offset)[0])):
        tag, kind = _unpack(order + "HH", data, offset + 2 + 12 * entry)
        if tag in (256, 257):  # ImageWidth, ImageLength; SHORT or LONG
            sizes[tag] = int(struct.unpack_from(order + ("H" if kind == 3 else "I"), data, offset + 10 + 12 * entry)[0])
    return sizes.get(256, 0), sizes.get(257, 0)
