"""How whole pages are scored."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from linewise.model.evaluation.datasets import read_page_labels
from linewise.model.evaluation.pages import (
    count_matches,
    evaluate_pages,
    join_hyphenated,
    pages_json,
    pages_markdown,
)
from linewise.model.page.geometry import Quad
from linewise.model.page.results import PageLine, PageReading
from linewise.model.recognition.preprocess import Image
from linewise.model.recognition.results import Reading


def box(left: float, top: float, right: float, bottom: float) -> Quad:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


class ConstantReader:
    """A reader that answers every page with the same lines."""

    def __init__(self, *lines: tuple[str, Quad]) -> None:
        self.lines = lines

    def read(self, page: Image) -> PageReading:
        readings = [Reading(text=text, confidence=1.0, confidence_min=1.0, characters=()) for text, _ in self.lines]
        return PageReading(
            tuple(PageLine(r, quad, i) for i, (r, (_, quad)) in enumerate(zip(readings, self.lines, strict=True)))
        )


def receipt(folder: Path) -> None:
    cv2.imwrite(str(folder / "a.png"), np.full((100, 200), 255, np.uint8))
    lines = [
        {"text": "TOTAL 12.50", "quad": box(10, 10, 110, 30).ravel().tolist()},
        {"text": "THANK YOU", "quad": box(10, 50, 110, 70).ravel().tolist()},
    ]
    (folder / "labels.json").write_text(json.dumps({"a.png": lines}))


def test_a_page_with_corners_is_scored_by_its_lines_and_words(tmp_path: Path) -> None:
    receipt(tmp_path)
    reader = ConstantReader(("Total 12.50", box(12, 10, 112, 32)), ("rubbish", box(10, 80, 60, 95)))
    result = evaluate_pages({"it": reader}, read_page_labels(tmp_path))["it"]
    assert result.detection is not None
    assert (result.detection.precision, result.detection.recall, result.detection.h_mean) == (50, 50, 50)
    assert result.word_precision == pytest.approx(200 / 3)
    assert result.word_recall == 50
    assert result.cer is None
    assert set(json.loads(pages_json(result))) >= {"detection", "word_precision", "word_recall", "word_f1", "cer"}
    assert "50.0 / 50.0 / 50.0" in pages_markdown([("receipts", result)])


def test_a_page_with_text_alone_is_scored_in_reading_order(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.full((100, 200), 255, np.uint8))
    (tmp_path / "p.txt").write_text("It was a wonderful “day”.\nThe end.", encoding="utf-8")
    right = ConstantReader(
        ("It was a wonder-", box(0, 0, 9, 9)), ('ful "day".', box(0, 10, 9, 19)), ("The end.", box(0, 20, 9, 29))
    )
    wrong = ConstantReader(("The end.", box(0, 0, 9, 9)))
    results = evaluate_pages({"right": right, "wrong": wrong}, read_page_labels(tmp_path))
    assert results["right"].cer == 0
    cer = results["wrong"].cer
    assert cer is not None and cer > 50
    assert results["wrong"].detection is None


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("won-\nderful", "wonderful"),
        ("Anglo-\nSaxon", "Anglo- Saxon"),
        ("1914-\n1918", "1914- 1918"),
        ("one\ntwo", "one two"),
    ],
)
def test_only_words_divided_at_the_end_of_a_line_are_joined(lines: str, text: str) -> None:
    assert join_hyphenated(lines) == text


def test_a_line_matches_once_at_most() -> None:
    labelled = [box(0, 0, 100, 20), box(0, 30, 100, 50)]
    assert count_matches(labelled, [box(0, 0, 100, 20), box(0, 2, 100, 22), box(0, 200, 100, 220)]) == 1
    assert count_matches(labelled, [box(0, 0, 45, 20)]) == 0
    assert count_matches(labelled, list(reversed(labelled))) == 2
