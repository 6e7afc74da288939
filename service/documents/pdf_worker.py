"""The program that ``documents`` opens PDF with: a file on standard input, an answer on standard output, and the end.

In a PDF of two kilobytes each further level of drawings in drawings takes PDFium ten times the time and memory of the
one before, and we found nothing in the library that stops it. So it runs in a process of its own, with bounds that the
system keeps. It is started as a file, and imports nothing of ours.

    pdfium.py count BYTES SECONDS
    pdfium.py draw BYTES SECONDS PAGE SCALE MAX_PIXELS MAX_SIDE

``BYTES`` of memory and ``SECONDS`` of the processor are all it may use. A line of JSON comes out: the ``pages``; or
``width`` and ``height`` of a page at ``SCALE`` pixels a point and, when those are within the limits, ``stride`` and
``channels`` of the pixels in RGB order that follow the line. Exits with anything but 0 when there is no answer.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import Any


def count(document: Any) -> None:
    """Say how many pages there are."""
    print(json.dumps({"pages": len(document)}))


def draw(document: Any, number: str, scale: str, max_pixels: str, max_side: str) -> None:
    """Say how large a page is, and draw it unless it is too large."""
    page = document[int(number)]
    width, height = (math.ceil(points * float(scale)) for points in page.get_size())
    if width * height > int(max_pixels) or max(width, height) > int(max_side):
        print(json.dumps({"width": width, "height": height}))
        return
    drawn = page.render(scale=float(scale), rev_byteorder=True)
    layout = {"stride": drawn.stride, "channels": drawn.n_channels}
    print(json.dumps({"width": drawn.width, "height": drawn.height} | layout), flush=True)
    sys.stdout.buffer.write(drawn.buffer)


def main(task: str, memory: str, seconds: str, *arguments: str) -> None:
    """Do one task within its bounds."""
    with contextlib.suppress(ImportError):  # there are no such bounds on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory ends all the same, this goes before the service does; Linux only
        Path("/proc/self/oom_score_adj").write_text("1000")
    import pypdfium2

    document = pypdfium2.PdfDocument(sys.stdin.buffer.read())
    if task == "count":
        count(document)
    else:
        draw(document, *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
