"""New weights replace old ones only where they are better in sum."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from linewise.model.evaluation.promote import compare, comparison_table, is_better, load_both, score
from linewise.model.evaluation.recognition import DatasetResult
from linewise.model.network.checkpoint import save
from linewise.model.network.config import ModelConfig
from linewise.model.network.crnn import CRNN
from linewise.model.runtime.fused import fold_normalisation
from linewise.model.runtime.quantised import measure_ranges
from linewise.service.cli import main
from tests.model.conftest import small_network


def result(name: str, right: float, cer: float = 0.0) -> DatasetResult:
    return DatasetResult(name, 10, right, right, right, cer, 0.0, 1.0, ())


def test_the_score_of_lines_sees_characters_too() -> None:
    assert score(result("scene_svt", 60.0, cer=40.0)) == 60.0
    assert score(result("book_lines", 60.0, cer=4.0)) == 78.0
    assert score(result("book_lines", 0.0, cer=130.0)) == 0.0


def test_sets_count_alike() -> None:
    old = [result("scene_svt", 60.0), result("digits_mnist", 90.0)]
    assert is_better(compare(old, [result("scene_svt", 63.0), result("digits_mnist", 88.0)]))
    assert not is_better(compare(old, [result("scene_svt", 62.0), result("digits_mnist", 88.0)]))
    assert not is_better(compare(old, old))
    with pytest.raises(ValueError, match="different sets"):
        compare(old, old[::-1])


def test_the_table_ends_with_the_mean() -> None:
    rows = comparison_table(compare([result("scene_svt", 60.0), result("digits_mnist", 90.0)],
                         [result("scene_svt", 64.0), result("digits_mnist", 88.0)]))  # fmt: skip
    assert rows.splitlines()[2:] == [
        "| scene_svt | 60.00 | 64.00 | +4.00 |",
        "| digits_mnist | 90.00 | 88.00 | -2.00 |",
        "| mean | 75.00 | 76.00 | +1.00 |",
    ]


@pytest.mark.parametrize(("right", "code"), [(61.0, 0), (60.0, 1), (59.0, 1)])
def test_only_better_weights_are_put_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: float, code: int
) -> None:
    shipped, new = tmp_path / "shipped.safetensors", tmp_path / "new.safetensors"
    save(small_network(0), shipped)
    save(small_network(1), new)
    before, scores = shipped.read_bytes(), iter((60.0, right))

    def measured(reader: object, folders: Iterable[str], limit: int | None) -> tuple[list[DatasetResult], list[str]]:
        share = next(scores)
        return [result(Path(folder).name, share) for folder in folders], []

    monkeypatch.setattr("linewise.model.evaluation.recognition.evaluate_all", measured)
    outcome: Any = CliRunner().invoke(main.app, ["promote", str(new), "scene_a", "scene_b", "--over", str(shipped)])
    assert outcome.exit_code == code, outcome.output
    assert shipped.read_bytes() == (before if code else new.read_bytes())
    assert f"| mean | 60.00 | {right:.2f} |" in outcome.stdout
    assert ("not better" in outcome.stderr) == bool(code)


def test_a_folder_that_cannot_be_measured_stops_it(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save(small_network(0), weights)
    outcome = CliRunner().invoke(main.app, ["promote", str(weights), str(tmp_path), "--over", str(weights)])
    assert outcome.exit_code == 1
    assert "labels.tsv" in outcome.stderr


def with_ranges(seed: int) -> CRNN:
    network = small_network(seed, ModelConfig(stem=16, channels=(16, 32, 32, 64), blocks=(1, 1, 1, 1), hidden=64))
    spans = measure_ranges(fold_normalisation(copy.deepcopy(network)), [torch.randn(4, 2, 32, 64)])
    network.config = dataclasses.replace(network.config, ranges=spans)
    return network


def test_weights_without_ranges_do_not_replace_weights_that_have_them(tmp_path: Path) -> None:
    shipped, new = tmp_path / "shipped.safetensors", tmp_path / "new.safetensors"
    save(with_ranges(0), shipped)
    save(small_network(1), new)
    before = shipped.read_bytes()
    outcome: Any = CliRunner().invoke(main.app, ["promote", str(new), "scene_a", "--over", str(shipped)])
    assert outcome.exit_code == 1
    assert "no activation ranges" in outcome.stderr and "linewise calibrate" in outcome.stderr
    assert shipped.read_bytes() == before


@pytest.mark.parametrize("old_has_ranges", [True, False])
def test_both_weights_are_measured_in_one_precision(tmp_path: Path, old_has_ranges: bool) -> None:
    shipped, new = tmp_path / "shipped.safetensors", tmp_path / "new.safetensors"
    save(with_ranges(0) if old_has_ranges else small_network(0), shipped)
    save(with_ranges(1), new)
    old_reader, new_reader = load_both(shipped, new, "cpu")
    assert old_reader.precision == new_reader.precision
    assert old_reader.revision != new_reader.revision
