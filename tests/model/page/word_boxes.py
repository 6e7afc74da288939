"""Overlap of the boxes of words and characters with the ink of drawn pages, whose boxes are known.

    python -m tests.model.page.word_boxes [pages of each kind] [seed]

prints the mean intersection over union by kind of page, over the lines that are read right.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from linewise import model
from linewise.model.page.geometry import Quad
from linewise.model.page.results import PageLine, PageReading
from linewise.model.synth.pages.page_renderer import KINDS, LabelledLine, PageRenderer, PageSample
from linewise.model.synth.sources.fonts import find_faces

MATCH_MIN_IOU = 0.3  # of a line that is read and the drawn one


@dataclass
class Overlaps:
    """Intersections over union of the words and of the characters of lines that are read right."""

    words: list[float] = field(default_factory=list)
    characters: list[float] = field(default_factory=list)

    def add(self, line: PageLine, drawn: LabelledLine) -> None:
        """Compare a line that has the drawn text."""
        visible = [one for one in line.reading.characters if not one.text.isspace()]
        for word, truth in zip(line.words, drawn.words, strict=True):
            assert word.text == truth.text
            self.words.append(overlap(np.array(word.polygon, np.float32), truth.quad))
        for quad, truth in zip(line.place_all(visible), drawn.characters, strict=True):
            self.characters.append(overlap(quad, truth.quad))


def overlap(a: Quad, b: Quad) -> float:
    """Intersection over union of two convex quadrangles."""
    if not ((a.min(0) < b.max(0)).all() and (b.min(0) < a.max(0)).all()):
        return 0.0
    intersection, _ = cv2.intersectConvexConvex(a, b)
    union = cv2.contourArea(a) + cv2.contourArea(b) - intersection
    return float(intersection / union) if union > 0 else 0.0


def compare(page: PageSample, reading: PageReading, overlaps: Overlaps) -> None:
    """Add the lines of a page that are read right."""
    for drawn in page.lines:
        near: Sequence[PageLine] = [line for line in reading.lines if overlap(line.quad, drawn.quad) > MATCH_MIN_IOU]
        for line in near:
            if line.reading.text == drawn.text:
                overlaps.add(line, drawn)
                break


def main(count: int = 4, seed: int = 501) -> None:
    """Print the overlaps of so many drawn pages of each kind with text."""
    faces, reader = find_faces(), model.load_page_reader(reader=model.load(device="cpu"))
    everything = Overlaps()
    for kind in KINDS:
        overlaps = Overlaps()
        for index in range(count if kind != "nothing" else 0):
            page = PageRenderer(faces, seed, {kind: 1}).sample(index)
            compare(page, reader.read(page.image), overlaps)
        if overlaps.words:
            print(f"{kind:8} {len(overlaps.words):5} words {np.mean(overlaps.words):.3f}", end="  ")
            print(f"{len(overlaps.characters):5} characters {np.mean(overlaps.characters):.3f}", flush=True)
        everything.words += overlaps.words
        everything.characters += overlaps.characters
    print(f"together words {np.mean(everything.words):.3f} characters {np.mean(everything.characters):.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
