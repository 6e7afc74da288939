"""Fused kernels equal the network for every width, batch and dtype."""

from __future__ import annotations

import copy

import pytest
import torch

from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.runtime.fused import Fused, available, fold_normalisation
from tests.model.conftest import small_network

CPU = torch.device("cpu")
REAL = ModelConfig(stem=16, channels=(16, 32, 32, 64), blocks=(1, 2, 1, 2), hidden=64, lstm_layers=2)


def folded(config: ModelConfig = REAL) -> CRNN:
    return fold_normalisation(small_network(1, config))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 32), (1, 320), (2, 48), (7, 128)])
def test_the_logits_are_those_of_the_network(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    if not available(CPU, dtype):
        pytest.skip(f"no fused kernels for {dtype} here")
    model = folded()
    images = torch.randn(shape[0], 2, 32, shape[1])
    with torch.inference_mode():
        wanted = model(images)
        fused = Fused(copy.deepcopy(model).to(dtype))
        (logits,) = fused.logits([images.to(dtype).contiguous(memory_format=torch.channels_last)])
    assert logits.shape == wanted.shape
    tolerance = 1e-4 if dtype is torch.float32 else 0.05 * float(wanted.abs().max())
    assert float((logits.float() - wanted).abs().max()) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batches_of_other_widths_change_nothing(dtype: torch.dtype) -> None:
    if not available(CPU, dtype):
        pytest.skip(f"no fused kernels for {dtype} here")
    generator = torch.Generator().manual_seed(4)
    shapes = [(1, 320), (2, 48), (7, 128), (1, 32), (1, 160), (1, 128), (5, 64)]
    batches = [
        torch.randn(count, 2, 32, width, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
        for count, width in shapes
    ]
    with torch.inference_mode():
        fused = Fused(folded().to(dtype))
        for images, together in zip(batches, fused.logits(batches), strict=True):
            (alone,) = fused.logits([images])
            assert together.shape == alone.shape
            assert float((together - alone).abs().max()) < 1e-5


def test_the_input_stays_as_it_was() -> None:
    images = torch.randn(2, 2, 32, 64).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    with torch.inference_mode():
        Fused(folded()).logits([images])
    assert torch.equal(images, before)


def test_accelerators_have_kernels_of_their_own() -> None:
    assert not available(torch.device("meta"), torch.float32)


def test_folded_normalisation_computes_the_same(network: CRNN) -> None:
    images = torch.randn(3, 2, 32, 96)
    with torch.inference_mode():
        before = network(images)
        folded = fold_normalisation(copy.deepcopy(network))
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
        assert torch.allclose(folded(images), before, atol=1e-4)
