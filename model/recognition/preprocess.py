"""Preprocessing: images of any size to the model's height, channels and width ladder, and to arrays of mean 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.network.config import ModelConfig

if TYPE_CHECKING:  # only `to_tensor`, for training, needs it
    import torch

Image = NDArray[np.uint8]

# An image up to 4 % wider than a width of the ladder is narrowed to it: the next one would cost more than it gains.
NARROWING_TOLERANCE = 1.04

# Width over height above which an image is squeezed: such a line has thousands of characters, or no text at all. The
# bound keeps the time for an array of one row within seconds.
MAX_ASPECT_RATIO = 1000

COLOUR_SAMPLE_PIXELS = 4096  # enough to estimate the colour distribution of an image

# Weights of red, green and blue in luminance (ITU-R BT.601). The first colour axis points towards more of it.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

# The second colour axis points towards more red, so that a colour always has the same sign.
REDNESS = np.array([1.0, 0.0, 0.0], np.float32)

# The second channel varies a tenth as much as the first in most photographs, and a fiftieth, the noise of a camera, in
# coloured scans of black print. It is scaled to the standard deviation of the first one, but by no more than this.
MAX_SECOND_CHANNEL_GAIN = 4.0

# Standard deviation in grey levels. Images below are noise on a flat background, which must not be amplified.
MIN_CONTRAST = 6.0


def natural_width(config: ModelConfig, height: int, width: int) -> float:
    """Stretched width in pixels of an image of `height` x `width` at the model's height, before any rounding."""
    return min(width / height, MAX_ASPECT_RATIO) * config.height * config.stretch


