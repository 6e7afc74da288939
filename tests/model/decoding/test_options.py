"""Decoding options as a reader builds and uses them."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from linewise.model import Reader
from linewise.model.decoding.options import build_decoding
from linewise.model.network.charset import DEFAULT_ALPHABET, Charset
from linewise.model.train.ngram import estimate
from tests.model.conftest import BAR, QUOTE, SPACE, bars, patches


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
        ({"lexicon": "||"}, r'lexicon must be a list of texts, not one string: \["..."\]'),
    ],
)
def test_an_impossible_decoding_is_refused(bar_reader: Reader, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bar_reader.decoding(**options)  # type: ignore[arg-type]


def test_as_many_decodings_as_images(bar_reader: Reader) -> None:
    with pytest.raises(ValueError, match="1 decodings for 2 images"):
        bar_reader.read([bars(96, {8: BAR})] * 2, [None])


def test_decomposed_characters_are_those_of_the_alphabet() -> None:
    charset = Charset("aé")
    decoding = build_decoding(charset, charset="ae\u0301", lexicon=["ae\u0301", "aé"])
    assert decoding is not None and decoding.lexicon is not None
    assert len(decoding.lexicon) == 1
    assert decoding.allowed == frozenset({1, 2})
    excluded = build_decoding(charset, charset_exclude="e\u0301")
    assert excluded is not None and excluded.allowed == frozenset({1})
    assert unicodedata.normalize("NFC", DEFAULT_ALPHABET) == DEFAULT_ALPHABET


def test_as_many_alternatives_as_requested_are_given_for_doubtful_images(talkative: Reader) -> None:
    talkative.language = estimate({"house": 3, "horse": 2})
    image = np.ascontiguousarray(patches(np.random.default_rng(3), (32, 90))[:, :, 0])
    few, many, most = talkative.read(
        [image] * 3, [talkative.decoding(alternatives=count) for count in (3, 15, 30)], typographic_quotes=True
    )
    assert few.confidence < 0.6  # so that it is rescored
    assert (few.text, few.confidence) == (many.text, many.confidence) == (most.text, most.confidence)
    assert len(few.alternatives) == 3 and few.alternatives == many.alternatives[:3]
    assert len(many.alternatives) > 10 and len(most.alternatives) > 20
    for reading in (many, most):
        confidences = [reading.confidence, *(other.confidence for other in reading.alternatives)]
        assert confidences == sorted(confidences, reverse=True) and sum(confidences) <= 1 + 1e-6
