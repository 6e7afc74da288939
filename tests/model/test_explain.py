"""Explanations agree with the reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linewise.model import Reader
from linewise.model.explain import BLANK_SYMBOL, draw, explain
from tests.model.conftest import BAR, QUOTE, SPACE, bars


def test_an_explanation_is_of_the_very_reading(bar_reader: Reader) -> None:
    image = bars(96, {8: BAR, 24: QUOTE, 40: BAR, 56: SPACE, 72: BAR})
    explanation = explain(bar_reader, image)
    assert explanation.reading == bar_reader.read([image], typographic_quotes=True)[0]
    assert explanation.posteriors.shape == (24, 4)
    assert np.allclose(explanation.posteriors.sum(1), 1, atol=1e-5)
    assert (explanation.edges[0], explanation.edges[-1]) == (0, 96)
    for character, second in zip(explanation.reading.characters, explanation.runners_up, strict=True):
        frames = (explanation.edges[:-1] >= character.start) & (explanation.edges[1:] <= character.end)
        label = bar_reader.config.alphabet.index(character.text) + 1
        assert explanation.posteriors[frames, label].max() == pytest.approx(character.confidence, abs=1e-5)
        names = BLANK_SYMBOL + bar_reader.config.alphabet
        # Frames and classes may tie, so any that is second with that share will do.
        assert second.text != character.text
        column = names.index(second.text)
        assert any(
            frame[column] == pytest.approx(np.sort(frame)[-2]) == pytest.approx(second.confidence)
            for frame in explanation.posteriors[frames]
        )


def test_a_long_line_is_explained_whole(bar_reader: Reader) -> None:
    image = bars(5000, {8 + 16 * n: BAR for n in range(300)})
    explanation = explain(bar_reader, image)
    assert len(explanation.runners_up) == 300
    assert len(explanation.edges) == len(explanation.posteriors) + 1


def test_the_picture_is_written(bar_reader: Reader, tmp_path: Path) -> None:
    picture = tmp_path / "why.png"
    for marks in ({8: BAR, 24: QUOTE, 40: SPACE, 56: BAR}, {}):
        image = bars(96, marks)
        draw(explain(bar_reader, image), bar_reader.config.alphabet, picture)
        with Image.open(picture) as drawn:
            assert drawn.width > 500 and np.asarray(drawn.convert("L")).std() > 10
