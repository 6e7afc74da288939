"""Images in files: which ones are meant, and their pixels or what is wrong with them."""

from __future__ import annotations

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
    """An image that cannot be had, with one line that says why."""

    source: str
    reason: str


def image_files(arguments: Iterable[str], suffixes: Collection[str] = SUFFIXES) -> Iterator[str]:
    """Every image that the arguments name, folders and patterns resolved, in a stable order."""
    for argument in arguments:
        path = Path(argument)
        if argument == "-" or path.is_file():
            yield argument
        elif path.is_dir():
            yield from (str(found) for found in sorted(path.rglob("*")) if found.suffix.lower() in suffixes)
        else:
            matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())
            yield from matches or [argument]  # a name that nothing bears is reported when it is opened


def open_source(source: str | bytes, limits: ImageLimits) -> UprightImage | Failure:
    """The picture in a file, or on standard input where the source is ``-``, or in bytes that came from elsewhere."""
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
    """The pages of a PDF or TIFF one after the other, or the one picture of another file."""
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
        except ServiceError as error:  # the other pages may be good
            yield Failure(source if count == 1 else f"{source}, page {number + 1}", error.detail)


def document_length(source: str, limits: ImageLimits) -> int:
    """How many pages a file has, 1 where that cannot be told: reading it will say why."""
    from linewise.service.documents.multipage import page_count
    from linewise.service.errors import ServiceError

    try:
        return 1 if source == "-" else page_count(content(source), limits.max_pages)
    except (ServiceError, OSError):
        return 1


def content(source: str) -> bytes:
    """The bytes of a file, or of standard input where the source is ``-``. Raises ``OSError``."""
    return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
