"""CTC: greedy decoding, string probabilities and forced alignment.

After Graves et al., "Connectionist Temporal Classification: Labelling Unsegmented Sequence Data with
Recurrent Neural Networks" (ICML 2006).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from linewise.model.network.charset import BLANK

# The forward algorithm needs frames x characters of memory. A longer line is cut at blanks into segments of at most so
# many frames, whose probabilities are multiplied. 1024 frames are two windows.
MAX_SEGMENT_FRAMES = 1024

# Sums of plain probabilities are exact down to here: what underflows on the way, below 1e-307 a state and frame, is
# less than a rounding error. Below, the sums are computed again as logarithms, which takes five times as long.
LOG_MIN_PLAIN_PROBABILITY = -260 * math.log(10)

# Frames x states x strings that are summed at once, of 8 bytes each.
MAX_STATES = 1 << 22

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Decoded:
    """Decoded string of one row of a batch.

    `ids` are class ids without blanks, `spans` their half-open `(first, last + 1)` frames,
    `confidences` the largest posterior within each span; `confidence` is the probability of `ids`.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    confidences: tuple[float, ...]
    confidence: float


def log_posteriors(logits: Array, temperature: float) -> Array:
    """Calibrated log posteriors, float32, of logits whose last dimension is the class."""
    scores = np.ascontiguousarray(logits, np.float32) / np.float32(temperature)
    scores -= scores.max(axis=-1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return scores


def greedy(logits: Array, temperature: float = 1.0) -> list[Decoded]:
    """Decode each row by its best class per frame.

    `logits` are float `(B, T, C)` with class 0 the blank; `temperature` divides them before the softmax.
    The confidence of a row is the CTC probability of its decoded string, the
    sum over all alignments, in [0, 1]; for an empty string the product of the blank's posteriors.
    """
    return greedy_of(log_posteriors(logits, temperature))


def greedy_of(log_probs: Array) -> list[Decoded]:
    """Decode each row of log posteriors `(B, T, C)` as `greedy`."""
    rows, frames, _ = log_probs.shape
    if rows == 0:
        return []
    runs = _runs(log_probs.argmax(axis=-1), log_probs.max(axis=-1))
    if frames <= MAX_SEGMENT_FRAMES:
        totals = string_log_probs(log_probs, [[run.label for run in row] for row in runs])
    else:
        totals = [_segmented_log_prob(scores, row) for scores, row in zip(log_probs, runs, strict=True)]
    return [
        Decoded(
            tuple(run.label for run in row),
            tuple((run.start, run.end) for run in row),
            tuple(run.confidence for run in row),
            min(1.0, float(np.exp(total))),
        )
        for row, total in zip(runs, totals, strict=True)
    ]


def string_log_probs(log_probs: Array, strings: Sequence[Sequence[int]]) -> list[float]:
    """Natural log CTC probability of one string of class ids for each row of `(B, T, C)`.

    A string without an alignment within T frames has minus infinity.
    """
    rows, states = np.arange(len(strings)), _states(strings)
    labels = np.concatenate([states[:1], states[1::2]]).T  # (B, 1 + characters): the blank and the characters
    scores = log_probs.transpose(1, 0, 2)[:, rows[:, None], labels]  # (T, B, 1 + characters)
    columns = _states([range(1, len(string) + 1) for string in strings]) + labels.shape[1] * rows
    totals = _log_sums(scores.reshape(len(scores), -1), columns, states, strings)
    return [float(total) for total in totals]


def log_probs_of_strings(views: Sequence[Array], strings: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Natural log CTC probability `(views, strings)` of each string of class ids in each view, as `string_log_probs`.

    `views` are log posteriors `(T, C)`, each with its own T. All strings are scored at once, in parts where that would
    take much memory.
    """
    frames = max(len(view) for view in views)
    longest = max(map(len, strings), default=0)
    size = max(1, MAX_STATES // (frames * len(views) * (2 * longest + 1)))
    parts = [_score_in_views(views, strings[first : first + size]) for first in range(0, len(strings), size)]
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(views), 0))


def _score_in_views(views: Sequence[Array], strings: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    states = _states(strings)
    used = np.zeros(views[0].shape[1], bool)
    used[states] = True
    labels = np.flatnonzero(used)  # the blank is the first
    # Certain blanks after the last frame of a shorter view change no probability.
    scores = np.full((max(len(view) for view in views), len(views), len(labels)), -np.inf)
    scores[:, :, 0] = 0.0
    for index, view in enumerate(views):
        scores[: len(view), index] = view[:, labels]
    places = (used.cumsum() - 1)[states]
    columns = [places + len(labels) * index for index in range(len(views))]
    sums = _log_sums(
        scores.reshape(len(scores), -1),
        np.concatenate(columns, axis=1),
        np.concatenate([states] * len(views), axis=1),
        [*strings] * len(views),
    )
    return sums.reshape(len(views), len(strings))


def _states(strings: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """CTC states `(S, N)` of N strings: blank, first character, blank, second character, ..., blank, blanks."""
    states = np.full((2 * max(map(len, strings), default=0) + 1, len(strings)), BLANK, np.int64)
    for column, string in enumerate(strings):
        states[1 : 2 * len(string) : 2, column] = string
    return states


def _skips(states: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each state `(S, N)` may follow the one two before: a character after another, unequal one."""
    skips = np.zeros(states.shape, bool)
    skips[3::2] = states[3::2] != states[1:-2:2]
    return skips


def _log_sums(
    scores: NDArray[Any], columns: NDArray[np.int64], states: NDArray[np.int64], strings: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Logs `(N,)` of the sums over all alignments of N strings with states `(S, N)`.

    `scores` are log posteriors `(T, M)`, `columns` `(S, N)` the column of `scores` for each state. The sums run
    from the first frame and from the last one to the middle, both in one pass.
    """
    posteriors = np.exp(scores.astype(np.float64))
    if len(posteriors) % 2:  # a certain blank makes the number of frames even and changes no probability
        posteriors = np.concatenate([posteriors, np.zeros((1, posteriors.shape[1]))])
        posteriors[-1, columns[0]] = 1.0
    half, count = len(posteriors) // 2, len(strings)
    last = np.array([2 * len(string) for string in strings], np.int64)
    # Each state's opposite: the same one counted from the end of its string. Beyond the end it is no state, below 0.
    opposite = np.maximum(last - np.arange(len(states))[:, None], -1)
    every = np.arange(count)
    backward = columns[opposite, every] + posteriors.shape[1]
    halves = np.concatenate([posteriors[:half], posteriors[: half - 1 : -1]], axis=1)
    emissions = halves.take(np.concatenate([columns, backward], axis=1), axis=1)  # (T / 2, S, 2 N)
    skips = np.concatenate([_skips(states), _skips(states[opposite, every])], axis=1)
    entering, reached = _forward(emissions, skips)
    joined = entering[:, :count] * reached[opposite + 2, every + count]
    with np.errstate(divide="ignore"):
        totals = np.log(joined.cumsum(axis=0)[-1])  # in this order: a sum in pairs would depend on the longest string
    tiny = totals < LOG_MIN_PLAIN_PROBABILITY
    if tiny.any():
        logs = scores.take(columns[:, tiny], axis=1).astype(np.float64)
        totals[tiny] = _forward_in_logs(logs, _skips(states)[:, tiny], last[tiny])
    return np.asarray(totals, np.float64)


def _forward(
    emissions: NDArray[np.float64], skips: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Forward algorithm over emissions `(T, S, N)` of states whose `skips` are those of `_skips`.

    Returns, as sums over alignments, `(S, N)` that enter each state in a further frame, and `(2 + S, N)` that are in it
    in the last frame. The latter has two states before the first one, which spare the special cases.
    """
    padded = np.zeros((skips.shape[0] + 2, skips.shape[1]))
    here, before, two_before = padded[2:], padded[1:-1], padded[:-2]
    here[:2] = emissions[0, :2]
    factors, sums = skips.astype(np.float64), np.empty(skips.shape)
    add, multiply = np.add, np.multiply
    for emission in emissions[1:]:
        multiply(two_before, factors, sums)
        add(sums, before, sums)
        add(sums, here, sums)
        multiply(sums, emission, here)
    return two_before * factors + before + here, padded


def _forward_in_logs(
    emissions: NDArray[np.float64], skips: NDArray[np.bool_], last: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Logs `(N,)` of the sums over all alignments that end in a state `last` or in the one before it.

    `emissions` are logarithms `(T, S, N)`.
    """
    padded = np.full((skips.shape[0] + 2, skips.shape[1]), -np.inf)
    here, before, two_before = padded[2:], padded[1:-1], padded[:-2]
    here[:2] = emissions[0, :2]
    for emission in emissions[1:]:
        sums = np.logaddexp(np.where(skips, two_before, -np.inf), before)
        here[:] = np.logaddexp(sums, here) + emission
    ends = np.arange(len(last))
    return np.asarray(np.logaddexp(padded[last + 2, ends], padded[last + 1, ends]), np.float64)


def align(log_probs: Array, ids: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], tuple[float, ...]]:
    """Forced alignment of a string of class ids to one row `(T, C)` of log posteriors.

    Follows the Viterbi path through the string's CTC states. Returns spans and confidences as in `Decoded`.

    Raises:
        ValueError: the string has no alignment within T frames.
    """
    if not ids:
        return (), ()
    states = _states([ids])[:, 0]
    emissions = log_probs[:, states].astype(np.float64)  # (T, S)
    frames, count = emissions.shape
    penalties = np.where(_skips(states[:, None])[:, 0], 0.0, -np.inf)
    best = np.full((frames, count + 2), -np.inf)  # two states before the first one spare the special cases
    best[0, 2:4] = emissions[0, :2]
    here, before, two_before = best[:-1, 2:], best[:-1, 1:-1], best[:-1, :-2]
    scores = np.empty(count)
    for row, one, two, emission, after in zip(here, before, two_before, emissions[1:], best[1:, 2:], strict=True):
        np.add(two, penalties, out=scores)
        np.maximum(scores, one, out=scores)
        np.maximum(scores, row, out=scores)
        np.add(scores, emission, out=after)
    state = count - 1 if best[-1, -1] >= best[-1, -2] else count - 2
    if best[-1, state + 2] == -np.inf:
        raise ValueError(f"{len(ids)} characters do not fit into {frames} frames")
    # States moved forward to get to each one: 0, 1 or 2.
    steps = np.where(two_before + penalties > np.maximum(here, before), 2, before > here)
    path = np.empty(frames, np.int64)
    path[-1] = state
    for frame in range(frames - 2, -1, -1):
        state -= steps.item(frame, state)
        path[frame] = state
    characters = np.arange(1, count, 2)  # the path ascends
    spans = np.stack([np.searchsorted(path, characters), np.searchsorted(path, characters, "right")], axis=1)
    scores = np.append(emissions[np.arange(frames), path], -np.inf)
    peaks = np.exp(np.maximum.reduceat(scores, spans.ravel())[::2]).clip(max=1.0)
    return tuple(map(tuple, spans.tolist())), tuple(peaks.tolist())


class _Run(NamedTuple):
    """Consecutive frames with the same best class, which is not the blank; `end` is exclusive."""

    label: int
    start: int
    end: int
    confidence: float


def _runs(classes: NDArray[np.int64], best: NDArray[np.float32]) -> list[list[_Run]]:
    """Runs of each row of best classes `(B, T)` with their log posteriors `(B, T)`."""
    rows, frames = classes.shape
    is_start = np.ones((rows, frames), bool)  # the first frame of a row always starts a run
    is_start[:, 1:] = classes[:, 1:] != classes[:, :-1]
    starts = np.flatnonzero(is_start)
    labels = classes.reshape(-1)[starts].tolist()
    peaks = np.exp(np.maximum.reduceat(best.reshape(-1), starts)).tolist()
    bounds = [*starts.tolist(), rows * frames]
    runs: list[list[_Run]] = [[] for _ in range(rows)]
    for label, start, end, peak in zip(labels, bounds, bounds[1:], peaks, strict=False):
        if label != BLANK:
            row, first = divmod(start, frames)
            runs[row].append(_Run(label, first, first + end - start, min(1.0, peak)))
    return runs


def _segmented_log_prob(log_probs: Array, runs: list[_Run]) -> float:
    """Log probability of the runs of a long row `(T, C)`, cut into segments at its most probable blanks."""
    blanks = log_probs[:, BLANK]
    total, start, frames = 0.0, 0, len(blanks)
    while start < frames:
        end = frames
        if frames - start > MAX_SEGMENT_FRAMES:
            half = start + MAX_SEGMENT_FRAMES // 2
            end = half + 1 + int(blanks[half : start + MAX_SEGMENT_FRAMES - 1].argmax())
        string = [run.label for run in runs if start <= run.start < end]
        total += string_log_probs(log_probs[None, start:end], [string])[0]
        start = end
    return total
