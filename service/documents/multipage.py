"""Files with several pages - PDF and multi-page TIFF - to one upright picture after the other.

PDF needs the extra ``pdf``: PDFium draws its pages, the way Chrome does, and like there in a process of its own.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from linewise.service.documents.image import MIN_SIDE, PAGE_SIDE, ImageLimits, UprightImage, decode, is_picture
from linewise.service.errors import ImageTooLarge, ImageTooSmall, Undecodable, UnsupportedImage

DPI = 200  # at which PDFium draws: small print is 20 pixels high
POINTS = 72  # in an inch, the unit of a PDF's sizes

# What one page may cost, far above what an honest one does; whoever sends more is told that it cannot be drawn.
MEMORY = 2**29  # bytes, beside those of the picture: five times the pixels of a colour scan at 600 dpi
SECONDS = 10  # of the processor
PATIENCE = 60  # seconds altogether, on a machine that has other things to do

_PDFIUM = Path(__file__).with_name("pdf_worker.py")


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
        try:
            count = _pdfium(data, 0, "count")[0]["pages"]
        except _NoAnswer:
            raise Undecodable("The PDF is corrupt, cut short or locked with a password.") from None
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
    task = ("draw", number, DPI / POINTS, limits.max_pixels, limits.max_side)
    try:
        head, drawn = _pdfium(data, 4 * limits.max_pixels, *task)
    except _NoAnswer:
        raise Undecodable(f"Page {number + 1} of the PDF is corrupt, or takes too long or too much to draw.") from None
    width, height = head["width"], head["height"]
    if "stride" not in head:
        raise ImageTooLarge(f"Page {number + 1} has {width} x {height} pixels at {DPI} dpi; too many.")
    if min(width, height) < MIN_SIDE:
        raise ImageTooSmall(f"Page {number + 1} is {width} x {height} pixels at {DPI} dpi.")
    rows = np.frombuffer(drawn, np.uint8).reshape(height, head["stride"])
    pixels = np.array(rows[:, : width * head["channels"]].reshape(height, width, head["channels"])[:, :, :3])
    if (pixels == pixels[:, :, :1]).all():  # black on white, mostly
        pixels = pixels[:, :, 0]
    divisor = max(1, min(height, width) // PAGE_SIDE)
    if divisor > 1:
        pixels = np.asarray(Image.fromarray(pixels).reduce(divisor))
    return UprightImage(np.ascontiguousarray(pixels), width, height, "PDF", 0, width / pixels.shape[1])


class _NoAnswer(Exception):
    """PDFium failed, or was stopped because it wanted too much."""


def _pdfium(data: bytes, memory: int, task: str, *arguments: float) -> tuple[dict[str, int], memoryview]:
    """The answer of ``pdfium.py`` to a task: its line of JSON, and the bytes behind it.

    ``memory`` is how many bytes it may use beside ``MEMORY``. Raises ``_NoAnswer``, and ``UnsupportedImage`` without
    the extra.
    """
    if find_spec("pypdfium2") is None:
        raise UnsupportedImage("PDF is read where the extra is installed: pip install 'linewise[pdf]'.")
    # -P: the modules beside it are ours, not those that it imports. In a session of its own a Ctrl+C, after which
    # what was admitted is finished, does not reach it.
    command = [sys.executable, "-P", _PDFIUM, task, MEMORY + memory, SECONDS, *arguments]
    try:
        result = subprocess.run(  # noqa: S603 - a program of ours; what a client sends is on its standard input only
            [str(word) for word in command],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        raise _NoAnswer from None
    if result.returncode != 0:
        raise _NoAnswer
    line = result.stdout.index(b"\n")
    return json.loads(result.stdout[:line]), memoryview(result.stdout)[line + 1 :]


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
