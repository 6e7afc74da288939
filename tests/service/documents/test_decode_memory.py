"""Decoding needs no more memory for each pixel than it states, measured in a process of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linewise.service.documents.image import DECODE_BYTES_PER_PIXEL

CONSTANT_BYTES = 24 * 2**20  # bands, and the file itself

PROGRAM = """
import sys
from linewise.service.documents.image import ImageLimits, decode
from linewise.service.documents.multipage import decode_page

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

limits = ImageLimits(50_000_000, 32_768, 500)
small, large = (open(name, "rb").read() for name in sys.argv[2:])
read = (lambda data: decode(data, limits)) if sys.argv[1] == "line" else (lambda data: decode_page(data, 0, limits))
read(small)
before = peak()
read(large)
print(peak() - before)
"""


def picture(mode: str, size: tuple[int, int]) -> Image.Image:
    if mode == "F":
        values: np.ndarray[Any, Any] = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size[1], size[0])
        return Image.fromarray(values)
    image = Image.new("RGBA", size)
    image.paste((255, 255, 255, 255), (5, 5, 95, 95))
    return image.quantize(4) if mode == "P" else image.convert(mode)


def save(path: Path, mode: str, file_format: str, size: tuple[int, int], **options: Any) -> str:
    buffer = io.BytesIO()
    picture(mode, size).save(buffer, file_format, **options)
    path.write_bytes(buffer.getvalue())
    return str(path)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from Linux")
@pytest.mark.parametrize(
    ("mode", "file_format", "options"),
    [
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("F", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("CMYK", "JPEG", {"progressive": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize(("reading", "size"), [("line", (8000, 510)), ("page", (2000, 2000))])
def test_the_memory_of_decoding_is_bounded_by_the_pixels(
    tmp_path: Path, mode: str, file_format: str, options: dict[str, Any], reading: str, size: tuple[int, int]
) -> None:
    files = (save(tmp_path / name, mode, file_format, s, **options) for name, s in (("a", (100, 100)), ("b", size)))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, reading, *files], check=True, capture_output=True, text=True
    )
    assert int(result.stdout) <= DECODE_BYTES_PER_PIXEL * size[0] * size[1] + CONSTANT_BYTES
