"""Evaluation of page reading: detection of lines, words, and text in reading order."""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, Protocol

import cv2

from linewise.model.evaluation.datasets import LabelledPage, open_image
from linewise.model.evaluation.metrics import character_error_rate
from linewise.model.page.geometry import Quad
from linewise.model.page.results import PageReading
from linewise.model.recognition.preprocess import Image

MATCH_MIN_IOU = 0.5  # intersection over union from which a detected line matches a labelled one
PROGRESS_INTERVAL_PAGES = 10


class PageEngine(Protocol):
    """Interface of `model.PageReader` that the evaluation uses."""

    def read(self, page: Image) -> PageReading:
        """Read a uint8 page, `(H, W)` or `(H, W, 3)`; its lines come in reading order."""


@dataclass(frozen=True)
class Detection:
    """Precision and recall of detected lines, and their harmonic mean, in percent."""

    precision: float
    recall: float
    h_mean: float


@dataclass(frozen=True)
class PagesResult:
    """Scores of a folder of pages in percent; `seconds` and `cpu_seconds` are means over its pages.

    Words are compared case-insensitively, as multisets page by page. `detection` is None where the
    labels have no corners, `cer` where they have: it compares the whole text in reading order, with
    words hyphenated at line ends joined, and any white space as one space.
    """

    pages: int
    detection: Detection | None
    word_precision: float
    word_recall: float
    word_f1: float
    cer: float | None
    seconds: float
    cpu_seconds: float


def evaluate_pages(
    readers: Mapping[str, PageEngine],
    pages: Sequence[LabelledPage],
    on_progress: Callable[[str], object] = lambda line: None,
) -> dict[str, PagesResult]:
    """Read each page by every reader in turn, and score the readings.

    `on_progress` is called with one line of text after every ten pages.

    Raises:
        DatasetError: an image cannot be opened.
    """
    scores = {name: _Scores() for name in readers}
    for number, page in enumerate(pages, start=1):
        image = open_image(page.path)
        for name, reader in readers.items():
            wall_started, cpu_started = time.perf_counter(), time.process_time()
            reading = reader.read(image)
            scores[name].seconds += time.perf_counter() - wall_started
            scores[name].cpu_seconds += time.process_time() - cpu_started
            scores[name].add(page, reading)
        if number % PROGRESS_INTERVAL_PAGES == 0:
            on_progress(f"{number} of {len(pages)} pages")
    return {name: score.result() for name, score in scores.items()}


class _Counts(NamedTuple):
    """Numbers of correct predictions, of predictions, and of labels."""

    correct: int = 0
    predicted: int = 0
    labelled: int = 0

    def plus(self, correct: int, predicted: int, labelled: int) -> "_Counts":
        return _Counts(self.correct + correct, self.predicted + predicted, self.labelled + labelled)

    def percentages(self) -> tuple[float, float, float]:
        """Precision, recall and their harmonic mean; 100 where nothing is labelled and nothing predicted."""
        precision = 100 * self.correct / self.predicted if self.predicted else 0.0 if self.labelled else 100.0
        recall = 100 * self.correct / self.labelled if self.labelled else 0.0 if self.predicted else 100.0
        total = precision + recall
        return precision, recall, 2 * precision * recall / total if total else 0.0


@dataclass
class _Scores:
    """Sums over the pages of a folder."""

    pages: int = 0
    lines: _Counts = field(default_factory=_Counts)
    words: _Counts = field(default_factory=_Counts)
    texts: list[tuple[str, str]] = field(default_factory=list)  # label and reading of pages without corners
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, page: LabelledPage, reading: PageReading) -> None:
        label, text = " ".join(page.texts), join_hyphenated(reading.text)
        label_words, text_words = _words(label), _words(text)
        self.words = self.words.plus((label_words & text_words).total(), text_words.total(), label_words.total())
        if page.quads is None:
            self.texts.append((" ".join(label.split()), text))
        else:
            matches = count_matches(page.quads, [line.quad for line in reading.lines])
            self.lines = self.lines.plus(matches, len(reading.lines), len(page.quads))
        self.pages += 1

    def result(self) -> PagesResult:
        pages = max(1, self.pages)
        precision, recall, f1 = self.words.percentages()
        return PagesResult(
            pages=self.pages,
            detection=None if self.texts else Detection(*self.lines.percentages()),
            word_precision=precision,
            word_recall=recall,
            word_f1=f1,
            cer=100 * character_error_rate(self.texts) if self.texts else None,
            seconds=self.seconds / pages,
            cpu_seconds=self.cpu_seconds / pages,
        )


def _words(text: str) -> Counter[str]:
    return Counter(text.casefold().split())


def join_hyphenated(text: str) -> str:
    """Join lines to running text; words hyphenated at the end of a line become one word."""
    return " ".join(re.sub(r"(?<=[^\W\d_])[-\u00ad\u2010]\n(?=[^\W\d_A-Z])", "", text).split())


def count_matches(labelled: Sequence[Quad], detected: Sequence[Quad]) -> int:
    """Number of pairs of a labelled and a detected line whose overlap reaches `MATCH_MIN_IOU`.

    Each line is in one pair at most; pairs of highest overlap are formed first. Quadrangles must be convex.
    """
    candidates = []
    for i, label in enumerate(labelled):
        for j, line in enumerate(detected):
            if (label.min(0) < line.max(0)).all() and (line.min(0) < label.max(0)).all():
                intersection, _ = cv2.intersectConvexConvex(label, line)
                union = cv2.contourArea(label) + cv2.contourArea(line) - intersection
                if intersection >= MATCH_MIN_IOU * union > 0:
                    candidates.append((intersection / union, i, j))
    matched_labels: set[int] = set()
    matched_lines: set[int] = set()
    for _, i, j in sorted(candidates, reverse=True):
        if i not in matched_labels and j not in matched_lines:
            matched_labels.add(i)
            matched_lines.add(j)
    return len(matched_labels)


def pages_markdown(results: Sequence[tuple[str, PagesResult]]) -> str:
    """Named results as a Markdown table."""
    lines = [
        "| pages | number | detection P / R / H | words P / R / F1 | CER | s a page | CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, r in results:
        d = r.detection
        detection = f"{d.precision:.1f} / {d.recall:.1f} / {d.h_mean:.1f}" if d else "-"
        words = f"{r.word_precision:.1f} / {r.word_recall:.1f} / {r.word_f1:.1f}"
        cer = "-" if r.cer is None else f"{r.cer:.2f}"
        lines.append(f"| {name} | {r.pages} | {detection} | {words} | {cer} | {r.seconds:.2f} | {r.cpu_seconds:.2f} |")
    return "\n".join(lines)


def pages_json(result: PagesResult) -> str:
    """Result as one JSON object; `detection` or `cer` is null, depending on the labels."""
    return json.dumps(asdict(result), indent=2) + "\n"
