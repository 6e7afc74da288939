"""Lines that lie on their side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model import Reader, Reading
from linewise.model.decoding.rescoring import RescoredHypothesis
from linewise.model.recognition.rotation import most_confident, rotated, rotations
from linewise.model.train.ngram import estimate
from tests.model.conftest import BAR, QUOTE, bars, row_of


@pytest.mark.parametrize("quarters", [1, 3])
def test_a_line_on_its_side_is_read_as_it_would_be_upright(bar_reader: Reader, quarters: int) -> None:
    line = bars(160, {8: QUOTE, 40: BAR, 72: BAR, 104: BAR, 136: BAR})
    on_its_side = np.ascontiguousarray(np.rot90(line, quarters))
    (reading,) = bar_reader.read([on_its_side])
    assert reading.turn in (90, 270)
    (upright,) = bar_reader.read([rotated(on_its_side, reading.turn)])
    assert upright.turn == 0 and len(upright.text) > 3
    assert reading == dataclasses.replace(upright, turn=reading.turn)


def test_an_image_of_one_character_is_not_rotated(bar_reader: Reader) -> None:
    tall = bars(20, {6: BAR}, height=64)
    assert bar_reader.read([tall])[0].turn == 0


def test_each_rotation_of_a_tall_image_uses_the_decoding_of_the_image(bar_reader: Reader) -> None:
    line = np.ascontiguousarray(np.rot90(row_of(5)))
    plain, with_alternatives = bar_reader.read([line, line], [None, bar_reader.decoding(alternatives=3)])
    assert plain.turn in (90, 270) and not plain.alternatives
    assert with_alternatives.text == plain.text and with_alternatives.alternatives


def test_only_tall_images_are_rotated() -> None:
    assert rotations(100, 100) == rotations(149, 100) == rotations(5, 0) == (0,)
    assert rotations(150, 100) == (0, 90, 270)


def test_the_most_confident_reading_with_a_text_is_kept() -> None:
    empty, upright, single, rotated_text = (
        Reading(text, confidence, confidence, ())
        for text, confidence in (("", 1.0), ("l", 0.5), ("-", 0.9), ("ab", 0.6))
    )
    assert most_confident([upright, single, rotated_text]) == 2
    assert most_confident([upright, single, single]) == 0
    assert most_confident([empty, single, rotated_text]) == 2
    assert most_confident([empty]) == 0


def test_a_rotated_reading_never_ends_as_one_character(bar_reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    sideways = np.ascontiguousarray(np.rot90(row_of(6)))
    assert bar_reader.read([sideways])[0].turn

    def one_character(views: Sequence[NDArray[np.float32]], *_: object) -> list[RescoredHypothesis]:
        return [RescoredHypothesis((1,), 0.5, 0)]

    monkeypatch.setattr("linewise.model.recognition.cascade.rescore", one_character)
    monkeypatch.setattr("linewise.model.decoding.hypotheses.RESCORE_THRESHOLD", 1.1)  # every reading is doubtful
    bar_reader.language = estimate({"house": 1})
    line, tall, bar = bar_reader.read([row_of(6), sideways, bars(32, {12: BAR}, height=64)])
    assert (line.turn, tall.turn, bar.turn) == (0, 0, 0)
    assert tall == bar_reader.read([sideways])[0]
