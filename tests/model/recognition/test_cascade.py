"""The cascade: the fast network answers where it is sure, the base network elsewhere; the pair belongs together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from linewise.model import CheckpointError, load
from linewise.model.network.checkpoint import NetworkWeights, load_weights, save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.reader import Reader
from linewise.model.recognition.results import Reading, Stage

BASE = ModelConfig(alphabet="abc", stem=16, channels=(16, 16, 16, 32), blocks=(1, 1, 1, 1), hidden=16, lstm_layers=1)


def network(config: ModelConfig, seed: int) -> CRNN:
    torch.manual_seed(seed)
    return CRNN(config).eval()


def pictures(count: int) -> list[Image]:
    rng = np.random.default_rng(3)
    sizes = [(int(rng.integers(20, 50)), int(rng.integers(60, 300))) for _ in range(count)]
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def cascade(accept: float) -> tuple[Reader, Reader, Reader]:
    """A cascade with that confidence, and readers of its base and its fast network alone."""
    base, fast = network(BASE, 1), network(dataclasses.replace(BASE, hidden=8, accept_confidence=accept), 2)
    weights = NetworkWeights.of(fast)
    return Reader(NetworkWeights.of(base), fast=weights), Reader(NetworkWeights.of(base)), Reader(weights)


def content(reading: Reading) -> tuple[object, ...]:
    return reading.text, reading.confidence, reading.characters, reading.turn


def test_each_picture_is_answered_by_the_fast_network_where_it_is_sure() -> None:
    images = pictures(40)
    sure = sorted(reading.confidence for reading in cascade(1.0)[2].read(images))
    accept = (sure[19] + sure[20]) / 2
    both, base, fast = cascade(accept)
    readings = both.read(images)
    for reading, of_base, of_fast in zip(readings, base.read(images), fast.read(images), strict=True):
        is_sure = of_fast.confidence >= accept and of_fast.stage is Stage.BASE
        assert (reading.stage is Stage.FAST) == is_sure
        assert content(reading) == content(of_fast if is_sure else of_base)
    assert sum(reading.stage is Stage.FAST for reading in readings) in range(10, 31)
    alone = [both.read([image])[0] for image in images]
    assert alone == readings  # the answer depends on the picture alone


def test_constrained_and_turned_pictures_are_read_by_the_base_network() -> None:
    both, base, _ = cascade(0.0)
    images = pictures(4)
    decodings = [both.decoding(alternatives=2), both.decoding(charset="ab"), None, None]
    readings = both.read(images, decodings)
    assert [reading.stage is Stage.FAST for reading in readings] == [False, False, True, True]
    assert readings[:2] == base.read(images[:2], decodings[:2])
    tall = np.rot90(images[0], 1).copy()
    assert both.read([tall]) == base.read([tall])


def test_networks_of_other_classes_or_frames_make_no_cascade() -> None:
    base = NetworkWeights.of(network(BASE, 1))
    for other in ({"alphabet": "abd"}, {"stretch": 1.0}):
        fast = NetworkWeights.of(network(dataclasses.replace(BASE, **other), 2))
        with pytest.raises(ValueError, match=next(iter(other))):
            Reader(base, fast=fast)


def test_a_pair_of_files_belongs_together(tmp_path: Path) -> None:
    path, fast_path = tmp_path / "net.safetensors", tmp_path / "net-fast.safetensors"
    save(network(BASE, 1), path)
    _, revision = load_weights(path)
    alone = load(path, "cpu", "float32")
    assert alone.revision == revision
    config = dataclasses.replace(BASE, accept_confidence=0.0, base_revision=revision)
    save(network(config, 2), fast_path)
    pair = load(path, "cpu", "float32")
    assert pair.read(pictures(1))[0].stage is Stage.FAST
    assert pair.revision.startswith("sha256:") and pair.revision not in (revision, load_weights(fast_path)[1])
    save(network(BASE, 3), path)  # other weights under the same name
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        load(path)
    fast_path.write_bytes(fast_path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="net-fast"):
        load(path)
