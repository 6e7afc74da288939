"""Lexicons: entries, words of a line, and the characters that may follow a prefix."""

from __future__ import annotations

from random import Random

import pytest
import torch

from linewise.model.decoding.lexicon import Lexicon
from linewise.model.decoding.options import Decoding
from linewise.model.network.charset import Charset
from tests.model.decoding.test_beam_search import LETTERS, texts, written


def test_the_nearest_entry_is_read() -> None:
    lexicon = Lexicon(["horse", "house", "rub", "shed"], LETTERS)
    assert len(lexicon) == 4
    for text, expected in {"house": "house", "hause": "house", "horee": "horse", "sheds": "shed"}.items():
        assert texts(LETTERS, written(LETTERS, text), Decoding(lexicon=lexicon))[0] == expected


def test_words_of_a_line_each_come_from_the_lexicon() -> None:
    lexicon = Lexicon(["horse", "house", "a house"], LETTERS)
    readings = texts(LETTERS, written(LETTERS, "hause horse a house house"), Decoding(lexicon=lexicon))
    assert readings[0] == "house horse a house house"


def test_no_answer_under_a_lexicon_is_cut_within_an_entry() -> None:
    entries = {"house", "horse", "hoard"}
    decoding = Decoding(lexicon=Lexicon(entries, LETTERS))
    for seed in range(20):
        noise = 2 * torch.randn(9, LETTERS.classes, generator=torch.Generator().manual_seed(seed))
        for text in texts(LETTERS, noise.log_softmax(-1), decoding):
            assert text == "" or set(text.split(" ")) <= entries


def test_an_entry_longer_than_what_stands_there_is_still_found() -> None:
    decoding = Decoding(lexicon=Lexicon(["housebroke" * 2], Charset("housebrk")))
    readings = texts(Charset("housebrk"), written(Charset("housebrk"), "house" * 4), decoding)
    assert readings[0] in ("", "housebroke" * 2)


def test_straight_and_typographic_quotes_are_one_in_a_lexicon() -> None:
    for entry in ("o'er", "o’er"):
        lexicon = Lexicon([entry], LETTERS)
        for text in ("o'er", "o’er"):
            assert texts(LETTERS, written(LETTERS, text), Decoding(lexicon=lexicon))[0] == text


def test_an_unusable_lexicon_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot write: x"):
        Lexicon(["ox"], LETTERS)
    with pytest.raises(ValueError, match="no entry"):
        Lexicon([" ", ""], LETTERS)


def test_what_may_follow_is_what_some_entry_has() -> None:
    random = Random(1)
    entries = {"".join(random.choices("abcde", k=random.randint(1, 6))) for _ in range(300)}
    lexicon = Lexicon(entries, LETTERS)
    for prefix in ("", "a", "ab", "abc", "e", "dd", "bca"):
        state = lexicon.start
        for label in LETTERS.encode(prefix):
            state = lexicon.following(state).get(label, ())
        expected = {entry[len(prefix)] for entry in entries if entry.startswith(prefix) and entry != prefix}
        letters = set(LETTERS.decode(lexicon.following(state)))
        assert letters - {" "} == expected
        assert (" " in letters) == (prefix in entries) == lexicon.is_complete(state)
