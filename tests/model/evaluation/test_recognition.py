"""Labelled folders to figures, tables and sheets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from linewise.model import Reading
from linewise.model.evaluation.datasets import DatasetError, dataset_metric
from linewise.model.evaluation.metrics import Metric, expected_calibration_error
from linewise.model.evaluation.promote import score
from linewise.model.evaluation.recognition import (
    confidence_outcomes,
    error_sheet,
    evaluate,
    evaluate_all,
    most_confident_errors,
    results_json,
    results_markdown,
    summarise,
)
from linewise.model.recognition.preprocess import Image as Pixels
from linewise.service.cli import main

# Brightness of a picture to what is read in it, and how surely.
READ = {10: ("Room 12", 0.9), 20: ("exit", 0.8), 30: ("l'art", 0.7), 40: ("wrong", 0.99)}
LABELS = {"a.png": "Room 12", "b.png": "EXIT!", "c.jpg": "l’art", "d.png": "<right>"}


class BrightnessReader:
    """Knows four pictures by their brightness."""

    def read(self, images: Sequence[Pixels]) -> list[Reading]:
        readings = (READ[10 * round(float(image.mean()) / 10)] for image in images)
        return [Reading(text, confidence, confidence, ()) for text, confidence in readings]

    def probabilities(self, images: Sequence[Pixels], texts: Sequence[str], *, ignore_case: bool) -> list[float]:
        """Surer by a tenth of the rest where case does not count."""
        assert [reading.text for reading in self.read(images)] == list(texts)
        return [r.confidence + 0.1 * (1 - r.confidence) * ignore_case for r in self.read(images)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "signs"
    (folder / "images").mkdir(parents=True)
    for name, brightness in zip(LABELS, READ, strict=True):
        Image.new("L", (40, 20), brightness).save(folder / "images" / name)
    lines = (f"images/{name}\t{label}\n" for name, label in LABELS.items())
    (folder / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def test_the_figures_of_a_set(folder: Path) -> None:
    result = evaluate(BrightnessReader(), folder)
    assert (result.name, result.images) == ("signs", 4)
    assert (result.folded, result.ci, result.exact) == (75.0, 25.0, 25.0)
    assert result.cer == pytest.approx(100 * (0 + 5 + 0 + 6) / (7 + 5 + 5 + 7))
    assert result.images_per_s > 0


def test_confidences_ignore_case_where_the_metric_does(folder: Path) -> None:
    plain = [prediction.confidence for prediction in evaluate(BrightnessReader(), folder).predictions]
    assert plain == [confidence for _, confidence in READ.values()]
    scene = folder.rename(folder.parent / "scene_signs")
    surer = [prediction.confidence for prediction in evaluate(BrightnessReader(), scene).predictions]
    assert surer == pytest.approx([c + 0.1 * (1 - c) for c in plain])


def test_a_limit_takes_the_first_images(folder: Path) -> None:
    result = evaluate(BrightnessReader(), folder, limit=1)
    assert (result.images, result.exact, result.cer) == (1, 100.0, 0.0)


def test_progress_is_reported(folder: Path) -> None:
    steps: list[int] = []
    evaluate(BrightnessReader(), folder, on_progress=steps.append)
    assert sum(steps) == 4


def test_a_folder_without_labels_is_named_and_the_others_are_evaluated(folder: Path, tmp_path: Path) -> None:
    results, problems = evaluate_all(BrightnessReader(), [str(tmp_path), str(folder)])
    assert [r.name for r in results] == ["signs"]
    assert problems == [f"{tmp_path}: no readable labels.tsv"]


def test_a_missing_image_is_named(folder: Path) -> None:
    (folder / "images" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.png"):
        evaluate(BrightnessReader(), folder)


def test_the_table_is_markdown(folder: Path) -> None:
    header, rule, row = results_markdown([evaluate(BrightnessReader(), folder)]).split("\n")
    assert header == "| set | images | folded | case-insensitive | exact | CER | ECE | images/s |"
    assert set(rule) <= set("|-:")
    assert row.startswith("| signs | 4 | 75.0 | 25.0 | 25.0 | 45.83 | 64.8 | ")


def test_the_json_has_the_agreed_names(folder: Path) -> None:
    (row,) = json.loads(results_json([evaluate(BrightnessReader(), folder)]))
    assert list(row) == ["set", "images", "folded", "ci", "exact", "cer", "ece", "images_per_s"]
    assert (row["set"], row["images"], row["folded"]) == ("signs", 4, 75.0)


@pytest.mark.parametrize(
    ("metric", "texts"),
    [
        (Metric.FOLDED, ["wrong"]),
        (Metric.CASE_INSENSITIVE, ["wrong", "exit", "l'art"]),
        (Metric.EXACT, ["wrong", "exit", "l'art"]),
    ],
)
def test_the_surest_errors_come_first(folder: Path, metric: Metric, texts: list[str]) -> None:
    results = [evaluate(BrightnessReader(), folder)]
    assert [e.text for e in most_confident_errors(results, metric, 10)] == texts
    assert [e.text for e in most_confident_errors(results, metric, 1)] == ["wrong"]


def test_the_sheet_needs_no_other_file_and_escapes_text(folder: Path) -> None:
    sheet = error_sheet(most_confident_errors([evaluate(BrightnessReader(), folder)], Metric.EXACT, 1))
    assert "data:image/png;base64," in sheet and "&lt;right&gt;" in sheet and "<right>" not in sheet


@pytest.mark.parametrize(("name", "exact"), [("print_fr", 50), ("print_es", 50), ("typed_da", 50), ("book_lines", 25)])
def test_quotes_are_folded_where_the_set_asks_in_exact_calibration_and_promotion_alike(
    folder: Path, name: str, exact: int
) -> None:
    result = evaluate(BrightnessReader(), folder.rename(folder.parent / name))
    outcomes = confidence_outcomes(name, result.predictions)
    assert result.exact == exact == 100 * sum(is_right for _, is_right in outcomes) / len(outcomes)
    assert result.ece == pytest.approx(100 * expected_calibration_error(outcomes))
    assert score(result) == pytest.approx((exact + 100 - result.cer) / 2)
    errors = [e.text for e in most_confident_errors([result], Metric.EXACT, 10)]
    assert ("l'art" in errors) == (exact == 25)


def test_no_answers_make_no_figures() -> None:
    assert summarise("none", [], 0.0).folded == 0.0


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: BrightnessReader())
    return lambda *arguments: CliRunner().invoke(main.app, ["evaluate", *map(str, arguments)])


def test_the_command_prints_the_table_and_writes_the_files(command: Any, folder: Path, tmp_path: Path) -> None:
    figures, sheet = tmp_path / "f.json", tmp_path / "e.html"
    result = command(folder, "--json", figures, "--errors", 2, "--sheet", sheet, "--metric", "ci")
    assert result.exit_code == 0
    assert result.stdout.startswith("| set | images |") and "| signs | 4 |" in result.stdout
    assert json.loads(figures.read_text())[0]["set"] == "signs"
    assert sheet.read_text().count("<img") == 2


def test_the_command_fails_at_the_end_for_a_folder_without_labels(command: Any, folder: Path, tmp_path: Path) -> None:
    result = command(tmp_path, folder, "--limit", 2)
    assert result.exit_code == 1
    assert "| signs | 2 |" in result.stdout
    assert result.stderr == f"linewise: {tmp_path}: no readable labels.tsv\n"


def test_every_set_has_its_dataset_metric(folder: Path) -> None:
    assert [dataset_metric(n) for n in ("scene_svt", "digits_mnist", "receipt_sroie", "book_lines", "typed_da")] == [
        "folded", "folded", "ci", "exact", "exact",
    ]  # fmt: skip
    predictions = evaluate(BrightnessReader(), folder).predictions
    assert confidence_outcomes("book_lines", predictions) == [(0.9, True), (0.8, False), (0.7, False), (0.99, False)]
    # In print and typescripts, typographic quotes are as right as straight ones, so that the third answer is.
    assert confidence_outcomes("print_fr", predictions) == [(0.9, True), (0.8, False), (0.7, True), (0.99, False)]
    assert confidence_outcomes("scene_svt", predictions) == [(0.9, True), (0.8, True), (0.7, True), (0.99, False)]


def test_a_reliability_diagram_is_drawn(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: BrightnessReader())
    picture = tmp_path / "reliability.png"
    result = CliRunner().invoke(main.app, ["evaluate", str(folder), "--reliability", str(picture)])
    assert result.exit_code == 0, result.stderr
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 200


def test_wrong_answers_are_drawn_into_a_picture(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.service.inference.loading.load_reader", lambda settings: BrightnessReader())
    sheet = tmp_path / "errors.png"
    result = CliRunner().invoke(main.app, ["evaluate", str(folder), "--errors", "3", "--sheet", str(sheet)])
    assert result.exit_code == 0, result.stderr
    with Image.open(sheet) as drawn:
        assert drawn.width > 1000
