"""Beam search, checked against the enumeration of all alignments, free and with allowed characters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from linewise.model.decoding import ctc
from linewise.model.decoding.beam_search import search
from linewise.model.decoding.options import Decoding
from linewise.model.network.charset import Charset
from tests.model.decoding.test_ctc import all_strings, log_softmax, peaked

FREE = Decoding()
AB = Charset("ab")
LETTERS = Charset("abcdehorsu' ’")


def written(charset: Charset, text: str, height: float = 6.0) -> NDArray[np.float32]:
    """Log posteriors `(T, C)` of a network that reads `text`."""
    path = [0]
    for label in charset.encode(text):
        path += [label, label, 0]
    return log_softmax(peaked(path, charset.classes, height)[0]).numpy()


def texts(charset: Charset, log_probs: NDArray[np.float32], decoding: Decoding) -> list[str]:
    return [charset.decode(candidate.ids) for candidate in search(log_probs, charset, decoding)]


@pytest.mark.parametrize("seed", range(4))
def test_the_beam_finds_the_likeliest_strings_of_all(seed: int) -> None:
    logits = (2 * torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).numpy()
    ranked = sorted(all_strings(logits).items(), key=lambda item: -item[1])[:4]
    candidates = search(log_softmax(logits).numpy(), AB, FREE, width=64)[:4]
    assert [c.ids for c in candidates] == [ids for ids, _ in ranked]
    assert [c.confidence for c in candidates] == pytest.approx([p for _, p in ranked], abs=1e-5)


def test_the_beam_can_beat_the_best_path() -> None:
    logits = np.log(np.array([[0.6, 0.4], [0.6, 0.4]], np.float32))  # "" by one path 0.36, "a" by three 0.64
    assert ctc.greedy(logits[None])[0].ids == ()
    best = search(log_softmax(logits).numpy(), Charset("a"), FREE)[0]
    assert best.ids == (1,)
    assert best.confidence == pytest.approx(0.64, abs=1e-6)


def test_doubled_letters_survive_the_beam() -> None:
    log_probs = log_softmax(peaked([1, 1, 0, 1, 2, 0, 2, 3])[0]).numpy()
    assert search(log_probs, Charset("abc"), FREE)[0].ids == (1, 1, 2, 2, 3)


def test_the_beams_first_answer_is_the_greedy_one_where_the_network_is_sure() -> None:
    logits = peaked([0, 1, 0, 2, 2, 0, 3, 3] * 30, height=12.0)
    (greedy,) = ctc.greedy(logits)
    first, *others = search(log_softmax(logits[0]).numpy(), Charset("abc"), FREE)
    assert first.ids == greedy.ids
    assert first.confidence == pytest.approx(greedy.confidence, abs=1e-4)
    assert others and all(c.confidence < first.confidence for c in others)


def test_a_row_of_many_frames_has_the_same_probability_as_by_greedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctc, "MAX_STATES", 64)  # each string by itself
    logits = peaked([0, 1, 0, 2] * 40, height=9.0)
    (greedy,) = ctc.greedy(logits)
    assert search(log_softmax(logits[0]).numpy(), Charset("abc"), FREE)[0].confidence == pytest.approx(
        greedy.confidence, abs=1e-4
    )


def test_a_beam_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        search(torch.zeros(2, 3).log_softmax(-1).numpy(), AB, FREE, width=0)


def test_only_allowed_characters_are_read_and_the_confidence_is_the_networks() -> None:
    log_probs = written(LETTERS, "house")
    assert texts(LETTERS, log_probs, FREE)[0] == "house"
    allowed = frozenset(LETTERS.encode("hor"))
    best = search(log_probs, LETTERS, Decoding(allowed=allowed))[0]
    assert set(LETTERS.decode(best.ids)) <= set("hor")
    assert best.confidence == pytest.approx(math.exp(ctc.log_probs_of_strings([log_probs], [best.ids])[0, 0]))
    assert best.confidence < 0.01


def test_an_unlikely_allowed_character_is_read_where_the_likely_one_is_barred() -> None:
    logits = peaked([0, 1, 0], classes=3, height=14.0)
    logits[0, 1, 2] = 3.0  # far behind the first, far before the blank
    assert search(log_softmax(logits[0]).numpy(), AB, Decoding(allowed=frozenset([2])))[0].ids == (2,)


def test_strings_below_the_least_float_are_ordered_by_the_logarithm_of_their_probability() -> None:
    frames = (
        np.log(np.array([[0.4, 0.6], *[[1.0, 1e-9]] * 40], np.float32)) - 20
    )  # "" has 0.4, "a" 0.6, times e to the -820
    candidates = search(frames, Charset("a"), FREE)
    assert [candidate.ids for candidate in candidates][:2] == [(1,), ()]
    assert candidates[0].confidence == 0
