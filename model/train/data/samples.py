"""A sample as the trainer uses it: scaled pixels, text, and its last loss."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.config import FRAME_WIDTH_PX, ModelConfig
from linewise.model.recognition.preprocess import scale
from linewise.model.synth.renderer import Sample

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's most probable classes of each frame `(T, K)`, most probable first, and their probabilities."""

    classes: NDArray[np.uint16]
    probabilities: NDArray[np.float16]


@dataclass
class TrainingSample:
    """A scaled picture, uint8 `(H, W, C)`, its text and kind, and how training has used it.

    `ignore_case` marks texts whose case says nothing about the picture. `loss` is the last CTC loss of the
    whole text in nats, infinite before the first use. `targets` are a teacher's posteriors, where there is one.
    """

    image: Pixels
    text: str
    kind: str
    ignore_case: bool = False
    uses: int = 0
    loss: float = math.inf
    targets: SoftTargets | None = None


def to_training_sample(config: ModelConfig, sample: Sample, ignore_case: bool = False) -> TrainingSample | None:
    """Scale a sample to the network's input, or None where CTC could not align it or it is too wide."""
    image = scale(config, sample.image)
    repeats = sum(a == b for a, b in zip(sample.text, sample.text[1:], strict=False))  # need a blank between them
    if image.shape[1] > config.widths[-1] or image.shape[1] // FRAME_WIDTH_PX < len(sample.text) + repeats:
        return None
    return TrainingSample(image, sample.text, sample.kind, ignore_case)
