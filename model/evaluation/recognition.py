"""Labelled folders to a table of accuracies, and to a sheet of the surest wrong answers."""

import base64
import html
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import Progress

from linewise.model.evaluation import metrics
from linewise.model.recognition.augmented_views import apply_view
from linewise.model.recognition.preprocess import Image as Pixels
from linewise.model.recognition.results import Reading
from linewise.model.recognition.rotation import rotated

Metric = Literal["folded", "ci", "exact"]

LABELS = "labels.tsv"
BATCH = 256  # images in memory at once, and enough of each width to fill a forward pass

AGREES: dict[Metric, Callable[[str, str], bool]] = {
    "folded": metrics.folded,
    "ci": metrics.case_insensitive,
    "exact": metrics.exact,
}


class LineReader(Protocol):
    """What is measured: `model.Reader`, or anything that reads as it does."""

    def read(self, images: Sequence[Pixels]) -> list[Reading]:
        """The reading of each image, in order."""

    def probabilities(self, images: Sequence[Pixels], texts: Sequence[str], *, ignore_case: bool) -> list[float]:
        """How probable it is that each image says its text."""


class DatasetError(ValueError):
    """A folder cannot be evaluated; the message is one line that says why."""


@dataclass(frozen=True)
class Sample:
    """One labelled image."""

    path: Path
    label: str


@dataclass(frozen=True)
class Answer:
    """What was read in a sample, and how surely, in [0, 1].

    Where case does not count, the confidence is that of the text in any case.
    """

    sample: Sample
    text: str
    confidence: float


@dataclass(frozen=True)
class SetResult:
    """The figures of one folder: `folded`, `ci`, `exact` and `cer` are percentages, time is in seconds.

    `cer` counts case and spaces, and typographic quotes, apostrophes and dashes as their ASCII
    forms on both sides. Where labels are in upper case whatever the picture shows, `ci` is the
    column to look at. `ece` is the expected calibration error of the confidences, in percent, taking
    the set's own metric for right; where that ignores case, a doubt between C and c is none.
    `images_per_s` counts the reader's work on decoded images only.
    """

    name: str
    images: int
    folded: float
    ci: float
    exact: float
    cer: float
    ece: float
    images_per_s: float
    answers: tuple[Answer, ...]


def read_labels(folder: str | os.PathLike[str]) -> list[Sample]:
    """The samples of a folder whose `labels.tsv` holds lines of image path, tab, text, in UTF-8.

    Raises:
        DatasetError: there is no such file, it is empty, or a line has no tab.
    """
    folder = Path(folder)
    try:
        lines = (folder / LABELS).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{folder}: no readable {LABELS}") from error
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, tab, label = line.rstrip("\r").partition("\t")
        if not tab:
            raise DatasetError(f"{folder / LABELS}, line {number}: no tab between image and text")
        samples.append(Sample(folder / name, label))
    if not samples:
        raise DatasetError(f"{folder / LABELS} is empty")
    return samples


def open_image(path: Path) -> Pixels:
    """An image file as an upright uint8 array, `(H, W)` if it is grey, else RGB `(H, W, 3)`.

    Raises:
        DatasetError: missing, or not an image.
    """
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            return np.asarray(upright.convert("L" if upright.mode in ("1", "L") else "RGB"), np.uint8)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be opened as an image") from error


