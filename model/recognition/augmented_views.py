"""Test-time augmentation for low-confidence word crops.

A crop of a word in a photograph may be too loose, too narrow, or legible only by hue. The reader therefore
reads it cropped, stretched, and along the second axis of its colours, and `model.decoding.rescoring` combines
the results. Lines, scans without colours and readings under a constraint gain next to nothing and are read once.

After Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks" (NIPS 2012).
"""

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from linewise.model.recognition.preprocess import Image, principal

# Width over height up to which an image counts as a word. Longer lines cost more and gain little.
MAX_WORD_ASPECT_RATIO = 6.0

CROPPED_RIM_SHARE = 0.1  # of the height, removed above and below
MIN_CROPPED_HEIGHT_PX = 8
STRETCH_FACTOR = 1.3

# Views are made from at most this many rows: views of a large photograph would take more memory than the network.
MAX_VIEW_HEIGHT_PX = 128

# Standard deviation along the second axis of colour, relative to the first, from which an image counts as colourful.
# Scans, also coloured ones, mostly lie below.
MIN_COLOUR_RATIO = 0.07


def is_word(image: Image) -> bool:
    """Whether an image `(H, W)` or `(H, W, 3)` has the proportions of a word rather than of a line."""
    height, width = image.shape[:2]
    return bool(width <= MAX_WORD_ASPECT_RATIO * height)


def augmented_views(image: Image) -> Iterator[tuple[str, Image]]:
    """Names and pixels of the views of an image `(H, W)` or `(H, W, 3)`; none unless it is a colourful word."""
    if image.ndim == 2 or image.shape[2] == 1 or not is_word(image):
        return
    image = _reduced(image)
    first, second = (float(channel.std()) for channel in cv2.split(principal(image, 2)))
    if second < MIN_COLOUR_RATIO * first or not second:
        return
    for name, augment in _AUGMENTATIONS.items():
        view = augment(image)
        if view is not None:
            yield name, view


def apply_view(image: Image, name: str) -> Image:
    """The view of an image that `augmented_views` yields under a name; "" is the image itself.

    Raises:
        KeyError: there is no view of that name.
        ValueError: the image is too low for that view.
    """
    view = _AUGMENTATIONS[name](_reduced(image)) if name else image
    if view is None:
        raise ValueError(f"the image is too low for the view {name!r}: {image.shape[0]} rows")
    return view


def _reduced(image: Image) -> Image:
    height, width = image.shape[:2]
    if height <= MAX_VIEW_HEIGHT_PX:
        return image
    size = (max(1, round(width * MAX_VIEW_HEIGHT_PX / height)), MAX_VIEW_HEIGHT_PX)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _cropped(image: Image) -> Image | None:
    height = image.shape[0]
    rim = round(height * CROPPED_RIM_SHARE)
    return image[rim : height - rim] if rim and height - 2 * rim >= MIN_CROPPED_HEIGHT_PX else None


def _stretched(image: Image) -> Image:
    width = round(image.shape[1] * STRETCH_FACTOR)
    return np.asarray(cv2.resize(image, (width, image.shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


def _second_colour_axis(image: Image) -> Image:
    return np.ascontiguousarray(principal(image, 2)[:, :, 1])


# The names are values of `Reading.look`.
_AUGMENTATIONS: dict[str, Callable[[Image], Image | None]] = {
    "closer": _cropped, "wider": _stretched, "by other colours": _second_colour_axis,
}  # fmt: skip
