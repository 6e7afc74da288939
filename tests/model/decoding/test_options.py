"""Decoding options as a reader builds and uses them."""

from __future__ import annotations

import pytest

from linewise.model import Reader
from tests.model.conftest import BAR, QUOTE, SPACE, bars


def test_a_reader_gives_alternatives_and_keeps_to_characters(bar_reader: Reader) -> None:
    image = bars(96, {8: BAR, 24: QUOTE, 40: BAR, 56: SPACE, 72: BAR})
    plain, more, barred = bar_reader.read(
        [image] * 3, [None, bar_reader.decoding(alternatives=3), bar_reader.decoding(charset="| ")]
    )
    assert (more.text, more.confidence, more.characters) == (plain.text, plain.confidence, plain.characters)
    assert plain.alternatives == () and 1 <= len(more.alternatives) <= 3
    confidences = [more.confidence, *(other.confidence for other in more.alternatives)]
    assert confidences == sorted(confidences, reverse=True)
    assert len({more.text, *(other.text for other in more.alternatives)}) == len(confidences)
    assert plain.text == "|'| |"
    assert set(barred.text) <= {"|", " "} and barred.confidence < plain.confidence
    assert len(barred.characters) == len(barred.text)
    starts = [character.start for character in barred.characters]
    assert starts == sorted(starts) and all(0 <= start <= 96 for start in starts)


def test_the_default_decoding_is_none(bar_reader: Reader) -> None:
    assert bar_reader.decoding() is None
    decoding = bar_reader.decoding(charset_exclude="’")
    assert decoding is not None and decoding.allowed is not None and len(decoding.allowed) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alternatives": -1}, "at least 0, not -1"),
        ({"charset": "|x"}, "charset has .* cannot write: x"),
        ({"charset_exclude": "x"}, "charset_exclude has .* cannot write: x"),
        ({"charset": "|", "charset_exclude": "|"}, "leave no character"),
        ({"charset": " "}, "leave no character"),
        ({"lexicon": []}, "no entry"),
    ],
)
def test_an_impossible_decoding_is_refused(bar_reader: Reader, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bar_reader.decoding(**options)  # type: ignore[arg-type]


def test_as_many_decodings_as_images(bar_reader: Reader) -> None:
    with pytest.raises(ValueError, match="1 decodings for 2 images"):
        bar_reader.read([bars(96, {8: BAR})] * 2, [None])
