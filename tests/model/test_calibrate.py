"""The temperature: found where confidences match, written without touching anything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from model import Reading
from model.calibrate import fit_temperature, surprise, with_temperature
from model.checkpoint import load_model, save
from model.config import ModelConfig
from model.crnn import CRNN
from model.preprocess import Image as Pixels
from model.synth.scene import Sample

SAMPLES = [Sample(np.full((8, 8), index % 10, np.uint8), "word", "sign") for index in range(400)]


class Sure:
    """Is right about seven pictures in ten, and says `confidence` for all of them at temperature 1."""

    def __init__(self, confidence: float) -> None:
        self.config = ModelConfig()
        self.logit = math.log(confidence / (1 - confidence))

    def read(self, images: Sequence[Pixels], typographic_quotes: bool) -> list[Reading]:
        said = 1 / (1 + math.exp(-self.logit / self.config.temperature))
        return [Reading("word" if image[0, 0] < 7 else "ward", said, said, ()) for image in images]


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.97])
def test_the_fitted_temperature_makes_confidence_and_accuracy_meet(confidence: float) -> None:
    reader = Sure(confidence)
    before = surprise(reader, SAMPLES)  # type: ignore[arg-type]
    temperature = fit_temperature(reader, SAMPLES)  # type: ignore[arg-type]
    assert reader.config == ModelConfig()
    assert temperature == pytest.approx(reader.logit / math.log(7 / 3), rel=0.01)
    reader.config = ModelConfig(temperature=temperature)
    assert surprise(reader, SAMPLES) < before  # type: ignore[arg-type]


def test_no_samples_fit_nothing() -> None:
    with pytest.raises(ValueError, match="no samples"):
        fit_temperature(Sure(0.9), [])  # type: ignore[arg-type]


def test_only_the_temperature_changes(network: CRNN, tmp_path: Path) -> None:
    old, new = tmp_path / "old.safetensors", tmp_path / "new.safetensors"
    save(network, old)
    with_temperature(old, 1.7, new)
    before, after = load_model(old)[0], load_model(new)[0]
    assert (before.config.temperature, after.config.temperature) == (1.0, 1.7)
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name])
