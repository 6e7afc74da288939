"""The beam, checked against all alignments written out; characters and words that it is held to."""

from __future__ import annotations

from random import Random

import pytest
import torch

from linewise.model import Reader
from linewise.model.decoding import ctc
from linewise.model.decoding.beam_search import Decoding, Lexicon, search
from linewise.model.network.charset import Charset
from tests.model.conftest import BAR, QUOTE, SPACE, bars
from tests.model.decoding.test_ctc import all_strings, peaked

FREE = Decoding()
AB = Charset("ab")
LETTERS = Charset("abcdehorsu' ’")


def written(charset: Charset, text: str, height: float = 6.0) -> torch.Tensor:
    """Log posteriors `(T, C)` of a network that reads `text`."""
    path = [0]
    for label in charset.encode(text):
        path += [label, label, 0]
    return peaked(path, charset.classes, height)[0].log_softmax(-1)


def texts(charset: Charset, log_probs: torch.Tensor, asked: Decoding) -> list[str]:
    return [charset.decode(candidate.ids) for candidate in search(log_probs, charset, asked)]


@pytest.mark.parametrize("seed", range(4))
def test_the_beam_finds_the_likeliest_strings_of_all(seed: int) -> None:
    logits = 2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    ranked = sorted(all_strings(logits).items(), key=lambda item: -item[1])[:4]
    found = search(logits.log_softmax(-1), AB, FREE, width=64)[:4]
    assert [c.ids for c in found] == [ids for ids, _ in ranked]
    assert [c.confidence for c in found] == pytest.approx([p for _, p in ranked], abs=1e-5)


def test_the_beam_can_beat_the_best_path() -> None:
    logits = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()  # "" by one path 0.36, "a" by three 0.64
    assert ctc.greedy(logits[None])[0].ids == ()
    best = search(logits.log_softmax(-1), Charset("a"), FREE)[0]
    assert best.ids == (1,)
    assert best.confidence == pytest.approx(0.64, abs=1e-6)


def test_doubled_letters_survive_the_beam() -> None:
    log_probs = peaked([1, 1, 0, 1, 2, 0, 2, 3])[0].log_softmax(-1)
    assert search(log_probs, Charset("abc"), FREE)[0].ids == (1, 1, 2, 2, 3)


def test_the_beams_first_answer_is_the_greedy_one_where_the_network_is_sure() -> None:
    logits = peaked([0, 1, 0, 2, 2, 0, 3, 3] * 30, height=12.0)
    (greedy,) = ctc.greedy(logits)
    first, *others = search(logits[0].log_softmax(-1), Charset("abc"), FREE)
    assert first.ids == greedy.ids
    assert first.confidence == pytest.approx(greedy.confidence, abs=1e-4)
    assert others and all(c.confidence < first.confidence for c in others)


def test_a_row_of_many_frames_has_the_same_probability_as_by_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linewise.model.decoding.beam_search.LONGEST_PIECE", 64)
    logits = peaked([0, 1, 0, 2] * 40, height=9.0)
    (greedy,) = ctc.greedy(logits)
    assert search(logits[0].log_softmax(-1), Charset("abc"), FREE)[0].confidence == pytest.approx(
        greedy.confidence, abs=1e-4
    )


def test_a_beam_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        search(torch.zeros(2, 3).log_softmax(-1), AB, FREE, width=0)


def test_only_allowed_characters_are_read_and_the_confidence_is_the_networks() -> None:
    log_probs = written(LETTERS, "house")
    assert texts(LETTERS, log_probs, FREE)[0] == "house"
    allowed = frozenset(LETTERS.encode("hor"))
    best = search(log_probs, LETTERS, Decoding(allowed=allowed))[0]
    assert set(LETTERS.decode(best.ids)) <= set("hor")
    assert best.confidence == pytest.approx(
        float(torch.tensor(ctc.string_log_probs(log_probs[None], [list(best.ids)])).exp())
    )
    assert best.confidence < 0.01


def test_an_unlikely_allowed_character_is_read_where_the_likely_one_is_barred() -> None:
    logits = peaked([0, 1, 0], classes=3, height=14.0)
    logits[0, 1, 2] = 3.0  # far behind the first, far before the blank
    assert search(logits[0].log_softmax(-1), AB, Decoding(allowed=frozenset([2])))[0].ids == (2,)


def test_the_nearest_entry_is_read() -> None:
    lexicon = Lexicon(["horse", "house", "rub", "shed"], LETTERS)
    assert len(lexicon) == 4
    for text, expected in {"house": "house", "hause": "house", "horee": "horse", "sheds": "shed"}.items():
        assert texts(LETTERS, written(LETTERS, text), Decoding(lexicon=lexicon))[0] == expected


def test_words_of_a_line_each_come_from_the_lexicon() -> None:
    lexicon = Lexicon(["horse", "house", "a house"], LETTERS)
    found = texts(LETTERS, written(LETTERS, "hause horse a house house"), Decoding(lexicon=lexicon))
    assert found[0] == "house horse a house house"


def test_no_answer_under_a_lexicon_is_cut_within_an_entry() -> None:
    entries = {"house", "horse", "hoard"}
    asked = Decoding(lexicon=Lexicon(entries, LETTERS))
    for seed in range(20):
        noise = 2 * torch.randn(9, LETTERS.classes, generator=torch.Generator().manual_seed(seed))
        for text in texts(LETTERS, noise.log_softmax(-1), asked):
            assert text == "" or set(text.split(" ")) <= entries


def test_an_entry_longer_than_what_stands_there_is_still_found() -> None:
    asked = Decoding(lexicon=Lexicon(["housebroke" * 2], Charset("housebrk")))
    found = texts(Charset("housebrk"), written(Charset("housebrk"), "house" * 4), asked)
    assert found[0] in ("", "housebroke" * 2)


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
        assert (" " in letters) == (prefix in entries) == lexicon.is_whole(state)


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


def test_a_readers_decoding_is_none_where_nothing_is_asked(bar_reader: Reader) -> None:
    assert bar_reader.decoding() is None
    asked = bar_reader.decoding(charset_exclude="’")
    assert asked is not None and asked.allowed is not None and len(asked.allowed) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alternatives": -1}, "0 is the least"),
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
