"""An image array of any size to one of the model's height and channels and a rung's width, and to tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from linewise.model.network.config import ModelConfig

if TYPE_CHECKING:  # only who makes tensors needs it, and importing it takes seconds
    import torch

Image = NDArray[np.uint8]

# Neighbouring windows of an over-long line share this many pixels; the seam is cut in the middle,
# where both windows have seen at least a word's length of context.
WINDOW_OVERLAP = 256

# Pixels enough to know the colours of a picture by.
SAMPLED = 4096

# Of red, green and blue, as ITU-R BT.601 weighs them.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

# Which of its two directions the second axis takes: that with more red, so that a colour is always the same one.
REDNESS = np.array([1.0, 0.0, 0.0], np.float32)

# The second channel varies a tenth as much as the first in most photographs, and a fiftieth, the noise
# of a camera, in coloured scans of black print. It is raised to the first one's spread, but not by more than this.
RAISED = 4.0

# A picture this many times as tall as wide may hold a line on its side, and is read turned as well.
ON_SIDE = 1.5

# Grey levels. Below this spread an image is noise on a flat ground and must not be blown up.
MIN_SPREAD = 6.0


def natural_width(config: ModelConfig, height: int, width: int) -> float:
    """Width in pixels of an image of `height` x `width` at the model's height, stretched, before any rung."""
    return width * config.height / height * config.stretch


def rung(config: ModelConfig, height: int, width: int) -> int:
    """Width in pixels to which an image of `height` x `width` is scaled.

    It depends on the image alone, never on its batch mates. The image is widened to the next rung
    rather than padded, so that a batch holds no pixels that mean nothing. Lines longer than the
    last rung keep their own width, rounded up to 4, and are read in windows.
    """
    natural = natural_width(config, height, width)
    for candidate in config.widths:
        if natural <= candidate * 1.04:  # up to 4 % narrower is not worth the next rung's cost
            return candidate
    return -(-round(natural) // 4) * 4


def turns(height: int, width: int) -> tuple[int, ...]:
    """The clockwise turns, in degrees, in which an image of this size is read."""
    return (0, 90, 270) if height >= ON_SIDE * width > 0 else (0,)


def turned(image: Image, turn: int) -> Image:
    """An image `(H, W, ...)` turned clockwise by 0, 90, 180 or 270 degrees."""
    return np.ascontiguousarray(np.rot90(image, -turn // 90)) if turn else image


def width_bucket(config: ModelConfig, height: int, width: int) -> int:
    """Width in pixels, at the model's height, at which an image of this size is computed."""
    if len(turns(height, width)) > 1:  # the turned views are the most of the work
        height, width = width, height
    return rung(config, height, width)


def grey(image: Image) -> Image:
    """One channel, uint8 `(H, W)`, of an `(H, W)` grey or `(H, W, 3)` RGB uint8 image.

    That along the axis of colour on which its pixels differ most.

    Raises:
        ValueError: another dtype, shape, or an empty side.
    """
    return np.ascontiguousarray(principal(image, 1)[:, :, 0])


def principal(image: Image, channels: int) -> Image:
    """An image along the first `channels` axes of colour on which its pixels differ most, light still light.

    uint8 `(H, W, channels)` of an `(H, W)` grey or `(H, W, 3)` RGB uint8 image: the principal
    components of its colours. Red letters on green of the same lightness vanish in a plain grey
    picture and stand out in the first of these; red letters with black sides on a white wall stand
    out in the second. What has no colours is 0 there.

    Raises:
        ValueError: another dtype, shape, or an empty side.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"an image must be uint8, not {image.dtype}")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)) or 0 in image.shape:
        raise ValueError(f"an image must be (H, W) or (H, W, 3) and not empty, not {image.shape}")
    if image.ndim == 2:
        return _beside_nothing(image, channels)
    step = max(1, math.isqrt(image.shape[0] * image.shape[1] // SAMPLED))
    colours = image[::step, ::step].reshape(-1, 3)
    if (colours[:, 0] == colours[:, 1]).all() and (colours[:, 1] == colours[:, 2]).all():  # a scan, mostly
        return _beside_nothing(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), channels)
    covariance, _ = cv2.calcCovarMatrix(
        colours, np.empty(0), cv2.COVAR_NORMAL | cv2.COVAR_ROWS | cv2.COVAR_SCALE, ctype=cv2.CV_64F
    )
    variances, axes = np.linalg.eigh(covariance)
    if variances[-1] < MIN_SPREAD**2:  # one colour, whose axes mean nothing
        return _beside_nothing(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), channels)
    rows = []
    for axis, positive in zip(axes.T[::-1][:channels], (LUMINANCE, REDNESS), strict=False):
        axis = axis if axis @ positive >= 0 else -axis
        axis = axis / np.abs(axis).sum()
        darkest = 255 * float(np.minimum(axis, 0).sum())  # moved to 0, so that 255 levels hold all
        rows.append(np.append(axis, -darkest))
    found = cv2.transform(image, np.array(rows, np.float32))
    return np.asarray(found, np.uint8).reshape(*image.shape[:2], channels)


def _beside_nothing(image: Image, channels: int) -> Image:
    return cv2.merge([image, *[np.zeros_like(image)] * (channels - 1)]).reshape(*image.shape, channels)  # type: ignore[return-value]


def scale(config: ModelConfig, image: Image) -> Image:
    """uint8 image of shape `(config.height, rung, config.input_channels)`.

    An image that would be narrower than the first rung is not widened to it (an I would become a
    bar) but continued by its edge columns on both sides.
    """
    single = principal(image, config.input_channels)
    height, width = single.shape[:2]
    target = rung(config, height, width)
    natural = max(1, round(natural_width(config, height, width)))
    inner = min(natural, target) if target == config.widths[0] else target
    shrinks = config.height < height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    scaled = cv2.resize(single, (inner, config.height), interpolation=method)
    if inner < target:
        left = (target - inner) // 2
        scaled = cv2.copyMakeBorder(scaled, 0, 0, left, target - inner - left, cv2.BORDER_REPLICATE)
    return np.asarray(scaled, np.uint8).reshape(config.height, target, config.input_channels)


def windows(config: ModelConfig, scaled: Image) -> list[tuple[int, Image]]:
    """Overlapping `(start, window)` pieces of a scaled image, one piece unless it is over-long."""
    longest, width = config.widths[-1], scaled.shape[1]
    if width <= longest:
        return [(0, scaled)]
    starts = [*range(0, width - longest, longest - WINDOW_OVERLAP), width - longest]
    return [(start, scaled[:, start : start + longest]) for start in starts]


def to_tensor(scaled: Sequence[Image], device: torch.device | None = None) -> torch.Tensor:
    """Batch of equally large uint8 images, `(H, W)` or `(H, W, C)`, as float32 `(B, C, H, W)` of mean 0.

    The first channel has spread 1, others as much or less. The normalisation is per image, so that
    faded and dark pictures look like any other.
    """
    import torch

    batch = torch.from_numpy(np.stack(scaled)).to(device)
    batch = batch.unsqueeze(1) if batch.ndim == 3 else batch.permute(0, 3, 1, 2)
    batch = batch.float()
    spread, mean = torch.std_mean(batch, dim=(2, 3), keepdim=True, correction=0)
    first = spread[:, :1].clamp_min(MIN_SPREAD)
    spread = torch.cat([first, torch.maximum(spread[:, 1:], first / RAISED)], dim=1)
    return (batch - mean) / spread
