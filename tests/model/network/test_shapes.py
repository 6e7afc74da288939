"""Shapes of tensors that are known without torch."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from linewise.model.network.config import DetectorConfig, ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.network.detector import Detector
from linewise.model.network.shapes import Shapes, crnn_shapes, detector_shapes

SMALL = ModelConfig(stem=8, channels=(8, 12, 12, 16), blocks=(1, 1, 2, 3), hidden=6)


def shapes_of(network: nn.Module) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(),
        SMALL,
        dataclasses.replace(SMALL, lstm_layers=1, input_channels=1),
        dataclasses.replace(SMALL, stem=12),
    ],
)
def test_shapes_of_a_recogniser_are_those_of_the_network(config: ModelConfig) -> None:
    assert crnn_shapes(config) == shapes_of(CRNN(config))


@pytest.mark.parametrize("config", [DetectorConfig(), DetectorConfig(4, (4, 8, 8, 12), (2, 1, 1, 3), 6)])
def test_shapes_of_a_detector_are_those_of_the_network(config: DetectorConfig) -> None:
    assert detector_shapes(config) == shapes_of(Detector(config))
