"""Calibration of a trained checkpoint: softmax temperature, and activation ranges for 8-bit integers.

Both are measured on rendered lines in typefaces that are kept out of training. Temperature scaling after
Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), applied to the probability of the whole
string, because that is the confidence in the results.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linewise.model.decoding.language_model import load as load_language
from linewise.model.evaluation.metrics import fold_quotes, reliability
from linewise.model.network.checkpoint import load_model, load_weights, save
from linewise.model.recognition.passes import cut_windows
from linewise.model.recognition.preprocess import Image, scale, to_tensor
from linewise.model.recognition.reader import Reader, load
from linewise.model.recognition.results import Stage
from linewise.model.runtime.fused import fold_normalisation
from linewise.model.runtime.quantised import Range, measure_ranges
from linewise.model.synth.renderer import Sample

# Interval of the search for the natural logarithm of the temperature.
LOG_TEMPERATURE_MIN, LOG_TEMPERATURE_MAX = -math.log(5), math.log(5)
# Lower bound of a shipped temperature: confidences are never raised, because real images differ more from the
# training data than rendered ones in new typefaces do, and accuracy on them is lower.
MIN_TEMPERATURE = 1.0
SEARCH_STEPS = 16  # of the golden-section search: a precision of 0.1 %
BATCH_SAMPLES = 256
MAX_CASCADE_LOSS = 0.001  # share of lines that the base network reads right and the cascade wrong, in balance
MIN_PROBABILITY = 1e-6  # keeps the log-likelihood finite


def fit_temperature(reader: Reader, samples: Sequence[Sample]) -> float:
    """Fit the softmax temperature that minimises the NLL of sequence correctness.

    The confidences are those that callers get, after rescoring. Since rescoring depends on the temperature, the samples
    are read at each one that is tried.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("cannot fit a temperature: no samples")

    config = reader.config

    def loss(log_temperature: float) -> float:
        reader.config = dataclasses.replace(config, temperature=math.exp(log_temperature))
        return negative_log_likelihood(_outcomes(reader, samples))

    try:
        return math.exp(_golden_section(loss, LOG_TEMPERATURE_MIN, LOG_TEMPERATURE_MAX))
    finally:
        reader.config = config


def _golden_section(function: Callable[[float], float], low: float, high: float) -> float:
    """Position of the minimum of a unimodal function between `low` and `high`."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(SEARCH_STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2


def negative_log_likelihood(outcomes: Sequence[tuple[float, bool]]) -> float:
    """Mean negative log-likelihood, in nats, of `(confidence, is correct)` pairs."""
    total = 0.0
    for confidence, is_correct in outcomes:
        clipped = min(max(confidence, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
        total -= math.log(clipped if is_correct else 1 - clipped)
    return total / len(outcomes)


def _outcomes(reader: Reader, samples: Sequence[Sample]) -> list[tuple[float, bool]]:
    """Confidence of each sample's reading, and whether its text is right."""
    outcomes = []
    for first in range(0, len(samples), BATCH_SAMPLES):
        batch = samples[first : first + BATCH_SAMPLES]
        readings = reader.read([sample.image for sample in batch], typographic_quotes=True)
        outcomes += [(r.confidence, r.text == sample.text) for r, sample in zip(readings, batch, strict=True)]
    return outcomes


@dataclass(frozen=True)
class LabelledLine:
    """An image with its text, whose case says nothing about the image if `ignore_case` is set."""

    image: Image
    text: str
    ignore_case: bool = False

    def equals(self, text: str) -> bool:
        """Whether a text is the line's, but for the shape of quotes and dashes."""
        own, other = fold_quotes(self.text), fold_quotes(text)
        return own.lower() == other.lower() if self.ignore_case else own == other


@dataclass(frozen=True)
class Acceptance:
    """Confidence from which a fast network's answers count, the share of such answers, and the accuracy it costs.

    `share`, `accuracy` (of the cascade) and `base_accuracy` are in [0, 1].
    """

    confidence: float
    share: float
    accuracy: float
    base_accuracy: float


def fit_acceptance(fast: Reader, base: Reader, lines: Sequence[LabelledLine], max_loss: float) -> Acceptance:
    """Fit the lowest confidence at which a cascade loses no more than `max_loss` of the base reader's accuracy.

    Raises:
        ValueError: no lines.
    """
    if not lines:
        raise ValueError("cannot fit a confidence: no lines")
    images = [line.image for line in lines]
    readings = fast.read(images)
    is_right = [line.equals(reading.text) for line, reading in zip(lines, readings, strict=True)]
    base_is_right = [line.equals(reading.text) for line, reading in zip(lines, base.read(images), strict=True)]
    base_right = sum(base_is_right)
    best, right = Acceptance(1.0, 0.0, base_right / len(lines), base_right / len(lines)), base_right
    # A cascade takes the fast network's answers as they are, not rescored.
    final = [index for index, reading in enumerate(readings) if reading.stage is Stage.BASE]
    order = sorted(final, key=lambda index: -readings[index].confidence)
    for count, index in enumerate(order, start=1):
        right += is_right[index] - base_is_right[index]
        if right >= base_right - max_loss * len(lines):
            best = Acceptance(
                readings[index].confidence, count / len(lines), right / len(lines), base_right / len(lines)
            )
    return best


def save_fast(fast: Path, base: Path, lines: Sequence[LabelledLine]) -> Acceptance:
    """Make the checkpoint `fast`, in place, the fast network of the base network `base`.

    The networks read with the language model, as in use.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        ValueError: no lines.
        OSError: `fast` cannot be written.
    """
    weights, revision = load_weights(base)
    language = load_language()
    accepted = fit_acceptance(load(fast), Reader(weights, revision, language=language), lines, MAX_CASCADE_LOSS)
    save_calibrated(fast, fast, accept_confidence=accepted.confidence, base_revision=revision)
    return accepted


def activation_ranges(weights: Path, samples: Sequence[Sample]) -> tuple[Range, ...]:
    """Ranges of the activations inside a checkpoint's network on rendered samples.

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
        to_tensor(images[first : first + BATCH_SAMPLES])
        for images in by_width.values()
        for first in range(0, len(images), BATCH_SAMPLES)
    ]
    return measure_ranges(fold_normalisation(model), batches)


def save_calibrated(weights: Path, out: Path, **fields: Any) -> None:
    """Copy the checkpoint `weights` to `out` with other values of `ModelConfig`'s fields.

    Raises:
        CheckpointError: `weights` cannot be used.
        OSError: `out` cannot be written.
    """
    model, _ = load_model(weights)
    model.config = dataclasses.replace(model.config, **fields)
    save(model, out)


def reliability_diagram(sets: dict[str, Sequence[tuple[float, bool]]], path: Path) -> None:
    """Plot accuracy over confidence for each named set of `(confidence, is correct)` pairs, into a PNG.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    columns = min(4, len(sets))
    rows = -(-len(sets) // columns)
    figure = Figure(figsize=(2.7 * columns, 2.7 * rows), layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, outcomes) in zip(axes.flat, sets.items(), strict=False):
        bins = reliability(outcomes)
        confidences = [b.confidence for b in bins]
        axis.set_axis_on()
        axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        axis.plot(confidences, [b.accuracy for b in bins], marker=".", linewidth=1)
        axis.bar(confidences, [b.predictions / len(outcomes) for b in bins], width=0.04, alpha=0.3)
        axis.set_title(name, fontsize=9)
    figure.supxlabel("confidence (bars: share of the answers)", fontsize=9)
    figure.supylabel("right", fontsize=9)
    figure.savefig(path, dpi=110)
