"""Files with several pages - PDF and multi-page TIFF - to one upright picture after the other.

PDF needs the extra ``pdf``: PDFium draws its pages, the way Chrome does.
"""

from __future__ import annotations

import io
import math
import threading
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from service.errors import ImageError, ImageTooLarge, ImageTooSmall, Undecodable, UnsupportedImage
from service.images import MIN_SIDE, PAGE_SIDE, ImageLimits, UprightImage, decode, is_picture

DPI = 200  # at which PDFium draws: small print is 20 pixels high
POINTS = 72  # in an inch, the unit of a PDF's sizes

_pdfium = threading.Lock()  # PDFium is not to be entered by two threads at once


def is_pdf(data: bytes) -> bool:
    """Whether the bytes are those of a PDF, before which other programs may have written a little.

    A picture that speaks of PDF in its metadata is none.
    """
    return not is_picture(data) and b"%PDF-" in data[:1024]


def page_count(data: bytes, limit: int) -> int:
    """How many pages there are: 1 for any picture that is no multi-page TIFF.

    Raises ``ImageTooLarge`` for more than ``limit``, ``UnsupportedImage`` for a PDF without the extra,
    ``Undecodable`` for one that is broken or locked.
    """
    if is_pdf(data):
        with _pdfium, _open(data) as document:
            count = len(document)
    else:
        count = _frames(data, limit)
    if count > limit:
        raise ImageTooLarge(f"The document has more than {limit} pages; send it in parts.")
    if count == 0:
        raise Undecodable("The document has no pages.")
    return count


def decode_page(data: bytes, number: int, limits: ImageLimits) -> UprightImage:
    """Page ``number``, from 0, as ``images.decode`` gives a picture; raises what that does, and as ``page_count``."""
    if not is_pdf(data):
        return decode(data, limits, PAGE_SIDE, frame=number)
    with _pdfium, _open(data) as document:
        try:
            page = document[number]
            width, height = (math.ceil(points * DPI / POINTS) for points in page.get_size())
            if width * height > limits.max_pixels or max(width, height) > limits.max_side:
                raise ImageTooLarge(f"Page {number + 1} has {width} x {height} pixels at {DPI} dpi; too many.")
            if min(width, height) < MIN_SIDE:
                raise ImageTooSmall(f"Page {number + 1} is {width} x {height} pixels at {DPI} dpi.")
            drawn = page.render(scale=DPI / POINTS, rev_byteorder=True)
            pixels = np.array(drawn.to_numpy()[:, :, :3])  # a copy: the bitmap goes with the document
            if (pixels == pixels[:, :, :1]).all():  # black on white, mostly
                pixels = pixels[:, :, 0]
        except ImageError:
            raise
        except Exception as error:  # PDFium's error, and what its wrapper raises on hostile bytes
            raise Undecodable(f"Page {number + 1} of the PDF cannot be drawn.") from error
    height, width = pixels.shape[:2]
    divisor = max(1, min(height, width) // PAGE_SIDE)
    if divisor > 1:
        pixels = np.asarray(Image.fromarray(pixels).reduce(divisor))
    return UprightImage(np.ascontiguousarray(pixels), width, height, "PDF", 0, width / pixels.shape[1])


def _open(data: bytes) -> Any:  # a PdfDocument of a package that may not be there
    if find_spec("pypdfium2") is None:
        raise UnsupportedImage("PDF is read where the extra is installed: pip install 'linewise[pdf]'.")
    import pypdfium2  # type: ignore[import-untyped]

    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError:
        raise Undecodable("The PDF is corrupt, cut short or locked with a password.") from None


def _frames(data: bytes, limit: int) -> int:
    """Pages of a TIFF, counted to one above the limit: a chain of them may run in circles."""
    if not data.startswith((b"II", b"MM")):
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
            for count in range(1, limit + 1):
                try:
                    image.seek(count)
                except EOFError:
                    return count
            return limit + 1
    except Exception:  # broken: decoding it will say how
        return 1
