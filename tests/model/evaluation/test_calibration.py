"""The temperature, found where confidences match, and the ranges; both written without touching anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from linewise.model.evaluation.calibration import (
    activation_ranges,
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
    save_calibrated(old, 1.7, spans, new)
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
