"""The benchmark counts what it says it counts; how fast anything is, is no matter for a test."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from linewise.model import Reader
from linewise.model.evaluation.baselines import LineEngine
from linewise.model.evaluation.benchmark import (
    batches_table,
    compare_engines,
    engines_table,
    matrix_rate,
    measure_batches,
    measure_threads,
    open_engines,
)
from linewise.model.evaluation.datasets import LabelledImage
from linewise.model.recognition.preprocess import Image as Pixels
from linewise.service.cli import main
from tests.model.conftest import BAR, bars


@pytest.fixture
def samples(tmp_path: Path) -> list[LabelledImage]:
    folder = tmp_path / "receipt_bars" / "images"
    folder.mkdir(parents=True)
    samples = []
    for count in (1, 2, 3):
        path = folder / f"{count}.png"
        Image.fromarray(bars(96, {8 + 16 * n: BAR for n in range(count)})).save(path)
        samples.append(LabelledImage(path, BAR * count))
    return samples


def test_engines_take_turns_and_are_told_apart(samples: list[LabelledImage], monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []
    spent = 0.0
    costs = iter((9.0, 9.0, 0.06, 0.02, 0.06, 0.03))  # of which the first round only warms up
    monkeypatch.setattr("linewise.model.evaluation.benchmark.time.process_time", lambda: spent)

    def engine(name: str) -> LineEngine:
        def read(images: Sequence[Pixels]) -> list[str]:
            nonlocal spent
            turns.append(name)
            assert all(image.shape == (32, 96, 3) for image in images)
            spent += next(costs)
            return [BAR] * len(images)

        return read

    first, second = compare_engines(
        {"slow": engine("slow"), "fast": engine("fast")}, samples, "receipt_bars", 2, lambda line: None
    )
    assert turns == ["slow", "fast"] * 3
    assert (first.engine, first.ratio, first.least, first.most) == ("slow", 1.0, 1.0, 1.0)
    assert first.cpu_ms == pytest.approx(20.0)
    assert (second.least, second.ratio, second.most) == pytest.approx((2.0, 2.5, 3.0))
    assert first.right == pytest.approx(100 / 3)
    assert "| fast |" in engines_table([first, second])


def test_both_ways_of_reading_read_the_same(bar_reader: Reader, samples: list[LabelledImage]) -> None:
    results = compare_engines(open_engines(bar_reader, []), samples, "receipt_bars", 1, lambda line: None)
    assert [result.right for result in results] == [100.0, 100.0]


@pytest.mark.parametrize(
    ("dataset", "right"), [("receipt_bars", 200 / 3), ("print_fr", 100 / 3), ("scene_bars", 100.0)]
)
def test_readings_are_right_by_the_metric_of_the_dataset(
    samples: list[LabelledImage], dataset: str, right: float
) -> None:
    labelled = [LabelledImage(s.path, label) for s, label in zip(samples, ("don’t", "ROOM", "room"), strict=True)]
    engines: dict[str, LineEngine] = {"shouting": lambda images: ["don't", "Room", "ROOM"][: len(images)]}
    ((shouting),) = compare_engines(engines, labelled, dataset, 1, lambda line: None)
    assert shouting.right == pytest.approx(right)


def test_threads_share_the_images_and_lose_none(bar_reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.model.evaluation.benchmark.THROUGHPUT_BATCH_SIZE", 2)
    seen: list[int] = []
    monkeypatch.setattr(bar_reader, "read", lambda images: seen.extend(int(image[0, 0]) for image in images))
    scaling = measure_threads(bar_reader, [bars(32, {}) * 0 + number for number in range(7)], threads=3, rounds=1)
    assert sorted(seen) == sorted(list(range(7)) * 4)  # two rounds, each with one thread and with three
    assert scaling.threads == 3 and scaling.least <= scaling.factor <= scaling.most


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_the_matrix_rate_is_positive(dtype: torch.dtype) -> None:
    assert matrix_rate(dtype, "cpu", size=64, repeats=2) > 0


def test_the_speed_of_every_width_and_batch(bar_reader: Reader) -> None:
    speeds = measure_batches(bar_reader, (64, 128), repeats=3)
    assert [(s.width, s.batch) for s in speeds] == [(w, b) for w in (64, 128) for b in (1, 8, 32)]
    assert all(0 < s.p50_ms <= s.p95_ms and s.images_per_s > 0 for s in speeds)
    table = batches_table(speeds, rate=2.0)
    assert len(table.splitlines()) == 8
    first = speeds[0]
    assert f"| {100 * first.million_macs * first.images_per_s / 2000:.0f} % |" in table.splitlines()[2]


def test_the_command_writes_table_json_and_plot(
    bar_reader: Reader, samples: list[LabelledImage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: bar_reader)
    monkeypatch.setattr("linewise.model.evaluation.benchmark.BATCH_SIZES", (1,))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the command changes
    pinned: list[int] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: pinned.append(len(cores)), raising=False)
    figures, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    result = CliRunner().invoke(main.app, ["bench", "--json", str(figures), "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert [row["width"] for row in json.loads(figures.read_text())] == list(bar_reader.config.widths)
    with Image.open(picture) as drawn:
        assert drawn.width > 300
    assert pinned == [1]
    folder = tmp_path / "receipt_bars"
    (folder / "labels.tsv").write_text("".join(f"images/{s.path.name}\t{s.label}\n" for s in samples))
    result = CliRunner().invoke(main.app, ["bench", str(folder), "--rounds", "1", "--json", str(figures)])
    assert result.exit_code == 0, result.output
    assert [row["right"] for row in json.loads(figures.read_text())] == [100.0, 100.0]
    result = CliRunner().invoke(main.app, ["bench", str(folder), "--rounds", "1", "--scale", "2"])
    assert result.exit_code == 0, result.output
    assert "by 2:" in result.stdout and pinned[-1] == min(2, len(os.sched_getaffinity(0)))
    assert CliRunner().invoke(main.app, ["bench", "--scale", "2"]).exit_code == 2
