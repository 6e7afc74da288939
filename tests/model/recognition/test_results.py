"""Readings: texts, confidences and spans."""

from __future__ import annotations

import dataclasses

from linewise.model import Character, Reader, Reading
from linewise.model.recognition.results import rescale_spans
from tests.model.conftest import BAR, QUOTE, SPACE, bars, row_of


def test_quotes_are_straight_unless_asked_otherwise(bar_reader: Reader) -> None:
    image = bars(64, {8: BAR, 24: QUOTE, 40: BAR})
    assert bar_reader.read([image])[0].text == "|'|"
    (typographic,) = bar_reader.read([image], typographic_quotes=True)
    assert typographic.text == "|’|" == "".join(c.text for c in typographic.characters)


def test_outer_spaces_go_and_inner_ones_stay(bar_reader: Reader) -> None:
    (reading,) = bar_reader.read([bars(96, {8: SPACE, 24: BAR, 40: SPACE, 56: BAR, 72: SPACE})])
    assert reading.text == "| |" == "".join(c.text for c in reading.characters)
    assert reading.characters[0].start == 24


def test_an_empty_picture_has_an_empty_text(bar_reader: Reader) -> None:
    (reading,) = bar_reader.read([bars(96, {8: SPACE})])
    assert reading.text == "" and reading.characters == ()
    assert reading.confidence_min == reading.confidence


def test_the_weakest_character_is_reported(bar_reader: Reader) -> None:
    image = row_of(5)
    image[:, 40:48] = 110  # a grey bar is less sure
    (reading,) = bar_reader.read([image])
    assert reading.confidence_min == min(c.confidence for c in reading.characters)
    assert reading.characters[2].confidence == reading.confidence_min


def test_spans_are_rescaled_with_the_image() -> None:
    reading = Reading("ab", 0.5, 0.4, (Character("a", 0.5, 0.0, 4.0), Character("b", 0.4, 4.0, 10.0)))
    assert rescale_spans(reading, 1) is reading
    assert [(one.start, one.end) for one in rescale_spans(reading, 0.5).characters] == [(0.0, 2.0), (2.0, 5.0)]
    assert dataclasses.replace(rescale_spans(reading, 0.5), characters=reading.characters) == reading
