"""Images in files: which ones are meant, and their pixels or what is wrong with them."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.images import ImageLimits, UprightImage

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".tif", ".tiff"}


@dataclass(frozen=True)
class Failure:
    """An image that cannot be had, with one line that says why."""

    source: str
    reason: str


def image_files(arguments: Iterable[str]) -> Iterator[str]:
    """Every image that the arguments name, folders and patterns resolved, in a stable order."""
    for argument in arguments:
        path = Path(argument)
        if argument == "-" or path.is_file():
            yield argument
        elif path.is_dir():
            yield from (str(found) for found in sorted(path.rglob("*")) if found.suffix.lower() in SUFFIXES)
        else:
            matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())
            yield from matches or [argument]  # a name that nothing bears is reported when it is opened


def open_source(source: str, limits: ImageLimits, side: int | None = None) -> UprightImage | Failure:
    """The picture in a file, or on standard input where the source is ``-``; ``side`` as for ``images.decode``."""
    from service.errors import ServiceError
    from service.images import ENOUGH_SIDE, decode

    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return decode(data, limits, side or ENOUGH_SIDE)
    except ServiceError as error:
        return Failure(source, error.detail)
    except OSError as error:
        return Failure(source, (error.strerror or "cannot be opened") + ".")
