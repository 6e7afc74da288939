"""The temperature, found where confidences match, and the ranges; both written without touching anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from linewise.model.evaluation.calibration import (
    LabelledLine,
    activation_ranges,
    fit_acceptance,
    fit_temperature,
    negative_log_likelihood,
    save_calibrated,
)
from linewise.model.network.checkpoint import load_model, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.recognition.preprocess import Image as Pixels
from linewise.model.recognition.results import Reading
from linewise.model.synth.renderer import Sample

SAMPLES = [Sample(np.full((8, 8), index % 10, np.uint8), "a", "sign") for index in range(400)]


class ConstantReader:
    """Reads "a" in seven pictures of ten, which is right, else "b"; with the same confidence in all of them.

    Rescoring makes the confidence that callers get another one than that of the best string.
    """

    def __init__(self, confidence: float, exponent: float = 1.0) -> None:
        self.config = ModelConfig(alphabet="ab")
        self.logit, self.exponent = math.log(confidence / (1 - confidence)), exponent

    def read(self, images: Sequence[Pixels], typographic_quotes: bool) -> list[Reading]:
        assert typographic_quotes, "the samples hold them"
        confidence = (1 / (1 + math.exp(-self.logit / self.config.temperature))) ** self.exponent
        return [Reading("a" if image[0, 0] < 7 else "b", confidence, confidence, ()) for image in images]


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.97])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_the_fitted_temperature_makes_the_confidence_that_callers_get_and_accuracy_meet(
    confidence: float, exponent: float
) -> None:
    reader = ConstantReader(confidence, exponent)
    temperature = fit_temperature(reader, SAMPLES)  # type: ignore[arg-type]
    matching = 0.7 ** (1 / exponent)
    assert temperature == pytest.approx(reader.logit / math.log(matching / (1 - matching)), rel=0.01)
    assert reader.config.temperature == 1.0, "the reader stays as it was"


def test_the_nll_is_least_where_confidence_equals_accuracy() -> None:
    losses = {
        confidence: negative_log_likelihood([(confidence, sample.image[0, 0] < 7) for sample in SAMPLES])
        for confidence in (0.6, 0.7, 0.8)
    }
    assert losses[0.7] == pytest.approx(-(0.7 * math.log(0.7) + 0.3 * math.log(0.3)), abs=1e-4)
    assert losses[0.7] < min(losses[0.6], losses[0.8])


def test_no_samples_fit_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        fit_temperature(ConstantReader(0.9), [])  # type: ignore[arg-type]


def test_only_temperature_and_ranges_change(network: CRNN, tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save(network, old)
    spans = activation_ranges(old, SAMPLES[:20])
    save_calibrated(old, new, temperature=1.7, ranges=spans)
    before, after = load_model(old)[0], load_model(new)[0]
    assert (before.config.temperature, before.config.ranges) == (1.0, ())
    assert (after.config.temperature, after.config.ranges) == (1.7, spans)
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name])


def test_ranges_are_measured_at_every_width(network: CRNN, tmp_path: Path) -> None:
    save(network, tmp_path / "weights.safetensors")
    wide = Sample(np.random.default_rng(0).integers(0, 256, (32, 4000), dtype=np.uint8), "a", "sign")
    spans = activation_ranges(tmp_path / "weights.safetensors", [*SAMPLES[:5], wide])
    assert all(low <= 0 < high for low, high in spans)
    with pytest.raises(ValueError, match="without images"):
        activation_ranges(tmp_path / "weights.safetensors", [])


class RecordedReader:
    """Reads each image as the text and with the confidence recorded for its first pixel."""

    def __init__(self, answers: list[tuple[str, float]]) -> None:
        self.answers = answers

    def read(self, images: Sequence[Pixels]) -> list[Reading]:
        return [Reading(text, sure, sure, ()) for text, sure in (self.answers[int(image[0, 0])] for image in images)]


def test_a_fast_network_answers_from_the_confidence_at_which_no_more_is_lost() -> None:
    lines = [LabelledLine(np.full((8, 8), number, np.uint8), "a") for number in range(100)]
    # The fast network is right above 0.6 but for one line at 0.8, and wrong below; the base network is always right.
    fast = RecordedReader([("a" if n >= 60 and n != 80 else "b", n / 100) for n in range(100)])
    base = RecordedReader([("a", 1.0)] * 100)
    exact = fit_acceptance(fast, base, lines, 0.0)  # type: ignore[arg-type]
    assert (exact.confidence, exact.share, exact.accuracy) == (0.81, 0.19, 1.0)
    lenient = fit_acceptance(fast, base, lines, 0.01)  # type: ignore[arg-type]
    assert (lenient.confidence, lenient.share, lenient.accuracy) == (0.6, 0.4, 0.99)
    assert lenient.base_accuracy == 1.0


def test_no_answer_of_a_fast_network_counts_that_is_worse_throughout() -> None:
    lines = [LabelledLine(np.full((8, 8), number, np.uint8), "a") for number in range(10)]
    never = fit_acceptance(RecordedReader([("b", 0.9)] * 10), RecordedReader([("a", 0.5)] * 10), lines, 0.0)  # type: ignore[arg-type]
    assert (never.confidence, never.share) == (1.0, 0.0)


def test_case_counts_only_where_it_is_known() -> None:
    picture = np.zeros((8, 8), np.uint8)
    assert LabelledLine(picture, "TOTAL", ignore_case=True).equals("Total")
    assert not LabelledLine(picture, "TOTAL").equals("Total")
    assert LabelledLine(picture, "it’s").equals("it's")
