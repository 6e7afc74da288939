"""Small networks with random weights, and a reader of bars that needs no training."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from linewise.model import Reader
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN

# The networks here are tiny: threads would mostly wait for each other, longest on busy cores.
torch.set_num_threads(1)

BAR, QUOTE, SPACE = "|", "’", " "


class BarNet(CRNN):
    """Reads a dark column as a bar, one dark at the top as a quote, at the bottom as a space."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows, _, height, width = images.shape
        halves = images[:, 0].reshape(rows, 2, height // 2, width // 4, 4).mean(dim=(2, 4))  # (B, 2, T)
        top, bottom = halves[:, 0], halves[:, 1]
        scores = torch.stack([top + bottom, -top - bottom, bottom - top, top - bottom], dim=-1)
        return 3 * scores  # (B, T, 4)


def bars(width: int, marks: dict[int, str], height: int = 32) -> NDArray[np.uint8]:
    """A white image with black marks of 8 pixels at the given places."""
    image = np.full((height, width), 255, np.uint8)
    for x, mark in marks.items():
        rows = {BAR: slice(None), QUOTE: slice(0, height // 2), SPACE: slice(height // 2, None)}[mark]
        image[rows, x : x + 8] = 0
    return image


def row_of(count: int, gap: int = 16) -> NDArray[np.uint8]:
    """A line of `count` bars at the height of the network's input."""
    return bars((count + 1) * gap, dict.fromkeys(range(gap // 2, count * gap, gap), BAR))


def patches(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Patches of random colours, which a random network tells apart, unlike noise."""
    few = rng.integers(0, 256, (3, 2 + size[1] // 9, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(few, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


TINY = ModelConfig(stem=8, channels=(8, 8, 12, 16), blocks=(1, 1, 1, 1), hidden=12, lstm_layers=1, stretch=1.0)


def small_network(seed: int = 0, config: ModelConfig = TINY) -> CRNN:
    """A tiny network in evaluation mode whose normalisations are not the identity."""
    torch.manual_seed(seed)
    model = CRNN(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


@pytest.fixture
def network() -> CRNN:
    return small_network()


@pytest.fixture
def bar_reader() -> Reader:
    return Reader(
        BarNet(ModelConfig(alphabet=BAR + QUOTE + SPACE, stem=8, channels=(8, 8, 8, 8), hidden=8, stretch=1.0))
    )


@pytest.fixture
def talkative() -> Reader:
    """A random network whose texts differ between images; those of most seeds do not."""
    network = small_network(10)
    with torch.no_grad():
        network.head.weight *= 20
    return Reader(network)
