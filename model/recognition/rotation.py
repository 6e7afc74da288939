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


def has_rotation_evidence(text: str) -> bool:
    """Whether a text is evidence enough that its image lies on its side: a single character is not."""
    return len(text) > 1


def most_confident(readings: Sequence[Reading]) -> int:
    """Index of the most confident of an image's readings, the first of which is upright.

    A rotated reading counts only where its text is evidence enough.
    """
    candidates = [
        0,
        *(index for index, reading in enumerate(readings) if index and has_rotation_evidence(reading.text)),
    ]
    return max(candidates, key=lambda index: (bool(readings[index].text), readings[index].confidence))
