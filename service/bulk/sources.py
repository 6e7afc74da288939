"""Sources of images: resolution of arguments to files, and their pixels or the reason why they cannot be decoded."""

from __future__ import annotations

import errno
import glob
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linewise.service.documents.image import ImageLimits, UprightImage

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}
DOCUMENTS = SUFFIXES | {".pdf"}


@dataclass(frozen=True)
class Failure:
    """An image that cannot be opened or decoded; ``reason`` is one line."""

    source: str
    reason: str


def image_files(arguments: Iterable[str], suffixes: Collection[str] = SUFFIXES) -> Iterator[str]:
    """Resolve files, folders and glob patterns to image files; ``-`` is standard input.

    Folders and patterns are resolved in sorted order. A pattern without a match is yielded as it is.
    """
    for argument in arguments:
        path = Path(argument)
        if argument == "-" or path.is_file():
            yield argument
        elif path.is_dir():
            yield from (str(file) for file in sorted(path.rglob("*")) if file.suffix.lower() in suffixes)
        else:
            matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())
            yield from matches or [argument]  # opening it reports the missing file


def open_source(source: str | bytes, limits: ImageLimits) -> UprightImage | Failure:
    """Decode the image of a path, of standard input (``-``) or of bytes."""
    from linewise.service.documents.image import decode
    from linewise.service.errors import ServiceError

    name = source if isinstance(source, str) else ""
    try:
        return decode(content(source) if isinstance(source, str) else source, limits)
    except ServiceError as error:
        return Failure(name, error.detail)
    except OSError as error:
        return Failure(name, (error.strerror or "cannot be opened") + ".")


def document_pages(source: str, limits: ImageLimits) -> Iterator[UprightImage | Failure]:
    """Decode the pages of a PDF or TIFF one by one, or the single image of another file."""
    from linewise.service.documents.multipage import decode_page, page_count
    from linewise.service.errors import ServiceError

    try:
        data = content(source)
        count = page_count(data, limits.max_pages)
    except ServiceError as error:
        yield Failure(source, error.detail)
        return
    except OSError as error:
        yield Failure(source, (error.strerror or "cannot be opened") + ".")
        return
    for number in range(count):
        try:
            yield decode_page(data, number, limits)
        except ServiceError as error:  # the other pages may be intact
            yield Failure(source if count == 1 else f"{source}, page {number + 1}", error.detail)


def document_length(source: str, limits: ImageLimits) -> int:
    """Count the pages of a file; 1 for standard input and for a file that cannot be opened."""
    from linewise.service.documents.multipage import page_count
    from linewise.service.errors import ServiceError

    try:
        return 1 if source == "-" else page_count(content(source), limits.max_pages)
    except (ServiceError, OSError):
        return 1


def displayed(name: str) -> str:
    r"""Return a name as valid Unicode: bytes that are not UTF-8 become escapes such as ``\xe9``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def content(source: str) -> bytes:
    """Read the bytes of a path or of standard input (``-``).

    Raises:
        OSError: the file cannot be read.
    """
    if "\0" in source:
        raise OSError(errno.EINVAL, "The path holds a NUL character")
    return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
