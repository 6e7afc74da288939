"""Boxes of words and characters on drawn pages, and the words of a line."""

from __future__ import annotations

import numpy as np
import pytest

from linewise import model
from linewise.model import Character, PageLine, PageReader, Reading
from linewise.model.network.checkpoint import DEFAULT_PATH
from linewise.model.synth.pages.page_renderer import PageRenderer
from linewise.model.synth.sources.fonts import find_faces
from tests.model.page.word_boxes import Overlaps, compare

LETTERS = (
    Character("a", 0.9, 6, 14, 8, 20), Character("b", 0.8, 16, 24, 4, 20), Character(" ", 0.99, 24, 32, 0, 26),
    Character("c", 0.7, 32, 40, 8, 24),
)  # fmt: skip


def test_words_of_a_line_are_boxes_around_their_letters_on_the_page() -> None:
    quad = np.array([[100, 50], [160, 50], [160, 70], [100, 70]], np.float32)  # its crop begins 3 pixels before it
    line = PageLine(Reading("ab c", 0.6, 0.7, LETTERS), quad, 0)
    first, second = line.words
    assert (first.text, first.confidence, second.text, second.confidence) == ("ab", 0.8, "c", 0.7)
    assert first.polygon == ((103, 51), (121, 51), (121, 67), (103, 67))
    assert second.polygon == ((129, 55), (137, 55), (137, 71), (129, 71))
    assert line.place(LETTERS[3]).tolist() == [list(corner) for corner in second.polygon]
    assert PageLine(Reading("", 0.6, 0.6, ()), quad, 0).words == ()


@pytest.fixture(scope="module")
def reader() -> PageReader:
    return model.load_page_reader(reader=model.load(device="cpu"))


@pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="the shipped weights are not here")
@pytest.mark.parametrize("kind", ["receipt", "book"])
def test_boxes_fit_the_ink_of_drawn_pages(kind: str, reader: PageReader) -> None:
    """Over many pages, the means are 0.88 and 0.77: see `python -m tests.model.page.word_boxes`."""
    try:
        page = PageRenderer(find_faces(), seed=611, kinds={kind: 1}).sample(1)
    except RuntimeError as error:
        pytest.skip(str(error))
    overlaps = Overlaps()
    compare(page, reader.read(page.image), overlaps)
    assert len(overlaps.words) >= 20
    assert np.mean(overlaps.words) >= 0.8
    assert np.mean(overlaps.characters) >= 0.65
