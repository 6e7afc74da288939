"""Labelled datasets: folders of lines, folders of pages, and their images."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from linewise.model.evaluation.metrics import Metric
from linewise.model.page.geometry import Quad
from linewise.model.recognition.preprocess import Image as Pixels

LINE_LABELS_FILE = "labels.tsv"
PAGE_LABELS_FILE = "labels.json"
PAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


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


def read_labels(folder: str | os.PathLike[str]) -> list[LabelledImage]:
    """Read `labels.tsv` of a folder: lines of image path, tab, text, in UTF-8.

    Raises:
        DatasetError: the file is missing, not UTF-8 or empty, or a line has no tab.
    """
    folder = Path(folder)
    try:
        lines = (folder / LINE_LABELS_FILE).read_text(encoding="utf-8").split("\n")
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
        LabelledPage(path, (path.with_suffix(".txt").read_text(encoding="utf-8"),), None)
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in PAGE_SUFFIXES and path.with_suffix(".txt").exists()
    ]
    if not pages:
        raise DatasetError(f"{folder}: no {PAGE_LABELS_FILE}, and no image with a .txt of the same name")
    return pages


def _pages_with_quads(folder: Path) -> list[LabelledPage]:
    path = folder / PAGE_LABELS_FILE
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
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

    Raises:
        DatasetError: missing, or not an image.
    """
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            return np.asarray(upright.convert("L" if upright.mode in ("1", "L") else "RGB"), np.uint8)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be opened as an image") from error
