"""Labelled datasets: folders of lines, folders of pages, and their images."""

import io
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from linewise.model.evaluation.metrics import Metric, fold_quotes
from linewise.model.page.geometry import Quad
from linewise.model.recognition.preprocess import LUMINANCE
from linewise.model.recognition.preprocess import Image as Pixels

LINE_LABELS_FILE = "labels.tsv"
PAGE_LABELS_FILE = "labels.json"
TEXT_ENCODING = "utf-8-sig"  # UTF-8 with or without a byte order mark
PAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")

# Datasets whose publishers compare texts with quotes folded: print and typescripts.
QUOTES_FOLDED_PREFIXES = ("print", "typed")

# Standard deviation of the brightness of visible pixels, 0 to 255. Above it, an image with alpha carries its content in
# the colours; below it, the visible part is uniform ink and the content is in the alpha channel.
UNIFORM_INK_MAX_DEVIATION = 40.0


class DatasetError(ValueError):
    """A dataset cannot be used; the message is one line with the reason."""


@dataclass(frozen=True)
class LabelledImage:
    """Image file of a line or a word, and its text."""

    path: Path
    label: str


@dataclass(frozen=True)
class LabelledPage:
    """Image file of a page, with the texts and corners `(4, 2)` in pixels of its lines, or with its text alone."""

    path: Path
    texts: tuple[str, ...]
    quads: tuple[Quad, ...] | None


def dataset_metric(name: str) -> Metric:
    """Metric that the publishers of a dataset use, by its name: FOLDED for scenes, CASE_INSENSITIVE for receipts."""
    if name.startswith(("scene", "digits")):
        return Metric.FOLDED
    return Metric.CASE_INSENSITIVE if name.startswith("receipt") else Metric.EXACT


def is_correct(name: str, label: str, reading: str, metric: Metric | None = None) -> bool:
    """Whether a reading is correct in the dataset `name`, by its own metric or by another one.

    In print and typescripts, typographic quotes, apostrophes and dashes count as ' " and - on both sides.
    """
    if name.startswith(QUOTES_FOLDED_PREFIXES):
        label, reading = fold_quotes(label), fold_quotes(reading)
    return (metric or dataset_metric(name)).agrees(label, reading)


def read_labels(folder: str | os.PathLike[str]) -> list[LabelledImage]:
    """Read `labels.tsv` of a folder: lines of image path, tab, text, in UTF-8.

    Raises:
        DatasetError: the file is missing, not UTF-8 or empty, or a line has no tab.
    """
    folder = Path(folder)
    try:
        lines = (folder / LINE_LABELS_FILE).read_text(encoding=TEXT_ENCODING).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{folder}: no readable {LINE_LABELS_FILE}") from error
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, tab, label = line.rstrip("\r").partition("\t")
        if not tab:
            raise DatasetError(f"{folder / LINE_LABELS_FILE}, line {number}: no tab between image and text")
        samples.append(LabelledImage(folder / name, label))
    if not samples:
        raise DatasetError(f"{folder / LINE_LABELS_FILE} is empty")
    return samples


def read_page_labels(folder: str | os.PathLike[str]) -> list[LabelledPage]:
    """Read the pages of a folder by name: those of `labels.json`, or all images beside a text file.

    `labels.json` maps file names to lists of objects with `text` and `quad`: eight numbers, the corners
    in pixels clockwise from the top left. Without it, each image with a `.txt` of the same name is a page.

    Raises:
        DatasetError: neither exists, or the labels are malformed.
    """
    folder = Path(folder)
    if (folder / PAGE_LABELS_FILE).exists():
        return _pages_with_quads(folder)
    pages = [
        LabelledPage(path, (path.with_suffix(".txt").read_text(encoding=TEXT_ENCODING),), None)
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in PAGE_SUFFIXES and path.with_suffix(".txt").exists()
    ]
    if not pages:
        raise DatasetError(f"{folder}: no {PAGE_LABELS_FILE}, and no image with a .txt of the same name")
    return pages


def _pages_with_quads(folder: Path) -> list[LabelledPage]:
    path = folder / PAGE_LABELS_FILE
    try:
        entries = json.loads(path.read_text(encoding=TEXT_ENCODING))
        return [
            LabelledPage(
                folder / name,
                tuple(line["text"] for line in lines),
                tuple(np.asarray(line["quad"], np.float32).reshape(4, 2) for line in lines),
            )
            for name, lines in sorted(entries.items())
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} does not map file names to lists of objects with text and quad") from error


def open_image(path: Path) -> Pixels:
    """Read an image file, upright by its EXIF data: uint8 `(H, W)` if it is grey, else RGB `(H, W, 3)`.

    Decoded as in the service, but never reduced: transparency is composited, and more than 8 bits are scaled by their
    range.

    Raises:
        DatasetError: missing, or not an image.
    """
    try:
        # Not from the path: Pillow 13 maps some TIFF files into memory and leaves those as they lie.
        with Image.open(io.BytesIO(path.read_bytes())) as file:
            return np.ascontiguousarray(_eight_bits(_upright(file)))
    except Exception as error:  # on malformed bytes, Pillow's plugins raise almost any type
        raise DatasetError(f"{path}: cannot be opened as an image") from error


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    with suppress(Exception):  # malformed metadata must not fail the image
        return ImageOps.exif_transpose(image)
    return image


def _eight_bits(image: Image.Image) -> Pixels:
    """Convert an image of any Pillow mode to uint8 grey or RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled_to_eight_bits(np.asarray(image).astype(np.float64))
    if image.has_transparency_data:
        return _composited(np.asarray(image.convert("RGBA"), np.float32))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"), np.uint8)


def _scaled_to_eight_bits(values: NDArray[np.float64]) -> Pixels:
    """Scale grey values to 0 to 255 by their range; a flat image becomes white."""
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if high == low:
        return np.full(values.shape, 255, np.uint8)
    return np.rint((values - low) * (255.0 / (high - low))).astype(np.uint8)


def _composited(rgba: NDArray[np.float32]) -> Pixels:
    """Composite RGBA `(H, W, 4)` onto black or white, whichever keeps it readable.

    Uniform ink gets the background opposite to its brightness, an image with light and dark parts the closest one.
    """
    colour, alpha = rgba[:, :, :3], rgba[:, :, 3:] / 255
    weight = alpha[:, :, 0]
    visible = float(weight.sum())
    if visible == 0:
        return np.full(colour.shape, 255, np.uint8)
    luma = colour @ LUMINANCE
    mean = float((luma * weight).sum()) / visible
    deviation = math.sqrt(float((np.square(luma - mean) * weight).sum()) / visible)
    background = 255.0 if (mean >= 127.5) == (deviation > UNIFORM_INK_MAX_DEVIATION) else 0.0
    return np.rint(colour * alpha + background * (1 - alpha)).astype(np.uint8)
