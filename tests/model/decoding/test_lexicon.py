"""Lexicons: entries, words of a line, and the characters that may follow a prefix."""

from __future__ import annotations

from random import Random

import pytest
import torch

from linewise.model.decoding.lexicon import Lexicon, State
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
        for text in texts(LETTERS, noise.log_softmax(-1).numpy(), decoding):
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


@pytest.mark.parametrize(
    "entries",
    [
        ["ab", "cd", "ab cd"],
        ["a", "a a", "a a a", "a a a a"],
        ["a b c d", "b c d a", "c d a b", "d a b c", "a", "b", "c", "d"],
    ],
)
def test_the_states_of_an_ambiguous_lexicon_do_not_grow_with_the_line(entries: list[str]) -> None:
    lexicon = Lexicon(entries, LETTERS)
    most_words = max(len(entry.split()) for entry in entries)
    state = lexicon.start
    for label in LETTERS.encode(" ".join(entries * 100)):
        state = lexicon.following(state)[label]
        assert len(state) == len(set(state)) <= most_words + 1
    assert lexicon.is_complete(state)
    assert len(lexicon.completions(state, 64)) <= 64


def test_a_line_that_can_be_parsed_in_many_ways_costs_what_its_length_does() -> None:
    counts = {}
    for repeats in (10, 20, 40):
        lexicon = CountingLexicon(["ab", "cd", "ab cd"], LETTERS)
        line = " ".join(["ab cd"] * repeats)
        assert texts(LETTERS, written(LETTERS, line), Decoding(lexicon=lexicon))[0] == line
        counts[repeats] = lexicon.ranges_seen
    assert counts[40] - counts[20] <= 2 * (counts[20] - counts[10]) + 50


def test_a_lexicon_keeps_a_bounded_number_of_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.model.decoding.lexicon.MAX_CACHED_STATES", 8)
    lexicon = Lexicon(["house", "horse"], LETTERS)
    fresh = Lexicon(["house", "horse"], LETTERS)
    state = lexicon.start
    for label in LETTERS.encode("house horse house"):
        assert lexicon.following(state) == fresh._find_following(state)
        state = lexicon.following(state)[label]
        assert len(lexicon._following) <= 8


class CountingLexicon(Lexicon):
    """Counts the ranges of the states that the search visits."""

    ranges_seen = 0

    def following(self, state: State) -> dict[int, State]:
        self.ranges_seen += len(state)
        return super().following(state)
