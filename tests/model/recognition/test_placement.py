"""Character positions in pixels of the input image, and boxes that fit the ink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model import Character, Reader
from linewise.model.recognition.placement import fit_to_ink
from tests.model.conftest import BAR, bars


def test_characters_lie_where_they_are_in_the_input(bar_reader: Reader) -> None:
    places = (16, 48, 96)
    image = np.kron(bars(128, dict.fromkeys(places, BAR)), np.ones((2, 2), np.uint8))
    (reading,) = bar_reader.read([image])
    assert [(c.start, c.end) for c in reading.characters] == [(2 * x, 2 * x + 16) for x in places]


def test_a_character_of_a_narrow_image_lies_inside_it(bar_reader: Reader) -> None:
    (reading,) = bar_reader.read([bars(16, {4: BAR})])
    (character,) = reading.characters
    assert (character.start, character.end) == (4, 12)


# Where the network reports letters: the first at the left rim, the others a little before their middle.
def spikes(text: str, middles: list[int]) -> list[Character]:
    others = (Character(c, 0.9, x - 2, x) for c, x in zip(text[1:], middles, strict=True))
    return [Character(text[0], 0.9, 0, 2), *others]


def blocks(boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (32, 160)) -> NDArray[np.uint8]:
    image = np.full(size, 230, np.uint8)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 20
    return image


def boxes_of(characters: Sequence[Character]) -> list[tuple[float, float, float, float]]:
    return [(c.start, c.top, c.end, c.bottom) for c in characters]


INK = [(20, 10, 30, 26), (33, 6, 37, 26), (40, 10, 56, 26), (80, 10, 92, 30), (95, 20, 99, 26)]
TEXT, MIDDLES = "aiw g.", [35, 48, 68, 86, 97]


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("zoom", [1, 2, 3])
def test_boxes_grow_to_the_ink_and_to_the_middle_between_neighbours(invert: bool, zoom: int) -> None:
    image = np.kron(blocks(INK), np.ones((zoom, zoom), np.uint8))
    marks = [replace(c, start=c.start * zoom, end=c.end * zoom) for c in spikes(TEXT, MIDDLES)]
    fitted = fit_to_ink(marks, 255 - image if invert else image)
    assert [c.text for c in fitted] == list(TEXT)
    space = fitted[3]
    assert (space.start, space.end) == pytest.approx((56 * zoom, 80 * zoom), abs=zoom)
    found = [box for c, box in zip(fitted, boxes_of(fitted), strict=True) if c is not space]
    assert np.array(found) / zoom == pytest.approx(np.array(INK), abs=1)


def test_touching_letters_meet_in_the_middle() -> None:
    left, right, last = fit_to_ink(spikes("nnx", [35, 60]), blocks([(20, 10, 40, 26), (54, 10, 64, 26)]))
    assert left.end == right.start == pytest.approx(30, abs=3)
    assert (left.start, right.end, last.start) == (20, 40, 54)


def test_neighbouring_lines_rules_and_shadows_are_no_ink() -> None:
    image = blocks([*INK, (22, 0, 26, 3), (0, 31, 160, 32)])  # a descender from above, a rule below
    shade = np.linspace(0.35, 1.0, image.shape[1])
    fitted = fit_to_ink(spikes(TEXT, MIDDLES), np.asarray(image * shade, np.uint8))
    found = [box for c, box in zip(fitted, boxes_of(fitted), strict=True) if c.text != " "]
    assert np.array(found) == pytest.approx(np.array(INK), abs=1)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 500), (300, 20)])
def test_without_ink_boxes_have_the_height_of_the_image(size: tuple[int, int]) -> None:
    marks = [Character(c, 0.9, x * size[1], x * size[1]) for c, x in zip("a b", (0.0, 0.5, 1.0), strict=True)]
    for box in boxes_of(fit_to_ink(marks, np.full(size, 90, np.uint8))):
        left, top, right, bottom = box
        assert 0 <= left <= right <= size[1] and (top, bottom) == (0, size[0])
    assert fit_to_ink([], np.full(size, 90, np.uint8)) == ()
