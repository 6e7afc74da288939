"""Line detection: from a grey page to the kernel probabilities of its lines.

`model.network.detector` describes the network.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from linewise.model.network.checkpoint import CheckpointError, NetworkWeights, check_shapes, fill, read_checkpoint
from linewise.model.network.config import DetectorConfig
from linewise.model.network.shapes import detector_shapes
from linewise.model.page.postprocess import MAP_STRIDE_PX, ProbabilityMap
from linewise.model.recognition.preprocess import Image, normalise
from linewise.model.runtime.model_runner import ModelRunner

if TYPE_CHECKING:  # finding lines in float32 on a CPU needs no torch
    from linewise.model.network.detector import Detector

SIDE_MULTIPLE_PX = 32  # a page's sides must be multiples of the stride of the coarsest features

# Long pages are detected in overlapping bands, so that memory does not grow with the length of a receipt.
# The network's receptive field is about 200 pixels.
BAND_HEIGHT_PX = 2048
BAND_OVERLAP_PX = 256

# `weights` lies beside `model`, both in the repository and installed.
DEFAULT_PATH = Path(__file__).resolve().parents[2] / "weights" / "linewise-page.safetensors"


def load_detector_weights(path: str | os.PathLike[str] | None = None) -> tuple[NetworkWeights[DetectorConfig], str]:
    """Load the weights of a detector, by default the shipped ones, with their revision, without torch.

    Raises:
        CheckpointError: missing, damaged, or not a detector's checkpoint.
    """
    path = path or DEFAULT_PATH
    text, tensors, revision = read_checkpoint(path)
    try:
        config = DetectorConfig.from_json(text)
        check_shapes(path, tensors, detector_shapes(config))
    except (TypeError, ValueError, CheckpointError) as error:
        raise CheckpointError(f"{path} is not the checkpoint of a line detector") from error
    return NetworkWeights(config, tensors), revision


def load_detector(path: str | os.PathLike[str] | None = None) -> tuple[Detector, str]:
    """Load a detector of torch, by default the shipped one, in evaluation mode and float32, with its revision.

    Raises:
        CheckpointError: as `load_detector_weights`.
    """
    from linewise.model.network.detector import Detector

    weights, revision = load_detector_weights(path)
    return fill(Detector(weights.config), weights).eval(), revision


def kernel_probabilities(network: ModelRunner, plain: Image) -> ProbabilityMap:
    """Kernel probabilities of a uint8 grey page `(H, W)`, computed in bands along its longer side."""
    if plain.shape[1] > max(BAND_HEIGHT_PX, plain.shape[0]):
        return np.ascontiguousarray(kernel_probabilities(network, np.ascontiguousarray(plain.T)).T)
    step = BAND_HEIGHT_PX - BAND_OVERLAP_PX
    starts = [0] if plain.shape[0] <= BAND_HEIGHT_PX else [*range(0, plain.shape[0] - BAND_OVERLAP_PX, step)]
    parts = []
    for number, start in enumerate(starts):
        cells = _band(network, plain[start : start + BAND_HEIGHT_PX])
        first = BAND_OVERLAP_PX // 2 // MAP_STRIDE_PX if number else 0
        is_last = number == len(starts) - 1
        end = len(cells) if is_last else (BAND_HEIGHT_PX - BAND_OVERLAP_PX // 2) // MAP_STRIDE_PX
        parts.append(cells[first:end])
    return np.concatenate(parts)


def _band(network: ModelRunner, plain: Image) -> ProbabilityMap:
    height, width = plain.shape
    below, right = -height % SIDE_MULTIPLE_PX, -width % SIDE_MULTIPLE_PX
    padded = cv2.copyMakeBorder(plain, 0, below, 0, right, cv2.BORDER_REPLICATE)
    (logits,) = network.logits([normalise([np.asarray(padded, np.uint8)])])
    kernels = logits[0, 0, : -(-height // MAP_STRIDE_PX), : -(-width // MAP_STRIDE_PX)]
    with np.errstate(over="ignore"):  # the exponential of a very low logit is infinite, its probability 0
        return np.asarray(1 / (1 + np.exp(-kernels)), np.float32)
