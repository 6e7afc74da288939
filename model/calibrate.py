"""Confidences that mean what they say: the temperature, fitted on lines in typefaces that training never saw.

Temperature scaling after Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), applied to the
probability of the whole string, since that is what callers are told.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.checkpoint import load_model, save
from model.metrics import reliability
from model.reader import Reader
from model.synth.scene import Sample

# Where the temperature is looked for, in its logarithm: from a fifth to five times the network's own.
LEAST, MOST = -math.log(5), math.log(5)
STEPS = 16  # of the golden-section search: to a tenth of a percent
BATCH = 256


def surprise(reader: Reader, samples: Sequence[Sample]) -> float:
    """Mean negative log-likelihood, in nats, of which answers are right, under the reader's confidences."""
    total = 0.0
    for first in range(0, len(samples), BATCH):
        batch = samples[first : first + BATCH]
        for sample, reading in zip(batch, reader.read([s.image for s in batch], typographic_quotes=True), strict=True):
            sure = min(max(reading.confidence, 1e-6), 1 - 1e-6)
            total -= math.log(sure if reading.text == sample.text else 1 - sure)
    return total / len(samples)


def fit_temperature(reader: Reader, samples: Sequence[Sample]) -> float:
    """The temperature with the least surprise over rendered samples, found by golden-section search.

    The reader's own temperature is left as it was.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("a temperature cannot be fitted to no samples")
    before = reader.config
    ratio = (math.sqrt(5) - 1) / 2

    def measure(logarithm: float) -> float:
        reader.config = dataclasses.replace(before, temperature=math.exp(logarithm))
        return surprise(reader, samples)

    low, high = LEAST, MOST
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = measure(left), measure(right)
    try:
        for _ in range(STEPS):
            if at_left < at_right:
                high, right, at_right = right, left, at_left
                left = high - ratio * (high - low)
                at_left = measure(left)
            else:
                low, left, at_left = left, right, at_right
                right = low + ratio * (high - low)
                at_right = measure(right)
    finally:
        reader.config = before
    return math.exp((low + high) / 2)


def with_temperature(weights: Path, temperature: float, out: Path) -> None:
    """Writes the checkpoint `weights` to `out` with another temperature and nothing else changed.

    Raises:
        CheckpointError: `weights` cannot be used.
    """
    model, _ = load_model(weights)
    model.config = dataclasses.replace(model.config, temperature=temperature)
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
