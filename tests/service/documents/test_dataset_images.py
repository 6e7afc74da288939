"""The evaluation decodes image files to the same pixels as the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linewise.model.evaluation.datasets import DatasetError, open_image
from linewise.service.documents.image import ImageLimits, decode

LIMITS = ImageLimits(max_pixels=1_000_000, max_side=4_000, max_aspect=500)
SIZE = (40, 24)


def ink(values: tuple[int, ...], paper: tuple[int, ...], mode: str) -> Image.Image:
    """A bar of one colour on another."""
    image = Image.new(mode, SIZE, paper)
    image.paste(values, (6, 4, 12, 20))
    return image


def palette() -> Image.Image:
    image = Image.new("P", SIZE, 0)
    image.putpalette([0, 0, 0, 20, 20, 20])
    image.paste(1, (6, 4, 12, 20))
    image.info["transparency"] = 0
    return image


def deep(dtype: type, top: float) -> Image.Image:
    values: Any = np.linspace(0, top, SIZE[0] * SIZE[1]).reshape(SIZE[::-1]).astype(dtype)
    return Image.fromarray(values)


def label_with_round_corners() -> Image.Image:
    image = Image.new("RGBA", SIZE, (250, 250, 250, 255))
    image.paste((0, 0, 0, 255), (6, 4, 12, 20))
    image.paste((0, 0, 0, 0), (0, 0, 2, 2))
    return image


PICTURES = {
    "grey.png": Image.linear_gradient("L").resize(SIZE),
    "bilevel.png": Image.linear_gradient("L").resize(SIZE).convert("1"),
    "colour.png": ink((200, 30, 10), (9, 90, 240), "RGB"),
    "dark-ink.png": ink((10, 20, 30, 255), (0, 0, 0, 0), "RGBA"),
    "light-ink.webp": ink((240, 240, 250, 255), (0, 0, 0, 0), "RGBA"),
    "half.png": ink((10, 20, 30, 128), (0, 0, 0, 0), "RGBA"),
    "invisible.png": Image.new("RGBA", SIZE, (0, 0, 0, 0)),
    "label.png": label_with_round_corners(),
    "grey-alpha.png": ink((30, 255), (0, 0), "LA"),
    "palette.png": palette(),
    "sixteen.png": deep(np.uint16, 4095),
    "sixteen.tif": deep(np.uint16, 65535),
    "float.tif": deep(np.float32, 0.5),
    "flat.png": Image.fromarray(np.full(SIZE[::-1], 700, np.uint16)),
    "cmyk.jpg": ink((10, 200, 30, 0), (0, 0, 0, 0), "CMYK"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_image_is_decoded_alike(name: str, tmp_path: Path) -> None:
    PICTURES[name].save(tmp_path / name)
    decoded = decode((tmp_path / name).read_bytes(), LIMITS).pixels
    opened = open_image(tmp_path / name)
    assert opened.dtype == np.uint8 and opened.shape == decoded.shape
    assert np.abs(opened.astype(int) - decoded).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_applied_alike(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("sixteen.png", "dark-ink.png", "sixteen.tif"):
        PICTURES[name].save(tmp_path / name, exif=exif)
        decoded = decode((tmp_path / name).read_bytes(), LIMITS).pixels
        assert np.abs(open_image(tmp_path / name).astype(int) - decoded).max() <= 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    PICTURES["colour.png"].save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    for data in (b"", whole[:40], whole[: len(whole) - 40], b"\x89PNG\r\n\x1a\n" + bytes(range(200))):
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(DatasetError, match=r"a\.png"):
            open_image(tmp_path / "a.png")