def scaled_width(config: ModelConfig, height: int, width: int) -> int:
    """Width in pixels to which an image of `height` x `width` is scaled.

    It depends on the image alone, never on its batch. The image is widened to the next width of the ladder rather than
    padded, so that a batch holds no meaningless pixels. Lines beyond the ladder keep their own width, rounded up to
    a multiple of 4, and are read in windows.
    """
    natural = natural_width(config, height, width)
    for candidate in config.widths:
        if natural <= candidate * NARROWING_TOLERANCE:
            return candidate
    return -(-round(natural) // 4) * 4


def inner_width(config: ModelConfig, height: int, width: int) -> int:
    """Width in pixels of the image itself within its scaled form; the rest is border, in equal parts."""
    target = scaled_width(config, height, width)
    if target != config.widths[0]:
        return target
    return min(max(1, round(natural_width(config, height, width))), target)


def grey(image: Image) -> Image:
    """First principal component of an image's colours, uint8 `(H, W)`.

    `image` is uint8 `(H, W)` grey or `(H, W, 3)` RGB.

    Raises:
        ValueError: another dtype or shape, or an empty image.
    """
    return np.ascontiguousarray(principal(image, 1)[:, :, 0])


def check_image(image: Image) -> None:
    """Check that an array is an image that can be read: uint8 `(H, W)`, `(H, W, 1)` or `(H, W, 3)`, and not empty.

    Raises:
        ValueError: another dtype or shape, or an empty array.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"an image must be uint8, not {image.dtype}")
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))) or 0 in image.shape:
        raise ValueError(f"an image must be (H, W) or (H, W, 3) and not empty, not {image.shape}")


def principal(image: Image, channels: int) -> Image:
    """First `channels` principal components of an image's colours, uint8 `(H, W, channels)`.

    `image` is uint8 `(H, W)` grey or `(H, W, 3)` RGB. Light stays light. Red letters on green of the same lightness
    vanish in a plain grey picture and stand out in the first component; red letters with black sides on a white wall
    stand out in the second. Without colours, the components after the first are 0.

    Raises:
        ValueError: another dtype or shape, or an empty image.
    """
    check_image(image)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 2:
        return _with_zero_channels(image, channels)
    step = max(1, math.isqrt(image.shape[0] * image.shape[1] // COLOUR_SAMPLE_PIXELS))
    colours = image[::step, ::step].reshape(-1, 3)
    is_grey = (colours[:, 0] == colours[:, 1]).all() and (colours[:, 1] == colours[:, 2]).all()
    transform = None if is_grey else _principal_transform(colours, channels)
    if transform is None:
        return _with_zero_channels(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), channels)
    return np.asarray(cv2.transform(image, transform), np.uint8).reshape(*image.shape[:2], channels)


def _principal_transform(colours: Image, channels: int) -> NDArray[np.float32] | None:
    """Affine transform `(channels, 4)` to the principal components of RGB `colours` `(N, 3)`; None if all are alike."""
    covariance, _ = cv2.calcCovarMatrix(
        colours, np.empty(0), cv2.COVAR_NORMAL | cv2.COVAR_ROWS | cv2.COVAR_SCALE, ctype=cv2.CV_64F
    )
    variances, axes = np.linalg.eigh(covariance)
    if variances[-1] < MIN_CONTRAST**2:
        return None
    rows = []
    for unsigned, positive in zip(axes.T[::-1][:channels], (LUMINANCE, REDNESS), strict=False):
        axis = (unsigned if unsigned @ positive >= 0 else -unsigned) / np.abs(unsigned).sum()
        darkest = 255 * float(np.minimum(axis, 0).sum())  # becomes 0, so that 255 levels hold every colour
        rows.append(np.append(axis, -darkest))
    return np.array(rows, np.float32)


def _with_zero_channels(image: Image, channels: int) -> Image:
    return cv2.merge([image, *[np.zeros_like(image)] * (channels - 1)]).reshape(*image.shape, channels)  # type: ignore[return-value]


def scale(config: ModelConfig, image: Image) -> Image:
    """Scale an image to the network's input, uint8 `(config.height, scaled width, config.input_channels)`.

    An image narrower than the first width of the ladder is not widened to it, which would turn an I into a
    bar; its edge columns are repeated on both sides.

    Raises:
        ValueError: as `principal`.
    """
    components = principal(image, config.input_channels)
    height, width = components.shape[:2]
    target, inner = scaled_width(config, height, width), inner_width(config, height, width)
    method = cv2.INTER_AREA if config.height < height else cv2.INTER_CUBIC
    scaled = cv2.resize(components, (inner, config.height), interpolation=method)
    if inner < target:
        left = (target - inner) // 2
        scaled = cv2.copyMakeBorder(scaled, 0, 0, left, target - inner - left, cv2.BORDER_REPLICATE)
    return np.asarray(scaled, np.uint8).reshape(config.height, target, config.input_channels)


def normalise(scaled: Sequence[Image]) -> NDArray[np.float32]:
    """Normalise equally large uint8 images, `(H, W)` or `(H, W, C)`, to float32 `(B, C, H, W)` of mean 0.

    The first channel has standard deviation 1, the others at most that. Each image is normalised by itself, so that
    faded and dark pictures resemble any other, and a result does not depend on the batch.
    """
    height, width, *channels = scaled[0].shape
    batch = np.empty((len(scaled), *(channels or [1]), height, width), np.float32)
    for row, image in zip(batch, scaled, strict=True):
        mean, deviation = (np.asarray(values, np.float32)[:, :, None] for values in cv2.meanStdDev(image))  # (C, 1, 1)
        first = max(float(deviation[0, 0, 0]), MIN_CONTRAST)
        deviation = np.maximum(deviation, np.float32(first / MAX_SECOND_CHANNEL_GAIN))
        deviation[0] = first
        np.subtract(image.reshape(height, width, -1).transpose(2, 0, 1), mean, out=row)
        np.divide(row, deviation, out=row)
    return batch


def to_tensor(scaled: Sequence[Image], device: torch.device | None = None) -> torch.Tensor:
    """Normalise images as `normalise` does, to a tensor of torch."""
    import torch

    return torch.from_numpy(normalise(scaled)).to(device)
