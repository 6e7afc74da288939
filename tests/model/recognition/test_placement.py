"""Character positions in pixels of the input image."""

from __future__ import annotations

import numpy as np

from linewise.model import Reader
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
