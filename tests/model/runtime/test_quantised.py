"""8-bit convolutions: logits close to the network's, and independent of the batch."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch

from linewise.model import Reader
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.runtime.fused import fold_normalisation
from linewise.model.runtime.precision import supports_int8
from linewise.model.runtime.quantised import Quantised, Range, measure_ranges
from tests.model.conftest import small_network

REAL = ModelConfig(stem=16, channels=(16, 32, 32, 64), blocks=(1, 2, 1, 2), hidden=64, lstm_layers=2)
TENSORS = 2 + 2 * 6 + 3  # picture and stem; each of six blocks' two convolutions; three shortcuts

needed = pytest.mark.skipif(not supports_int8("cpu"), reason="no instructions for sums of 8-bit products here")


def folded() -> CRNN:
    return fold_normalisation(small_network(1, REAL))


def pictures(count: int, width: int) -> torch.Tensor:
    return torch.randn(count, 2, 32, width, generator=torch.Generator().manual_seed(width))


def ranges() -> tuple[Range, ...]:
    return measure_ranges(folded(), [pictures(8, 64), pictures(4, 320)])


def test_ranges_hold_nearly_all_values_and_zero() -> None:
    spans = ranges()
    assert len(spans) == TENSORS
    assert all(low <= 0 < high for low, high in spans)
    assert sum(low < 0 for low, _ in spans) == 4  # the picture and three shortcuts
    values = pictures(8, 64)
    inside = (values >= spans[0][0]) & (values <= spans[0][1])
    assert 0.999 < float(inside.float().mean()) <= 1
    with pytest.raises(ValueError, match="without images"):
        measure_ranges(folded(), [])


def test_one_outlier_does_not_stretch_a_range() -> None:
    images = pictures(8, 128)
    wild = images.clone()
    wild[0, 0, 0, 0] = 1000
    assert measure_ranges(folded(), [wild])[0] == pytest.approx(measure_ranges(folded(), [images])[0], abs=0.5)


@needed
@pytest.mark.parametrize("shape", [(1, 32), (1, 320), (2, 48), (7, 128), (3, 512)])
def test_the_logits_are_nearly_those_of_the_network(shape: tuple[int, int]) -> None:
    model, images = folded(), pictures(*shape)
    with torch.inference_mode():
        wanted = model(images)
        (logits,) = Quantised(copy.deepcopy(model), ranges(), torch.float32).logits([images])
    assert logits.shape == wanted.shape
    assert float((logits - wanted).abs().mean()) < 0.03 * float(wanted.std())


@needed
def test_batches_of_other_widths_change_nothing() -> None:
    quantised = Quantised(folded(), ranges(), torch.float32)
    batches = [pictures(count, width) for count, width in ((1, 320), (2, 48), (7, 128), (1, 32), (1, 160))]
    with torch.inference_mode():
        for images, together in zip(batches, quantised.logits(batches), strict=True):
            assert float((together - quantised.logits([images])[0]).abs().max()) < 1e-5


@needed
def test_other_ranges_than_the_network_has_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match=f"{TENSORS - 1} ranges, and the network needs {TENSORS}"):
        Quantised(folded(), ranges()[1:], torch.float32)


@needed
def test_a_reader_takes_integers_where_the_weights_have_ranges() -> None:
    config = dataclasses.replace(REAL, ranges=ranges())
    assert Reader(small_network(1, config), precision="auto").precision == "int8"
    assert Reader(small_network(1, REAL), precision="auto").precision != "int8"
    with pytest.raises(ValueError, match="linewise calibrate"):
        Reader(small_network(1, REAL), precision="int8")
    images = [np.random.default_rng(n).integers(0, 256, (40, 90 + 60 * n), dtype=np.uint8) for n in range(4)]
    exact = Reader(small_network(1, config), precision="float32").logits(images)
    for logits, wanted in zip(Reader(small_network(1, config), precision="int8").logits(images), exact, strict=True):
        assert float((logits - wanted).abs().mean()) < 0.05 * float(wanted.std())
