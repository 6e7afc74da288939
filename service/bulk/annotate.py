"""Annotated pictures of pages, for ``linewise read --annotate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from linewise.service.documents.image import rotated

if TYPE_CHECKING:
    from linewise import model
    from linewise.service.documents import layout
    from linewise.service.documents.conversion import Pixels
    from linewise.service.documents.image import UprightImage


def draw(image: UprightImage, page: layout.Page) -> Pixels:
    """Draw a page with words, upright: see ``model.draw_words``."""
    from linewise.model import draw_words

    words = [_to_pixels(word, image.scale) for line in page.lines for word in line.words]
    lines = [_to_pixels(line, image.scale) for line in page.lines]
    return draw_words(rotated(image.pixels, page.turn), words, lines)


def save(path: Path, picture: Pixels) -> None:
    """Save a picture in the format of the file's suffix.

    Raises:
        OSError: the file cannot be written.
        ValueError: the suffix is of no image format.
    """
    Image.fromarray(picture).save(path)


def page_path(path: Path, number: int) -> Path:
    """Path of the picture of page ``number``, from 1: that of the first page is ``path`` itself."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def _to_pixels(part: layout.Word | layout.Line, scale: float) -> model.Word:
    """Take a part of a page to pixels of the decoded image."""
    from linewise.model import Word

    a, b, c, d = ((x / scale, y / scale) for x, y in part.polygon)
    return Word(part.text, part.confidence, (a, b, c, d))
