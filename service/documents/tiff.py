"""Pages of a TIFF file, from its chain of directories. Reads no pixels."""

from __future__ import annotations

import struct

from linewise.service.errors import ImageTooLarge, Undecodable

MAX_DIRECTORIES_PER_PAGE = 16  # a page, its mask and its reduced copies

_NEW_SUBFILE_TYPE_TAG, _SUBFILE_TYPE_TAG = 254, 255
_REDUCED_BIT, _MASK_BIT = 1, 4  # of the tag NewSubfileType
_REDUCED_SUBFILE = 2  # value of the older tag SubfileType
_VALUE_FORMATS = {3: "H", 4: "L"}


def page_directories(data: bytes, limit: int) -> list[int]:
    """List the indices of the directories that are pages, from 0, up to ``limit`` + 1 of them.

    Reduced copies and transparency masks are pages only if there is nothing else. A circular chain ends at its first
    repetition. Raises ``Undecodable`` for a directory that is missing, and ``ImageTooLarge`` for too many.
    """
    order = "<" if data.startswith(b"II") else ">"
    is_big = data[2:4] in (b"\x2b\x00", b"\x00\x2b")
    pages: list[int] = []
    visited: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + ("Q" if is_big else "L"), data, 8 if is_big else 4)
        while offset and offset not in visited and len(pages) <= limit:
            if len(visited) >= MAX_DIRECTORIES_PER_PAGE * (limit + 1):
                raise ImageTooLarge(f"The TIFF has more than {len(visited)} directories; send it in parts.")
            is_page, following = _read_directory(data, offset, order, is_big)
            if is_page:
                pages.append(len(visited))
            visited.add(offset)
            offset = following
    except struct.error:
        raise Undecodable(f"The TIFF is cut short or corrupt: page {len(pages) + 1} is missing.") from None
    return pages or list(range(min(len(visited), limit + 1)))


def _read_directory(data: bytes, offset: int, order: str, is_big: bool) -> tuple[bool, int]:
    """Return whether a directory is a page, and the offset of the next directory. Raises ``struct.error``."""
    count_format, entry_size, value_offset, offset_format = ("Q", 20, 12, "Q") if is_big else ("H", 12, 8, "L")
    (count,) = struct.unpack_from(order + count_format, data, offset)
    first = offset + struct.calcsize(order + count_format)
    if first + count * entry_size > len(data):
        raise struct.error
    is_page = True
    for entry in range(first, first + count * entry_size, entry_size):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag not in (_NEW_SUBFILE_TYPE_TAG, _SUBFILE_TYPE_TAG) or kind not in _VALUE_FORMATS:
            continue
        (value,) = struct.unpack_from(order + _VALUE_FORMATS[kind], data, entry + value_offset)
        is_page &= not (
            value & (_REDUCED_BIT | _MASK_BIT) if tag == _NEW_SUBFILE_TYPE_TAG else value == _REDUCED_SUBFILE
        )
    (following,) = struct.unpack_from(order + offset_format, data, first + count * entry_size)
    return bool(is_page), following
