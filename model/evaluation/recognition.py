"""Evaluation of line recognition on labelled folders, and reports of its results."""

import base64
import html
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from linewise.model.evaluation.datasets import (
    DatasetError,
    LabelledImage,
    dataset_metric,
    is_correct,
    open_image,
    read_labels,
)
from linewise.model.evaluation.metrics import Metric, character_error_rate, expected_calibration_error
from linewise.model.recognition.augmented_views import apply_view
from linewise.model.recognition.preprocess import Image as Pixels
from linewise.model.recognition.results import Reading
from linewise.model.recognition.rotation import rotated

BATCH_IMAGES = 256  # in memory at once; enough of each width to fill a forward pass


class LineReader(Protocol):
    """Interface of `model.Reader` that the evaluation uses."""

    def read(self, images: Sequence[Pixels]) -> list[Reading]:
        """Read each image, in order."""

    def probabilities(self, images: Sequence[Pixels], texts: Sequence[str], *, ignore_case: bool) -> list[float]:
        """Probability in [0, 1] of each text, given its image."""


@dataclass(frozen=True)
class Prediction:
    """Text read in a sample, and its confidence in [0, 1].

    Where the dataset's metric ignores case, so does the confidence.
    """

    sample: LabelledImage
    text: str
    confidence: float


@dataclass(frozen=True)
class DatasetResult:
    """Accuracy and speed on one folder: `folded`, `ci`, `exact`, `cer` and `ece` are percentages.

    `exact` counts every character, in print and typescripts with quotes folded as in `datasets.is_correct`.
    `cer` counts case and spaces, and typographic quotes, apostrophes and dashes as their ASCII forms on
    both sides. `ci` is the metric to compare where all labels are in upper case. `ece` is the expected
    calibration error of the confidences, under the dataset's own metric. `images_per_s` counts the
    reader's time only, on decoded images.
    """

    name: str
    images: int
    folded: float
    ci: float
    exact: float
    cer: float
    ece: float
    images_per_s: float
    predictions: tuple[Prediction, ...]


def evaluate(
    reader: LineReader,
    folder: str | os.PathLike[str],
    limit: int | None = None,
    on_progress: Callable[[int], object] = lambda images: None,
) -> DatasetResult:
    """Read the labelled images of a folder, or the first `limit` of them, and score the readings.

    `on_progress` is called with the number of images after each batch.

    Raises:
        DatasetError: the folder has no usable labels, or an image cannot be opened.
    """
    samples, name = read_labels(folder)[:limit], Path(folder).resolve().name
    predictions: list[Prediction] = []
    seconds = 0.0
    for first in range(0, len(samples), BATCH_IMAGES):
        batch = samples[first : first + BATCH_IMAGES]
        images = [open_image(sample.path) for sample in batch]
        started = time.perf_counter()
        readings = reader.read(images)
        seconds += time.perf_counter() - started
        if dataset_metric(name) is Metric.EXACT:
            confidences = [reading.confidence for reading in readings]
        else:
            confidences = _confidences_ignoring_case(reader, images, readings)
        predictions += (Prediction(s, r.text, c) for s, r, c in zip(batch, readings, confidences, strict=True))
        on_progress(len(batch))
    return summarise(name, predictions, seconds)


def _confidences_ignoring_case(
    reader: LineReader, images: Sequence[Pixels], readings: Sequence[Reading]
) -> list[float]:
    """Probability in [0, 1] that each reading is right in any case.

    A confidence may combine several views of an image. The ratio by which ignoring case raises it is taken
    from the view that supports the text most.
    """
    views = [apply_view(rotated(image, r.turn), r.look) for image, r in zip(images, readings, strict=True)]
    texts = [reading.text for reading in readings]
    cased = reader.probabilities(views, texts, ignore_case=False)
    caseless = reader.probabilities(views, texts, ignore_case=True)
    return [
        min(1.0, reading.confidence * any_case / max(this_case, 1e-30))
        for reading, any_case, this_case in zip(readings, caseless, cased, strict=True)
    ]


