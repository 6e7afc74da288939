"""The network's shapes, gradients and arithmetic."""

from __future__ import annotations

import pytest
import torch

from linewise.model.network.charset import Charset
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN, VerticalPool, multiply_accumulates


@pytest.mark.parametrize("width", [32, 48, 256])
def test_one_column_of_logits_per_four_pixels(network: CRNN, width: int) -> None:
    logits = network(torch.zeros(2, 2, 32, width))
    assert logits.shape == (2, width // 4, Charset().classes)


@pytest.mark.parametrize("height", [24, 40, 48])
def test_other_heights_work(height: int) -> None:
    config = ModelConfig(height=height, stem=4, channels=(4, 4, 4, 4), hidden=4)
    assert CRNN(config)(torch.zeros(1, 2, height, 64)).shape[1] == 16


def test_every_parameter_learns(network: CRNN) -> None:
    network.train()
    network(torch.randn(2, 2, 32, 64)).square().mean().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_answers_do_not_depend_on_batch_mates(network: CRNN) -> None:
    images = torch.randn(5, 2, 32, 64)
    with torch.inference_mode():
        together, alone = network(images), network(images[3:4])
    assert torch.allclose(together[3:4], alone, atol=1e-5)


def test_context_reaches_across_the_line(network: CRNN) -> None:
    image = torch.zeros(1, 2, 32, 64)
    changed = image.clone()
    changed[..., :8] = 1.0
    with torch.inference_mode():
        assert not torch.equal(network(image)[:, -1], network(changed)[:, -1])


def test_multiplications_grow_with_the_width_and_hold_the_head(network: CRNN) -> None:
    head = network.head.in_features * network.head.out_features * (64 // 4)
    narrow, wide = multiply_accumulates(network, 64), multiply_accumulates(network, 128)
    assert narrow > head
    assert wide == pytest.approx(2 * narrow, rel=0.01)


def test_multiplications_are_counted_in_any_precision(network: CRNN) -> None:
    counted = multiply_accumulates(network, 64)
    assert multiply_accumulates(network.to(torch.bfloat16), 64) == counted > 0


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_pooling_gives_a_picture_the_same_alone_and_in_company(threads: int) -> None:
    torch.manual_seed(3)
    pool = VerticalPool(192).to(torch.bfloat16)
    rows = torch.randn(1, 192, 2, 40, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            alone = pool(rows)[0]
            for company in (2, 3, 8):
                several = pool(rows.repeat(company, 1, 1, 1).contiguous(memory_format=torch.channels_last))
                assert all(torch.equal(one, alone) for one in several), company
    finally:
        torch.set_num_threads(before)