def evaluate(
    reader: LineReader,
    folder: str | os.PathLike[str],
    limit: int | None = None,
    advance: Callable[[int], None] = lambda images: None,
) -> SetResult:
    """Read the labelled images of a folder, the first `limit` of them, and count what is right.

    `advance` is called with the number of images after each batch.

    Raises:
        DatasetError: the folder has no usable labels, or an image cannot be opened.
    """
    samples, name = read_labels(folder)[:limit], Path(folder).resolve().name
    answers: list[Answer] = []
    seconds = 0.0
    for first in range(0, len(samples), BATCH):
        batch = samples[first : first + BATCH]
        images = [open_image(sample.path) for sample in batch]
        started = time.perf_counter()
        readings = reader.read(images)
        seconds += time.perf_counter() - started
        sure = [reading.confidence for reading in readings]
        if own_metric(name) != "exact":
            views = [apply_view(rotated(image, r.turn), r.look) for image, r in zip(images, readings, strict=True)]
            texts = [reading.text for reading in readings]
            exactly = reader.probabilities(views, texts, ignore_case=False)
            anyhow = reader.probabilities(views, texts, ignore_case=True)
            # The confidence may have come of several looks: what case adds to it is what it adds in the last one.
            sure = [min(1.0, c * a / max(e, 1e-30)) for c, a, e in zip(sure, anyhow, exactly, strict=True)]
        answers += (Answer(s, r.text, c) for s, r, c in zip(batch, readings, sure, strict=True))
        advance(len(batch))
    return summarise(name, answers, seconds)


def summarise(name: str, answers: Sequence[Answer], seconds: float) -> SetResult:
    """The figures of answers that took `seconds` to read."""
    pairs = [(answer.sample.label, answer.text) for answer in answers]

    def share(metric: Metric) -> float:
        return 100 * sum(AGREES[metric](label, text) for label, text in pairs) / max(1, len(pairs))

    return SetResult(
        name,
        len(pairs),
        share("folded"),
        share("ci"),
        share("exact"),
        100 * metrics.character_error_rate(pairs),
        100 * metrics.expected_calibration_error(outcomes(name, answers)),
        len(pairs) / max(seconds, 1e-9),
        tuple(answers),
    )


def own_metric(name: str) -> Metric:
    """What counts as right in a set of this name, as its publishers count: `folded` for scenes, `ci` for receipts."""
    if name.startswith(("scene", "digits")):
        return "folded"
    return "ci" if name.startswith("receipt") else "exact"


def outcomes(name: str, answers: Iterable[Answer]) -> list[tuple[float, bool]]:
    """Confidence and whether it was right, by the set's own metric, of each answer.

    Quotes and dashes count as their ASCII forms, as in `cer`.
    """
    agrees = AGREES[own_metric(name)]
    return [(a.confidence, agrees(metrics.fold_quotes(a.sample.label), metrics.fold_quotes(a.text))) for a in answers]


def evaluate_all(
    reader: LineReader, folders: Iterable[str], limit: int | None = None
) -> tuple[list[SetResult], list[str]]:
    """The results of those folders that can be evaluated, and one line for each that cannot.

    Shows its progress on standard error where someone can see it.
    """
    results, problems = [], []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        for folder in folders:
            try:
                total = len(read_labels(folder)[:limit])
                task = bar.add_task(Path(folder).name, total=total)
                results.append(evaluate(reader, folder, limit, lambda n, task=task: bar.advance(task, n)))  # type: ignore[misc]
            except DatasetError as error:
                problems.append(str(error))
    return results, problems


def markdown(results: Iterable[SetResult]) -> str:
    """The results as one Markdown table, percentages with one decimal, the error rate with two."""
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


def as_json(results: Iterable[SetResult]) -> str:
    """The results as a JSON list of objects, percentages from 0 to 100."""
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


def surest_errors(results: Iterable[SetResult], metric: Metric, count: int) -> list[Answer]:
    """The `count` answers that are wrong by `metric` and were given with the most confidence, surest first."""
    wrong = (a for r in results for a in r.answers if not AGREES[metric](a.sample.label, a.text))
    return sorted(wrong, key=lambda answer: -answer.confidence)[:count]


def error_sheet(errors: Iterable[Answer]) -> str:
    """A web page that needs no other file: each picture beside its label and its reading."""
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
    """The picture as PNG inside an address, whatever format its file has."""
    buffer = io.BytesIO()
    Image.fromarray(open_image(path)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
