"""Labelled pages to the figures of finding lines and of reading them."""

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from linewise.model.evaluation.metrics import character_error_rate
from linewise.model.evaluation.recognition import DatasetError, open_image
from linewise.model.page.geometry import Quad
from linewise.model.page.results import PageReading
from linewise.model.recognition.preprocess import Image

LABELS = "labels.json"
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
OVERLAP = 0.5  # intersection over union from which a line counts as found


class ReadsPages(Protocol):
    """What is measured: `PageReader`, or anything that reads as it does."""

    def read(self, page: Image) -> PageReading:
        """The lines of a page, in reading order."""


@dataclass(frozen=True)
class LabelledPage:
    """A page with its lines' texts and corners `(4, 2)` in pixels, or with its text alone."""

    path: Path
    texts: tuple[str, ...]
    quads: tuple[Quad, ...] | None


@dataclass(frozen=True)
class Detection:
    """How many of the lines found are lines, how many of the lines are found, and the harmonic mean, in percent."""

    precision: float
    recall: float
    h_mean: float


@dataclass(frozen=True)
class PagesResult:
    """The figures of a folder of pages, in percent; `seconds` is the mean time for a page, on the clock and of CPU.

    Words count case-insensitively, as multisets page by page. `detection` is None where the labels
    have no corners, `cer` where they have: it compares the whole text in reading order, with words
    that are divided at the end of a line joined, and any white space as one space.
    """

    pages: int
    detection: Detection | None
    word_precision: float
    word_recall: float
    word_f1: float
    cer: float | None
    seconds: float
    cpu_seconds: float


def labelled_pages(folder: str | os.PathLike[str]) -> list[LabelledPage]:
    """The pages of a folder by name: those of `labels.json`, or each picture that has a text file beside it.

    `labels.json` maps a file's name to a list of objects with `text` and `quad`, eight numbers, the
    corners in pixels clockwise from the top left.

    Raises:
        DatasetError: neither is there, or the labels are malformed.
    """
    folder = Path(folder)
    if (folder / LABELS).exists():
        try:
            entries = json.loads((folder / LABELS).read_text(encoding="utf-8"))
            return [
                LabelledPage(
                    folder / name,
                    tuple(line["text"] for line in lines),
                    tuple(np.asarray(line["quad"], np.float32).reshape(4, 2) for line in lines),
                )
                for name, lines in sorted(entries.items())
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{folder / LABELS} is no map of file names to lists of text and quad") from error
    found = [
        LabelledPage(path, (path.with_suffix(".txt").read_text(encoding="utf-8"),), None)
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in PICTURES and path.with_suffix(".txt").exists()
    ]
    if not found:
        raise DatasetError(f"{folder}: no {LABELS}, and no pictures with a .txt beside them")
    return found


def evaluate_pages(
    readers: Mapping[str, ReadsPages], pages: Sequence[LabelledPage], say: Callable[[str], None] = lambda line: None
) -> dict[str, PagesResult]:
    """Reads labelled pages, each by every reader in turn, and counts what is found and right.

    `say` is told when ten more pages are done.

    Raises:
        DatasetError: a picture cannot be opened.
    """
    counts = {name: _Count() for name in readers}
    for number, page in enumerate(pages, start=1):
        image = open_image(page.path)
        for name, reader in readers.items():
            clock, processor = time.perf_counter(), time.process_time()
            reading = reader.read(image)
            counts[name].add(page, reading, time.perf_counter() - clock, time.process_time() - processor)
        if number % 10 == 0:
            say(f"{number} of {len(pages)} pages")
    return {name: count.result() for name, count in counts.items()}


@dataclass
class _Count:
    """What adds up over the pages of a folder."""

    pages: int = 0
    lines: tuple[int, int, int] = (0, 0, 0)  # right, found, wanted
    words: tuple[int, int, int] = (0, 0, 0)
    pairs: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, page: LabelledPage, reading: PageReading, seconds: float, cpu_seconds: float) -> None:
        truth, read = _words(" ".join(page.texts)), _words(joined(reading.text))
        self.words = _sum(self.words, ((truth & read).total(), read.total(), truth.total()))
        if page.quads is None:
            self.pairs.append((" ".join(" ".join(page.texts).split()), joined(reading.text)))
        else:
            right = matches(page.quads, [line.quad for line in reading.lines])
            self.lines = _sum(self.lines, (right, len(reading.lines), len(page.quads)))
        self.pages, self.seconds = self.pages + 1, self.seconds + seconds
        self.cpu_seconds += cpu_seconds

    def result(self) -> PagesResult:
        number = max(1, self.pages)
        return PagesResult(
            self.pages, None if self.pairs else Detection(*_f1(*self.lines)), *_f1(*self.words),
            100 * character_error_rate(self.pairs) if self.pairs else None,
            self.seconds / number, self.cpu_seconds / number,
        )  # fmt: skip


def _sum(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def joined(text: str) -> str:
    """Lines as running text: a word divided by a hyphen at the end of a line is one word again."""
    return " ".join(re.sub(r"(?<=[^\W\d_])[-\u00ad\u2010]\n(?=[^\W\d_A-Z])", "", text).split())


def matches(wanted: Sequence[Quad], found: Sequence[Quad]) -> int:
    """How many lines are found: pairs, each line in one at most, that share at least `OVERLAP` of their union.

    The best pairs go first; a convex outline is taken for granted.
    """
    shares = []
    for i, one in enumerate(wanted):
        for j, other in enumerate(found):
            if (one.min(0) < other.max(0)).all() and (other.min(0) < one.max(0)).all():
                common, _ = cv2.intersectConvexConvex(one, other)
                union = cv2.contourArea(one) + cv2.contourArea(other) - common
                if common >= OVERLAP * union > 0:
                    shares.append((common / union, i, j))
    taken: tuple[set[int], set[int]] = (set(), set())
    for _, i, j in sorted(shares, reverse=True):
        if i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
    return len(taken[0])


def _words(text: str) -> Counter[str]:
    return Counter(text.casefold().split())


def _f1(right: int, found: int, wanted: int) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean in percent; nothing found where nothing is, is right."""
    precision = 100 * right / found if found else 100.0 if not wanted else 0.0
    recall = 100 * right / wanted if wanted else 100.0 if not found else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def pages_markdown(results: Sequence[tuple[str, PagesResult]]) -> str:
    """The figures by name as a Markdown table."""
    lines = [
        "| pages | number | detection P / R / H | words P / R / F1 | CER | s a page | CPU s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, r in results:
        d = r.detection
        found = f"{d.precision:.1f} / {d.recall:.1f} / {d.h_mean:.1f}" if d else "-"
        cer = "-" if r.cer is None else f"{r.cer:.2f}"
        words = f"{r.word_precision:.1f} / {r.word_recall:.1f} / {r.word_f1:.1f}"
        lines.append(f"| {name} | {r.pages} | {found} | {words} | {cer} | {r.seconds:.2f} | {r.cpu_seconds:.2f} |")
    return "\n".join(lines)


def pages_json(result: PagesResult) -> str:
    """The figures as one JSON object; `detection` and `cer` are null where the labels cannot tell."""
    return json.dumps(asdict(result), indent=2) + "\n"
