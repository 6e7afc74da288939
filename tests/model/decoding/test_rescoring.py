"""Rescoring over several views with and without a language model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model.decoding.beam_search import search
from linewise.model.decoding.ctc import log_posteriors
from linewise.model.decoding.options import Decoding
from linewise.model.decoding.rescoring import rescore
from linewise.model.network.charset import Charset
from linewise.model.train.ngram import estimate

CHARSET = Charset("abcdehlopr ")
WORDS = estimate({"help": 800, "cola": 100, "lead": 100})


def says(text: str, doubts: dict[int, tuple[str, float]] | None = None) -> NDArray[np.float32]:
    """Log posteriors of a network that reads `text`, a frame for each character and a blank after it.

    `doubts` give, for some of the characters, another one and its posterior.
    """
    posteriors = np.full((2 * len(text), CHARSET.classes), 1e-9)
    for place, character in enumerate(text):
        other, share = (doubts or {}).get(place, (character, 0.0))
        posteriors[2 * place, CHARSET.encode(character)[0]] = 1 - share
        posteriors[2 * place, CHARSET.encode(other)[0]] += share
        posteriors[2 * place + 1, 0] = 1.0
    return np.asarray(np.log(posteriors / posteriors.sum(axis=1, keepdims=True)), np.float32)


def texts(views: list[NDArray[np.float32]], language: object = None) -> list[str]:
    return [CHARSET.decode(one.ids) for one in rescore(views, CHARSET, language)]  # type: ignore[arg-type]


def test_one_view_without_a_language_model_is_what_the_beam_finds() -> None:
    view = says("heap", {1: ("o", 0.4), 3: ("d", 0.1)})
    beam = search(view, CHARSET, Decoding(), width=8)
    rescored = rescore([view], CHARSET, None)
    assert [one.ids for one in rescored] == [one.ids for one in beam]
    assert [one.confidence for one in rescored] == pytest.approx([one.confidence for one in beam], abs=1e-6)


def test_confidences_are_shares_of_what_the_views_cover() -> None:
    unsure, sure = says("help", {2: ("e", 0.4)}), says("herp")
    together = rescore([unsure, sure], CHARSET, WORDS)
    assert sum(one.confidence for one in together) == pytest.approx(1, abs=1e-6)
    vague = np.full((40, CHARSET.classes), -np.log(CHARSET.classes), np.float32)  # eight strings of very many
    assert sum(one.confidence for one in rescore([vague], CHARSET, WORDS)) < 1e-6
    assert all(0 <= one.confidence <= 1 for one in together)


def test_a_word_wins_where_the_picture_leaves_it_open_and_only_there() -> None:
    open_one, plain_one = says("heep", {2: ("l", 0.4)}), says("heep", {2: ("l", 1e-6)})
    assert texts([open_one])[0] == texts([plain_one])[0] == "heep"
    assert texts([open_one], WORDS)[0] == "help"
    assert texts([plain_one], WORDS)[0] == "heep"


def test_a_string_probable_in_two_views_wins_over_one_probable_in_one() -> None:
    first, second = says("cola", {3: ("o", 0.45)}), says("colo", {3: ("a", 0.4)})
    assert texts([first])[0] == "cola" and texts([second])[0] == "colo"
    assert texts([first, second, second])[0] == "colo"
    assert rescore([first, second], CHARSET, None)[0].view in (0, 1)


def test_the_view_that_supports_a_string_most_is_named() -> None:
    sure, unsure = says("lead"), says("lead", {0: ("h", 0.6)})
    assert rescore([unsure, sure], CHARSET, WORDS)[0].view == 1
    assert rescore([sure, unsure], CHARSET, WORDS)[0].view == 0


def test_views_of_different_lengths_are_rescored_together() -> None:
    short = np.full((2, CHARSET.classes), -np.log(CHARSET.classes), np.float32)  # too few frames for the other's string
    assert texts([says("help"), short], WORDS)[0] == "help"


def test_nothing_to_read_is_an_answer_too() -> None:
    blank = np.full((6, CHARSET.classes), -30.0, np.float32)
    blank[:, 0] = 0.0
    assert texts([log_posteriors(blank, 1.0)], WORDS)[0] == ""


def test_spaces_around_a_word_do_not_make_it_another_one() -> None:
    assert texts([says(" heep ", {3: ("l", 0.4)})], WORDS)[0] == " help "


@pytest.mark.parametrize("log_prob_per_frame", [-5.0, -80.0])  # below a double's difference to 1, and below any double
def test_very_improbable_texts_are_ranked_by_their_scores(log_prob_per_frame: float) -> None:
    view = says("heep", {2: ("l", 0.4)})
    faint = np.concatenate([view, *[view[-1:]] * 4]) + np.float32(log_prob_per_frame)
    rescored = rescore([faint], CHARSET, WORDS)
    assert CHARSET.decode(rescored[0].ids) == texts([view], WORDS)[0] == "help"
    assert [one.ids for one in rescored] == [one.ids for one in rescore([view], CHARSET, WORDS)]
    assert (0 < rescored[0].confidence < 1e-16) == (log_prob_per_frame == -5.0)
    assert all(0 <= one.confidence <= 1 for one in rescored)
