"""Reading images: order, independence of batch mates, sizes, confidences and precisions."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from linewise.model import Reader
from linewise.model.decoding import ctc
from linewise.model.network.config import ModelConfig
from linewise.model.recognition import passes, preprocess
from linewise.model.runtime.fused import fold_normalisation
from linewise.model.runtime.precision import supports_bfloat16, supports_int8
from linewise.model.runtime.quantised import measure_ranges
from tests.model.conftest import BAR, QUOTE, SPACE, BarNet, patches, row_of, small_network


def test_answers_come_in_the_order_of_the_images(bar_reader: Reader) -> None:
    counts = [3, 40, 1, 40, 7, 200, 3]
    readings = bar_reader.read([row_of(count) for count in counts])
    assert [r.text for r in readings] == [BAR * count for count in counts]


def test_nothing_gives_nothing(bar_reader: Reader) -> None:
    assert bar_reader.read([]) == []


def test_the_temperature_of_the_model_is_used() -> None:
    image = row_of(5)
    sizes = {"alphabet": BAR + QUOTE + SPACE, "stem": 8, "channels": (8, 8, 8, 8), "hidden": 8}
    cold, hot = (Reader(BarNet(ModelConfig(**sizes, temperature=t))) for t in (1.0, 2.0))  # type: ignore[arg-type]
    assert hot.read([image])[0].confidence < cold.read([image])[0].confidence


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_answers_do_not_depend_on_batch_mates(precision: str) -> None:
    if precision == "bfloat16" and not supports_bfloat16("cpu"):
        pytest.skip("this processor has no instructions for bfloat16")
    if precision == "int8" and not supports_int8("cpu"):
        pytest.skip("this processor has no instructions for sums of 8-bit products")
    # Channel counts of a real network: oneDNN has other kernels for tiny ones.
    network = small_network(3, ModelConfig(stem=16, channels=(16, 32, 32, 64), blocks=(1, 1, 1, 1), hidden=64))
    spans = measure_ranges(fold_normalisation(copy.deepcopy(network)), [torch.randn(8, 2, 32, 256)])
    network.config = dataclasses.replace(network.config, ranges=spans)
    with torch.no_grad():
        network.head.weight *= 20
    talkative = Reader(network, precision=precision)
    assert talkative.precision == precision
    rng = np.random.default_rng(0)
    sizes = [(32, 100), (40, 130), (20, 60), (48, 300), (32, 100), (16, 3000), (64, 220), (100, 30)]
    images = [patches(rng, size) for size in sizes]
    together = talkative.read(images)
    assert len({r.text for r in together}) > 1
    for image, reading in zip(images, together, strict=True):
        (alone,) = talkative.read([image])
        assert alone.text == reading.text
        assert alone.confidence == pytest.approx(reading.confidence, abs=1e-4)
        assert alone.confidence_min == pytest.approx(reading.confidence_min, abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 4000), (700, 900), (5, 5, 3), (5, 5, 1)])
def test_any_size_is_read(talkative: Reader, size: tuple[int, ...]) -> None:
    (reading,) = talkative.read([np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)])
    assert 0.0 <= reading.confidence <= 1.0
    length = size[0] if reading.turn else size[1]
    assert all(0 <= c.start <= c.end <= length for c in reading.characters)
    assert all(a.end <= b.start for a, b in itertools.pairwise(reading.characters))


def test_a_wrong_array_is_refused(talkative: Reader) -> None:
    with pytest.raises(ValueError, match="must be"):
        talkative.read([np.zeros((4, 4, 4), np.uint8)])


@pytest.mark.parametrize("kernel_per_shape", [True, False])
def test_warming_up_runs_every_width_where_each_shape_needs_a_kernel(
    talkative: Reader, monkeypatch: pytest.MonkeyPatch, kernel_per_shape: bool
) -> None:
    monkeypatch.setattr(talkative, "_limits", passes.runner_limits("cpu", "int8" if kernel_per_shape else "float32"))
    widths: list[int] = []
    run = talkative._runner.logits

    def record(batches: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        widths.extend(images.shape[-1] for images in batches)
        return run(batches)

    monkeypatch.setattr(talkative._runner, "logits", record)
    talkative.warm_up()
    assert widths == list(talkative.config.widths if kernel_per_shape else talkative.config.widths[:1])


def test_a_reading_has_the_probability_of_its_text(bar_reader: Reader) -> None:
    image = row_of(6)
    (reading,) = bar_reader.read([image])
    assert 0.5 < reading.confidence <= 1.0
    assert isinstance(ctc.greedy(np.zeros((1, 2, 3), np.float32))[0].confidence, float)


def test_images_are_scaled_in_groups_of_bounded_memory(talkative: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sizes = [(32, 100), (20, 60), (48, 300), (16, 3000), (64, 220), (32, 32)] * 8
    images = [patches(rng, size) for size in sizes]
    together = talkative.logits(images)
    steps: list[int] = []  # pixels scaled; 0 for a call of the network
    scale, run = preprocess.scale, talkative._runner.logits

    def record_scale(config: ModelConfig, image: preprocess.Image) -> preprocess.Image:
        scaled = scale(config, image)
        steps.append(scaled.shape[0] * scaled.shape[1])
        return scaled

    def record_run(batches: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        steps.append(0)
        return run(batches)

    monkeypatch.setattr(preprocess, "scale", record_scale)
    monkeypatch.setattr(talkative._runner, "logits", record_run)
    monkeypatch.setattr(passes, "ROUNDS_PER_GROUP", 1)
    monkeypatch.setattr(talkative, "_limits", passes.PassLimits(128 * 32, 1024 * 32, powers_of_two=True))
    grouped = talkative.logits(images)
    groups = [sum(group) for is_run, group in itertools.groupby(steps, lambda step: step == 0) if not is_run]
    assert len(groups) > 4 and max(groups) <= max(1024 * 32, *steps)
    for one, other in zip(together, grouped, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_wrong_array_is_refused_before_any_other_is_read(talkative: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talkative._runner, "logits", lambda batches: pytest.fail("the network ran"))
    arrays: list[Any] = [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 9), np.uint8),
        np.zeros(9, np.uint8),
        np.zeros((4, 4)),
    ]
    for wrong in arrays:
        with pytest.raises(ValueError, match="must be"):
            talkative.logits([patches(np.random.default_rng(1), (32, 90)), wrong])
