"""The ONNX graph computes what the torch network computes, and a picture's logits do not depend on its batch."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from linewise.model.network.checkpoint import NetworkWeights
from linewise.model.network.config import DetectorConfig, ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.network.detector import Detector
from linewise.model.runtime.onnx.detector import detector_graph
from linewise.model.runtime.onnx.recogniser import recogniser_graph
from linewise.model.runtime.onnx.session import OnnxNetwork
from tests.model.conftest import TINY, small_network

CONFIGS = {
    "tiny": TINY,
    "two layers": dataclasses.replace(TINY, lstm_layers=2, blocks=(1, 2, 1, 2)),
    "grey": dataclasses.replace(TINY, input_channels=1),
    "high": dataclasses.replace(TINY, height=48),
}


def pictures(config: ModelConfig, count: int, width: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(width)
    return generator.normal(size=(count, config.input_channels, config.height, width)).astype(np.float32)


def onnx_network(model: CRNN) -> OnnxNetwork:
    return OnnxNetwork(recogniser_graph(NetworkWeights.of(model)))


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("count", "width"), [(1, 32), (3, 96), (5, 260)])
def test_it_computes_what_torch_computes(name: str, count: int, width: int) -> None:
    model = small_network(config=CONFIGS[name])
    images = pictures(CONFIGS[name], count, width)
    (logits,) = onnx_network(model).logits([images])
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


def test_logits_are_the_same_to_the_bit_alone_and_in_any_batch() -> None:
    network = onnx_network(small_network(config=CONFIGS["two layers"]))
    images = pictures(TINY, 7, 160)
    (together,) = network.logits([images])
    for row in range(len(images)):
        (alone,) = network.logits([images[row : row + 1]])
        assert np.array_equal(alone[0], together[row])


@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_the_same_for_any_number_of_threads(threads: int) -> None:
    model, images = small_network(), pictures(TINY, 4, 320)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        (expected,) = onnx_network(model).logits([images])
        torch.set_num_threads(threads)
        (logits,) = onnx_network(model).logits([images])
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(logits, expected)


def test_batches_of_several_widths_are_answered_in_order() -> None:
    network = onnx_network(small_network())
    batches = [pictures(TINY, 2, 64), pictures(TINY, 1, 32), pictures(TINY, 3, 128)]
    for images, logits in zip(batches, network.logits(batches), strict=True):
        assert np.array_equal(logits, network.logits([images])[0])


def test_the_graph_is_valid_and_carries_the_configuration() -> None:
    model = small_network()
    graph = recogniser_graph(NetworkWeights.of(model))
    onnx.checker.check_model(graph, full_check=True)
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert ModelConfig.from_json(properties["linewise.config"]) == TINY
    assert [output.name for output in graph.graph.output] == ["logits"]


def test_the_weights_are_copied() -> None:
    model, images = small_network(), pictures(TINY, 1, 64)
    network = onnx_network(model)
    (before,) = network.logits([images])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    (after,) = network.logits([images])
    assert np.array_equal(before, after)
    assert np.isfinite(after).all()


@pytest.mark.parametrize("blocks", [(1, 1, 1, 1), (1, 2, 2, 3)])
@pytest.mark.parametrize("size", [(32, 32), (96, 224), (320, 64)])
def test_the_detector_computes_what_torch_computes(blocks: tuple[int, ...], size: tuple[int, int]) -> None:
    torch.manual_seed(2)
    model = Detector(DetectorConfig(stem=8, channels=(8, 12, 16, 20), blocks=blocks, neck=12)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    graph = detector_graph(NetworkWeights.of(model))
    onnx.checker.check_model(graph, full_check=True)
    pages = np.random.default_rng(3).normal(size=(1, 1, *size)).astype(np.float32)
    (logits,) = OnnxNetwork(graph).logits([pages])
    with torch.inference_mode():
        expected = model(torch.from_numpy(pages)).numpy()
    assert logits.shape == expected.shape == (1, 2, size[0] // 4, size[1] // 4)
    assert expected.std() > 0.01
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