def summarise(name: str, predictions: Sequence[Prediction], seconds: float) -> DatasetResult:
    """Score the predictions of a dataset that took `seconds` to read."""
    pairs = [(prediction.sample.label, prediction.text) for prediction in predictions]

    def accuracy(metric: Metric) -> float:
        return 100 * sum(is_correct(name, label, text, metric) for label, text in pairs) / max(1, len(pairs))

    return DatasetResult(
        name,
        len(pairs),
        accuracy(Metric.FOLDED),
        accuracy(Metric.CASE_INSENSITIVE),
        accuracy(Metric.EXACT),
        100 * character_error_rate(pairs),
        100 * expected_calibration_error(confidence_outcomes(name, predictions)),
        len(pairs) / max(seconds, 1e-9),
        tuple(predictions),
    )


def confidence_outcomes(name: str, predictions: Iterable[Prediction]) -> list[tuple[float, bool]]:
    """Confidence of each prediction, and whether it is correct by the dataset's own metric."""
    return [(p.confidence, is_correct(name, p.sample.label, p.text)) for p in predictions]


def evaluate_all(
    reader: LineReader, folders: Iterable[str], limit: int | None = None
) -> tuple[list[DatasetResult], list[str]]:
    """Evaluate each folder; returns the results, and one line for each folder that cannot be evaluated.

    A progress bar appears on standard error if it is a terminal.
    """
    results, problems = [], []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for folder in folders:
            try:
                total = len(read_labels(folder)[:limit])
                task = bar.add_task(Path(folder).name, total=total)
                results.append(evaluate(reader, folder, limit, partial(bar.advance, task)))
            except DatasetError as error:
                problems.append(str(error))
    return results, problems


def results_markdown(results: Iterable[DatasetResult]) -> str:
    """Results as one Markdown table: percentages with one decimal, the error rate with two."""
    lines = [
        "| set | images | folded | case-insensitive | exact | CER | ECE | images/s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += (
        f"| {r.name} | {r.images} | {r.folded:.1f} | {r.ci:.1f} | {r.exact:.1f} | {r.cer:.2f} | {r.ece:.1f} "
        f"| {r.images_per_s:.0f} |"
        for r in results
    )
    return "\n".join(lines)


def results_json(results: Iterable[DatasetResult]) -> str:
    """Results as a JSON list of objects, percentages from 0 to 100."""
    rows = [
        {
            "set": r.name,
            "images": r.images,
            "folded": round(r.folded, 3),
            "ci": round(r.ci, 3),
            "exact": round(r.exact, 3),
            "cer": round(r.cer, 3),
            "ece": round(r.ece, 3),
            "images_per_s": round(r.images_per_s, 1),
        }
        for r in results
    ]
    return json.dumps(rows, indent=2) + "\n"


def most_confident_errors(results: Iterable[DatasetResult], metric: Metric, count: int) -> list[Prediction]:
    """The `count` predictions of highest confidence that are wrong by `metric`, highest first."""
    errors = (p for r in results for p in r.predictions if not is_correct(r.name, p.sample.label, p.text, metric))
    return sorted(errors, key=lambda prediction: -prediction.confidence)[:count]


def error_sheet(errors: Iterable[Prediction]) -> str:
    """Self-contained HTML page with each image, its label and its reading.

    Raises:
        DatasetError: an image cannot be opened.
    """
    rows = "\n".join(
        f"<tr><td><img src='{_data_uri(e.sample.path)}' alt=''></td><td>{html.escape(e.sample.label)}<br>"
        f"<b>{html.escape(e.text) or '(nothing)'}</b></td><td>{e.confidence:.3f}</td>"
        f"<td>{html.escape('/'.join(e.sample.path.parts[-3:]))}</td></tr>"
        for e in errors
    )
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Surest wrong answers</title>"
        "<style>body{font:16px sans-serif}td{padding:4px 12px;border-bottom:1px solid #ddd;white-space:pre-wrap}"
        "img{height:48px;max-width:60vw;object-fit:contain}</style>"
        "<table><tr><th>picture</th><th>label, <b>reading</b></th><th>confidence</th><th>file</th></tr>\n"
        f"{rows}\n</table></html>\n"
    )


def _data_uri(path: Path) -> str:
    """The image as a PNG data URI, whatever the format of the file."""
    buffer = io.BytesIO()
    Image.fromarray(open_image(path)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
