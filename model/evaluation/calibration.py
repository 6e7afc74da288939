"""What is measured once after training, on lines in typefaces that it never saw: temperature and ranges.

With the temperature, confidences mean what they say; with the ranges, the network runs in 8-bit integers.

Temperature scaling after Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), applied to the
probability of the whole string, since that is what callers are told.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from linewise.model.decoding import ctc
from linewise.model.evaluation.metrics import reliability
from linewise.model.network.charset import Charset
from linewise.model.network.checkpoint import load_model, save
from linewise.model.recognition.preprocess import Image, scale, to_tensor
from linewise.model.recognition.reader import Reader
from linewise.model.recognition.windows import cut_windows
from linewise.model.runtime.fused import fold_normalisation
from linewise.model.runtime.quantised import Range, measure_ranges
from linewise.model.synth.renderer import Sample

# Where the temperature is looked for, in its logarithm: from a fifth to five times the network's own.
LEAST, MOST = -math.log(5), math.log(5)
# No network is made surer than it is by itself: real pictures lie further from what it has learnt than drawn ones, in
# typefaces however new, and there it is right less often.
LEAST_TEMPERATURE = 1.0
STEPS = 16  # of the golden-section search: to a tenth of a percent
BATCH = 256


def fit_temperature(reader: Reader, samples: Sequence[Sample]) -> float:
    """The temperature under which the reader's confidences are least surprised by which of its answers are right.

    Surprise is the mean negative log-likelihood over rendered samples; its least is found by
    golden-section search. What is read does not depend on the temperature, so the network runs once.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("a temperature cannot be fitted to no samples")
    groups = _decoded(reader, samples)
    ratio = (math.sqrt(5) - 1) / 2
    low, high = LEAST, MOST
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = surprise(groups, math.exp(left)), surprise(groups, math.exp(right))
    for _ in range(STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = surprise(groups, math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = surprise(groups, math.exp(right))
    return math.exp((low + high) / 2)


@dataclass(frozen=True)
class Group:
    """Logits `(B, T, C)` of samples with equally many frames, and which of them are read right."""

    logits: torch.Tensor
    right: list[bool]


def surprise(groups: Sequence[Group], temperature: float) -> float:
    """Mean negative log-likelihood, in nats, of which answers are right, under confidences at a temperature."""
    total, count = 0.0, 0
    for group in groups:
        for decoded, right in zip(ctc.greedy(group.logits, temperature), group.right, strict=True):
            sure = min(max(decoded.confidence, 1e-6), 1 - 1e-6)
            total -= math.log(sure if right else 1 - sure)
            count += 1
    return total / count


def _decoded(reader: Reader, samples: Sequence[Sample]) -> list[Group]:
    charset = Charset(reader.config.alphabet)
    by_frames: defaultdict[int, list[tuple[torch.Tensor, bool]]] = defaultdict(list)
    for first in range(0, len(samples), BATCH):
        batch = samples[first : first + BATCH]
        for sample, logits in zip(batch, reader.logits([s.image for s in batch]), strict=True):
            (decoded,) = ctc.greedy(logits[None])
            by_frames[len(logits)].append((logits, charset.decode(decoded.ids).strip(" ") == sample.text))
    return [
        Group(torch.stack([logits for logits, _ in rows]), [right for _, right in rows]) for rows in by_frames.values()
    ]


def ranges(weights: Path, samples: Sequence[Sample]) -> tuple[Range, ...]:
    """What the tensors inside the network of a checkpoint span while it reads rendered samples.

    Raises:
        CheckpointError: `weights` cannot be used.
        ValueError: no samples.
    """
    model, _ = load_model(weights)
    by_width: defaultdict[int, list[Image]] = defaultdict(list)
    for sample in samples:
        for window in cut_windows(model.config, 0, scale(model.config, sample.image)):
            by_width[window.pixels.shape[1]].append(window.pixels)
    batches = [
        to_tensor(images[first : first + BATCH])
        for images in by_width.values()
        for first in range(0, len(images), BATCH)
    ]
    return measure_ranges(fold_normalisation(model), batches)


def calibrated(weights: Path, temperature: float, spans: Sequence[Range], out: Path) -> None:
    """Writes the checkpoint `weights` to `out` with another temperature and other ranges, and nothing else changed.

    Raises:
        CheckpointError: `weights` cannot be used.
    """
    model, _ = load_model(weights)
    model.config = dataclasses.replace(model.config, temperature=temperature, ranges=tuple(spans))
    save(model, out)


def reliability_diagram(sets: dict[str, Sequence[tuple[float, bool]]], picture: Path) -> None:
    """Draws, for each named set of `(confidence, right)` pairs, the share of right answers over the confidence."""
    from matplotlib.figure import Figure

    columns = min(4, len(sets))
    rows = -(-len(sets) // columns)
    figure = Figure(figsize=(2.7 * columns, 2.7 * rows), layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, pairs) in zip(axes.flat, sets.items(), strict=False):
        bins = reliability(pairs)
        axis.set_axis_on()
        axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        axis.plot([b.confidence for b in bins], [b.right for b in bins], marker=".", linewidth=1)
        axis.bar([b.confidence for b in bins], [b.answers / len(pairs) for b in bins], width=0.04, alpha=0.3)
        axis.set_title(name, fontsize=9)
    figure.supxlabel("confidence (bars: share of the answers)", fontsize=9)
    figure.supylabel("right", fontsize=9)
    figure.savefig(picture, dpi=110)
