"""Decoding of uploads, page by page: PDF, multi-page TIFF and images.

PDF needs the extra ``pdf``: PDFium renders its pages in a process of its own, as in Chrome. The service decodes costly
images in such a process too, since neither library can be interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, TypeVar

import numpy as np

from linewise.service.documents.decode_cost import CostlyImage
from linewise.service.documents.image import (
    DECODE_BYTES_PER_PIXEL,
    LINE_IMAGE_SIDE_PX,
    MIN_SIDE_PX,
    PAGE_IMAGE_SIDE_PX,
    ImageLimits,
    UprightImage,
    decode,
    has_image_signature,
    measure,
)
from linewise.service.documents.tiff import page_directories
from linewise.service.documents.workers.process import Stop, WorkerFailed, run_worker
from linewise.service.errors import (
    ImageError,
    ImageTooLarge,
    ImageTooSmall,
    Undecodable,
)

RENDER_DPI = 200  # small print is 20 pixels high
POINTS_PER_INCH = 72  # unit of PDF coordinates

# Limits of one worker, far above the cost of a normal page or image.
MEMORY_LIMIT_BYTES = 2**29  # in addition to the pixels: five times a colour scan of A4 at 600 dpi
CPU_LIMIT_S = 10
PIXELS_PER_CPU_S = 10_000_000  # where the limits of the image allow so many that they take longer

# Up to QUICK_DECODE_S, an image of a line is decoded between others; up to CHEAP_DECODE_S, an image is not worth the
# fifth of a second that a worker takes to start.
QUICK_DECODE_S = 0.1
CHEAP_DECODE_S = 0.5

_IMAGE_ERRORS = {kind.code: kind for kind in ImageError.__subclasses__()}

T = TypeVar("T")

# Decodes one upload within limits. Without a ``Stop``, it does so quickly or raises ``CostlyImage``.
OpenImage = Callable[[ImageLimits, Stop | None], T]


def is_pdf(data: bytes) -> bool:
    """Return whether the bytes are a PDF, whose header may follow a few other bytes.

    An image that mentions PDF in its metadata is not one.
    """
    return not has_image_signature(data) and b"%PDF-" in data[:1024]


def page_count(data: bytes, limit: int, stop: Stop | None = None) -> int:
    """Count the pages of a file; 1 for any image that is not a multi-page TIFF.

    ``stop`` ends the worker that opens a PDF. Raises ``ImageTooLarge`` for more than ``limit``, ``UnsupportedImage``
    for a PDF without the extra, ``Undecodable`` for a PDF or TIFF that is corrupt and for a PDF that is encrypted.
    """
    if is_pdf(data):
        try:
            count: int = _run_pdf_worker(data, 0, stop, "count")[0]["pages"]
        except WorkerFailed:
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


@dataclass(frozen=True)
class OpenedFile:
    """A file with the number of its pages.

    ``line_image`` is its image reduced to the size of a line; None for a PDF, and for a TIFF of several pages.
    """

    data: bytes
    pages: int
    line_image: UprightImage | None

    def page_image(self, limits: ImageLimits) -> UprightImage:
        """Decode the only image at the size of a page, unless it has that size already."""
        assert self.line_image is not None
        return self.line_image if self.line_image.scale == 1 else decode_page(self.data, 0, limits)


def open_file(data: bytes, limits: ImageLimits) -> OpenedFile:
    """Count the pages of a file, and decode an image that may be a line; raises what ``decode_page`` does."""
    pages = page_count(data, limits.max_pages)
    return OpenedFile(data, pages, None if pages > 1 or is_pdf(data) else decode(data, limits))


def open_line_or_pages(read_bytes: Callable[[], bytes], limits: ImageLimits, stop: Stop | None) -> OpenedFile:
    """Open a file like ``open_file``; an ``OpenImage`` after the first argument, for which a PDF is costly."""
    data = read_bytes()
    if stop is None and is_pdf(data):
        raise CostlyImage
    pages = page_count(data, limits.max_pages, stop)
    single = pages == 1 and not is_pdf(data)
    return OpenedFile(data, pages, open_line(lambda: data, limits, stop) if single else None)


def open_line(read_bytes: Callable[[], bytes], limits: ImageLimits, stop: Stop | None) -> UprightImage:
    """Decode an image of a line; an ``OpenImage`` after the first argument."""
    if stop is None:
        return decode(read_bytes(), limits, max_seconds=QUICK_DECODE_S)
    return _decode_isolated(read_bytes(), limits, LINE_IMAGE_SIDE_PX, None, stop)


def open_page(data: bytes, number: int, limits: ImageLimits, stop: Stop | None) -> UprightImage:
    """Decode page ``number``, from 0, which is never quick; an ``OpenImage`` after the first arguments."""
    if stop is None:
        raise CostlyImage
    return decode_page(data, number, limits, stop)


def decode_page(data: bytes, number: int, limits: ImageLimits, stop: Stop | None = None) -> UprightImage:
    """Decode page ``number``, from 0; raises what ``image.decode`` and ``page_count`` do.

    With ``stop``, a costly image is decoded in a worker; ``stop`` ends it, and the one that opens a PDF.
    """
    if is_pdf(data):
        return _render_pdf(data, number, limits, stop)
    if stop is None:
        return decode(data, limits, PAGE_IMAGE_SIDE_PX, frame=number)
    return _decode_isolated(data, limits, PAGE_IMAGE_SIDE_PX, number, stop)


def _decode_isolated(data: bytes, limits: ImageLimits, side: int, frame: int | None, stop: Stop) -> UprightImage:
    """Decode an image, a costly one in a worker that ``stop`` ends."""
    try:
        return decode(data, limits, side, frame, max_seconds=CHEAP_DECODE_S)
    except CostlyImage:
        pass
    pixels = max(measure(data, limits), 1) if frame is None else limits.max_pixels
    memory = MEMORY_LIMIT_BYTES + DECODE_BYTES_PER_PIXEL * pixels
    seconds = max(CPU_LIMIT_S, pixels // PIXELS_PER_CPU_S)
    arguments = (side, "" if frame is None else frame, *astuple(limits))
    try:
        header, content = run_worker(data, memory, seconds, stop, "decode", *arguments)
    except WorkerFailed:
        raise ImageTooLarge(
            f"Decoding the image takes more than {seconds} s of CPU time, or too much memory."
        ) from None
    if "error" in header:
        raise _IMAGE_ERRORS.get(header["error"], Undecodable)(header["detail"])
    return _upright(header, content)


def _render_pdf(data: bytes, number: int, limits: ImageLimits, stop: Stop | None) -> UprightImage:
    task = (number, RENDER_DPI / POINTS_PER_INCH, limits.max_pixels, limits.max_side, PAGE_IMAGE_SIDE_PX)
    try:
        header, content = _run_pdf_worker(data, 8 * limits.max_pixels, stop, "draw", *task)
    except WorkerFailed:
        raise Undecodable(
            f"Page {number + 1} of the PDF is corrupt, or takes too much time or memory to render."
        ) from None
    width, height = header["width"], header["height"]
    if "shape" not in header:
        raise ImageTooLarge(f"Page {number + 1} has {width} x {height} pixels at {RENDER_DPI} dpi; too many.")
    if min(width, height) < MIN_SIDE_PX:
        raise ImageTooSmall(f"Page {number + 1} is {width} x {height} pixels at {RENDER_DPI} dpi.")
    return _upright(header, content)


def _run_pdf_worker(
    data: bytes, memory: int, stop: Stop | None, task: str, *arguments: object
) -> tuple[dict[str, Any], memoryview]:
    """Run a task with ``memory`` bytes in addition to ``MEMORY_LIMIT_BYTES``. Raises ``WorkerFailed``."""
    return run_worker(data, MEMORY_LIMIT_BYTES + memory, CPU_LIMIT_S, stop, task, *arguments)


def _upright(header: dict[str, Any], content: memoryview) -> UprightImage:
    """Take an image from the output of a worker."""
    pixels = np.frombuffer(content, np.uint8).reshape(header.pop("shape"))
    return UprightImage(pixels, **header, scale=header["width"] / pixels.shape[1])
