"""Program that opens one untrusted file under limits that the operating system enforces.

In a PDF of two kilobytes, each level of nested drawings multiplies the time and memory of PDFium by ten, and the
library has no limit of its own. An image of a few kilobytes may take seconds of Pillow, which cannot be interrupted.
The program is started as a file and imports nothing of this package for a PDF.

    program.py count BYTES SECONDS
    program.py draw BYTES SECONDS PAGE SCALE MAX_PIXELS MAX_SIDE REDUCED_SIDE
    program.py decode BYTES SECONDS SIDE FRAME LIMIT...

The file is on standard input. ``BYTES`` limits the memory and ``SECONDS`` the CPU time. Standard output has one line of
JSON: ``pages`` of ``count``; ``width`` and ``height`` of a page that exceeds the limits at ``SCALE`` pixels per point;
``error`` and ``detail`` of an image that is refused; else the fields of an ``UprightImage``, with the ``shape`` of the
uint8 pixels that follow the line. ``FRAME`` is empty or a page of a TIFF, and ``LIMIT`` the fields of ``ImageLimits``.
The exit code is 0 only on success.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

NICENESS = 10  # as the model's process: below the event loop
BAND_PIXELS = 250_000  # pixels that are compared at once


def count() -> None:
    """Print the number of pages."""
    print(json.dumps({"pages": len(_open_pdf())}))


def draw(number: str, scale: str, max_pixels: str, max_side: str, reduced_side: str) -> None:
    """Print the size of a page, and its pixels unless they exceed the limits."""
    import numpy as np

    document = _open_pdf()
    document.init_forms()  # draws the values of form fields; must precede the page
    page = document[int(number)]
    width, height = (math.ceil(points * float(scale)) for points in page.get_size())
    if width * height > int(max_pixels) or max(width, height) > int(max_side):
        print(json.dumps({"width": width, "height": height}))
        return
    pixels = page.render(scale=float(scale), rev_byteorder=True).to_numpy()
    height, width = pixels.shape[:2]
    pixels = pixels.reshape(height, width, -1)[:, :, :3]
    if _is_grey(pixels):  # the common case: black on white
        pixels = pixels[:, :, 0]
    divisor = max(1, min(height, width) // int(reduced_side))
    if divisor > 1:
        from PIL import Image

        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(divisor))
    _write(np.ascontiguousarray(pixels), width=width, height=height, format="PDF", orientation_applied=0)


def decode(side: str, frame: str, *limits: str) -> None:
    """Print an image as ``image.decode`` returns it, or why it is refused."""
    from linewise.service.documents import image
    from linewise.service.errors import ServiceError

    max_pixels, max_side, max_aspect, max_pages = limits
    try:
        decoded = image.decode(
            sys.stdin.buffer.read(),
            image.ImageLimits(int(max_pixels), int(max_side), float(max_aspect), int(max_pages)),
            int(side),
            int(frame) if frame else None,
        )
    except ServiceError as error:
        print(json.dumps({"error": error.code, "detail": error.detail}))
        return
    _write(
        decoded.pixels,
        width=decoded.width,
        height=decoded.height,
        format=decoded.format,
        orientation_applied=decoded.orientation_applied,
    )


def _open_pdf() -> Any:
    import pypdfium2

    return pypdfium2.PdfDocument(sys.stdin.buffer.read())


def _is_grey(pixels: Any) -> bool:
    rows = max(1, BAND_PIXELS // pixels.shape[1])
    bands = (pixels[top : top + rows] for top in range(0, len(pixels), rows))
    return all(bool((band == band[:, :, :1]).all()) for band in bands)


def _write(pixels: Any, **fields: object) -> None:
    print(json.dumps(fields | {"shape": pixels.shape}), flush=True)
    sys.stdout.buffer.write(pixels.data)


def main(task: str, memory: str, seconds: str, *arguments: str) -> None:
    """Run one task within the limits."""
    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.nice(NICENESS)
    with contextlib.suppress(OSError):  # Linux: if memory runs out, this process is killed before the service
        Path("/proc/self/oom_score_adj").write_text("1000")
    tasks: dict[str, Callable[..., None]] = {"count": count, "draw": draw, "decode": decode}
    tasks[task](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
