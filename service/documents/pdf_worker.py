"""Program that opens one PDF with PDFium, under limits that the operating system enforces.

In a PDF of two kilobytes, each level of nested drawings multiplies the time and memory of PDFium by ten, and the
library has no limit of its own. The program is started as a file and imports nothing of this package.

    pdf_worker.py count BYTES SECONDS
    pdf_worker.py draw BYTES SECONDS PAGE SCALE MAX_PIXELS MAX_SIDE

The PDF is on standard input. ``BYTES`` limits the memory and ``SECONDS`` the CPU time. Standard output has one line
of JSON: ``pages``; or ``width`` and ``height`` of a page at ``SCALE`` pixels per point and, if those are within the
limits, ``stride`` and ``channels`` of the pixels in RGB order that follow the line. The exit code is 0 only on success.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any


def count(document: Any) -> None:
    """Print the number of pages."""
    print(json.dumps({"pages": len(document)}))


def draw(document: Any, number: str, scale: str, max_pixels: str, max_side: str) -> None:
    """Print the size of a page, and its pixels unless they exceed the limits."""
    document.init_forms()  # draws the values of form fields; must precede the page
    page = document[int(number)]
    width, height = (math.ceil(points * float(scale)) for points in page.get_size())
    if width * height > int(max_pixels) or max(width, height) > int(max_side):
        print(json.dumps({"width": width, "height": height}))
        return
    bitmap = page.render(scale=float(scale), rev_byteorder=True)
    layout = {"stride": bitmap.stride, "channels": bitmap.n_channels}
    print(json.dumps({"width": bitmap.width, "height": bitmap.height} | layout), flush=True)
    sys.stdout.buffer.write(bitmap.buffer)


def main(task: str, memory: str, seconds: str, *arguments: str) -> None:
    """Run one task within the limits."""
    with contextlib.suppress(ImportError):  # Windows has no such limits
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # Linux: if memory runs out, this process is killed before the service
        Path("/proc/self/oom_score_adj").write_text("1000")
    import pypdfium2

    document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
    if task == "count":
        count(document)
    else:
        draw(document, *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
