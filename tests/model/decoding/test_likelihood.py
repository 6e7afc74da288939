"""Probabilities of given texts."""

from __future__ import annotations

import numpy as np
import pytest

from linewise.model import Reader
from tests.model.conftest import patches, row_of


def test_the_probability_of_what_was_read_is_its_confidence(talkative: Reader) -> None:
    rng = np.random.default_rng(3)
    # Without colours, so that no augmented views take part.
    images = [np.ascontiguousarray(patches(rng, (32, width))[:, :, 0]) for width in (90, 200, 400)]
    readings = talkative.read(images, typographic_quotes=True)
    assert len({reading.text for reading in readings}) > 1
    texts = [reading.text for reading in readings]
    as_read, any_case = talkative.probabilities(images, texts), talkative.probabilities(images, texts, ignore_case=True)
    for reading, exactly, loosely in zip(readings, as_read, any_case, strict=True):
        assert exactly == pytest.approx(reading.confidence, abs=1e-3)
        assert exactly - 1e-6 <= loosely <= 1
    swapped = talkative.probabilities(images, [text.swapcase() for text in texts], ignore_case=True)
    assert swapped == pytest.approx(any_case)
    assert sum(talkative.probabilities(images[:1] * 2, ["one", "another"])) < 1


def test_a_text_outside_the_alphabet_has_probability_zero(bar_reader: Reader) -> None:
    image = row_of(3)
    text = bar_reader.read([image])[0].text
    assert bar_reader.probabilities([image, image], [text, "中"])[1] == 0
    assert bar_reader.probabilities([image], [text])[0] > 0.5
    with pytest.raises(ValueError, match="1 texts for 2 images"):
        bar_reader.probabilities([image, image], [text])


def test_a_line_on_its_side_has_the_probability_of_its_text(bar_reader: Reader) -> None:
    sideways = np.ascontiguousarray(np.rot90(row_of(6)))
    (reading,) = bar_reader.read([sideways])
    assert reading.turn
    upright, one_character = bar_reader.probabilities([sideways] * 2, [reading.text, reading.text[0]])
    assert upright == pytest.approx(reading.confidence, abs=1e-3)
    assert one_character < 1e-3


def test_decomposed_characters_have_the_probability_of_composed_ones(talkative: Reader) -> None:
    image = np.ascontiguousarray(patches(np.random.default_rng(3), (32, 90))[:, :, 0])
    composed, decomposed = talkative.probabilities([image] * 2, ["é", "e\u0301"])
    assert composed == decomposed > 0
