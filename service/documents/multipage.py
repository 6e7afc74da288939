"""Decoding of multi-page files, PDF and TIFF, one page at a time.

PDF needs the extra ``pdf``: PDFium renders its pages in a process of its own, as in Chrome.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from linewise.service.documents.image import (
    MIN_SIDE_PX,
    PAGE_IMAGE_SIDE_PX,
    ImageLimits,
    UprightImage,
    decode,
    has_image_signature,
)
from linewise.service.documents.tiff import page_directories
from linewise.service.errors import ImageTooLarge, ImageTooSmall, Undecodable, UnsupportedImage

RENDER_DPI = 200  # small print is 20 pixels high
POINTS_PER_INCH = 72  # unit of PDF coordinates

# Limits for one page, far above the cost of a normal one; a page that exceeds them is reported as undecodable.
MEMORY_LIMIT_BYTES = 2**29  # in addition to the pixels: five times a colour scan of A4 at 600 dpi
CPU_LIMIT_S = 10
WALL_LIMIT_S = 60  # on a busy machine

_WORKER = Path(__file__).with_name("pdf_worker.py")


def is_pdf(data: bytes) -> bool:
    """Return whether the bytes are a PDF, whose header may follow a few other bytes.

    An image that mentions PDF in its metadata is not one.
    """
    return not has_image_signature(data) and b"%PDF-" in data[:1024]


def page_count(data: bytes, limit: int) -> int:
    """Count the pages of a file; 1 for any image that is not a multi-page TIFF.

    Raises ``ImageTooLarge`` for more than ``limit``, ``UnsupportedImage`` for a PDF without the extra, ``Undecodable``
    for a PDF or TIFF that is corrupt and for a PDF that is encrypted.
    """
    if is_pdf(data):
        try:
            count = _run_pdf_worker(data, 0, "count")[0]["pages"]
        except _PdfWorkerFailed:
            raise Undecodable("The PDF is corrupt, cut short or locked with a password.") from None
    elif has_image_signature(data) and data.startswith((b"II", b"MM")):
        count = len(page_directories(data, limit))
    else:
        count = 1
    if count > limit:
        raise ImageTooLarge(f"The document has more than {limit} pages; send it in parts.")
    if count == 0:
        raise Undecodable("The document has no pages.")
    return count


def decode_page(data: bytes, number: int, limits: ImageLimits) -> UprightImage:
    """Decode page ``number``, from 0; raises what ``image.decode`` and ``page_count`` do."""
    if not is_pdf(data):
        return decode(data, limits, PAGE_IMAGE_SIDE_PX, frame=number)
    task = ("draw", number, RENDER_DPI / POINTS_PER_INCH, limits.max_pixels, limits.max_side)
    try:
        header, rendered = _run_pdf_worker(data, 4 * limits.max_pixels, *task)
    except _PdfWorkerFailed:
        raise Undecodable(
            f"Page {number + 1} of the PDF is corrupt, or takes too much time or memory to render."
        ) from None
    width, height = header["width"], header["height"]
    if "stride" not in header:
        raise ImageTooLarge(f"Page {number + 1} has {width} x {height} pixels at {RENDER_DPI} dpi; too many.")
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(f"Page {number + 1} is {width} x {height} pixels at {RENDER_DPI} dpi.")
    rows = np.frombuffer(rendered, np.uint8).reshape(height, header["stride"])
    pixels = np.array(rows[:, : width * header["channels"]].reshape(height, width, header["channels"])[:, :, :3])
    if (pixels == pixels[:, :, :1]).all():  # the common case: black on white
        pixels = pixels[:, :, 0]
    divisor = max(1, min(height, width) // PAGE_IMAGE_SIDE_PX)
    if divisor > 1:
        pixels = np.asarray(Image.fromarray(pixels).reduce(divisor))
    return UprightImage(np.ascontiguousarray(pixels), width, height, "PDF", 0, width / pixels.shape[1])


class _PdfWorkerFailed(Exception):
    """PDFium failed or exceeded a limit."""


def _run_pdf_worker(data: bytes, memory: int, task: str, *arguments: float) -> tuple[dict[str, int], memoryview]:
    """Run a task of ``pdf_worker.py``; return its line of JSON and the bytes after it.

    ``memory`` is the number of bytes it may use in addition to ``MEMORY_LIMIT_BYTES``. Raises ``_PdfWorkerFailed``, and
    ``UnsupportedImage`` without the extra.
    """
    if find_spec("pypdfium2") is None:
        raise UnsupportedImage("PDF input needs an optional dependency: pip install 'linewise[pdf]'.")
    # -P keeps this folder off the module path. In a session of its own, the worker does not receive Ctrl+C, after which
    # the service still finishes admitted requests.
    command = [sys.executable, "-P", _WORKER, task, MEMORY_LIMIT_BYTES + memory, CPU_LIMIT_S, *arguments]
    try:
        result = subprocess.run(  # noqa: S603 - our own program; client data is on its standard input only
            [str(argument) for argument in command],
            check=False,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            timeout=WALL_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise _PdfWorkerFailed from None
    if result.returncode != 0:
        raise _PdfWorkerFailed
    line = result.stdout.index(b"\n")
    return json.loads(result.stdout[:line]), memoryview(result.stdout)[line + 1 :]
