"""Beam search, probabilities, alignment and rescoring, checked against slow and obvious implementations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from linewise.model.decoding import beam_search, ctc, rescoring
from linewise.model.decoding.language_model import LanguageModel
from linewise.model.decoding.lexicon import Lexicon
from linewise.model.decoding.options import Decoding
from linewise.model.network.charset import Charset
from linewise.model.train.ngram import estimate

Ids = tuple[int, ...]
Array = NDArray[np.float32]

CHARSET = Charset("abcde ")
ENTRIES = ["a", "ab", "b", "cab", "cab ab", "dd", "bad", "c", "e"]
WORDS = estimate({"bad": 80, "cab": 10, "decade": 10})


def random_row(frames: int, seed: int, blanks: float = 3.0) -> Array:
    """Log posteriors `(T, C)`, the more of them certain the larger `blanks`."""
    scores = np.random.default_rng(seed).normal(0, 3, (frames, CHARSET.classes))
    scores[:, 0] += blanks
    return ctc.log_posteriors(scores.astype(np.float32), 1.0)


def log_add(*logs: float) -> float:
    highest = max(logs)
    return highest if highest == -math.inf else highest + math.log(sum(math.exp(log - highest) for log in logs))


def log_prob(row: Array, ids: Ids) -> float:
    """Log probability of a string: the forward algorithm by states and frames, in logarithms."""
    states = [0]
    for label in ids:
        states += [label, 0]
    sums = {-1: 0.0}  # before the first frame
    for frame in row.tolist():
        after: dict[int, float] = {}
        for state, label in enumerate(states):
            before = [state, state - 1] if state else [state, -1]
            if state == 1 or (state > 1 and label and label != states[state - 2]):
                before.append(state - 2)
            after[state] = log_add(*(sums.get(one, -math.inf) for one in before)) + frame[label]
        sums = after
    return log_add(sums[len(states) - 1], sums.get(len(states) - 2, -math.inf))


def best_path(row: Array, ids: Ids) -> list[int]:
    """States of the most probable alignment, compared as whole paths."""
    states = [0]
    for label in ids:
        states += [label, 0]
    paths = {state: (float(row[0, states[state]]), [state]) for state in range(min(2, len(states)))}
    for frame in row[1:].tolist():
        after = {}
        for state, label in enumerate(states):
            before = [state, state - 1]
            if label and state > 1 and label != states[state - 2]:
                before.append(state - 2)
            reached = [paths[one] for one in before if one in paths]
            if reached:
                score, path = max(reached)
                after[state] = (score + frame[label], [*path, state])
        paths = after
    return max(paths[state] for state in (len(states) - 2, len(states) - 1) if state in paths)[1]


def beam(row: Array, width: int, share: float, permits: Callable[[Ids], bool] = lambda _: True) -> list[Ids]:
    """Prefix beam search over strings in full, with two sums for each."""
    sums: dict[Ids, tuple[float, float]] = {(): (1.0, 0.0)}
    for frame in np.exp(row.astype(np.float64)):
        likely = [label for label in range(1, len(frame)) if frame[label] > share * max(frame)]
        after: defaultdict[Ids, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for ids, (in_blank, in_label) in sums.items():
            after[ids][0] += (in_blank + in_label) * frame[0]
            for label in likely:
                if ids and ids[-1] == label:
                    after[ids][1] += in_label * frame[label]
                if permits((*ids, label)):
                    again = bool(ids) and ids[-1] == label
                    after[*ids, label][1] += (in_blank if again else in_blank + in_label) * frame[label]
        best = sorted(after, key=lambda ids: -sum(after[ids]))[:width]
        total = sum(sum(after[ids]) for ids in best)
        sums = {ids: (after[ids][0] / total, after[ids][1] / total) for ids in best}
    return list(sums)


def strings_of(row: Array, decoding: Decoding, share: float) -> set[Ids]:
    return set(beam_search.beam_strings(row, CHARSET, decoding, width=8, min_posterior_share=share))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("share", [0.03, 1e-3])
def test_the_beam_holds_the_strings_of_the_obvious_search(seed: int, share: float) -> None:
    row = random_row(5 + 4 * seed, seed, blanks=seed / 2)
    assert strings_of(row, Decoding(), share) == set(beam(row, 8, share))


@pytest.mark.parametrize("seed", range(6))
def test_the_beam_holds_the_strings_of_the_obvious_search_among_allowed_characters(seed: int) -> None:
    row = random_row(30, seed)
    allowed = frozenset(CHARSET.encode("abd"))
    barred = np.array([label not in allowed | {0} for label in range(CHARSET.classes)])
    expected = beam(np.where(barred, np.float32(-np.inf), row), 8, 1e-3)
    assert strings_of(row, Decoding(allowed=allowed), 1e-3) == set(expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_beam_holds_the_strings_of_the_obvious_search_under_a_lexicon(seed: int) -> None:
    def begins_text(text: str) -> bool:
        if any(entry.startswith(text) for entry in ENTRIES):
            return True
        return any(text.startswith(f"{entry} ") and begins_text(text[len(entry) + 1 :]) for entry in ENTRIES)

    def is_text(text: str) -> bool:
        return text in ENTRIES or any(
            text.startswith(f"{entry} ") and is_text(text[len(entry) + 1 :]) for entry in ENTRIES
        )

    row = random_row(24, seed)
    found = beam(row, 8, 1e-6, lambda ids: begins_text(CHARSET.decode(ids)))
    complete = {ids for ids in found if not ids or is_text(CHARSET.decode(ids))}
    assert any(complete)  # else the strings would be completed
    assert strings_of(row, Decoding(lexicon=Lexicon(ENTRIES, CHARSET)), 1e-6) == complete


@pytest.mark.parametrize("frames", [(1,), (2,), (7, 1, 12), (30, 31, 30)])
def test_strings_have_their_obvious_probability_in_views_of_every_length(frames: tuple[int, ...]) -> None:
    views = [random_row(count, seed) for seed, count in enumerate(frames)]
    strings: list[Ids] = [(), (1,), (2, 2), (1, 2, 3, 3, 3, 1), (4, 5, 4), (6, 6)]
    expected = [[log_prob(view, ids) for ids in strings] for view in views]
    np.testing.assert_allclose(ctc.log_probs_of_strings(views, strings), expected, rtol=1e-9)
    assert ctc.log_probs_of_strings(views, []).shape == (len(views), 0)


def test_strings_scored_in_parts_have_the_same_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    views = [random_row(20, 1), random_row(13, 2)]
    strings: list[Ids] = [(1, 2), (2,), (), (3, 1, 3), (5,)]
    together = ctc.log_probs_of_strings(views, strings)
    monkeypatch.setattr(ctc, "MAX_STATES", 2 * 20 * 2 * 7)  # two strings
    np.testing.assert_allclose(ctc.log_probs_of_strings(views, strings), together, rtol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_alignment_is_the_obvious_one(seed: int) -> None:
    row = random_row(12 + seed, seed, blanks=0.5)
    ids = tuple(np.random.default_rng(seed).integers(1, 4, 5).tolist())
    path = best_path(row, ids)
    spans, confidences = ctc.align(row, ids)
    for number, (label, (start, end), confidence) in enumerate(zip(ids, spans, confidences, strict=True)):
        assert [frame for frame, state in enumerate(path) if state == 2 * number + 1] == list(range(start, end))
        assert confidence == pytest.approx(math.exp(max(row[start:end, label])), abs=1e-9)


def rescored(views: Sequence[Array], language: LanguageModel | None, further: Sequence[Ids]) -> list[tuple[Ids, float]]:
    """Strings with their confidences, in order: `rescore` by the book."""
    strings = list(dict.fromkeys(ids for view in views for ids in beam(view, 8, rescoring.MIN_POSTERIOR_SHARE)))
    added = [ids for ids in further if ids not in strings]

    def any_right(chosen: Sequence[Ids]) -> float:
        return 1 - math.prod(1 - min(1.0, sum(math.exp(log_prob(view, ids)) for ids in chosen)) for view in views)

    def shares(chosen: Sequence[Ids], mass: float) -> list[tuple[Ids, float]]:
        scores = {}
        for ids in chosen:
            scores[ids] = log_add(*(log_prob(view, ids) for view in views))
            if language is not None:
                text = CHARSET.decode(ids).strip(" ")
                scores[ids] += rescoring.LENGTH_REWARD * len(text)
                scores[ids] += rescoring.LANGUAGE_WEIGHT * float(language.log_probs([text])[0])
        total = sum(map(math.exp, scores.values()))
        return [(ids, mass * math.exp(scores[ids]) / total) for ids in sorted(scores, key=lambda ids: -scores[ids])]

    ranked = shares(strings, any_right(strings))
    rest = shares(added, any_right([*strings, *added]) - any_right(strings)) if added else []
    return ranked + [(ids, min(confidence, ranked[-1][1])) for ids, confidence in rest]


@pytest.mark.parametrize("language", [None, WORDS])
@pytest.mark.parametrize("frames", [(9,), (16, 12, 21, 16), (60,)])
def test_rescoring_is_that_of_the_book(frames: tuple[int, ...], language: LanguageModel | None) -> None:
    for seed in range(4):
        views = [random_row(count, 10 * seed + index) for index, count in enumerate(frames)]
        further = [(1, 2), (2, 1, 4)]
        expected = rescored(views, language, further)
        hypotheses = rescoring.rescore(views, CHARSET, language, further)
        assert [one.ids for one in hypotheses] == [ids for ids, _ in expected]
        assert [one.confidence for one in hypotheses] == pytest.approx([share for _, share in expected], abs=1e-6)
