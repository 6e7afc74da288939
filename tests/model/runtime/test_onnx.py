"""The ONNX graph computes what the torch network computes, and a picture's logits do not depend on its batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch

from linewise.model.network.config import ModelConfig
from linewise.model.runtime.onnx_graph import build_graph
from linewise.model.runtime.onnx_session import OnnxNetwork
from tests.model.conftest import TINY, small_network

CONFIGS = {
    "tiny": TINY,
    "two layers": dataclasses.replace(TINY, lstm_layers=2, blocks=(1, 2, 1, 2)),
    "grey": dataclasses.replace(TINY, input_channels=1),
    "high": dataclasses.replace(TINY, height=48),
}


def pictures(config: ModelConfig, count: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(width)
    return torch.randn(count, config.input_channels, config.height, width, generator=generator)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("count", "width"), [(1, 32), (3, 96), (5, 260)])
def test_it_computes_what_torch_computes(name: str, count: int, width: int) -> None:
    model = small_network(config=CONFIGS[name])
    images = pictures(CONFIGS[name], count, width)
    (logits,) = OnnxNetwork(model).logits([images])
    with torch.inference_mode():
        expected = model(images)
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_logits_are_the_same_to_the_bit_alone_and_in_any_batch() -> None:
    network = OnnxNetwork(small_network(config=CONFIGS["two layers"]))
    images = pictures(TINY, 7, 160)
    (together,) = network.logits([images])
    for row in range(len(images)):
        (alone,) = network.logits([images[row : row + 1]])
        assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_the_same_for_any_number_of_threads(threads: int) -> None:
    model, images = small_network(), pictures(TINY, 4, 320)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (expected,) = OnnxNetwork(model).logits([images])
        torch.set_num_threads(threads)
        (logits,) = OnnxNetwork(model).logits([images])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(logits, expected)


def test_batches_of_several_widths_are_answered_in_order() -> None:
    network = OnnxNetwork(small_network())
    batches = [pictures(TINY, 2, 64), pictures(TINY, 1, 32), pictures(TINY, 3, 128)]
    for images, logits in zip(batches, network.logits(batches), strict=True):
        assert torch.equal(logits, network.logits([images])[0])


def test_the_graph_is_valid_and_carries_the_configuration() -> None:
    model = small_network()
    graph = build_graph(TINY, {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    onnx.checker.check_model(graph, full_check=True)
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert ModelConfig.from_json(properties["linewise.config"]) == TINY
    assert [output.name for output in graph.graph.output] == ["logits"]


def test_the_weights_are_copied() -> None:
    model, images = small_network(), pictures(TINY, 1, 64)
    network = OnnxNetwork(model)
    (before,) = network.logits([images])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (after,) = network.logits([images])
    assert torch.equal(before, after)
    assert np.isfinite(after.numpy()).all()
