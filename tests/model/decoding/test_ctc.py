"""Greedy decoding, spans and probabilities, checked against the enumeration of all alignments."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch

from linewise.model.decoding import ctc

Probabilities = dict[tuple[int, ...], float]


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label)


def all_strings(logits: torch.Tensor) -> Probabilities:
    """Probability of every string by summing over all alignments of `(T, C)`."""
    posteriors = logits.double().softmax(-1)
    frames, classes = logits.shape
    totals: Probabilities = defaultdict(float)
    for path in itertools.product(range(classes), repeat=frames):
        totals[collapse(path)] += math.prod(float(posteriors[t, label]) for t, label in enumerate(path))
    return totals


def peaked(path: list[int], classes: int = 4, height: float = 6.0) -> torch.Tensor:
    """Logits `(1, T, C)` whose best class per frame is that of `path`."""
    logits = torch.zeros(1, len(path), classes)
    logits[0, range(len(path)), path] = height
    return logits


def test_repeats_collapse_and_doubled_letters_survive() -> None:
    (decoded,) = ctc.greedy(peaked([0, 1, 1, 0, 1, 2, 2, 0, 0, 3]))
    assert decoded.ids == (1, 1, 2, 3)
    assert decoded.spans == ((1, 3), (4, 5), (5, 7), (9, 10))


def test_runs_do_not_reach_into_the_next_row() -> None:
    logits = torch.cat([peaked([0, 2, 2]), peaked([2, 2, 0])])
    assert [d.spans for d in ctc.greedy(logits)] == [((1, 3),), ((0, 2),)]


def test_a_characters_confidence_is_the_peak_of_its_run() -> None:
    logits = peaked([1, 1, 0])
    logits[0, 1, 1] = 9.0
    (decoded,) = ctc.greedy(logits)
    assert decoded.confidences == pytest.approx([float(logits[0, 1].softmax(-1)[1])])


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_the_confidence_is_the_sum_over_all_alignments(temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(6, 5, 3, generator=generator)
    for row, decoded in zip(logits, ctc.greedy(logits, temperature), strict=True):
        assert decoded.confidence == pytest.approx(all_strings(row / temperature)[decoded.ids], abs=1e-5)


def test_an_empty_text_has_the_probability_of_blanks_only() -> None:
    logits = peaked([0, 0, 0], height=2.0)
    (decoded,) = ctc.greedy(logits)
    assert decoded.ids == ()
    assert decoded.confidence == pytest.approx(float(logits[0].softmax(-1)[:, 0].prod()))


def test_no_confidence_exceeds_one() -> None:
    for decoded in ctc.greedy(torch.cat([peaked([1, 0, 2] * 40, height=40.0)] * 2)):
        assert 0.99 < decoded.confidence <= 1.0
        assert all(c <= 1.0 for c in decoded.confidences)


def test_a_higher_temperature_is_less_sure_and_reads_the_same() -> None:
    cold, hot = (ctc.greedy(peaked([1, 0, 2]), t)[0] for t in (1.0, 2.0))
    assert cold.ids == hot.ids and hot.confidence < cold.confidence


def test_no_rows_give_no_answers() -> None:
    assert ctc.greedy(torch.zeros(0, 4, 3)) == []


def test_a_long_row_cut_into_pieces_keeps_its_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    path = [0, 1, 1, 0, 0, 2, 0, 3, 0, 0] * 20
    whole = ctc.greedy(peaked(path, height=8.0))[0]
    monkeypatch.setattr(ctc, "MAX_SEGMENT_FRAMES", 32)
    pieces = ctc.greedy(peaked(path, height=8.0))[0]
    assert pieces.ids == whole.ids and pieces.spans == whole.spans
    assert pieces.confidence == pytest.approx(whole.confidence, rel=0.05)


def test_an_impossible_string_has_no_probability() -> None:
    scores = torch.zeros(1, 2, 3).log_softmax(-1)
    assert ctc.string_log_probs(scores, [[1, 1]]) == [-math.inf]


def test_aligned_characters_stand_where_the_best_path_has_them() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0, 0, 3]
    log_probs = peaked(path)[0].log_softmax(-1)
    (decoded,) = ctc.greedy(peaked(path))
    spans, confidences = ctc.align(log_probs, decoded.ids)
    assert spans == decoded.spans
    assert confidences == pytest.approx(decoded.confidences)


@pytest.mark.parametrize("seed", range(4))
def test_the_alignment_is_the_best_of_all(seed: int) -> None:
    log_probs = (2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)
    ids = (1, 1, 2)
    paths = [path for path in itertools.product(range(3), repeat=6) if collapse(path) == ids]
    best = max(paths, key=lambda path: sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    groups = [(label, len(list(run))) for label, run in itertools.groupby(best)]
    ends = list(itertools.accumulate(length for _, length in groups))
    expected = [(end - length, end) for end, (label, length) in zip(ends, groups, strict=True) if label]
    assert list(ctc.align(log_probs, ids)[0]) == expected


def test_a_string_without_room_is_not_aligned() -> None:
    with pytest.raises(ValueError, match="do not fit into 2 frames"):
        ctc.align(torch.zeros(2, 3).log_softmax(-1), (1, 1))
    assert ctc.align(torch.zeros(2, 3).log_softmax(-1), ()) == ((), ())


def test_a_long_line_is_aligned() -> None:
    ids = [1 + index % 5 for index in range(300)]
    logits = torch.full((2 * len(ids), 6), -4.0)
    logits[::2, 0] = 4.0
    logits[torch.arange(1, 2 * len(ids), 2), torch.tensor(ids)] = 4.0
    spans, confidences = ctc.align(logits.log_softmax(-1), ids)
    assert [start for start, _ in spans] == list(range(1, 2 * len(ids), 2))
    assert min(confidences) > 0.9
