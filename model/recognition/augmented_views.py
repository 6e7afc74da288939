"""Second looks at the photograph of a word whose reading is doubtful: closer, wider, by the other colours.

What is sure is read once. A word on a wall may be cut too loosely, be narrow or stand out by its hue alone,
and nobody can tell beforehand: so it is read in each of these ways, and
`model.decoding.rescoring` weighs what they say.
Scans without colours gain next to nothing by it and are left alone, and so is what is held to a constraint.
Reading altered copies of a picture is known as test-time augmentation (Krizhevsky et al., NIPS 2012).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from linewise.model.recognition.preprocess import Image, principal
from linewise.model.recognition.results import Reading

# Confidence below which a reading is doubtful: there, three of four words on walls are wrong.
RESCORE_THRESHOLD = 0.6

# Longest pictures of words, in heights. A line of print costs more and gains little.
LONGEST = 6.0

CLOSER = 0.1  # of its height, taken off above and below
WIDER = 1.3

LEAST_HEIGHT = 8  # pixels that must be left

# Rows that are enough to look at: copies of a photograph of many megapixels would take more memory than the network.
MOST_HEIGHT = 128

# Least spread of the second axis of colour, in that of the first, of a photograph that is worth it: in scans,
# also coloured ones, it is mostly below.
COLOURFUL = 0.07


def _reduced(image: Image) -> Image:
    height, width = image.shape[:2]
    if height <= MOST_HEIGHT:
        return image
    size = (max(1, round(width * MOST_HEIGHT / height)), MOST_HEIGHT)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _closer(image: Image) -> Image | None:
    rim = round(image.shape[0] * CLOSER)
    return image[rim : image.shape[0] - rim] if rim and image.shape[0] - 2 * rim >= LEAST_HEIGHT else None


def _wider(image: Image) -> Image:
    width = round(image.shape[1] * WIDER)
    return np.asarray(cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


def _by_other_colours(image: Image) -> Image:
    return np.ascontiguousarray(principal(image, 2)[:, :, 1])


_LOOKS: dict[str, Callable[[Image], Image | None]] = {
    "closer": _closer, "wider": _wider, "by other colours": _by_other_colours,
}  # fmt: skip


def is_word(image: Image) -> bool:
    """Whether an image `(H, W)` or `(H, W, 3)` has the proportions of a word, not of a line."""
    height, width = image.shape[:2]
    return bool(width <= LONGEST * height)


def augmented_views(image: Image) -> Iterator[tuple[str, Image]]:
    """The ways in which an image `(H, W)` or `(H, W, 3)` is worth another look, by name, and what is seen then."""
    if image.ndim == 2 or image.shape[2] == 1 or not is_word(image):
        return
    image = _reduced(image)
    first, second = (float(channel.std()) for channel in cv2.split(principal(image, 2)))
    if second < COLOURFUL * first or not second:
        return
    for name, look in _LOOKS.items():
        view = look(image)
        if view is not None:
            yield name, view


def seen(image: Image, look: str) -> Image:
    """The image as it is seen at a look that `looks` named; "" is the first one."""
    view = _LOOKS[look](_reduced(image)) if look else image
    if view is None:
        raise ValueError(f"this image is not worth a look {look}")
    return view


def spread(reading: Reading, factor: float) -> Reading:
    """The same reading of an image that is `factor` times as wide."""
    if factor == 1:
        return reading
    characters = (replace(one, start=one.start * factor, end=one.end * factor) for one in reading.characters)
    return replace(reading, characters=tuple(characters))
