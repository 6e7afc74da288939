"""Rotations in which an image is read, and the choice between their readings."""

from collections.abc import Sequence

import numpy as np

from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.results import Reading

# Height over width from which an image may hold a line on its side and is read rotated as well.
ROTATED_ASPECT_RATIO = 1.5


def rotations(height: int, width: int) -> tuple[int, ...]:
    """Clockwise rotations, in degrees, in which an image of this size in pixels is read; 0 comes first."""
    return (0, 90, 270) if height >= ROTATED_ASPECT_RATIO * width > 0 else (0,)


def rotated(image: Image, degrees: int) -> Image:
    """Rotate an image `(H, W, ...)` clockwise by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(image, -degrees // 90)) if degrees else image


def most_confident(readings: Sequence[Reading]) -> int:
    """Index of the most confident of an image's readings, the first of which is upright.

    A rotated reading of a single character does not count: that is too little evidence for a rotation.
    """
    candidates = [0, *(index for index, reading in enumerate(readings) if index and len(reading.text) > 1)]
    return max(candidates, key=lambda index: (bool(readings[index].text), readings[index].confidence))
