"""Greedy decoding, spans and probabilities, checked against the enumeration of all alignments."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from linewise.model.decoding import ctc

Probabilities = dict[tuple[int, ...], float]


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label)


def all_strings(logits: NDArray[np.float32]) -> Probabilities:
    """Probability of every string by summing over all alignments of `(T, C)`."""
    posteriors = torch.from_numpy(logits).double().softmax(-1)
    frames, classes = logits.shape
    totals: Probabilities = defaultdict(float)
    for path in itertools.product(range(classes), repeat=frames):
        totals[collapse(path)] += math.prod(float(posteriors[t, label]) for t, label in enumerate(path))
    return totals


def log_softmax(logits: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(logits).log_softmax(-1)


def peaked(path: list[int], classes: int = 4, height: float = 6.0) -> NDArray[np.float32]:
    """Logits `(1, T, C)` whose best class per frame is that of `path`."""
    logits = np.zeros((1, len(path), classes), np.float32)
    logits[0, range(len(path)), path] = height
    return logits


def test_repeats_collapse_and_doubled_letters_survive() -> None:
    (decoded,) = ctc.greedy(peaked([0, 1, 1, 0, 1, 2, 2, 0, 0, 3]))
    assert decoded.ids == (1, 1, 2, 3)
    assert decoded.spans == ((1, 3), (4, 5), (5, 7), (9, 10))


def test_runs_do_not_reach_into_the_next_row() -> None:
    logits = np.concatenate([peaked([0, 2, 2]), peaked([2, 2, 0])])
    assert [d.spans for d in ctc.greedy(logits)] == [((1, 3),), ((0, 2),)]


def test_a_characters_confidence_is_the_peak_of_its_run() -> None:
    logits = peaked([1, 1, 0])
    logits[0, 1, 1] = 9.0
    (decoded,) = ctc.greedy(logits)
    assert decoded.confidences == pytest.approx([float(log_softmax(logits)[0, 1, 1].exp())])


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_the_confidence_is_the_sum_over_all_alignments(temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = (2 * torch.randn(6, 5, 3, generator=generator)).numpy()
    for row, decoded in zip(logits, ctc.greedy(logits, temperature), strict=True):
        assert decoded.confidence == pytest.approx(all_strings(row / temperature)[decoded.ids], abs=1e-5)


def test_an_empty_text_has_the_probability_of_blanks_only() -> None:
    logits = peaked([0, 0, 0], height=2.0)
    (decoded,) = ctc.greedy(logits)
    assert decoded.ids == ()
    assert decoded.confidence == pytest.approx(float(log_softmax(logits)[0, :, 0].sum().exp()))


def test_no_confidence_exceeds_one() -> None:
    for decoded in ctc.greedy(np.concatenate([peaked([1, 0, 2] * 40, height=40.0)] * 2)):
        assert 0.99 < decoded.confidence <= 1.0
        assert all(c <= 1.0 for c in decoded.confidences)


def test_a_higher_temperature_is_less_sure_and_reads_the_same() -> None:
    cold, hot = (ctc.greedy(peaked([1, 0, 2]), t)[0] for t in (1.0, 2.0))
    assert cold.ids == hot.ids and hot.confidence < cold.confidence


def test_no_rows_give_no_answers() -> None:
    assert ctc.greedy(np.zeros((0, 4, 3), np.float32)) == []


def test_a_long_row_cut_into_pieces_keeps_its_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    path = [0, 1, 1, 0, 0, 2, 0, 3, 0, 0] * 20
    whole = ctc.greedy(peaked(path, height=8.0))[0]
    monkeypatch.setattr(ctc, "MAX_SEGMENT_FRAMES", 32)
    pieces = ctc.greedy(peaked(path, height=8.0))[0]
    assert pieces.ids == whole.ids and pieces.spans == whole.spans
    assert pieces.confidence == pytest.approx(whole.confidence, rel=0.05)


def test_an_impossible_string_has_no_probability() -> None:
    scores = torch.zeros(1, 2, 3).log_softmax(-1).numpy()
    assert ctc.string_log_probs(scores, [[1, 1]]) == [-math.inf]


def random_rows(rows: int, frames: int, classes: int, seed: int, scale: float = 2.0) -> torch.Tensor:
    """Log posteriors `(B, T, C)`."""
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(rows, frames, classes, generator=generator)).log_softmax(-1)


@pytest.mark.parametrize(("frames", "scale"), [(1, 2.0), (12, 2.0), (90, 1.0), (300, 0.1), (900, 3.0)])
def test_probabilities_of_strings_are_those_of_torchs_loss(frames: int, scale: float) -> None:
    log_probs = random_rows(6, frames, 8, seed=frames, scale=scale)
    strings = [[], [1], [2, 2], [3, 4, 3, 3, 3, 1], [5] * 9, [1 + index % 7 for index in range(40)]]
    losses = functional.ctc_loss(
        log_probs.double().transpose(0, 1),
        torch.tensor([label for string in strings for label in string]),
        torch.full((6,), frames),
        torch.tensor([len(string) for string in strings]),
        reduction="none",
    )
    expected = [-float(loss) for loss in losses]
    assert ctc.string_log_probs(log_probs.numpy(), strings) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    for row in range(6):
        (alone,) = ctc.string_log_probs(log_probs[row : row + 1].numpy(), [strings[row]])
        (of_strings,) = ctc.log_probs_of_strings([log_probs[row].numpy()], strings)
        assert alone == ctc.string_log_probs(log_probs.numpy(), strings)[row] == of_strings[row]


def test_probabilities_below_the_least_float_are_those_of_torchs_loss() -> None:
    log_probs = random_rows(2, 400, 6, seed=0) - 30  # about e to the -12000
    strings = [[1, 2, 3], [4, 4]]
    losses = functional.ctc_loss(
        log_probs.double().transpose(0, 1), torch.tensor([1, 2, 3, 4, 4]), torch.tensor([400, 400]),
        torch.tensor([3, 2]), reduction="none",
    )  # fmt: skip
    assert ctc.string_log_probs(log_probs.numpy(), strings) == pytest.approx([-float(loss) for loss in losses])


def test_log_posteriors_are_torchs_and_do_not_depend_on_the_batch() -> None:
    logits = np.random.default_rng(1).normal(0, 5, (7, 33, 205)).astype(np.float32)
    expected = (torch.from_numpy(logits) / 1.3).log_softmax(-1)
    log_probs = ctc.log_posteriors(logits, 1.3)
    np.testing.assert_allclose(log_probs, expected.numpy(), rtol=1e-5, atol=1e-5)
    assert all(
        np.array_equal(ctc.log_posteriors(row, 1.3), all_of) for row, all_of in zip(logits, log_probs, strict=True)
    )
    transposed = np.ascontiguousarray(logits.transpose(1, 0, 2)).transpose(1, 0, 2)  # another order in memory
    assert np.array_equal(ctc.log_posteriors(transposed, 1.3), log_probs)


def test_aligned_characters_stand_where_the_best_path_has_them() -> None:
    path = [0, 1, 1, 0, 1, 2, 2, 0, 0, 3]
    log_probs = log_softmax(peaked(path)[0]).numpy()
    (decoded,) = ctc.greedy(peaked(path))
    spans, confidences = ctc.align(log_probs, decoded.ids)
    assert spans == decoded.spans
    assert confidences == pytest.approx(decoded.confidences)


@pytest.mark.parametrize("seed", range(4))
def test_the_alignment_is_the_best_of_all(seed: int) -> None:
    log_probs = (2 * torch.randn(6, 3, generator=torch.Generator().manual_seed(seed))).log_softmax(-1).numpy()
    ids = (1, 1, 2)
    paths = [path for path in itertools.product(range(3), repeat=6) if collapse(path) == ids]
    best = max(paths, key=lambda path: sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    groups = [(label, len(list(run))) for label, run in itertools.groupby(best)]
    ends = list(itertools.accumulate(length for _, length in groups))
    expected = [(end - length, end) for end, (label, length) in zip(ends, groups, strict=True) if label]
    assert list(ctc.align(log_probs, ids)[0]) == expected


def test_a_string_without_room_is_not_aligned() -> None:
    with pytest.raises(ValueError, match="do not fit into 2 frames"):
        ctc.align(torch.zeros(2, 3).log_softmax(-1).numpy(), (1, 1))
    assert ctc.align(torch.zeros(2, 3).log_softmax(-1).numpy(), ()) == ((), ())


def test_a_long_line_is_aligned() -> None:
    ids = [1 + index % 5 for index in range(300)]
    logits = torch.full((2 * len(ids), 6), -4.0)
    logits[::2, 0] = 4.0
    logits[torch.arange(1, 2 * len(ids), 2), torch.tensor(ids)] = 4.0
    spans, confidences = ctc.align(logits.log_softmax(-1).numpy(), ids)
    assert [start for start, _ in spans] == list(range(1, 2 * len(ids), 2))
    assert min(confidences) > 0.9
